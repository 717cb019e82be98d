"""How many connections fit into the files that this process may have open (`ulimit -n`).

A connection takes one. Without room the next accept fails, and so does whatever else opens a
file: a new dataset, a certificate, the database.
"""

from __future__ import annotations

import logging
import resource
from pathlib import Path

_log = logging.getLogger(__name__)

# What an engine opens when it starts (6 with wire, 8 with grpcio), and what is opened for a
# moment: certificates, the log, datasets that replaced others which are still being sent.
_SPARE_FILES = 32


def connections_that_fit(wanted: int, other_files: int) -> int:
    """Return `wanted`, or how many fit beside `other_files` and those that are open now.

    The soft limit is raised as far as needed and permitted: it is there for programs that
    can't wait for descriptors above 1023, and this one can.
    """
    others = len(list(Path("/proc/self/fd").iterdir())) + _SPARE_FILES + other_files
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + others
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            _log.info("the limit of open files (ulimit -n) is raised from %d to %d", soft, raised)
        soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    fitting = max(soft - others, 1)
    _log.warning(
        "only %d connections fit, not the %d of MAX_CONNECTIONS: the limit of open files"
        " (ulimit -n) is %d, and %d may be needed for other things",
        fitting, wanted, soft, others,
    )  # fmt: skip
    return fitting

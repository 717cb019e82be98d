"""Whether there is memory for what is about to be made, where the process has a limit.

Under `ulimit -v` (RLIMIT_AS) an allocation that fails inside a C library may end the process:
Arrow's kernels abort, the C-core does, protobuf's runtime reads from nowhere. So whoever is
about to make much asks first, and is refused while there still is enough for everything else.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from typing import TYPE_CHECKING

import psutil

from streamer.errors import OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

# For the loop, for answers, for a thread's stack, and for what was estimated too low.
_KEPT_FREE_BYTES = 16 << 20

_process = psutil.Process()


class MemoryRoom:
    """What threads are making at this time; shared by all calls of a service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._promised_bytes = 0

    @contextlib.contextmanager
    def promised(self, size: int) -> Iterator[None]:
        """Let the body make `size` bytes, an estimate; OutOfMemoryError if they don't fit."""
        with self._lock:
            free = _free_bytes()
            if free is not None and self._promised_bytes + size + _KEPT_FREE_BYTES > free:
                raise OutOfMemoryError
            self._promised_bytes += size
        try:
            yield
        finally:
            with self._lock:
                self._promised_bytes -= size


def _free_bytes() -> int | None:
    """Return what the process may still map; None if nothing limits that."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - int(_process.memory_info().vms)

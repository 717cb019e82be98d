"""Processes of `python -m streamer serve` and `receive`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from interop.toolchains import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_OTHER_CHECKOUT = os.environ.get("INTEROP_SERVER")
_STOP_SECONDS = 60


class Server(NamedTuple):
    """A running `streamer serve`."""

    engine: str
    target: str  # HOST:PORT


@contextlib.contextmanager
def serving(log: Path, *options: str, command: str = "serve") -> Iterator[str]:
    """Run a server that logs to `log`; yield HOST:PORT. It has to stop when told."""
    root = Path(_OTHER_CHECKOUT) if _OTHER_CHECKOUT else ROOT
    python = str(root / ".venv" / "bin" / "python") if _OTHER_CHECKOUT else sys.executable
    with (
        log.open("w") as log_file,
        subprocess.Popen(
            [python, "-m", "streamer", command, "--host", "127.0.0.1", "--port", "0", *options],
            cwd=log.parent, env={**os.environ, "PYTHONPATH": str(root)}, text=True,
            stdout=subprocess.PIPE, stderr=log_file,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout
            listening = re.fullmatch(r"listening on (\S+)\n", process.stdout.readline())
            assert listening, log.read_text()
            yield listening[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(_STOP_SECONDS) == 0, log.read_text()
        finally:
            process.kill()

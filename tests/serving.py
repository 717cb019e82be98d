"""`python -m streamer serve` in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.wire_peer import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ROOT = Path(__file__).parent.parent
_SECONDS = 120


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), **extra}


_EXECUTE = """
import os, resource, sys
name, soft, hard, *command = sys.argv[1:]
resource.setrlimit(getattr(resource, name), (int(soft), int(hard)))
os.execv(command[0], command)
"""


def limited(name: str, soft: int, hard: int, *command: str) -> list[str]:
    """Return a command that runs `command` under a limit, such as RLIMIT_AS.

    Popen's preexec_fn would run Python in a fork of this process, whose gRPC threads it lacks.
    """
    return [sys.executable, "-c", _EXECUTE, name, str(soft), str(hard), *command]


@contextlib.contextmanager
def terminal() -> Iterator[tuple[Callable[[], None], dict[str, Any]]]:
    """Yield what closes a terminal, and options of Popen that make it the process's."""
    controller, end = pty.openpty()

    def close() -> None:
        with contextlib.suppress(OSError):
            os.close(controller)

    options = {
        "stdin": end,
        "start_new_session": True,
        "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    }
    try:
        yield close, options
    finally:
        os.close(end)
        close()


class Serving:
    """A server that has said where it listens; `log` is what it writes to standard error."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        settings: Mapping[str, str] | None = None,
        popen: Mapping[str, Any] | None = None,
        command: str = "serve",
        limit: tuple[str, int, int] | None = None,
    ) -> None:
        self.log = folder / "server.log"
        line = [sys.executable, "-m", "streamer", command, "--port", "0", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                limited(*limit, *line) if limit else line,
                cwd=folder, env=environment(**settings or {}), stdout=subprocess.PIPE,
                stderr=log, text=True, **popen or {},
            )  # fmt: skip
        assert self.process.stdout
        match = re.fullmatch(r"listening on (.+):(\d+)\n", self.process.stdout.readline())
        assert match, self.log.read_text()
        self.target = f"127.0.0.1:{match[2]}"

    def wait_for(self, text: str, after: int = 0) -> None:
        """Wait until the log has `text` behind its first `after` characters."""
        assert eventually(lambda: text in self.log.read_text()[after:], _SECONDS), text

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(_SECONDS)
        assert self.process.stdout
        self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

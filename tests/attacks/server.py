"""The server that is attacked: a process of its own, whose memory is watched.

ATTACK_CHECKOUT names a folder with another version of the project, and its .venv: attacks are
made on that one then.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_SAMPLE_SECONDS = 0.01


class AttackedServer:
    """`target` is HOST:PORT; `log` the file that it writes."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self._process = process
        self.port = port
        self.target = f"127.0.0.1:{port}"
        self.log = log

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def anonymous_bytes(self) -> int:
        """Return the process's resident memory that no file is behind; 0 if it is gone."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    return int(line.split()[1]) * 1024
        return 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[Memory]:
        """Watch the process's memory for as long as the body runs."""
        memory = Memory(self)
        thread = threading.Thread(target=memory.sample)
        thread.start()
        try:
            yield memory
        finally:
            memory.is_over.set()
            thread.join()


class Memory:
    """Anonymous bytes of a server's: `before`, and the most since (`peak`)."""

    def __init__(self, server: AttackedServer) -> None:
        self._server = server
        self.before = self.peak = server.anonymous_bytes()
        self.is_over = threading.Event()

    def sample(self) -> None:
        while not self.is_over.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, self._server.anonymous_bytes())


@contextlib.contextmanager
def attacked_server(data: Path, log: Path, **environment: str) -> Iterator[AttackedServer]:
    """Serve a dataset on a free port."""
    checkout = os.environ.get("ATTACK_CHECKOUT")
    python = f"{checkout}/.venv/bin/python" if checkout else sys.executable
    with (
        log.open("w") as file,
        subprocess.Popen(
            [
                python, "-m", "streamer", "serve", "--data", str(data), "--host", "127.0.0.1",
                "--port", "0", "--engine", "wire", "--log-level", "WARNING",
            ],
            cwd=checkout or _ROOT, env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=file, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("listening on "), log.read_text()
            yield AttackedServer(process, int(line.rsplit(":", 1)[1]), log)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()

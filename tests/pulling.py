"""The command `pull`, here and in a process of its own, and servers to pull from."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from click.testing import CliRunner

from streamer.__main__ import main
from streamer.dataset import Dataset
from streamer.service import EmbeddingService
from tests.engines import STARTERS
from tests.postgres import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.engines.hosting import RunningEngine

ROOT = Path(__file__).parent.parent
_LISTENING_SECONDS = 120.0


class Outcome(NamedTuple):
    """What a command printed, and what it raised for `run` to turn into an exit code."""

    output: str
    error: BaseException | None


def pull(source: str, url: str | None, *options: str, **settings: str) -> Outcome:
    """Run the command in this process; not in two threads at once."""
    into = () if url is None else ("--into", url)
    result = CliRunner().invoke(main, ["pull", "--from", source, *into, *options], env=settings)
    error = result.exception
    return Outcome(result.output, None if isinstance(error, SystemExit) else error)


def start_pull(
    folder: Path, source: str, url: str, *options: str, **settings: str
) -> subprocess.Popen[str]:
    """Start the real command, its output and its errors in one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "streamer", "pull", "--from", source, "--into", url, *options],
        cwd=folder, env=environment(**settings), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run_pull(folder: Path, source: str, url: str, *options: str, **settings: str) -> Outcome:
    """Run the real command to its end; `error` is SystemExit, unless its code is 0."""
    with start_pull(folder, source, url, *options, **settings) as process:
        output, _ = process.communicate()
    return Outcome(output, SystemExit(process.returncode) if process.returncode else None)


def environment(**settings: str) -> dict[str, str]:
    """Return an environment for a command in another folder, where no .env is."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **settings}


@contextlib.contextmanager
def serving(
    path: Path, engine: str = "wire", *, port: int = 0, max_message_bytes: int = 4 << 20
) -> Iterator[str]:
    """Serve a dataset file by one of the engines, in this process."""
    server = start_server(path, engine, port=port, max_message_bytes=max_message_bytes)
    try:
        yield server.address
    finally:
        server.stop(0)


def start_server(
    path: Path, engine: str = "wire", *, port: int = 0, max_message_bytes: int = 4 << 20
) -> RunningEngine:
    service = EmbeddingService(
        Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=max_message_bytes
    )
    return STARTERS[engine](service, port=port)


class ServerProcess:
    """`python -m streamer serve` in a process of its own, always on the same port."""

    def __init__(self, path: Path, engine: str = "wire") -> None:
        self._path = path
        self._engine = engine
        self._port = "0"
        self._log = path.with_name("server.log")
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "streamer", "serve", "--host", "127.0.0.1",
                "--port", self._port, "--data", str(self._path), "--engine", self._engine,
            ],
            cwd=self._path.parent, env=environment(LOG_FILE=str(self._log)), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout
        match = re.fullmatch(r"listening on .+:(\d+)\n", self._process.stdout.readline())
        assert match, self._process.poll()
        self._port = match[1]

    def requests(self) -> int:
        """Return how many streams were asked for since the first start."""
        return self._log.read_text().count(" rows after ")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=_LISTENING_SECONDS)


def position(url: str) -> tuple[int, int]:
    """Return the rows of the table, and those that its checkpoint says; 0 for what isn't there."""
    (tables,) = run(
        url, "SELECT to_regclass('recruit_embedding') IS NOT NULL,"
        " to_regclass('embedding_streamer_checkpoint') IS NOT NULL",
    )  # fmt: skip
    if not all(tables):
        return 0, 0
    (row,) = run(
        url, "SELECT (SELECT count(*) FROM recruit_embedding), coalesce((SELECT rows FROM"
        " embedding_streamer_checkpoint WHERE target = 'recruit_embedding'::regclass), 0)",
    )  # fmt: skip
    return row[0], row[1]

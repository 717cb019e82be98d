"""A Batch Server that nobody here wrote takes what `streamer upload` sends, bit for bit.

It is a receiver of grpc-java's, a process of its own (`interop/clients/java/BatchServer.java`).
The other way round, a Java client that pulls, is `interop/test_clients.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from interop.toolchains import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from interop.dataset import Dataset

_SECONDS = 240
_STOP_SECONDS = 60


class _Report(NamedTuple):
    """What the server has at its end, as the clients report it."""

    rows: int
    digest: str


class _BatchServer:
    """The Java receiver; it fails rows of the ids in `refused`."""

    def __init__(self, command: list[str], *refused: str) -> None:
        self._process = subprocess.Popen(
            [*command, *refused], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout
        self._line = self._process.stdout.readline()

    @property
    def target(self) -> str:
        listening = re.fullmatch(r"listening on (\S+)\n", self._line)
        assert listening, self._line
        return listening[1]

    def end(self) -> _Report:
        """Close its input, which makes it report and stop."""
        out, err = self._process.communicate(timeout=_STOP_SECONDS)
        assert self._process.returncode == 0, err
        report = json.loads(out)
        return _Report(report["rows"], report["digest"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _upload(
    folder: Path, dataset: Dataset, target: str, environment: dict[str, str], *more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, "-m", "streamer", "upload", "--data", str(dataset.path),
            "--to", target, "--state", "state.json", "--failed-ids", "failed.txt", *more,
        ],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=_SECONDS,
    )  # fmt: skip


def test_java_receives_every_row(
    java: dict[str, list[str]], dataset: Dataset, python_environment: dict[str, str],
    tmp_path: Path, rates: list[str],
) -> None:  # fmt: skip
    """The rows and their digest are those of the file; sent once more, they still are."""
    with _BatchServer(java["BatchServer"]) as server:
        begin = time.monotonic()
        first = _upload(tmp_path, dataset, server.target, python_environment)
        rate = len(dataset.ids) / (time.monotonic() - begin)
        half = dataset.ids[len(dataset.ids) // 2]
        again = _upload(tmp_path, dataset, server.target, python_environment, "--after", half)
        report = server.end()

    assert first.returncode == 0, first.stderr
    assert again.returncode == 0, again.stderr
    rates.append(f"{'-':8} {'UploadEmbeddings':16} {'java BatchServer':17} {rate:>9,.0f} rows/s")
    assert f"succeeded    {len(dataset.ids)}\n" in first.stdout.replace(",", "")
    assert report == (len(dataset.ids), dataset.digest)


def test_java_says_which_rows_failed(
    java: dict[str, list[str]], dataset: Dataset, python_environment: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    """They are in the file of failed ids, and everything but them is at the receiver."""
    failing = [dataset.ids[0], dataset.ids[len(dataset.ids) // 3], dataset.ids[-1]]
    with _BatchServer(java["BatchServer"], *failing) as server:
        ended = _upload(tmp_path, dataset, server.target, python_environment)
        report = server.end()

    assert ended.returncode == 1, ended.stderr
    assert (tmp_path / "failed.txt").read_text().splitlines() == failing
    assert report.rows == len(dataset.ids) - len(failing)
    assert report.digest != dataset.digest

"""The program in docs/java.md compiles as it stands there, and does what the page says."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest

from interop.toolchains import ROOT, MissingToolchainError, build_java

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from interop.dataset import Dataset
    from interop.servers import Server

_SECONDS = 240
_UNKNOWN_ID = "00000000-0000-5000-8000-000000000000"


@pytest.fixture(scope="module")
def pull_rows(folder: Path, missing: Callable[[object], NoReturn]) -> list[str]:
    page = (ROOT / "docs" / "java.md").read_text()
    blocks = re.findall(r"```java\n(.+?)```", page, re.DOTALL)
    (program,) = (block for block in blocks if "class PullRows" in block)
    part = folder / "java_page"
    part.mkdir(exist_ok=True)  # once more for each engine
    source = part / "PullRows.java"
    source.write_text(program)
    try:
        return build_java(part, source)["PullRows"]
    except MissingToolchainError as error:
        missing(error)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)


@pytest.mark.parametrize("share", [0, 0.5, 1], ids=["everything", "half", "nothing left"])
def test_program_reads_what_is_after_the_checkpoint(
    pull_rows: list[str], server: Server, dataset: Dataset, share: float
) -> None:
    """All rows without a checkpoint, those after it with one, none after the last."""
    committed = int(len(dataset.ids) * share)
    checkpoint = dataset.ids[:committed][-1:]

    done = _run(*pull_rows, server.target, *checkpoint)

    assert done.returncode == 0, done.stderr
    coming = len(dataset.ids) - committed
    last = dataset.ids[-1] if coming else ""
    assert done.stdout.startswith(f"{coming} of {coming} rows in "), done.stdout
    assert done.stdout.endswith(f" s, the last one {last}\n"), done.stdout


def test_program_stops_at_an_unknown_checkpoint(pull_rows: list[str], server: Server) -> None:
    """With must-exist, an id of another dataset is an error and not a beginning."""
    done = _run(*pull_rows, server.target, _UNKNOWN_ID)

    assert done.returncode == 1
    assert "FAILED_PRECONDITION" in done.stderr

"""What do long texts cost: a conversion's time and memory, and a server's?"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, NamedTuple

import pytest

from benchmarks.large_pickle import long_text, write_large_pickle
from benchmarks.measure import anonymous_bytes, drain, run_python, seconds_of, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measure import Run

_ROUNDS = 3
_DIMENSION = 384
_QUICK_SHARE = 100
_MOST_TIMES = 1.3
_MOST_MEGABYTES = 200
_COPIED_BYTES = 1 << 20


class _Texts(NamedTuple):
    """A column of `rows` texts of `letters` each, no two of them equal."""

    said: str
    rows: int
    letters: int


_CASES = [
    _Texts("200,000 texts of 1.5 KB", 200_000, 1500),
    _Texts("400,000 texts of 1.5 KB", 400_000, 1500),
    _Texts("40,000 texts of 60 KB", 40_000, 60_000),
]


def _convert(source: Path) -> Run:
    out = source.with_suffix(".arrow")
    return run_python("-m", "convert", str(source), "-o", str(out), "--force")


def _copy(source: Path, out: Path) -> None:
    """Copy a file as a conversion writes its own: it is on the disk in the end."""
    with source.open("rb") as read, out.open("wb") as written:
        while block := read.read(_COPIED_BYTES):
            written.write(block)
        written.flush()
        os.fsync(written.fileno())


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.said)
def test_convert_long_texts(folder: Path, results: Results, case: _Texts) -> None:
    """Against the same rows with short texts, and a copy of the long ones' bytes."""
    rows = case.rows // (_QUICK_SHARE if results.quick else 1)
    long, short, texts = (folder / name for name in ("long.pkl", "short.pkl", "texts"))
    write_large_pickle(long, rows, _DIMENSION, case.letters)
    write_large_pickle(short, rows, _DIMENSION)
    with texts.open("w") as file:
        file.writelines(long_text(number, case.letters) for number in range(rows))

    ours: list[Run] = []
    bases: list[float] = []
    copies: list[float] = []
    for _ in range(_ROUNDS):
        ours.append(_convert(long))
        bases.append(_convert(short).seconds)
        copies.append(seconds_of(lambda: _copy(texts, folder / "copy")))
    written = long.with_suffix(".arrow").stat().st_size
    for path in (long, short, texts, folder / "copy"):
        path.unlink()
        path.with_suffix(".arrow").unlink(missing_ok=True)

    seconds = statistics.median(run.seconds for run in ours)
    base, copy = statistics.median(bases), statistics.median(copies)
    results.add(
        Result(
            f"convert {case.said}, seconds",
            f"{seconds:.1f} s ({written / 1e6:,.0f} MB)",
            f"without them {base:.1f} s, a copy of them {copy:.1f} s",
            seconds / (base + copy),
            "x the time",
            must_reach=f"<= {_MOST_TIMES} x",
            samples={"ours": [run.seconds for run in ours], "base": bases, "copy": copies},
        )
    )
    peak = max(run.peak_anonymous_bytes for run in ours) / 1e6
    results.add(
        Result(
            f"convert {case.said}, peak anonymous memory",
            f"{peak:,.0f} MB", "", peak, "MB", f"<= {_MOST_MEGABYTES} MB",
        )
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["wire", "grpcio"])
def test_serve_long_texts(folder: Path, results: Results, engine: str) -> None:
    """Anonymous memory after full streams, from long texts and from a tenth as many of them."""
    case = _CASES[-1]
    rows = case.rows // (_QUICK_SHARE if results.quick else 1)
    megabytes = []
    for count in (rows, rows // 10):
        source = folder / "served.pkl"
        write_large_pickle(source, count, _DIMENSION, case.letters)
        _convert(source)
        with streamer(source.with_suffix(".arrow"), engine) as server:
            drain(server.target, "GetEmbeddings")
            drain(server.target, "StreamEmbedding", chunk_size=100, repeats=2, streams=2)
            megabytes.append(anonymous_bytes(server.pid) / 1e6)
        source.unlink()
        source.with_suffix(".arrow").unlink()

    of_full, of_tenth = megabytes
    results.add(
        Result(
            f"anonymous memory of {engine} after full streams of {case.said}",
            f"{of_full:.0f} MB",
            f"a tenth as many: {of_tenth:.0f} MB",
            of_full,
            "MB",
            "<= 150 MB",
        )
    )

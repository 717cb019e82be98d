"""How much memory of its own does a server need, and does it depend on the file?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import anonymous_bytes, drain, run_python, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

_STREAMS = 4


def _megabytes_after_streams(dataset: Path, engine: str) -> float:
    with streamer(dataset, engine) as server:
        drain(server.target, "GetEmbeddings")
        drain(server.target, "StreamEmbedding", chunk_size=300, repeats=3, streams=_STREAMS)
        drain(server.target, "StreamEmbedding", chunk_size=10_000, repeats=2)
        return anonymous_bytes(server.pid) / 1e6


@pytest.fixture(scope="module")
def tenth(folder: Path, results: Results) -> Path:
    """Return a dataset of a tenth the rows."""
    small = folder / "tenth"
    run_python("data/make_sample.py", "--rows", str(results.rows // 10), "--out", f"{small}.pkl")
    run_python("-m", "convert", f"{small}.pkl")
    return small.with_suffix(".arrow")


@pytest.mark.parametrize("engine", ["wire", "grpcio"])
def test_server_memory(dataset: Path, tenth: Path, results: Results, engine: str) -> None:
    """Anonymous memory after full streams, from this file and from one of a tenth its size."""
    of_small = _megabytes_after_streams(tenth, engine)
    of_full = _megabytes_after_streams(dataset, engine)

    results.add(
        Result(
            f"anonymous memory of {engine} after full streams",
            f"{of_full:.0f} MB",
            f"a file of a tenth the size: {of_small:.0f} MB",
            of_full,
            "MB",
            "<= 150 MB",
        )
    )

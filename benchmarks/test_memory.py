"""How much memory of its own does a server need, and does it depend on the file?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.measure import anonymous_bytes, drain, run_python, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

_STREAMS = 4


def _megabytes_after_streams(dataset: Path) -> float:
    with streamer(dataset) as server:
        drain(server.target, "GetEmbeddings")
        drain(server.target, "StreamEmbedding", chunk_size=300, repeats=3, streams=_STREAMS)
        drain(server.target, "StreamEmbedding", chunk_size=10_000, repeats=2)
        return anonymous_bytes(server.pid) / 1e6


def test_server_memory(dataset: Path, folder: Path, results: Results) -> None:
    """Anonymous memory after full streams, from this file and from one of a tenth its size."""
    small = folder / "tenth"
    run_python("data/make_sample.py", "--rows", str(results.rows // 10), "--out", f"{small}.pkl")
    run_python("-m", "convert", f"{small}.pkl")
    of_small = _megabytes_after_streams(small.with_suffix(".arrow"))
    of_full = _megabytes_after_streams(dataset)

    results.add(
        Result(
            "server's anonymous memory after full streams",
            f"{of_full:.0f} MB",
            f"a file of a tenth the size: {of_small:.0f} MB",
            of_full,
            "MB",
            "<= 150 MB",
        )
    )

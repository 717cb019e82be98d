"""How fast does the grpcio engine serve a grpcio client, and how soon come the first rows?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.measure import drain, module, serving, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.conftest import Sources

_REPEATS = 5
_ROWS_A_CHUNK = 300


def test_streams(dataset: Path, sources: Sources, results: Results) -> None:
    """Both RPCs of the grpcio engine, and the server that works row by row."""
    with streamer(dataset, "grpcio") as server:
        chunks = drain(server.target, "StreamEmbedding", chunk_size=_ROWS_A_CHUNK, repeats=_REPEATS)
        rows = drain(server.target, "GetEmbeddings", repeats=3)
    with serving(*module("benchmarks.row_by_row_server", str(sources.records))) as server:
        old = drain(server.target, "GetEmbeddings")
    assert {results.rows} == {run.messages for run in rows + old}

    samples = {
        "StreamEmbedding": [run.seconds for run in chunks],
        "GetEmbeddings": [run.seconds for run in rows],
        "row by row": [run.seconds for run in old],
    }
    speed = {name: results.rows / min(seconds) for name, seconds in samples.items()}
    results.add(
        Result(
            "GetEmbeddings on grpcio, grpcio client",
            f"{speed['GetEmbeddings']:,.0f} rows/s",
            f"iterrows: {speed['row by row']:,.0f} rows/s",
            speed["GetEmbeddings"] / speed["row by row"],
            "x",
            ">= 1",
            samples,
        )
    )
    results.add(
        Result(
            f"StreamEmbedding by {_ROWS_A_CHUNK} on grpcio, grpcio client",
            f"{speed['StreamEmbedding']:,.0f} rows/s",
            f"GetEmbeddings: {speed['GetEmbeddings']:,.0f} rows/s",
            speed["StreamEmbedding"] / speed["GetEmbeddings"],
            "x",
            ">= 15",
            samples,
        )
    )
    # The first stream of a server meets a cold allocator; what callers see is the rest.
    first = {
        "StreamEmbedding": [run.first_message_seconds * 1e3 for run in chunks[1:]],
        "GetEmbeddings": [run.first_message_seconds * 1e3 for run in rows[1:]],
    }
    for rpc, milliseconds in first.items():
        median = sorted(milliseconds)[len(milliseconds) // 2]
        results.add(
            Result(
                f"time to the first message, {rpc} on grpcio",
                f"{median:.1f} ms",
                f"iterrows: {old[0].first_message_seconds * 1e3:,.0f} ms",
                median,
                "ms",
                "<= 10 ms",
                {"milliseconds": milliseconds},
            )
        )

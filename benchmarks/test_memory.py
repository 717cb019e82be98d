"""How much memory of its own does a server need, and does it depend on the file?"""

from __future__ import annotations

import pickle
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from benchmarks.measure import anonymous_bytes, drain, run_python, streamer
from benchmarks.results import Result, Results
from streamer.sinks.database import database

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


class _LongRows(NamedTuple):
    """Rows of three texts of `letters` each; texts and vectors repeat."""

    said: str
    rows: int
    letters: int
    dimension: int

    def records(self) -> list[dict[str, Any]]:
        texts = [str(number).ljust(self.letters, "x") for number in range(10)]
        vectors = np.random.default_rng(7).standard_normal((10, self.dimension), np.float32)
        return [
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"job/{row}")),
                "company_name": texts[row % 10],
                "exp_years": row % 10,
                "english_level": texts[row % 9],
                "primary_keyword": texts[row % 7],
                "vector": vectors[row % 10],
            }
            for row in range(self.rows)
        ]


@pytest.mark.parametrize(
    "long",
    [
        _LongRows("600 KB of text", 1500, 200_000, 384),
        _LongRows("15 MB of text", 60, 5_000_000, 384),
        _LongRows("16,000 floats", 6000, 10, 16_000),
    ],
    ids=lambda long: long.said,
)
def test_memory_of_pull(folder: Path, results: Results, long: _LongRows) -> None:
    """Of a message as large as the server makes it at 2,048 rows, several would be too much."""
    source, path = folder / "long.pkl", folder / "long.arrow"
    source.write_bytes(pickle.dumps(long.records()))
    run_python("-m", "convert", str(source), "-o", str(path), "--force")
    with database(f"embedded:{folder / 'postgres'}") as dsn, streamer(path) as server:
        run = run_python(
            "-m", "streamer", "pull", "--from", server.target, "--into", dsn,
            "--table", f"long_{long.rows}",
        )  # fmt: skip
    peak = run.peak_anonymous_bytes / 1e6
    question = f"anonymous memory of pull, rows of {long.said}"
    results.add(Result(question, f"{peak:.0f} MB", "", peak, "MB", "<= 200 MB"))

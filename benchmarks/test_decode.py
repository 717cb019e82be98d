"""How fast do messages become record batches, against message objects row by row?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.measure import interleaved
from benchmarks.results import Result, Results
from proto import embedding_stream_pb2 as pb
from streamer.client.decoding import ChunkMessages
from streamer.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Rows that the baseline decodes; at 20 us a row it needs no more.
_BASELINE_ROWS = 6000


def _columns(chunks: list[bytes], vectors: Callable[[Any], NDArray[np.float32]]) -> None:
    """Decode to the columns that a record batch has, by way of message objects."""
    for chunk in chunks:
        rows = pb.RowChunk.FromString(chunk).rows
        [row.id for row in rows]
        [row.company_name for row in rows]
        np.array([row.exp_years for row in rows], np.int32)
        [row.english_level for row in rows]
        [row.primary_keyword for row in rows]
        vectors(rows)


def _by_array(rows: Any) -> NDArray[np.float32]:
    """Take each vector as recent releases of protobuf hand it to NumPy, at once."""
    return np.array([row.vector for row in rows], np.float32)


def _by_floats(rows: Any) -> NDArray[np.float32]:
    """Take each vector as a list of Python floats."""
    return np.array([list(row.vector) for row in rows], np.float32)


@pytest.mark.parametrize("chunk_rows", [2048, 300])
def test_decode_chunks(dataset: Path, results: Results, chunk_rows: int) -> None:
    """Record batches of the messages of StreamEmbedding; the same as objects, to NumPy.

    And the least that any decoder must do: copy the bytes once. Copies are let go at once, as
    the batches are: most of the time of copies that are kept goes into the kernel's search for
    fresh memory, ten times as much as into copying.
    """
    opened = Dataset(dataset).current()
    chunks = [
        message
        for batch in opened.store.rows_after(None).slices
        for message in opened.chunks.encode(
            batch, np.arange(0, batch.num_rows, chunk_rows)
        ).messages()
    ]
    rows = opened.store.info.rows
    sample = chunks[: -(-_BASELINE_ROWS // chunk_rows)]
    sample_rows = sum(len(pb.RowChunk.FromString(chunk).rows) for chunk in sample)
    decoder = ChunkMessages()

    def decode() -> None:
        for chunk in chunks:
            decoder.add(chunk)

    def copy() -> None:
        for chunk in chunks:
            bytearray(chunk)

    samples = interleaved(
        7,
        ours=decode,
        floats=lambda: _columns(sample, _by_floats),
        array=lambda: _columns(sample, _by_array),
        copy=copy,
    )

    ours = rows / min(samples["ours"])
    for name, said, row_count in (
        ("floats", "message objects, lists of floats", sample_rows),
        ("array", "message objects, np.array(row.vector)", sample_rows),
        ("copy", "a bare copy of the bytes", rows),
    ):
        rate = row_count / min(samples[name])
        results.add(
            Result(
                f"decode chunks of {chunk_rows} rows",
                f"{ours:,.0f} rows/s",
                f"{said}: {rate:,.0f} rows/s",
                ours / rate,
                "x",
                "" if name == "copy" else ">= 15",
                samples,
            )
        )

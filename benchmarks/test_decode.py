"""How fast do messages become record batches, against message objects row by row?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.measure import interleaved
from benchmarks.results import Result, Results
from proto import embedding_stream_pb2 as pb
from streamer.client.decoding import ChunkMessages
from streamer.dataset import Dataset

if TYPE_CHECKING:
    from pathlib import Path

# Rows that the baseline decodes; at 20 us a row it needs no more.
_BASELINE_ROWS = 6000


def _columns(chunks: list[bytes]) -> None:
    """Decode to the columns that a record batch has, by way of message objects."""
    for chunk in chunks:
        rows = pb.RowChunk.FromString(chunk).rows
        [row.id for row in rows]
        [row.company_name for row in rows]
        np.array([row.exp_years for row in rows], np.int32)
        [row.english_level for row in rows]
        [row.primary_keyword for row in rows]
        np.array([row.vector for row in rows], np.float32)


@pytest.mark.parametrize(("chunk_rows", "bar"), [(2048, 15), (300, 15)])
def test_decode_chunks(dataset: Path, results: Results, chunk_rows: int, bar: int) -> None:
    """Record batches of the messages of StreamEmbedding; the same as objects, to NumPy."""
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

    samples = interleaved(7, ours=decode, baseline=lambda: _columns(sample))

    ours, baseline = rows / min(samples["ours"]), sample_rows / min(samples["baseline"])
    results.add(
        Result(
            f"decode chunks of {chunk_rows} rows",
            f"{ours:,.0f} rows/s",
            f"message objects: {baseline:,.0f} rows/s",
            ours / baseline,
            "x",
            f">= {bar}",
            samples,
        )
    )

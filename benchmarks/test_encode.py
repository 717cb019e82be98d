"""How fast do record batches become messages, against message objects row by row?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import interleaved
from benchmarks.results import Result, Results
from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

# Rows that the baseline encodes; at 30 us a row it needs no more.
_BASELINE_ROWS = 3000


def _row_by_row(batches: list[pa.RecordBatch]) -> None:
    for batch in batches:
        for row in batch.to_pylist():
            pb.Embedding(
                id=str(row["id"]),
                company_name=row["company_name"],
                exp_years=row["exp_years"],
                english_level=row["english_level"],
                primary_keyword=row["primary_keyword"],
                vector=row["vector"],
            ).SerializeToString()


@pytest.mark.parametrize(("batch_rows", "bar"), [(4096, 50), (1000, 40), (300, 30)])
def test_encode_rows(dataset: Path, results: Results, batch_rows: int, bar: int) -> None:
    """Joined frames of whole batches; the same batches as message objects."""
    opened = Dataset(dataset).current()
    batches = [
        part.slice(start, batch_rows)
        for part in opened.store.rows_after(None).slices
        for start in range(0, part.num_rows - part.num_rows % batch_rows, batch_rows)
    ] or list(opened.store.rows_after(None).slices)
    rows = sum(batch.num_rows for batch in batches)
    sample = batches[: -(-_BASELINE_ROWS // batch_rows)]
    sample_rows = sum(batch.num_rows for batch in sample)

    def encode() -> None:
        for batch in batches:
            opened.rows.encode(batch)

    samples = interleaved(7, ours=encode, baseline=lambda: _row_by_row(sample))

    ours, baseline = rows / min(samples["ours"]), sample_rows / min(samples["baseline"])
    results.add(
        Result(
            f"encode rows at {batch_rows} a batch",
            f"{ours:,.0f} rows/s",
            f"message objects: {baseline:,.0f} rows/s",
            ours / baseline,
            "x",
            f">= {bar}",
            samples,
        )
    )

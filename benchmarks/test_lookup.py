"""How long does it take to find the row after a checkpoint?"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import interleaved
from benchmarks.results import Result, Results
from convert.schema import BATCH_ROWS
from streamer.checkpoint import first_row_after
from streamer.store import EmbeddingStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

_LOOKUPS = 1000


def _measure(
    results: Results, name: str, ids: list[bytes], search: Callable[[bytes], object]
) -> None:
    random = np.random.default_rng(1)
    checkpoints = [ids[i] for i in random.integers(0, len(ids), _LOOKUPS)]

    def all_of(find: Callable[[bytes], object]) -> Callable[[], None]:
        def run() -> None:
            for checkpoint in checkpoints:
                find(checkpoint)

        return run

    samples = interleaved(5, ours=all_of(search), baseline=all_of(lambda c: bisect_right(ids, c)))
    microseconds = {key: min(values) / _LOOKUPS * 1e6 for key, values in samples.items()}
    results.add(
        Result(
            f"lookup in {name} ids",
            f"{microseconds['ours']:.1f} us",
            f"bisect on a list: {microseconds['baseline']:.1f} us",
            microseconds["ours"],
            "us",
            "<= 50 us",
            samples,
        )
    )


def test_lookup_in_the_dataset(dataset: Path, results: Results) -> None:
    """From a checkpoint to the slices that follow it, in the mapped file."""
    store = EmbeddingStore.open(dataset)
    ids = [
        value.as_py().bytes for part in store.rows_after(None).slices for value in part.column("id")
    ]

    _measure(results, f"{len(ids):,}", ids, store.rows_after)


def test_lookup_in_ten_million_ids(results: Results, pytestconfig: pytest.Config) -> None:
    """The search alone, over as many batches as a file of that size has."""
    rows = 100_000 if pytestconfig.getoption("--quick") else 10_000_000
    random = np.random.default_rng(0)
    high = np.sort(random.integers(0, 2**64, rows, np.uint64))
    low = random.integers(0, 2**64, rows, np.uint64)
    raw = np.stack((high, low), axis=1).astype(">u8").tobytes()
    batches = [
        memoryview(raw)[16 * start : 16 * (start + BATCH_ROWS)]
        for start in range(0, rows, BATCH_ROWS)
    ]
    ids = [raw[place : place + 16] for place in range(0, len(raw), 16)]

    _measure(results, f"{rows:,}", ids, lambda checkpoint: first_row_after(checkpoint, batches))

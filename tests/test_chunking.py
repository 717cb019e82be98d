"""Cutting rows into messages and messages into blocks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.chunking import calculate_optimal_chunk_size, chunk_starts, pieces, regrouped

_SIZES = st.lists(st.integers(0, 100), max_size=50).map(lambda sizes: np.array(sizes, np.int64))


@given(_SIZES, st.integers(0, 200))
def test_pieces_conserve_order_and_stay_below_the_limit(
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]], limit: int
) -> None:
    """Pieces follow on each other; only a single item may exceed the limit."""
    cut = list(pieces(sizes, limit))

    assert list(range(len(sizes))) == [item for start, stop in cut for item in range(start, stop)]
    assert all(sizes[a:b].sum() <= limit or b - a == 1 for a, b in cut)


@given(_SIZES, st.integers(1, 200))
def test_pieces_are_as_long_as_they_can_be(
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]], limit: int
) -> None:
    """No piece could have taken the first item of the next one."""
    cut = list(pieces(sizes, limit))

    assert all(sizes[a : b + 1].sum() > limit for a, b in cut[:-1])


@given(_SIZES, st.integers(1, 60), st.integers(100, 400))
def test_chunks_have_the_asked_rows_unless_that_is_too_large(
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]], rows: int, limit: int
) -> None:
    """Chunks begin at every multiple of the chunk size, and elsewhere only to stay small."""
    starts = chunk_starts(sizes, rows, limit).tolist()
    ends = [*starts[1:], len(sizes)]

    assert starts == sorted(set(starts))
    assert set(range(0, len(sizes), rows)) <= set(starts)
    assert all(sizes[a:b].sum() <= limit for a, b in zip(starts, ends, strict=False))
    for a, b in zip(starts, ends, strict=False):
        if b % rows and b != len(sizes):
            assert sizes[a : b + 1].sum() > limit


@given(st.lists(st.integers(1, 12), max_size=12), st.integers(1, 15))
def test_regrouping_conserves_rows_and_order(lengths: list[int], rows: int) -> None:
    """Every batch but the last is a multiple of the asked rows."""
    whole = pa.record_batch({"n": pa.array(range(sum(lengths)), pa.int64())})
    begins = np.cumsum([0, *lengths]).tolist()
    batches = [whole.slice(a, n) for a, n in zip(begins, lengths, strict=False)]

    out = list(regrouped(iter(batches), rows))

    assert list(range(sum(lengths))) == [n for batch in out for n in batch["n"].to_pylist()]
    assert all(batch.num_rows % rows == 0 for batch in out[:-1])
    assert all(batch.num_rows for batch in out)


def test_regrouping_copies_only_the_rows_around_a_boundary() -> None:
    """Slices that need no joining stay views on their batch."""
    whole = pa.record_batch({"n": pa.array(range(100), pa.int64())})
    address = whole.column(0).buffers()[1].address

    out = list(regrouped(iter([whole.slice(0, 55), whole.slice(55)]), 10))

    is_view = [batch.column(0).buffers()[1].address == address for batch in out]
    assert [50, 10, 40] == [batch.num_rows for batch in out]
    assert [True, False, True] == is_view


@pytest.mark.parametrize(
    ("dimension", "megabytes", "factor", "expected"),
    [
        (384, 1, 0.5, 257),  # 524,288 / 2,036
        (384, 0.001, 0.5, 10),
        (384, 4096, 0.5, 1000),
        (1, 0.1, 1.0, 208),
        (2000, 10, 0.1, 123),
    ],
)
def test_optimal_chunk_size(dimension: int, megabytes: float, factor: float, expected: int) -> None:
    """Rows are dimension * 4 + 500 bytes, and their number stays in 10..1000."""
    assert expected == calculate_optimal_chunk_size(dimension, megabytes, factor)

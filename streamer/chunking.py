"""How many rows go into a message, and how many messages into a block. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from streamer.buffers import memory_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

MAX_CHUNK_ROWS = 10_000
# Rows; the bounds of CHUNK_SIZE=auto.
_MIN_OPTIMAL_ROWS = 10
_MAX_OPTIMAL_ROWS = 1000
_FLOAT_BYTES = 4
# Bytes of a row beside its vector: text, id, the objects of a receiver that makes some.
_ROW_OVERHEAD_BYTES = 500


def calculate_optimal_chunk_size(
    vector_dimension: int, available_memory_mb: float, safety_factor: float
) -> int:
    """Return rows per chunk such that a chunk takes its share of the memory.

    `safety_factor` is that share, 0..1. A row counts as dimension * 4 + 500 bytes; the
    result is clamped to 10..1000.
    """
    row_bytes = vector_dimension * _FLOAT_BYTES + _ROW_OVERHEAD_BYTES
    rows = int(available_memory_mb * 1024 * 1024 * safety_factor / row_bytes)
    return max(_MIN_OPTIMAL_ROWS, min(rows, _MAX_OPTIMAL_ROWS))


def pieces(sizes: NDArray[np.int64], max_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut items of `sizes` bytes into runs [start, stop) of at most `max_bytes` each.

    Greedy, in order, no item lost; an item that is larger alone is a run of its own.
    """
    ends = np.cumsum(sizes)
    start, taken = 0, 0
    while start < len(sizes):
        stop = int(np.searchsorted(ends, taken + max_bytes, side="right"))
        stop = max(stop, start + 1)
        yield start, stop
        start, taken = stop, int(ends[stop - 1])


def chunk_starts(sizes: NDArray[np.int64], chunk_rows: int, max_bytes: int) -> NDArray[np.int64]:
    """Return the rows, ascending from 0, at which chunks begin.

    A chunk has `chunk_rows` rows, the last one what is left; one whose rows of `sizes`
    bytes exceed `max_bytes` is cut into several.
    """
    starts = np.arange(0, len(sizes), chunk_rows)
    chunk_bytes = np.add.reduceat(sizes, starts) if len(sizes) else sizes
    if chunk_bytes.max(initial=0) <= max_bytes:
        return starts
    cut: list[int] = []
    for start in starts.tolist():
        rows = sizes[start : start + chunk_rows]
        cut += [start + piece for piece, _ in pieces(rows, max_bytes)]
    return np.array(cut, np.int64)


def regrouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of a multiple of `rows` rows, the last one what is left.

    Slices are passed through; only the rows around a batch's end, fewer than `rows` on
    each side, are copied.
    """
    left: pa.RecordBatch | None = None
    for batch in batches:
        rest = batch
        if left is not None:
            missing = rows - left.num_rows
            left = _joined(left, rest.slice(0, missing))
            rest = rest.slice(missing)
            if left.num_rows < rows:
                continue
            yield left
        whole = rest.num_rows - rest.num_rows % rows
        if whole:
            yield rest.slice(0, whole)
        left = rest.slice(whole) if whole < rest.num_rows else None
    if left is not None:
        yield left


def _joined(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    """Concatenate batches of one dataset.

    Arrow compares dictionaries, text by text, before it concatenates what points into them.
    """
    columns = []
    for one, other in zip(first.columns, second.columns, strict=True):
        is_shared = pa.types.is_dictionary(one.type) and (
            memory_of(one.dictionary) == memory_of(other.dictionary)
        )
        parts = [one.indices, other.indices] if is_shared else [one, other]
        column = pa.concat_arrays(parts)
        if is_shared:
            column = pa.DictionaryArray.from_arrays(column, one.dictionary, safe=False)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=first.schema)

"""Protobuf's wire format, for whole columns.

Source: https://protobuf.dev/programming-guides/encoding/. Values come in as
NumPy arrays and go out as `Bytes`: an Arrow binary column with the size of each
value. Concatenating such columns row by row makes messages.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A 64-bit value in groups of 7 bits.
MAX_VARINT_BYTES = 10
# A length is a 32-bit number; no runtime takes one that is written in more bytes.
MAX_LENGTH_BYTES = 5
# Values below this have their encoding looked up instead of computed; two varint bytes'
# worth holds nearly every length and count. Measured: 7 us against 60 us for 300 values.
_TABLE_ENTRIES = 1 << 14
# Arrow's binary type addresses its data by int32.
MAX_COLUMN_BYTES = 2**31 - 1


class WireType(IntEnum):
    VARINT = 0
    I64 = 1
    LEN = 2
    I32 = 5


class Bytes(NamedTuple):
    """A binary column and the size of each of its values: int64 (n,)."""

    column: pa.Array
    sizes: NDArray[np.int64]


class Encoded(NamedTuple):
    """Binary columns and scalars, none of them null, to be joined row by row.

    `sizes` is what a row of all of them together takes: int64 (n,).
    """

    pieces: list[pa.Array | pa.Scalar]
    sizes: NDArray[np.int64]


def tag(field_number: int, wire_type: WireType) -> bytes:
    """Return the bytes in front of a field: the varint of its number and wire type."""
    value = field_number << 3 | wire_type
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_sizes(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how many bytes the varints of `values`, uint64 (n,), take: int64 (n,)."""
    sizes = np.ones(len(values), np.int64)
    # max() over an empty array has no value; the bound only saves useless rounds.
    bound = int(values.max(initial=0))
    for shift in range(7, 64, 7):
        if bound >> shift == 0:
            break
        sizes += values >= np.uint64(1 << shift)
    return sizes


def varint_matrix(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the varints of `values`, uint64 (n,), padded to the longest: uint8 (n, w)."""
    sizes = varint_sizes(values)
    columns = np.arange(sizes.max(initial=1))
    shifts = columns.astype(np.uint64) * np.uint64(7)
    groups = (values[:, None] >> shifts & np.uint64(0x7F)).astype(np.uint8)
    has_more = columns + 1 < sizes[:, None]
    return groups | np.where(has_more, np.uint8(0x80), np.uint8(0))


def ragged(matrix: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Bytes:
    """Cut row i of `matrix`, uint8 (n, w), to its first sizes[i] bytes; copies."""
    kept = np.arange(matrix.shape[1]) < sizes[:, None]
    return Bytes(binary_column(pa.py_buffer(matrix[kept]), offsets_of(sizes)), sizes)


def offsets_of(sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return Arrow's offsets, int32 (n + 1,), of values of `sizes` bytes in a row."""
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def binary_column(data: pa.Buffer, offsets: NDArray[np.int32]) -> pa.Array:
    """View `data` as a binary column cut at `offsets`, int32 (n + 1,); copies nothing."""
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), data])


def fixed_column(arrow_type: pa.DataType, values: NDArray[np.generic]) -> pa.Array:
    """View `values`, (n,), as a column of the Arrow type that has the same bytes.

    pa.array() would import pandas, where it is installed, to ask whether it is a Series:
    half a second and 30 MB of a program that has no other use for it.
    """
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(arrow_type, len(values), [None, buffer])


def int64_column(values: NDArray[np.int64]) -> pa.Array:
    """View `values`, int64 (n,), as an Arrow column."""
    return fixed_column(pa.int64(), values)


def fixed_width_column(data: pa.Buffer, rows: int, width: int) -> pa.Array:
    """View `data` as a binary column of `rows` values of `width` bytes; copies nothing.

    A cast of a sliced fixed-size binary column would copy the column's whole parent.
    """
    offsets = _fixed_offsets(rows, width)
    return pa.Array.from_buffers(pa.binary(), rows, [None, offsets, data])


@lru_cache(maxsize=64)  # streams ask for few numbers of rows, again and again
def _fixed_offsets(rows: int, width: int) -> pa.Buffer:
    return pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * np.int32(width))


# Made once: pc.binary_join_element_wise would make both in every call, 6 us. And not by
# pa.scalar(), which asks for pandas as pa.array() does.
_NO_SEPARATOR = fixed_width_column(pa.py_buffer(b""), 1, 0)[0]
_JOIN_OPTIONS = pc.JoinOptions(null_handling="emit_null")


def join(columns: list[pa.Array | pa.Scalar]) -> pa.Array:
    """Concatenate binary columns and scalars row by row, in C++; the one copy there is."""
    return pc.call_function("binary_join_element_wise", [*columns, _NO_SEPARATOR], _JOIN_OPTIONS)


def data_and_offsets(column: pa.Array) -> tuple[pa.Buffer, NDArray[np.int32]]:
    """Take a binary column apart: its data, and its offsets into them, int32 (n + 1,)."""
    _, offsets, data = column.buffers()
    return (
        data if data is not None else pa.py_buffer(b""),
        np.frombuffer(offsets, np.int32, len(column) + 1, 4 * column.offset),
    )


class TaggedVarints:
    """Encodes a column of integers as one varint field.

    `tag` stands before each value. With `omit_zero` (implicit presence) a zero
    takes no bytes at all, as the official runtime leaves defaults out.
    """

    def __init__(self, tag: bytes, *, omit_zero: bool) -> None:
        self._tag = np.frombuffer(tag, np.uint8)
        self._omit_zero = omit_zero
        every = np.arange(_TABLE_ENTRIES, dtype=np.uint64)
        self._table = self._compute(every, np.ones(_TABLE_ENTRIES, np.bool_))

    def sizes(
        self, values: NDArray[np.uint64], present: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Return the bytes each of `values`, uint64 (n,), will take: int64 (n,).

        `present` is a mask of the values that are there at all; None means all.
        """
        if present is None and values.max(initial=0) < _TABLE_ENTRIES:
            return self._table.sizes.take(values.view(np.int64))
        sizes = varint_sizes(values) + len(self._tag)
        if self._omit_zero:
            sizes[values == 0] = 0
        if present is not None:
            sizes[~present] = 0
        return sizes

    def encode(self, values: NDArray[np.uint64], present: NDArray[np.bool_] | None = None) -> Bytes:
        """Encode `values` as a binary column of `sizes(values, present)` bytes each."""
        if present is None and values.max(initial=0) < _TABLE_ENTRIES:
            places = values.view(np.int64)
            column = self._table.column.take(int64_column(places))
            return Bytes(column, self._table.sizes.take(places))
        return self._compute(values, present)

    def _compute(
        self, values: NDArray[np.uint64], present: NDArray[np.bool_] | None = None
    ) -> Bytes:
        tags = np.broadcast_to(self._tag, (len(values), len(self._tag)))
        matrix = np.concatenate((tags, varint_matrix(values)), axis=1)
        return ragged(matrix, self.sizes(values, present))

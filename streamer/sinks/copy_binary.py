"""Record batches to the rows of COPY ... (FORMAT binary), a column at a time. Pure.

Sources: PostgreSQL's documentation of COPY, section "Binary Format": a row is its number of
fields, int16, then each field's length, int32, and bytes; all big-endian. uuid is 16 bytes,
text its UTF-8, int4 four bytes; pgvector's vector (vector_send in its vector.c) is
the dimension, int16, a zero, int16, and the float4s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from streamer.codec.wire_format import (
    binary_column,
    data_and_offsets,
    fixed_width_column,
    join,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Signature, no flags, no header extension.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


def copy_rows(batch: pa.RecordBatch) -> pa.Buffer:
    """Return the rows of `batch`, its columns in order, without header and trailer.

    Columns are arrow.uuid, string, int32 and fixed-size lists of float32, without nulls.
    """
    pieces = [_constant(len(batch.schema).to_bytes(2, "big"))]
    for column in batch.columns:
        pieces += _field(column)
    data, offsets = data_and_offsets(join(pieces))
    return data.slice(0, int(offsets[-1]))  # Arrow allocates some for no rows, too


def id_of_row(pieces: Iterable[pa.Buffer], row: int) -> bytes:
    """Return the id of a row, which is its first field, among pieces of `copy_rows`."""
    for piece in pieces:
        data, place = memoryview(piece), 0
        while place < len(data):
            if not row:
                return bytes(data[place + 6 : place + 22])
            row -= 1
            fields = int.from_bytes(data[place : place + 2], "big")
            place += 2
            for _ in range(fields):
                place += 4 + int.from_bytes(data[place : place + 4], "big")
    message = "there is no such row"
    raise IndexError(message)


def _field(column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """Return the binary columns that make one field: its length and its bytes."""
    kind, rows = column.type, len(column)
    if kind == pa.uuid():
        ids = column.storage
        data = ids.buffers()[1].slice(16 * ids.offset, 16 * rows)
        return [_constant(_int32(16)), fixed_width_column(data, rows, 16)]
    if kind == pa.string():
        data, offsets = data_and_offsets(column)
        lengths = _big_endian(np.diff(offsets))
        return [fixed_width_column(lengths, rows, 4), binary_column(data, offsets)]
    if kind == pa.int32():
        values = np.frombuffer(column.buffers()[1], np.int32, rows, 4 * column.offset)
        return [_constant(_int32(4)), fixed_width_column(_big_endian(values), rows, 4)]
    if pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32():
        dimension = kind.list_size
        floats = column.flatten()
        values = np.frombuffer(floats.buffers()[1], np.int32, rows * dimension, 4 * floats.offset)
        head = _int32(4 + 4 * dimension) + dimension.to_bytes(2, "big") + bytes(2)
        return [_constant(head), fixed_width_column(_big_endian(values), rows, 4 * dimension)]
    message = f"no PostgreSQL type for a column of {kind}"
    raise TypeError(message)


def _big_endian(values: NDArray[np.int32]) -> pa.Buffer:
    return pa.py_buffer(values.byteswap())


def _int32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _constant(data: bytes) -> pa.Scalar:
    return fixed_width_column(pa.py_buffer(data), 1, len(data))[0]

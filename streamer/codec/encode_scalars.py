"""Encoders of single numbers, and what every field's encoder must be able to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor

from streamer.codec.wire_format import (
    MAX_COLUMN_BYTES,
    Encoded,
    TaggedVarints,
    WireType,
    ragged,
    tag,
)
from streamer.errors import EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamer.codec.fields import FieldPair

_F = FieldDescriptor


class FieldEncoder(Protocol):
    def sizes(self, array: pa.Array, /) -> NDArray[np.int64]:
        """Return the bytes of the field in each row: int64 (rows,)."""

    def encode(self, array: pa.Array, /) -> Encoded:
        """Encode the field of each row; `sizes` alone is cheaper."""


def presence(pair: FieldPair, array: pa.Array) -> NDArray[np.bool_] | None:
    """Return a mask of the rows that have the field, or None if all have it."""
    if array.null_count == 0:
        return None
    if pair.implicit_presence:
        message = f"{pair.field.full_name}: the column has nulls, which this field can't carry"
        raise EncodeError(message)
    return np.asarray(array.is_valid())


def check_total(sizes: NDArray[np.int64]) -> None:
    """Raise EncodeError for rows of `sizes` bytes that take 2 GiB or more together."""
    total = int(sizes.sum())
    if total > MAX_COLUMN_BYTES:
        message = f"a batch of {len(sizes)} rows takes {total} bytes; encode slices of it"
        raise EncodeError(message)


class VarintField:
    """bool, enum, and the integers of variable length."""

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        self._to_unsigned = _TO_UNSIGNED[pair.field.type]
        self._varints = TaggedVarints(
            tag(pair.field.number, WireType.VARINT), omit_zero=pair.implicit_presence
        )

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        return self._varints.sizes(self._values(array), presence(self._pair, array))

    def encode(self, array: pa.Array) -> Encoded:
        column, sizes = self._varints.encode(self._values(array), presence(self._pair, array))
        return Encoded([column], sizes)

    def _values(self, array: pa.Array) -> NDArray[np.uint64]:
        return self._to_unsigned(numpy_values(array))


def numpy_values(array: pa.Array) -> NDArray[Any]:
    """Return the values of a column of numbers, bools as bool, 0 where there is null.

    Array.to_numpy() would import pandas where it is installed; see int64_column.
    """
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), array.type.to_pandas_dtype())
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        values: NDArray[Any] = bits[array.offset : array.offset + len(array)].view(np.bool_)
    else:
        dtype = np.dtype(array.type.to_pandas_dtype())
        values = np.frombuffer(data, dtype, len(array), array.offset * dtype.itemsize)
    if array.null_count:
        values = np.where(np.asarray(array.is_valid()), values, np.zeros(1, values.dtype))
    return values


def _zigzag(values: NDArray[np.generic]) -> NDArray[np.uint64]:
    wide = values.astype(np.int64)
    return (wide << 1 ^ wide >> 63).view(np.uint64)


# Negative int32, int64 and enum values are sign-extended to 64 bits, ten bytes on the wire.
_TO_UNSIGNED: dict[int, Callable[[NDArray[np.generic]], NDArray[np.uint64]]] = {
    _F.TYPE_BOOL: lambda values: values.astype(np.uint64),
    _F.TYPE_UINT32: lambda values: values.astype(np.uint64),
    _F.TYPE_UINT64: lambda values: values.astype(np.uint64),
    _F.TYPE_INT32: lambda values: values.astype(np.int64).view(np.uint64),
    _F.TYPE_INT64: lambda values: values.astype(np.int64).view(np.uint64),
    _F.TYPE_ENUM: lambda values: values.astype(np.int64).view(np.uint64),
    _F.TYPE_SINT32: _zigzag,
    _F.TYPE_SINT64: _zigzag,
}

FIXED_WIDTHS = {
    _F.TYPE_FLOAT: 4,
    _F.TYPE_FIXED32: 4,
    _F.TYPE_SFIXED32: 4,
    _F.TYPE_DOUBLE: 8,
    _F.TYPE_FIXED64: 8,
    _F.TYPE_SFIXED64: 8,
}


class FixedWidthField:
    """float, double, and the integers of fixed length."""

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        self._width = FIXED_WIDTHS[pair.field.type]
        wire_type = WireType.I32 if self._width == 4 else WireType.I64
        self._tag = np.frombuffer(tag(pair.field.number, wire_type), np.uint8)

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        return self._sizes(self._raw(array), array)

    def encode(self, array: pa.Array) -> Encoded:
        raw = self._raw(array)
        tags = np.broadcast_to(self._tag, (len(array), len(self._tag)))
        matrix = np.concatenate((tags, raw), axis=1)
        column, sizes = ragged(matrix, self._sizes(raw, array))
        return Encoded([column], sizes)

    def _raw(self, array: pa.Array) -> NDArray[np.uint8]:
        values = np.ascontiguousarray(numpy_values(array))
        return values.view(np.uint8).reshape(len(array), self._width)

    def _sizes(self, raw: NDArray[np.uint8], array: pa.Array) -> NDArray[np.int64]:
        sizes = np.full(len(raw), len(self._tag) + self._width, np.int64)
        present = presence(self._pair, array)
        if present is not None:
            sizes[~present] = 0
        if self._pair.implicit_presence:
            # The default is all bits zero: the runtime does send a negative zero.
            sizes[(raw == 0).all(axis=1)] = 0
        return sizes

"""Encoders of packed float and double fields: the Arrow buffer is the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from streamer.codec.encode_scalars import check_total
from streamer.codec.wire_format import (
    Encoded,
    TaggedVarints,
    WireType,
    binary_column,
    fixed_width_column,
    offsets_of,
    tag,
)
from streamer.errors import EncodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamer.codec.fields import FieldPair


class FixedSizeListField:
    """Packed float or double in a fixed-size list: the column's buffer is the wire."""

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        width: int = pair.arrow_type.list_size * pair.arrow_type.value_type.byte_width
        varints = TaggedVarints(tag(pair.field.number, WireType.LEN), omit_zero=True)
        self._header = varints.encode(np.array([width], np.uint64)).column[0]
        self._size = width + len(self._header.as_py())
        self.width = width

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        return np.full(len(array), self._size, np.int64)

    def encode(self, array: pa.Array) -> Encoded:
        sizes = self.sizes(array)
        check_total(sizes)
        data = _float_bytes(self._pair, array)
        return Encoded([self._header, fixed_width_column(data, len(array), self.width)], sizes)


class ListField:
    """Packed float or double in a list of any length."""

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        self._item: int = pair.arrow_type.value_type.byte_width
        self._header = TaggedVarints(tag(pair.field.number, WireType.LEN), omit_zero=True)

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        lengths = self._lengths(array)
        return lengths + self._header.sizes(lengths.view(np.uint64))

    def encode(self, array: pa.Array) -> Encoded:
        lengths = self._lengths(array)
        header, header_sizes = self._header.encode(lengths.view(np.uint64))
        sizes = lengths + header_sizes
        check_total(sizes)
        values = binary_column(_float_bytes(self._pair, array), offsets_of(lengths))
        return Encoded([header, values], sizes)

    def _lengths(self, array: pa.Array) -> NDArray[np.int64]:
        offsets: NDArray[np.int32] = array.offsets.to_numpy()
        return np.diff(offsets).astype(np.int64) * self._item


def _float_bytes(pair: FieldPair, array: pa.Array) -> pa.Buffer:
    """Return the buffer of the values of a list column, from its first row on."""
    values = array.flatten()  # honours the column's offset, unlike .values
    if array.null_count or values.null_count:
        message = f"{pair.field.full_name}: the column has nulls, which vectors can't carry"
        raise EncodeError(message)
    data = values.buffers()[1]
    if data is None:
        return pa.py_buffer(b"")
    item = values.type.byte_width
    return data.slice(values.offset * item, len(values) * item)

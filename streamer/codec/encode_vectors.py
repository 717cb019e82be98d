"""Encoders of packed float and double fields: the Arrow buffer is the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from streamer.codec.wire_format import (
    Encoded,
    TaggedVarints,
    WireType,
    binary_column,
    fixed_width_column,
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
        self._width = width

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        return np.full(len(array), self._size, np.int64)

    def encode(self, array: pa.Array) -> Encoded:
        data = _float_bytes(self._pair, array)
        values = fixed_width_column(data, len(array), self._width)
        return Encoded([self._header, values], self.sizes(array))


class ListField:
    """Packed float or double in a list of any length."""

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        self._item = pair.arrow_type.value_type.byte_width
        self._header = TaggedVarints(tag(pair.field.number, WireType.LEN), omit_zero=True)

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        lengths = np.diff(self._offsets(array)).astype(np.int64)
        return lengths + self._header.sizes(lengths.view(np.uint64))

    def encode(self, array: pa.Array) -> Encoded:
        data = _float_bytes(self._pair, array)
        offsets = self._offsets(array)
        lengths = np.diff(offsets).astype(np.int64)
        header, sizes = self._header.encode(lengths.view(np.uint64))
        return Encoded([header, binary_column(data, offsets)], sizes + lengths)

    def _offsets(self, array: pa.Array) -> NDArray[np.int32]:
        """Return where each row begins, in bytes from the first row's begin."""
        offsets: NDArray[np.int32] = array.offsets.to_numpy()
        begins: NDArray[np.int32] = (offsets - offsets[0]) * np.int32(self._item)
        return begins


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

"""What a field's decoded values become: Arrow columns, or a DecodeError that says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor

from convert.id_text import IdKind, parse_ids
from streamer.codec.fields import FieldPair, is_dictionary, is_fixed_size_list
from streamer.codec.wire_format import fixed_column, offsets_of
from streamer.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


_F = FieldDescriptor


def _unzigzag(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (values >> np.uint64(1)).view(np.int64) ^ -(values & np.uint64(1)).view(np.int64)


# 32-bit fields keep the low 32 bits of whatever varint a peer sends, as the runtime does.
_FROM_UNSIGNED: dict[int, Callable[[NDArray[np.uint64]], NDArray[np.generic]]] = {
    _F.TYPE_BOOL: lambda values: values != 0,
    _F.TYPE_UINT32: lambda values: values.astype(np.uint32),
    _F.TYPE_UINT64: lambda values: values,
    _F.TYPE_INT32: lambda values: values.astype(np.uint32).view(np.int32),
    _F.TYPE_INT64: lambda values: values.view(np.int64),
    _F.TYPE_ENUM: lambda values: values.astype(np.uint32).view(np.int32),
    _F.TYPE_SINT32: lambda values: _unzigzag(values & np.uint64(0xFFFFFFFF)).astype(np.int32),
    _F.TYPE_SINT64: _unzigzag,
}


def number_column(
    pair: FieldPair, found: NDArray[np.generic], absent: NDArray[np.bool_] | None
) -> pa.Array:
    """Return a column of varints, uint64 (n,), or of little-endian values, uint8 (n, w)."""
    if found.ndim == 1:
        values = _FROM_UNSIGNED[pair.field.type](found.view(np.uint64))
    else:
        values = found.view(pair.arrow_type.to_pandas_dtype()).reshape(len(found))
    if absent is not None:
        return pa.array(values, pair.arrow_type, mask=absent)
    if values.dtype == np.bool_:  # a bit each
        bits = pa.py_buffer(np.packbits(values.view(np.uint8), bitorder="little"))
        return pa.Array.from_buffers(pair.arrow_type, len(values), [None, bits])
    return fixed_column(pair.arrow_type, values)


def with_nulls(values: pa.Array, absent: NDArray[np.bool_]) -> pa.Array:
    return values.take(pa.array(np.arange(len(values)), mask=absent))


def text_column(pair: FieldPair, values: pa.Array) -> pa.Array:
    """Return a column of strings or bytes; DecodeError names the row that isn't UTF-8."""
    arrow_type = pair.arrow_type
    value_type = arrow_type.value_type if is_dictionary(arrow_type) else arrow_type
    try:
        column = values.cast(value_type)  # checks UTF-8
    except pa.ArrowInvalid:
        message = f"{pair.field.full_name}: row {_first_not_utf8(values)} is not valid UTF-8"
        raise DecodeError(message) from None
    if not is_dictionary(arrow_type):
        return column
    encoded = column.dictionary_encode()
    try:
        indices = encoded.indices.cast(arrow_type.index_type)
    except pa.ArrowInvalid:
        count = len(encoded.dictionary)
        message = f"{pair.field.full_name}: {count} distinct values are too many for {arrow_type}"
        raise DecodeError(message) from None
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary, ordered=arrow_type.ordered)


def _first_not_utf8(values: pa.Array) -> int:
    def is_text(value: bytes | None) -> bool:
        try:
            return value is None or value.decode() is not None
        except UnicodeDecodeError:
            return False

    return next(row for row, value in enumerate(values.to_pylist()) if not is_text(value))


def parse_id_column(text: pa.Array, kind: IdKind) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Parse a binary or string column into ids, uint8 (n, 16), and a mask of those of `kind`."""
    ids = np.zeros((len(text), 16), np.uint8)
    canonical = np.diff(np.frombuffer(text.buffers()[1], np.int32, len(text) + 1)) == kind.chars
    if canonical.any():
        fitting = text if canonical.all() else text.filter(pa.array(canonical))
        chars = np.frombuffer(fitting.buffers()[2], np.uint8)
        chars = chars[: int(canonical.sum()) * kind.chars].reshape(-1, kind.chars)
        ids[canonical], parsed = parse_ids(kind, chars)
        canonical[canonical] = parsed
    return ids, canonical


def id_column(
    pair: FieldPair, text: pa.Array, kind: IdKind, absent: NDArray[np.bool_] | None
) -> pa.Array:
    ids, canonical = parse_id_column(text, kind)
    wrong = ~canonical if absent is None else ~canonical & ~absent
    if wrong.any():
        row = int(wrong.argmax())
        message = f"{pair.field.full_name}: row {row} is not the text of a {kind}"
        raise DecodeError(message)
    storage = pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(ids)])
    if absent is not None:
        storage = with_nulls(storage, absent)
    return pa.ExtensionArray.from_storage(pair.arrow_type, storage)


def list_column(pair: FieldPair, values: pa.Array) -> pa.Array:
    """View gathered float bytes as a list column; DecodeError names the row of wrong length."""
    arrow_type = pair.arrow_type
    item = arrow_type.value_type.bit_width // 8
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32) if len(values) else np.zeros(1, np.int32)
    lengths = np.diff(ends[: len(values) + 1])
    counts, rest = np.divmod(lengths, item)
    if is_fixed_size_list(arrow_type):
        wrong = (counts != arrow_type.list_size) | (rest != 0)
    else:
        wrong = rest != 0
    if wrong.any():
        row = int(wrong.argmax())
        wanted = f", not {arrow_type.list_size}" if is_fixed_size_list(arrow_type) else ""
        message = f"{pair.field.full_name}: row {row} has {lengths[row] / item:g} values{wanted}"
        raise DecodeError(message)
    floats = pa.Array.from_buffers(
        arrow_type.value_type, int(counts.sum()), [None, data or pa.py_buffer(b"")]
    )
    if is_fixed_size_list(arrow_type):
        return pa.FixedSizeListArray.from_arrays(floats, type=arrow_type)
    return pa.ListArray.from_arrays(
        fixed_column(pa.int32(), offsets_of(counts)), floats, type=arrow_type
    )

"""What a field's decoded values become: Arrow columns, or a DecodeError that says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor

from convert.id_text import IdKind, parse_ids
from streamer.codec.fields import FieldPair, is_dictionary, is_fixed_size_list
from streamer.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamer.codec.cursor import Spans

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


def integer_column(
    pair: FieldPair, values: NDArray[np.uint64], absent: NDArray[np.bool_] | None
) -> pa.Array:
    return pa.array(_FROM_UNSIGNED[pair.field.type](values), pair.arrow_type, mask=absent)


def with_nulls(values: pa.Array, absent: NDArray[np.bool_]) -> pa.Array:
    return values.take(pa.array(np.arange(len(values)), mask=absent))


def text_column(pair: FieldPair, values: pa.Array) -> pa.Array:
    arrow_type = pair.arrow_type
    value_type = arrow_type.value_type if is_dictionary(arrow_type) else arrow_type
    try:
        column = values.cast(value_type)  # checks UTF-8
    except pa.ArrowInvalid:
        message = f"{pair.field.full_name}: a value is not valid UTF-8"
        raise DecodeError(message) from None
    if is_dictionary(arrow_type):
        encoded = column.dictionary_encode()
        indices = encoded.indices.cast(arrow_type.index_type)
        return pa.DictionaryArray.from_arrays(
            indices, encoded.dictionary, ordered=arrow_type.ordered
        )
    return column


def id_column(
    pair: FieldPair, text: pa.Array, kind: IdKind, absent: NDArray[np.bool_] | None
) -> pa.Array:
    lengths = np.diff(np.frombuffer(text.buffers()[1], np.int32, len(text) + 1))
    wrong = lengths != kind.chars
    if absent is not None:
        wrong &= ~absent
    ids = np.zeros((len(text), 16), np.uint8)
    if len(text) and not wrong.all():
        fits = lengths == kind.chars
        chars = np.frombuffer(text.filter(pa.array(fits)).buffers()[2], np.uint8)
        chars = chars[: int(fits.sum()) * kind.chars].reshape(-1, kind.chars)
        ids[fits], canonical = parse_ids(kind, chars)
        wrong[np.flatnonzero(fits)[~canonical]] = True
    if wrong.any():
        row = int(wrong.argmax())
        message = f"{pair.field.full_name}: row {row} is not the text of a {kind}"
        raise DecodeError(message)
    storage = pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(ids)])
    if absent is not None:
        storage = with_nulls(storage, absent)
    return pa.ExtensionArray.from_storage(pair.arrow_type, storage)


def list_column(pair: FieldPair, values: pa.Array, spans: Spans) -> pa.Array | None:
    """View gathered float bytes as a list column; None if a row isn't whole floats."""
    arrow_type = pair.arrow_type
    item = arrow_type.value_type.bit_width // 8
    lengths = spans.ends - spans.starts
    if (lengths % item).any():
        return None
    counts = lengths // item
    data = values.buffers()[2]
    floats = pa.Array.from_buffers(
        arrow_type.value_type, int(counts.sum()), [None, data or pa.py_buffer(b"")]
    )
    if not is_fixed_size_list(arrow_type):
        offsets = np.append(0, np.cumsum(counts)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), floats, type=arrow_type)
    wrong = counts != arrow_type.list_size
    if wrong.any():
        row = int(wrong.argmax())
        message = (
            f"{pair.field.full_name}: row {row} has {counts[row]} values, "
            f"not {arrow_type.list_size}"
        )
        raise DecodeError(message)
    return pa.FixedSizeListArray.from_arrays(floats, type=arrow_type)

"""Arrow arrays on the bytes of the file, validated in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from convert.pickle_reader.spans import Raw
from convert.pickle_reader.stand_ins import Opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

_MAX_LENGTH = 1 << 40
_MAX_NAME = 40


class ArrowArray(Opaque):
    """An array of a type that no field can have."""


class ArrowType(Opaque):
    """Such a type."""


def array(args: tuple[Any, ...], data: Buffer) -> pa.Array | ArrowArray:
    (state,) = args
    # Nulls without a type have no buffer that bounds their number.
    if isinstance(state[0], Opaque) or state[0] == pa.null():
        return ArrowArray((), data)
    return _restored(state)


def _restored(state: tuple[Any, ...]) -> pa.Array:
    """Return an array on its buffers; one of lists or of a dictionary has another within.

    What Arrow's own validation takes for granted is checked before it sees the array: it
    would end the process.
    """
    arrow_type, length, null_count, offset, buffers, children, dictionary = state
    if not isinstance(arrow_type, pa.DataType) or pa.types.is_null(arrow_type):
        message = f"an Arrow array of type {arrow_type}"
        raise TypeError(message)
    if any(type(n) is not int or not 0 <= n <= _MAX_LENGTH for n in (length, offset)):
        message = "a length or offset that is none"
        raise ValueError(message)
    is_encoded = pa.types.is_dictionary(arrow_type)
    is_list = pa.types.is_nested(arrow_type)
    within = [_restored(child) for child in children]
    if dictionary is not None:
        within.append(_restored(dictionary))
    belongs = [arrow_type.value_type] if is_list or is_encoded else []
    if belongs != [array.type for array in within]:
        message = f"an array of {arrow_type} with others within, or without"
        raise ValueError(message)
    if pa.types.is_fixed_size_list(arrow_type):
        (items,) = within
        if (offset + length) * arrow_type.list_size > len(items):
            message = f"{len(items)} items for {length} lists of {arrow_type.list_size}"
            raise ValueError(message)
    made = pa.Array.from_buffers(
        arrow_type.index_type if is_encoded else arrow_type,
        length, buffers, null_count, offset, within if is_list else None,
    )  # fmt: skip
    made.validate(full=True)  # the buffers are the file's: offsets, UTF-8
    return pa.DictionaryArray.from_arrays(made, *within) if is_encoded else made


def chunked_array(args: tuple[Any, ...], data: Buffer) -> pa.ChunkedArray | ArrowArray:
    """Join Arrow arrays; Arrow itself would also take lists of anything, and not survive some."""
    chunks, *arrow_type = args
    if isinstance(chunks, list) and any(isinstance(chunk, ArrowArray) for chunk in chunks):
        return ArrowArray((), data)
    if not isinstance(chunks, list) or not all(isinstance(chunk, pa.Array) for chunk in chunks):
        message = "chunks that are no Arrow arrays"
        raise TypeError(message)
    if any(isinstance(of, Opaque) for of in arrow_type):  # no chunks
        return ArrowArray((), data)
    if sum(chunk.nbytes for chunk in chunks) > len(data):
        message = "more chunks than the file has room for"
        raise ValueError(message)
    return pa.chunked_array(chunks, *arrow_type)


def buffer(args: tuple[Any, ...], data: Buffer) -> pa.Buffer:
    """View bytes in place; short ones are copied, so that nothing can change them."""
    (content,) = args
    if isinstance(content, Raw) and not content.as_text:
        return pa.py_buffer(memoryview(data)[content.offset : content.offset + content.size])
    if isinstance(content, Raw):
        return pa.py_buffer(content.read(data))
    if not isinstance(content, bytes | bytearray):
        message = f"an Arrow buffer made of {kind_of(content)}"
        raise TypeError(message)
    return pa.py_buffer(bytes(content))


def type_for_alias(args: tuple[Any, ...], _data: Buffer) -> pa.DataType:
    (name,) = args
    if not isinstance(name, str) or len(name) > _MAX_NAME:
        message = "a type without a name"
        raise TypeError(message)
    return pa.type_for_alias(name)


def timestamp(args: tuple[Any, ...], _data: Buffer) -> pa.DataType:
    return pa.timestamp(*args)


def duration(args: tuple[Any, ...], _data: Buffer) -> pa.DataType:
    return pa.duration(*args)


def decimal128(args: tuple[Any, ...], _data: Buffer) -> pa.DataType:
    return pa.decimal128(*args)


def field(args: tuple[Any, ...], data: Buffer) -> pa.Field | ArrowType:
    """Make what a list has items of; its metadata isn't kept."""
    name, arrow_type, nullable, *_metadata = args
    if isinstance(arrow_type, Opaque):
        return ArrowType((), data)
    return pa.field(name, arrow_type, nullable)


def list_(args: tuple[Any, ...], data: Buffer) -> pa.DataType | ArrowType:
    """Make a type of lists; lists of lists are no field's, and their depth had no end.

    Nor are lists of nothing, of which no buffer bounds the number.
    """
    items, *size = args
    if isinstance(items, Opaque) or _is_composed(getattr(items, "type", items)) or size == [0]:
        return ArrowType((), data)
    return pa.list_(items, *size)


def dictionary(args: tuple[Any, ...], data: Buffer) -> pa.DataType | ArrowType:
    indices, values, *is_ordered = args
    if isinstance(values, Opaque) or _is_composed(values):
        return ArrowType((), data)
    return pa.dictionary(indices, values, *is_ordered)


def _is_composed(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_nested(arrow_type)
        or pa.types.is_dictionary(arrow_type)
        or pa.types.is_string_view(arrow_type)
        or pa.types.is_binary_view(arrow_type)
    )

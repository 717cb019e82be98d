"""Arrow arrays on the bytes of the file, validated in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from convert.pickle_reader.spans import Raw

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

_MAX_LENGTH = 1 << 40
_MAX_NAME = 40


def array(args: tuple[Any, ...], _data: Buffer) -> pa.Array:
    ((arrow_type, length, null_count, offset, buffers, children, dictionary),) = args
    # Nulls without a type have no buffer that bounds their number.
    if (
        not isinstance(arrow_type, pa.DataType)
        or children
        or dictionary is not None
        or pa.types.is_null(arrow_type)
    ):
        message = f"an Arrow array of type {arrow_type}"
        raise ValueError(message)
    # Arrow's validation takes what it is told about the offset for granted.
    if any(type(n) is not int or not 0 <= n <= _MAX_LENGTH for n in (length, offset)):
        message = "a length or offset that is none"
        raise ValueError(message)
    made = pa.Array.from_buffers(arrow_type, length, buffers, null_count, offset)
    made.validate(full=True)  # the buffers are the file's: offsets, UTF-8
    return made


def chunked_array(args: tuple[Any, ...], _data: Buffer) -> pa.ChunkedArray:
    """Join Arrow arrays; Arrow itself would also take lists of anything, and not survive some."""
    chunks, *arrow_type = args
    if not isinstance(chunks, list) or not all(isinstance(chunk, pa.Array) for chunk in chunks):
        message = "chunks that are no Arrow arrays"
        raise TypeError(message)
    return pa.chunked_array(chunks, *arrow_type)


def buffer(args: tuple[Any, ...], data: Buffer) -> pa.Buffer:
    """View bytes in place; short ones are copied, so that nothing can change them."""
    (content,) = args
    if isinstance(content, Raw) and not content.as_text:
        return pa.py_buffer(memoryview(data)[content.offset : content.offset + content.size])
    if isinstance(content, Raw):
        return pa.py_buffer(content.read(data))
    if not isinstance(content, bytes | bytearray):
        message = f"an Arrow buffer made of {type(content).__name__}"
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

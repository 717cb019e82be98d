"""The messages of Arrow's IPC format, as far as `convert.writer` places them itself.

pyarrow makes each of them; what it can't know yet is put in afterwards. The format is at
https://arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from convert.schema import ALIGNMENT_BYTES, TEXT_FIELDS, dataset_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"ARROW1"
SCHEMA_BEGIN = 8  # MAGIC is padded to that
CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8  # the continuation mark and the length of what follows
# Numbers of fields in Arrow's Message.fbs and File.fbs, and a Block, where a message lies.
_MESSAGE_HEADER, _MESSAGE_BODY_BYTES = 2, 3
_DICTIONARY_DATA = 1
_BATCH_ROWS, _BATCH_NODES, _BATCH_BUFFERS = 0, 1, 2
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_BLOCK = np.dtype(
    {"names": ["offset", "metadata", "body"], "formats": ["<i8", "<i4", "<i8"],
     "offsets": [0, 8, 16], "itemsize": 24}
)  # fmt: skip
# Where a message begins, and the bytes of its head and body.
Block: TypeAlias = tuple[int, int, int]
# The columns but the vector, which comes last, and what they are stored as.
NARROW: dict[str, type[np.generic]] = {
    name: np.uint8 if name == "id" else np.int32 for name in dataset_schema(1, {}).names[:-1]
}


class Head(NamedTuple):
    """A message without its body."""

    metadata: bytes
    body_bytes: int

    @classmethod
    def of(cls, message: pa.Message) -> Head:
        return cls(message.metadata.to_pybytes(), message.body.size)

    @property
    def size(self) -> int:
        """The bytes that it takes in a file, if more isn't kept for it."""
        return aligned(_PREFIX_BYTES + len(self.metadata))

    def encapsulated(self, size: int) -> bytes:
        """Return it as it is written, padded to `size` bytes."""
        prefix = CONTINUATION + struct.pack("<i", size - _PREFIX_BYTES)
        return (prefix + self.metadata).ljust(size, b"\0")


def column_places(rows: int, dimension: int) -> dict[str, int]:
    """Return where each column begins in the body of a record batch of so many rows."""
    places, end = {}, 0
    for name in (*NARROW, "vector"):
        places[name] = end
        end += aligned(rows * {"id": 16, "vector": 4 * dimension}.get(name, 4))
    return places


def batch_head(rows: int, dimension: int) -> Head:
    """Return the head of a record batch's message, which depends on the number of rows alone.

    It is made of what the columns are stored as: what that means is said by the schema.
    """

    def column(storage: pa.DataType, size: int) -> pa.Array:
        """Return an array of `size` bytes, zeros that take no memory before they are copied."""
        buffer = pa.py_buffer(np.zeros(aligned(size), np.uint8))
        return pa.Array.from_buffers(storage, 8 * size // storage.bit_width, [None, buffer])

    columns = [
        column(pa.binary(16), 16 * rows) if name == "id" else column(pa.int32(), 4 * rows)
        for name in NARROW
    ]
    columns.append(pa.FixedSizeListArray.from_arrays(column(pa.float32(), 4 * rows), 1))
    batch = pa.RecordBatch.from_arrays(columns, [*NARROW, "vector"])
    content = bytearray(pa.ipc.read_message(batch.serialize()).metadata)
    # So far vectors have one float: pyarrow would copy the whole body.
    message = _target(content, 0)
    header = _target(content, _field(content, message, _MESSAGE_HEADER))
    nodes = _last_struct(content, header, _BATCH_NODES)
    floats = _last_struct(content, header, _BATCH_BUFFERS)
    struct.pack_into("<q", content, nodes, rows * dimension)
    (begin,) = struct.unpack_from("<q", content, floats)
    struct.pack_into("<q", content, floats + 8, aligned(4 * rows * dimension))
    body_bytes = begin + aligned(4 * rows * dimension)
    struct.pack_into("<q", content, _field(content, message, _MESSAGE_BODY_BYTES), body_bytes)
    return Head(bytes(content), body_bytes)


class DictionaryHead(NamedTuple):
    """The head of the message that has a dictionary's texts; its body begins with their offsets.

    `offsets` is the type of these, `texts_at` where the texts begin in the body.
    """

    head: Head
    offsets: np.dtype[np.generic]
    texts_at: int


def dictionary_heads(
    schema: pa.Schema, sizes: Mapping[str, tuple[int, int]]
) -> dict[str, DictionaryHead]:
    """Return the heads of the dictionaries of `schema`, in the order in which they belong.

    `sizes` are, by column, the number of texts and the bytes that they take.
    """
    one_text = {name: pa.array(["x"], schema.field(name).type.value_type) for name in sizes}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(_empty_batch(schema, one_text))
    messages = [
        message
        for message in pa.ipc.MessageReader.open_stream(sink.getvalue())
        if message.type == "dictionary"
    ]
    names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    return {
        name: _dictionary_head(message, *sizes[name], schema.field(name).type.value_type)
        for name, message in zip(names, messages, strict=True)
    }


def _dictionary_head(
    message: pa.Message, texts: int, text_bytes: int, value_type: pa.DataType
) -> DictionaryHead:
    """Make the head of a dictionary of one text that of a larger one."""
    offsets: np.dtype[np.generic] = np.dtype(
        np.int64 if pa.types.is_large_string(value_type) else np.int32
    )
    offset_bytes = offsets.itemsize * (texts + 1)
    texts_at = _padded(offset_bytes)
    body_bytes = texts_at + _padded(text_bytes)
    content = bytearray(message.metadata.to_pybytes())
    root = _target(content, 0)
    dictionary = _target(content, _field(content, root, _MESSAGE_HEADER))
    batch = _target(content, _field(content, dictionary, _DICTIONARY_DATA))
    buffer = _last_struct(content, batch, _BATCH_BUFFERS)
    struct.pack_into("<q", content, _field(content, batch, _BATCH_ROWS), texts)
    struct.pack_into("<q", content, _last_struct(content, batch, _BATCH_NODES), texts)
    struct.pack_into("<4q", content, buffer - 16, 0, offset_bytes, texts_at, text_bytes)
    struct.pack_into("<q", content, _field(content, root, _MESSAGE_BODY_BYTES), body_bytes)
    return DictionaryHead(Head(bytes(content), body_bytes), offsets, texts_at)


def _empty_batch(schema: pa.Schema, dictionaries: Mapping[str, pa.Array]) -> pa.RecordBatch:
    arrays = [
        pa.DictionaryArray.from_arrays(pa.nulls(0, pa.int32()), dictionaries[field.name])
        if field.name in dictionaries
        else pa.nulls(0, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def footer_of(schema: pa.Schema, dictionaries: list[Block], batches: list[Block]) -> bytes:
    """Return the footer of a file whose messages lie in those blocks.

    It is pyarrow's own, of a file of as many empty messages; only the blocks are ours.
    """
    no_texts = {name: pa.nulls(0, schema.field(name).type.value_type) for name in TEXT_FIELDS}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as file:
        for _ in batches:
            file.write_batch(_empty_batch(schema, no_texts))
    content = sink.getvalue().to_pybytes()
    (size,) = struct.unpack_from("<i", content, len(content) - len(MAGIC) - 4)
    footer = bytearray(content[-size - 4 - len(MAGIC) : -4 - len(MAGIC)])
    for field, blocks in ((_FOOTER_DICTIONARIES, dictionaries), (_FOOTER_BATCHES, batches)):
        vector = _target(footer, _field(footer, _target(footer, 0), field))
        np.frombuffer(footer, _BLOCK, len(blocks), vector + 4)[:] = blocks
    return bytes(footer)


# FlatBuffers (https://flatbuffers.dev/internals/): a table begins with the distance to its
# vtable, which says where its fields are; tables and vectors are referred to by distance.


def _field(content: bytearray, table: int, number: int) -> int:
    """Return where the field of that number is in the table at `table`."""
    (vtable,) = struct.unpack_from("<i", content, table)
    (place,) = struct.unpack_from("<H", content, table - vtable + 4 + 2 * number)
    return table + int(place)


def _target(content: bytearray, place: int) -> int:
    """Return where that is to which the distance at `place` refers."""
    (distance,) = struct.unpack_from("<I", content, place)
    return place + int(distance)


def _last_struct(content: bytearray, table: int, number: int) -> int:
    """Return where the last of a vector's 16-byte structs is."""
    vector = _target(content, _field(content, table, number))
    (count,) = struct.unpack_from("<I", content, vector)
    return vector + 4 + 16 * (int(count) - 1)


def padded(content: bytes) -> bytes:
    return content.ljust(aligned(len(content)), b"\0")


def _padded(size: int) -> int:
    """Return where pyarrow puts what follows `size` bytes in a message."""
    return -(-size // 8) * 8


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

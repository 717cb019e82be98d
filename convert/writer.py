"""Writes the dataset file of `convert.schema`, rows in the order in which they come.

An Arrow IPC file is a schema, dictionaries and record batches as length-prefixed
messages, and a footer that says where they lie (https://arrow.apache.org/docs/format/
Columnar.html, "IPC File Format"). pyarrow's own writer wants schema metadata and
dictionaries first, aligns to 8 bytes, and so can't write in one pass what is known only
at the end. Here pyarrow makes each message; this module places them: record batches as
they come, dictionaries behind them, as the format allows, and the schema last, in the
space kept for it at the beginning.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from convert.background_file import BackgroundFile
from convert.id_text import IdKind
from convert.permute import permute
from convert.schema import ALIGNMENT_BYTES, BATCH_ROWS, TEXT_FIELDS, DatasetInfo, dataset_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_MAGIC = b"ARROW1"
_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8  # the continuation mark and the length of what follows
# Numbers of fields in Arrow's Message.fbs and File.fbs, and a Block, where a message lies.
_MESSAGE_HEADER, _MESSAGE_BODY_BYTES = 2, 3
_BATCH_NODES, _BATCH_BUFFERS = 1, 2
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_BLOCK = np.dtype(
    {"names": ["offset", "metadata", "body"], "formats": ["<i8", "<i4", "<i8"],
     "offsets": [0, 8, 16], "itemsize": 24}
)  # fmt: skip
_Block: TypeAlias = tuple[int, int, int]
# The columns but the vector, which comes last, and what they are stored as.
NARROW: dict[str, type[np.generic]] = {
    name: np.uint8 if name == "id" else np.int32 for name in dataset_schema(1, {}).names[:-1]
}
# As many digits as a number of rows can take.
_MOST_ROWS = 10**19


class Rows(NamedTuple):
    """Validated columns of some rows, as they are stored.

    `narrow` maps every column but the vector to its values: "id" is uint8 (rows, 16), the
    others are int32, text as places in its column's dictionary. `vectors` is float32
    (rows, dimension).
    """

    narrow: Mapping[str, NDArray[np.generic]]
    vectors: NDArray[np.float32]


class DatasetWriter:
    """Writes a dataset of vectors of `dimension` floats into `file`, an empty binary file.

    `source` is the name that its metadata will say. Until `finish`, every record batch has
    room for BATCH_ROWS rows, so that a row's place is known when it comes.
    """

    def __init__(self, file: IO[bytes], source: str, dimension: int) -> None:
        self._rows = 0
        self._file = BackgroundFile(file)
        self._dimension = dimension
        longest = DatasetInfo("0" * 64, source, IdKind.UUID, _MOST_ROWS, dimension)
        schema = dataset_schema(dimension, longest.to_metadata())
        self._schema_begin = _aligned(len(_MAGIC))
        self._schema_bytes = _aligned(len(schema.serialize()))
        self._begin = self._schema_begin + self._schema_bytes
        self._head = _batch_head(BATCH_ROWS, dimension)
        self._batch_bytes = self._head.size + _aligned(self._head.body_bytes)
        self._places = _column_places(BATCH_ROWS, dimension)

    def append(self, rows: Rows) -> None:
        """Write `rows`, whose arrays mustn't change afterwards."""
        begin, count = 0, len(rows.vectors)
        while begin < count:
            batch, place = divmod(self._rows, BATCH_ROWS)
            end = min(count, begin + BATCH_ROWS - place)
            body = self._begin + batch * self._batch_bytes + self._head.size
            columns = {**rows.narrow, "vector": rows.vectors}
            pieces = []
            for name, offset in self._places.items():
                column = columns[name][begin:end]
                row_bytes = column.nbytes // (end - begin)
                pieces.append((body + offset + place * row_bytes, column.data))
            self._file.write(*pieces)
            self._rows += end - begin
            begin = end

    def wait(self) -> None:
        """Wait until what was appended is written."""
        self._file.wait()

    def reorder(self, order: NDArray[np.integer], advance: Callable[[int], None]) -> None:
        """Make row `order[i]` row i; those that it doesn't name are dropped.

        `advance` is told how many more rows are in place.
        """
        self.wait()
        batches = -(-self._rows // BATCH_ROWS)
        size = self._begin + batches * self._batch_bytes
        os.posix_fallocate(self._file.descriptor, 0, size)  # a full disk is seen here
        permute(self._columns(mmap.mmap(self._file.descriptor, size), batches), order, advance)
        self._rows = len(order)

    def finish(self, info: DatasetInfo, dictionaries: Mapping[str, pa.Array]) -> None:
        """Complete the file; `dictionaries` maps TEXT_FIELDS to string arrays."""
        full, rest = divmod(self._rows, BATCH_ROWS)
        blocks = [
            (self._begin + batch * self._batch_bytes, self._head.size, self._head.body_bytes)
            for batch in range(full)
        ]
        head = self._head.encapsulated(self._head.size)
        self._file.write(*((offset, head) for offset, _, _ in blocks))
        position = self._begin + full * self._batch_bytes
        if rest:
            blocks.append(self._shrink_batch(position, rest))
            position += blocks[-1][1] + _aligned(blocks[-1][2])
        else:
            self._file.truncate(position)
        schema = dataset_schema(info.dimension, info.to_metadata())
        texts = []
        for message in _dictionary_messages(schema, dictionaries):
            text = _Head.of(message)
            content = text.encapsulated(text.size) + message.body.to_pybytes()
            self._file.write((position, content))
            texts.append((position, text.size, text.body_bytes))
            position += _aligned(len(content))
        footer = _footer(schema, texts, blocks)
        end = _CONTINUATION + bytes(4) + footer + struct.pack("<i", len(footer)) + _MAGIC
        begin = _MAGIC.ljust(self._schema_begin, b"\0")
        schema_head = _Head.of(pa.ipc.read_message(schema.serialize()))
        self._file.write((position, end), (0, begin + schema_head.encapsulated(self._schema_bytes)))
        self._file.wait()

    def _columns(self, content: mmap.mmap, batches: int) -> list[NDArray[np.generic]]:
        """View the columns of a mapped file, each of shape (batches, BATCH_ROWS, ...)."""
        columns = []
        for name, offset in self._places.items():
            dtype = np.dtype(NARROW.get(name, np.float32))
            values = {"id": 16, "vector": self._dimension}.get(name, 1)
            begin = self._begin + self._head.size + offset
            columns.append(
                np.ndarray(
                    (batches, BATCH_ROWS, values), dtype, content, begin,
                    (self._batch_bytes, values * dtype.itemsize, dtype.itemsize),
                )
            )  # fmt: skip
        return columns

    def _shrink_batch(self, position: int, rows: int) -> _Block:
        """Leave room for `rows` rows only in the last record batch, which is at `position`."""
        head, places = _batch_head(rows, self._dimension), _column_places(rows, self._dimension)
        before, after = position + self._head.size, position + head.size
        pieces = []
        for name in NARROW:
            size = rows * (16 if name == "id" else 4)
            content = self._file.read(before + self._places[name], size)
            pieces.append((after + places[name], _padded(content)))
        vector_bytes = rows * 4 * self._dimension
        self._file.move_down(
            before + self._places["vector"], after + places["vector"], vector_bytes
        )
        self._file.write((position, head.encapsulated(head.size)), *pieces)
        return position, head.size, head.body_bytes


class _Head(NamedTuple):
    """A message without its body."""

    metadata: bytes
    body_bytes: int

    @classmethod
    def of(cls, message: pa.Message) -> _Head:
        return cls(message.metadata.to_pybytes(), message.body.size)

    @property
    def size(self) -> int:
        """The bytes that it takes in a file, if more isn't kept for it."""
        return _aligned(_PREFIX_BYTES + len(self.metadata))

    def encapsulated(self, size: int) -> bytes:
        """Return it as it is written, padded to `size` bytes."""
        prefix = _CONTINUATION + struct.pack("<i", size - _PREFIX_BYTES)
        return (prefix + self.metadata).ljust(size, b"\0")


def _column_places(rows: int, dimension: int) -> dict[str, int]:
    """Return where each column begins in the body of a record batch of so many rows."""
    places, end = {}, 0
    for name in (*NARROW, "vector"):
        places[name] = end
        end += _aligned(rows * {"id": 16, "vector": 4 * dimension}.get(name, 4))
    return places


def _batch_head(rows: int, dimension: int) -> _Head:
    """Return the head of a record batch's message, which depends on the number of rows alone.

    It is made of what the columns are stored as: what that means is said by the schema.
    """

    def column(storage: pa.DataType, size: int) -> pa.Array:
        """Return an array of `size` bytes, zeros that take no memory before they are copied."""
        buffer = pa.py_buffer(np.zeros(_aligned(size), np.uint8))
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
    struct.pack_into("<q", content, floats + 8, _aligned(4 * rows * dimension))
    body_bytes = begin + _aligned(4 * rows * dimension)
    struct.pack_into("<q", content, _field(content, message, _MESSAGE_BODY_BYTES), body_bytes)
    return _Head(bytes(content), body_bytes)


def _dictionary_messages(
    schema: pa.Schema, dictionaries: Mapping[str, pa.Array]
) -> list[pa.Message]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(_empty_batch(schema, dictionaries))
    messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
    return [message for message in messages if message.type == "dictionary"]


def _empty_batch(schema: pa.Schema, dictionaries: Mapping[str, pa.Array]) -> pa.RecordBatch:
    arrays = [
        pa.DictionaryArray.from_arrays(pa.nulls(0, pa.int32()), dictionaries[field.name])
        if field.name in dictionaries
        else pa.nulls(0, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _footer(schema: pa.Schema, dictionaries: list[_Block], batches: list[_Block]) -> bytes:
    """Return the footer of a file whose messages lie in those blocks.

    It is pyarrow's own, of a file of as many empty messages; only the blocks are ours.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as file:
        for _ in batches:
            file.write_batch(
                _empty_batch(schema, dict.fromkeys(TEXT_FIELDS, pa.nulls(0, pa.string())))
            )
    content = sink.getvalue().to_pybytes()
    (size,) = struct.unpack_from("<i", content, len(content) - len(_MAGIC) - 4)
    footer = bytearray(content[-size - 4 - len(_MAGIC) : -4 - len(_MAGIC)])
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


def _padded(content: bytes) -> bytes:
    return content.ljust(_aligned(len(content)), b"\0")


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

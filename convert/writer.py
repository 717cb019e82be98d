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

import struct
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from convert.background_file import BackgroundFile
from convert.id_text import IdKind
from convert.schema import ALIGNMENT_BYTES, BATCH_ROWS, TEXT_FIELDS, DatasetInfo, dataset_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_MAGIC = b"ARROW1"
_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8  # the continuation mark and the length of what follows
# The tables of Arrow's File.fbs: a footer's fields, and a Block, which says where a message is.
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

    `source` is the name that its metadata will say. Vectors go to their places at once,
    in a thread, while the next are made; the other columns, which lie before them, follow
    when their record batch is complete.
    """

    def __init__(self, file: IO[bytes], source: str, dimension: int) -> None:
        self._file = BackgroundFile(file)
        self._dimension = dimension
        longest = DatasetInfo("0" * 64, source, IdKind.UUID, _MOST_ROWS, dimension)
        schema = dataset_schema(dimension, longest.to_metadata())
        self._schema_begin = _aligned(len(_MAGIC))
        self._schema_bytes = _aligned(len(schema.serialize()))
        self._position = self._schema_begin + self._schema_bytes
        self._blocks: list[_Block] = []
        self._full = _batch_head(BATCH_ROWS, dimension)
        self._narrow = {
            name: np.empty((BATCH_ROWS, 16) if name == "id" else BATCH_ROWS, dtype)
            for name, dtype in NARROW.items()
        }
        self._waiting = 0  # rows of the record batch that isn't complete

    def append(self, rows: Rows) -> None:
        """Write `rows`, whose arrays mustn't change afterwards."""
        begin, count = 0, len(rows.vectors)
        while begin < count:
            end = min(count, begin + BATCH_ROWS - self._waiting)
            waiting = self._waiting + end - begin
            place = (
                self._vectors_begin(self._full, BATCH_ROWS) + 4 * self._dimension * self._waiting
            )
            self._file.write(place, rows.vectors[begin:end].data)
            for name, column in self._narrow.items():
                column[self._waiting : waiting] = rows.narrow[name][begin:end]
            begin, self._waiting = end, waiting
            if waiting == BATCH_ROWS:
                self._end_batch(self._full)

    def finish(self, info: DatasetInfo, dictionaries: Mapping[str, pa.Array]) -> None:
        """Complete the file; `dictionaries` maps TEXT_FIELDS to string arrays."""
        if self._waiting:
            # Their vectors were written where they belong if more rows come.
            head, rows = _batch_head(self._waiting, self._dimension), self._waiting
            before = self._vectors_begin(self._full, BATCH_ROWS)
            after = self._vectors_begin(head, rows)
            self._file.move_down(before, after, rows * 4 * self._dimension)
            self._end_batch(head)
        schema = dataset_schema(info.dimension, info.to_metadata())
        batches, self._blocks = self._blocks, []
        for message in _dictionary_messages(schema, dictionaries):
            self._write_message(_Head.of(message), [_padded(message.body.to_pybytes())])
        footer = _footer(schema, self._blocks, batches)
        end_of_messages = _CONTINUATION + bytes(4)
        self._file.write(
            self._position, end_of_messages, footer, struct.pack("<i", len(footer)), _MAGIC
        )
        head = _Head.of(pa.ipc.read_message(schema.serialize()))
        begin = _MAGIC.ljust(self._schema_begin, b"\0")
        self._file.write(0, begin, head.encapsulated(self._schema_bytes))
        self._file.end()

    def _vectors_begin(self, head: _Head, rows: int) -> int:
        """Return where the vectors lie if a batch of so many rows begins at `_position`."""
        end = self._position + head.size + head.body_bytes
        return end - _aligned(rows * 4 * self._dimension)

    def _end_batch(self, head: _Head) -> None:
        """Write all but the vectors of the record batch that began at `_position`."""
        columns = [_padded(column[: self._waiting].tobytes()) for column in self._narrow.values()]
        self._waiting = 0
        self._write_message(head, columns)

    def _write_message(self, head: _Head, body: list[bytes]) -> None:
        """Write a message, or the beginning of one, and remember where it lies."""
        self._file.write(self._position, head.encapsulated(head.size), *body)
        self._blocks.append((self._position, head.size, head.body_bytes))
        self._position += head.size + _aligned(head.body_bytes)


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
    floats = column(pa.float32(), 4 * dimension * rows)
    columns.append(pa.FixedSizeListArray.from_arrays(floats, dimension))
    batch = pa.RecordBatch.from_arrays(columns, [*NARROW, "vector"])
    return _Head.of(pa.ipc.read_message(batch.serialize()))


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
        # A FlatBuffers table: the root's offset, its vtable, the field's place, the vector.
        (root,) = struct.unpack_from("<I", footer, 0)
        (vtable,) = struct.unpack_from("<i", footer, root)
        (slot,) = struct.unpack_from("<H", footer, root - vtable + 4 + 2 * field)
        (vector,) = struct.unpack_from("<I", footer, root + slot)
        begin = root + slot + vector + 4
        np.frombuffer(footer, _BLOCK, len(blocks), begin)[:] = blocks
    return bytes(footer)


def _padded(content: bytes) -> bytes:
    return content.ljust(_aligned(len(content)), b"\0")


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

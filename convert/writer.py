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
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from convert.background_file import BackgroundFile
from convert.dataset.dictionary_order import OrderedTexts, is_small, number_by_first_use
from convert.dataset.large_text import content_of, offsets_of
from convert.id_text import IdKind
from convert.ipc import (
    CONTINUATION,
    MAGIC,
    NARROW,
    SCHEMA_BEGIN,
    Block,
    DictionaryHead,
    Head,
    aligned,
    batch_head,
    column_places,
    dictionary_heads,
    footer_of,
    padded,
)
from convert.permute import permute
from convert.schema import BATCH_ROWS, MAX_TEXT_BYTES, DatasetInfo, dataset_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

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
        longest = DatasetInfo("0" * 64, source, IdKind.UUID, _MOST_ROWS, dimension, ids_made=True)
        schema = dataset_schema(dimension, longest.to_metadata())
        self._begin = aligned(SCHEMA_BEGIN + len(schema.serialize()))
        self._head = batch_head(BATCH_ROWS, dimension)
        self._batch_bytes = self._head.size + aligned(self._head.body_bytes)
        self._places = column_places(BATCH_ROWS, dimension)

    def append(self, rows: Rows) -> None:
        """Write `rows`, whose arrays mustn't change before MOST_PENDING more were appended."""
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
        permute([*self._mapped().values()], order, advance)
        self._rows = len(order)

    def finish(self, info: DatasetInfo, dictionaries: Mapping[str, pa.Array]) -> None:
        """Complete the file; `dictionaries` maps TEXT_FIELDS to arrays of string or large_string.

        The texts of a large one come into the order in which rows use them.
        """
        texts = {name: self._in_order(name, column) for name, column in dictionaries.items()}
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
            position += blocks[-1][1] + aligned(blocks[-1][2])
        else:
            self._file.truncate(position)
        sizes = {name: (len(ordered), ordered.nbytes) for name, ordered in texts.items()}
        large = [name for name, (_, size) in sizes.items() if size > MAX_TEXT_BYTES]
        schema = dataset_schema(info.dimension, info.to_metadata(), large)
        dictionary_blocks = []
        for name, made in dictionary_heads(schema, sizes).items():
            self._write_texts(position, made, texts[name])
            dictionary_blocks.append((position, made.head.size, made.head.body_bytes))
            position += aligned(made.head.size + made.head.body_bytes)
        footer = footer_of(schema, dictionary_blocks, blocks)
        end = CONTINUATION + bytes(4) + footer + struct.pack("<i", len(footer)) + MAGIC
        schema_head = Head.of(pa.ipc.read_message(schema.serialize()))
        begin = schema_head.encapsulated(self._begin - SCHEMA_BEGIN)
        self._file.write((position, end), (0, MAGIC.ljust(SCHEMA_BEGIN, b"\0") + begin))
        self._file.wait()

    def _in_order(self, name: str, column: pa.Array) -> OrderedTexts:
        """Give texts the order that they have in the file, and rows their new places."""
        texts = column.cast(pa.large_string())
        if is_small(texts):
            return OrderedTexts(texts, None)
        rows = [self._rows - begin for begin in range(0, self._rows, BATCH_ROWS)]
        batches = [
            places[: min(count, BATCH_ROWS), 0]
            for places, count in zip(self._mapped()[name], rows, strict=True)
        ]
        return OrderedTexts(texts, number_by_first_use(batches, len(texts)))

    def _write_texts(self, position: int, made: DictionaryHead, texts: OrderedTexts) -> None:
        """Write a dictionary's message at `position`."""
        head = made.head
        offsets_at = position + head.size
        texts_at = offsets_at + made.texts_at
        self._file.write((position, head.encapsulated(head.size)))
        end = 0
        for block in texts.blocks():
            offsets = offsets_of(block)
            offsets = (offsets + (end - offsets[0])).astype(made.offsets)
            self._file.write((offsets_at, offsets.data), (texts_at + end, content_of(block)))
            offsets_at += made.offsets.itemsize * len(block)
            end = int(offsets[-1])

    def _mapped(self) -> dict[str, NDArray[np.generic]]:
        """Map the file as it is until `finish`; view its columns, (batches, BATCH_ROWS, ...)."""
        self.wait()
        batches = -(-self._rows // BATCH_ROWS)
        size = self._begin + batches * self._batch_bytes
        os.posix_fallocate(self._file.descriptor, 0, size)  # a full disk is seen here
        content = mmap.mmap(self._file.descriptor, size)
        columns = {}
        for name, offset in self._places.items():
            dtype = np.dtype(NARROW.get(name, np.float32))
            values = {"id": 16, "vector": self._dimension}.get(name, 1)
            begin = self._begin + self._head.size + offset
            columns[name] = np.ndarray(
                (batches, BATCH_ROWS, values), dtype, content, begin,
                (self._batch_bytes, values * dtype.itemsize, dtype.itemsize),
            )  # fmt: skip
        return columns

    def _shrink_batch(self, position: int, rows: int) -> Block:
        """Leave room for `rows` rows only in the last record batch, which is at `position`."""
        head, places = batch_head(rows, self._dimension), column_places(rows, self._dimension)
        before, after = position + self._head.size, position + head.size
        pieces = []
        for name in NARROW:
            size = rows * (16 if name == "id" else 4)
            content = self._file.read(before + self._places[name], size)
            pieces.append((after + places[name], padded(content)))
        vector_bytes = rows * 4 * self._dimension
        self._file.move_down(
            before + self._places["vector"], after + places["vector"], vector_bytes
        )
        self._file.write((position, head.encapsulated(head.size)), *pieces)
        return position, head.size, head.body_bytes

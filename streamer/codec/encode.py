"""Record batches to protobuf messages, a column at a time.

A RowEncoder is compiled once from a message descriptor and an Arrow schema
(SchemaMismatchError if they don't fit). Message i of what it encodes is, byte for byte,
what the official runtime serializes for row i. A ChunkEncoder puts the same rows into
messages of several rows.

How: each field becomes one or more binary columns, tag and length included, whose
row-by-row concatenation is the field; one Arrow kernel joins all of them in C++. Only
that join copies a vector. EncodeError: a null where the message can't leave a field
out, or a batch whose messages take 2 GiB or more (encode a slice of it instead).

Encoders keep one thing between calls: for a dictionary column, its encoded values.
They may be used from several threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor

from convert.id_text import IdKind
from streamer.codec.encode_scalars import FIXED_WIDTHS, FixedWidthField, VarintField, check_total
from streamer.codec.encode_text import DictionaryTextField, IdField, TextField
from streamer.codec.encode_vectors import FixedSizeListField, ListField
from streamer.codec.fields import (
    FieldPair,
    is_dictionary,
    is_fixed_size_list,
    is_uuid,
    match_fields,
    repeated_row_field,
)
from streamer.codec.frames import PREFIX_BYTES, GatheredFrames, JoinedFrames, prefixes
from streamer.codec.wire_format import (
    Encoded,
    TaggedVarints,
    WireType,
    data_and_offsets,
    fixed_width_column,
    join,
    ragged,
    tag,
)

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from numpy.typing import NDArray

    from streamer.codec.encode_scalars import FieldEncoder


class RowEncoder:
    """Encodes one message a row.

    `id_kind` says which text a column of type arrow.uuid has on the wire.
    """

    def __init__(
        self, descriptor: Descriptor, schema: pa.Schema, id_kind: IdKind = IdKind.UUID
    ) -> None:
        self._fields = [
            (pair.column_index, _field_encoder(pair, id_kind))
            for pair in match_fields(descriptor, schema)
        ]
        self.descriptor = descriptor
        last = self._fields[-1][1] if self._fields else None
        # Bytes of each row that `gather` leaves where they are.
        self.tail_bytes = last.width if isinstance(last, FixedSizeListField) else 0

    def sizes(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Return the bytes of each row's message, without prefix: int64 (rows,)."""
        sizes = np.zeros(batch.num_rows, np.int64)
        for index, field in self._fields:
            sizes += field.sizes(batch.column(index))
        return sizes

    def encode(self, batch: pa.RecordBatch) -> JoinedFrames:
        """Encode every row of `batch` as a length-prefixed message of its own."""
        pieces, sizes = self.columns(batch)
        check_total(sizes + PREFIX_BYTES)
        data, offsets = data_and_offsets(join([_prefix_column(sizes), *pieces]))
        return JoinedFrames(data, offsets, batch.num_rows)

    def gather(self, batch: pa.RecordBatch) -> GatheredFrames:
        """Encode as `encode` does, but for the vectors, which stay where they are.

        Only for a message whose last field is one of fixed-size lists (`tail_bytes` > 0).
        """
        pieces, sizes = self.columns(batch)
        return _gathered([_prefix_column(sizes), *pieces], self.tail_bytes)

    def columns(self, batch: pa.RecordBatch) -> Encoded:
        """Return the columns whose row-by-row concatenation is each row's message.

        The vectors among them are views on the buffers of `batch`.
        """
        fields = [field.encode(batch.column(index)) for index, field in self._fields]
        sizes = np.zeros(batch.num_rows, np.int64)
        for field in fields:
            sizes += field.sizes
        return Encoded([piece for field in fields for piece in field.pieces], sizes)


class ChunkEncoder:
    """Encodes several rows a message: `chunk` is a message of one repeated row field."""

    def __init__(self, chunk: Descriptor, rows: RowEncoder) -> None:
        field = repeated_row_field(chunk, rows.descriptor)
        self._rows = rows
        self.tail_bytes = rows.tail_bytes
        self._header = TaggedVarints(tag(field.number, WireType.LEN), omit_zero=False)

    def sizes(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Return the bytes that each row takes within a chunk: int64 (rows,)."""
        row_sizes = self._rows.sizes(batch)
        return row_sizes + self._header.sizes(row_sizes.view(np.uint64))

    def encode(self, batch: pa.RecordBatch, starts: NDArray[np.int64]) -> JoinedFrames:
        """Encode `batch` as chunks that begin at the rows `starts`, ascending from 0."""
        pieces, sizes = self._columns(batch)
        chunk_sizes = np.add.reduceat(sizes, starts)
        prefix = np.zeros((batch.num_rows, PREFIX_BYTES), np.uint8)
        prefix[starts] = prefixes(chunk_sizes)
        prefix_sizes = np.zeros(batch.num_rows, np.int64)
        prefix_sizes[starts] = PREFIX_BYTES
        check_total(sizes + prefix_sizes)
        data, offsets = data_and_offsets(join([ragged(prefix, prefix_sizes).column, *pieces]))
        return JoinedFrames(data, offsets[np.append(starts, batch.num_rows)], batch.num_rows)

    def gather(self, batch: pa.RecordBatch) -> GatheredFrames:
        """Encode rows as they are within chunks; where those begin, `begun_at` says.

        As with RowEncoder.gather, vectors stay where they are.
        """
        return _gathered(self._columns(batch).pieces, self.tail_bytes)

    def _columns(self, batch: pa.RecordBatch) -> Encoded:
        """Return the columns whose row-by-row concatenation is each row within a chunk."""
        pieces, row_sizes = self._rows.columns(batch)
        headers, header_sizes = self._header.encode(row_sizes.view(np.uint64))
        return Encoded([headers, *pieces], row_sizes + header_sizes)


def _prefix_column(sizes: NDArray[np.int64]) -> pa.Array:
    return fixed_width_column(pa.py_buffer(prefixes(sizes)), len(sizes), PREFIX_BYTES)


def _gathered(pieces: list[pa.Array | pa.Scalar], tail_bytes: int) -> GatheredFrames:
    *heads, tails = pieces
    data, offsets = data_and_offsets(join(heads))
    return GatheredFrames(data, offsets, tails.buffers()[2], tail_bytes)


def _field_encoder(pair: FieldPair, id_kind: IdKind) -> FieldEncoder:
    field, arrow_type = pair.field, pair.arrow_type
    if field.is_repeated:
        return FixedSizeListField(pair) if is_fixed_size_list(arrow_type) else ListField(pair)
    if is_uuid(arrow_type):
        return IdField(pair, id_kind)
    if is_dictionary(arrow_type):
        return DictionaryTextField(pair)
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return TextField(pair)
    return FixedWidthField(pair) if field.type in FIXED_WIDTHS else VarintField(pair)

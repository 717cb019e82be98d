"""Protobuf messages to record batches, a column at a time: the inverse of `encode`.

A RowDecoder is compiled from a message descriptor and the Arrow schema to produce. It
takes any encoding that the official runtime takes, fields in any order. Messages in
the canonical order (fields by number, each at most once, floats packed), which is what
every known runtime writes, are cut apart with NumPy, a field of all rows at a time;
if one row of a batch isn't in that order, the whole batch goes through the official
runtime. DecodeError: bytes that aren't such a message, text that isn't UTF-8, an id
that isn't canonical text, a vector of the wrong length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError as RuntimeDecodeError
from google.protobuf.message_factory import GetMessageClass

from convert.id_text import IdKind
from streamer.codec.cursor import Cursor, Spans, gather
from streamer.codec.decode_columns import (
    id_column,
    list_column,
    number_column,
    text_column,
    with_nulls,
)
from streamer.codec.fields import (
    FieldPair,
    is_dictionary,
    is_uuid,
    match_fields,
    repeated_row_field,
    wire_type_of,
)
from streamer.codec.wire_format import MAX_COLUMN_BYTES, MAX_LENGTH_BYTES, WireType, tag
from streamer.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import Descriptor
    from numpy.typing import NDArray


class RowDecoder:
    """Decodes one message a row into record batches of `schema`."""

    def __init__(
        self, descriptor: Descriptor, schema: pa.Schema, id_kind: IdKind = IdKind.UUID
    ) -> None:
        self.descriptor = descriptor
        self._schema = schema
        self._id_kind = id_kind
        self._pairs = match_fields(descriptor, schema)
        self._tags = [tag(pair.field.number, wire_type_of(pair.field)) for pair in self._pairs]
        self._message = GetMessageClass(descriptor)

    def decode_messages(self, messages: Iterable[bytes]) -> pa.RecordBatch:
        """Decode messages of one row each."""
        parts = list(messages)
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends))[: len(parts)]
        return self.decode(b"".join(parts), Spans(starts, ends))

    def decode(self, data: bytes, rows: Spans) -> pa.RecordBatch:
        """Decode the row messages that lie at `rows` in `data`; the result owns its memory."""
        if len(data) > MAX_COLUMN_BYTES:
            message = f"{len(data)} bytes at once; decode at most {MAX_COLUMN_BYTES}"
            raise DecodeError(message)
        columns = self._decode_canonical(data, rows)
        if columns is None:
            columns = self._decode_with_runtime(data, rows)
        arrays: list[pa.Array] = [None] * len(columns)
        for pair, column in zip(self._pairs, columns, strict=True):
            arrays[pair.column_index] = column
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _decode_canonical(self, data: bytes, rows: Spans) -> list[pa.Array] | None:
        """Decode all rows field by field, or return None if one isn't in canonical order."""
        cursor = Cursor(data, rows)
        found = []
        for pair, field_tag in zip(self._pairs, self._tags, strict=True):
            present = cursor.skip_tag(field_tag)
            found.append((pair, present, cursor.read(wire_type_of(pair.field), present)))
            if cursor.failed:
                return None
        # Only now is it known that what was found is what the messages say.
        if not cursor.at_end():
            return None
        return [self._column(data, *field) for field in found]

    def _column(
        self,
        data: bytes,
        pair: FieldPair,
        present: NDArray[np.bool_],
        found: NDArray[np.generic] | Spans,
    ) -> pa.Array:
        absent = None if pair.implicit_presence or present.all() else ~present
        if not isinstance(found, Spans):
            return number_column(pair, found, absent)
        values = gather(data, found)
        if pair.field.is_repeated:
            return list_column(pair, values)
        if is_uuid(pair.arrow_type):
            return id_column(pair, values, self._id_kind, absent)
        return text_column(pair, values if absent is None else with_nulls(values, absent))

    def _decode_with_runtime(self, data: bytes, rows: Spans) -> list[pa.Array]:
        try:
            messages = [
                self._message.FromString(data[start:end])
                for start, end in zip(rows.starts.tolist(), rows.ends.tolist(), strict=True)
            ]
        except RuntimeDecodeError as error:
            message = f"not a valid {self.descriptor.full_name}: {error}"
            raise DecodeError(message) from None
        return [self._values_of(pair, messages) for pair in self._pairs]

    def _values_of(self, pair: FieldPair, messages: list[Any]) -> pa.Array:
        name = pair.field.name
        if pair.field.is_repeated:
            item = pair.arrow_type.value_type.to_pandas_dtype()
            lists = [np.array(getattr(message, name), item).tobytes() for message in messages]
            return list_column(pair, pa.array(lists, pa.binary()))
        values = [
            getattr(message, name) if pair.implicit_presence or message.HasField(name) else None
            for message in messages
        ]
        if is_uuid(pair.arrow_type):
            absent = np.array([value is None for value in values], np.bool_)
            text = pa.array([value or "" for value in values], pa.string()).cast(pa.binary())
            return id_column(pair, text, self._id_kind, absent if absent.any() else None)
        if is_dictionary(pair.arrow_type):
            return text_column(pair, pa.array(values, pair.arrow_type.value_type))
        return pa.array(values, pair.arrow_type)


class ChunkDecoder:
    """Decodes messages of several rows: `chunk` is a message of one repeated row field."""

    def __init__(self, chunk: Descriptor, rows: RowDecoder) -> None:
        field = repeated_row_field(chunk, rows.descriptor)
        self._rows = rows
        self._field_name = field.name
        self._header = tag(field.number, WireType.LEN)
        self._message = GetMessageClass(chunk)

    def decode(self, data: bytes) -> pa.RecordBatch:
        """Decode one chunk; the result owns its memory."""
        spans = self._row_spans(data)
        if spans is not None:
            return self._rows.decode(data, spans)
        try:
            rows = getattr(self._message.FromString(data), self._field_name)
        except RuntimeDecodeError as error:
            message = f"not a valid {self._message.DESCRIPTOR.full_name}: {error}"
            raise DecodeError(message) from None
        return self._rows.decode_messages(row.SerializeToString() for row in rows)

    def _row_spans(self, data: bytes) -> Spans | None:
        """Return where the row messages lie in `data`, None if anything else is in it."""
        if len(self._header) == 1:
            spans = _spans_of_two_byte_lengths(data, self._header[0])
            if spans is not None:
                return spans
        return _spans(data, self._header)


def _spans_of_two_byte_lengths(data: bytes, header: int) -> Spans | None:
    """Return where rows of 128 to 16,383 bytes lie, None if there is any other.

    A loop over rows, which no column operation can replace: where a row begins is known
    only from the length of the one before it. So it does as little as can be, 0.1 us a
    row, and what it has taken for granted is checked afterwards for all rows at once.
    """
    begins: list[int] = []
    add = begins.append
    position, end = 0, len(data)
    try:
        while position < end:
            add(position)
            position += (data[position + 1] & 0x7F | data[position + 2] << 7) + 3
    except IndexError:
        return None
    if position != end:
        return None
    starts = np.array(begins, np.int64)
    chars = np.frombuffer(data, np.uint8)
    is_row = (chars[starts] == header) & (chars[starts + 1] >= 0x80) & (chars[starts + 2] < 0x80)
    if not is_row.all():
        return None
    return Spans(starts + 3, np.append(starts[1:], end))


def _spans(data: bytes, header: bytes) -> Spans | None:
    """Return where rows of any length lie, None if anything else is in `data`."""
    starts = []
    ends = []
    position, end = 0, len(data)
    while position < end:
        if not data.startswith(header, position):
            return None
        position += len(header)
        length = shift = 0
        more = True
        while more:
            if position >= end or shift >= 7 * MAX_LENGTH_BYTES:
                return None
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            more = byte >= 0x80
        starts.append(position)
        position += length
        ends.append(position)
    if position != end:
        return None
    return Spans(np.array(starts, np.int64), np.array(ends, np.int64))

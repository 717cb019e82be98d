"""Messages of the streaming RPCs to record batches, whatever the dataset. Pure.

The schema follows from the first row: how long its vector is, and whether its id is the
text of a UUID or of a ULID.
"""

from __future__ import annotations

import functools
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError as RuntimeDecodeError

from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.batch_schema import batch_schema
from streamer.codec.decode import ChunkDecoder, RowDecoder
from streamer.errors import DecodeError

_Message = TypeVar("_Message", pb.Embedding, pb.RowChunk)

_ROW = pb.DESCRIPTOR.message_types_by_name["Embedding"]
_CHUNK = pb.DESCRIPTOR.message_types_by_name["RowChunk"]
# Rows of GetEmbeddings that make a record batch where the caller leaves it open.
DEFAULT_BATCH_ROWS = 2048


class MessageDecoder(Protocol):
    """Puts the messages of one call together to record batches."""

    def add(self, message: bytes) -> pa.RecordBatch | None:
        """Take a message; return the rows that are now complete; DecodeError."""

    def rest(self) -> pa.RecordBatch | None:
        """Return the rows that are left when the call is over."""


class ChunkMessages:
    """The messages of StreamEmbedding: a batch a message."""

    def __init__(self) -> None:
        self._decoder: ChunkDecoder | None = None

    def add(self, message: bytes) -> pa.RecordBatch | None:
        if self._decoder is None:
            rows = _parsed(pb.RowChunk, message).rows
            if not rows:
                return None
            self._decoder = ChunkDecoder(_CHUNK, _decoder_for(rows[0]))
        batch = self._decoder.decode(message)
        return batch if batch.num_rows else None

    def rest(self) -> pa.RecordBatch | None:
        return None


class RowMessages:
    """The messages of GetEmbeddings: a row each.

    `batch_rows` of them make a batch, or fewer as soon as they have `batch_bytes`.
    """

    def __init__(self, batch_rows: int, batch_bytes: int) -> None:
        self._batch_rows = batch_rows
        self._batch_bytes = batch_bytes
        self._bytes = 0
        self._decoder: RowDecoder | None = None
        self._messages: list[bytes] = []

    def add(self, message: bytes) -> pa.RecordBatch | None:
        self._messages.append(message)
        self._bytes += len(message)
        is_full = len(self._messages) >= self._batch_rows or self._bytes >= self._batch_bytes
        return self.rest() if is_full else None

    def rest(self) -> pa.RecordBatch | None:
        messages, self._messages, self._bytes = self._messages, [], 0
        if not messages:
            return None
        if self._decoder is None:
            self._decoder = _decoder_for(_parsed(pb.Embedding, messages[0]))
        return self._decoder.decode_messages(messages)


def largest_row_bytes(batch: pa.RecordBatch) -> int:
    """Return what vector and texts of the largest row take; there is one."""
    texts = [pc.binary_length(column) for column in batch.columns if column.type == pa.string()]
    vector_bytes = 4 * int(batch.schema.field("vector").type.list_size)
    return vector_bytes + int(pc.max(functools.reduce(pc.add, texts)).as_py())


def _decoder_for(row: pb.Embedding) -> RowDecoder:
    if not row.vector:
        message = "the first row has no vector"
        raise DecodeError(message)
    kind = IdKind.ULID if len(row.id) == IdKind.ULID.chars else IdKind.UUID
    return RowDecoder(_ROW, batch_schema(len(row.vector), kind), kind)


def _parsed(kind: type[_Message], message: bytes) -> _Message:
    try:
        return kind.FromString(message)
    except RuntimeDecodeError as error:
        text = f"not a valid {kind.DESCRIPTOR.full_name}: {error}"
        raise DecodeError(text) from None

"""Received messages to rows that a table takes, and the others with the reason. Pure.

One bad row doesn't spoil those that came with it: checks are made on whole columns, and
only what fails them is looked at row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError as RuntimeDecodeError

from convert.id_text import IdKind, halves
from proto import embedding_stream_pb2 as pb
from streamer.batch_schema import batch_schema
from streamer.codec.decode import RowDecoder
from streamer.codec.decode_columns import parse_id_column
from streamer.codec.message_run import MessageRun
from streamer.codec.wire_format import int64_column
from streamer.errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TEXTS = ("company_name", "english_level", "primary_keyword")
# Anything that a message may say; what a table takes is checked afterwards.
_LENIENT = pa.schema(
    {
        "id": pa.string(), "company_name": pa.string(), "exp_years": pa.int32(),
        "english_level": pa.string(), "primary_keyword": pa.string(),
        "vector": pa.list_(pa.float32()),
    }
)  # fmt: skip
_ROW = pb.DESCRIPTOR.message_types_by_name["Embedding"]
_DECODER = RowDecoder(_ROW, _LENIENT)


class RejectedRow(NamedTuple):
    """A row that can't be stored: its id as it was sent, why, and the whole message."""

    id: str
    reason: str
    message: bytes


class _Sound(NamedTuple):
    """All rows of a block that are sound: rows `order` of `rows`, by id, then as they came."""

    rows: pa.RecordBatch
    ids: NDArray[np.uint8]
    order: NDArray[np.int64]
    dimension: int

    def batch(self, ends: NDArray[np.int64]) -> pa.RecordBatch:
        """Return the rows at these places of `order`."""
        places = self.order[ends]
        if np.array_equal(places, np.arange(self.rows.num_rows)):
            return _typed(self.rows, self.ids, self.dimension)
        return _typed(self.rows.take(int64_column(places)), self.ids[places], self.dimension)


class CheckedRows(NamedTuple):
    """`batch` has `batch_schema`, ids ascending, each once; None if no row is sound.

    `accepted` rows were sound; where several of them had one id the last one counts. Row i
    of `batch` came as message `places[i]` of `messages`.
    """

    batch: pa.RecordBatch | None
    accepted: int
    rejected: list[RejectedRow]
    messages: MessageRun
    sound: _Sound
    ends: NDArray[np.int64]

    @property
    def places(self) -> NDArray[np.int64]:
        return self.sound.order[self.ends]

    def refuse(self, row: int, reason: str) -> RejectedRow:
        """Return a row of `batch` as one that whoever stores it rejects."""
        message = self.messages[int(self.places[row])]
        return RejectedRow(pb.Embedding.FromString(message).id, reason, message)

    def before(self, refused: list[int]) -> CheckedRows:
        """Return the rows that came before these rows of `batch`, with the same ids."""
        ids, ends = self.sound.ids[self.sound.order], self.ends[refused]
        ends = ends[ends > 0]
        earlier = ends[(ids[ends - 1] == ids[ends]).all(axis=1)] - 1
        batch = self.sound.batch(earlier) if len(earlier) else None
        return self._replace(batch=batch, ends=earlier, accepted=len(earlier), rejected=[])


def check_rows(run: MessageRun, dimension: int | None) -> CheckedRows:
    """Decode messages and tell those apart that have a sound id, text and `dimension` floats.

    Without a `dimension` it is the one that most vectors have.
    """
    rows, run, rejected = _decoded(run)
    ids, is_id = _ids(rows.column("id"))
    offsets = _offsets(rows.column("vector"))
    if dimension is None:
        dimension = _usual(np.diff(offsets))
    floats = np.frombuffer(rows.column("vector").values.buffers()[1], np.float32)
    problems = {
        "id: no UUID or ULID in canonical form": ~is_id,
        "vector: empty": offsets[1:] == offsets[:-1],
        f"vector: not {dimension} floats": np.diff(offsets) != dimension,
        "vector: NaN or infinity": _has_any(~np.isfinite(floats), offsets),
        **{f"{name}: a NUL character": _has_nul(rows.column(name)) for name in _TEXTS},
    }
    sound = ~np.logical_or.reduce(list(problems.values()))
    for row in np.flatnonzero(~sound).tolist():
        reason = "; ".join(text for text, mask in problems.items() if mask[row])
        rejected.append(RejectedRow(rows.column("id")[row].as_py(), reason, run[row]))
    places = np.flatnonzero(sound)
    order, ends = _ascending(ids[places])
    found = _Sound(rows, ids, places[order], dimension)
    batch = found.batch(ends) if len(places) else None
    return CheckedRows(batch, len(places), rejected, run, found, ends)


def _decoded(run: MessageRun) -> tuple[pa.RecordBatch, MessageRun, list[RejectedRow]]:
    """Return the messages that are Embeddings as rows, those messages, and the others."""
    try:
        return _DECODER.decode(run.data, run.spans), run, []
    except DecodeError:
        pass  # at least one of them isn't, and only the runtime says which
    sound, rejected = [], []
    for message in run:
        try:
            pb.Embedding.FromString(message)
        except RuntimeDecodeError as error:
            rejected.append(RejectedRow("", f"not an Embedding: {error}", message))
        else:
            sound.append(message)
    run = MessageRun.of(sound)
    return _DECODER.decode(run.data, run.spans), run, rejected


def _ids(text: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Parse ids of either kind: uint8 (n, 16), and a mask of those that are any."""
    ids, is_id = parse_id_column(text, IdKind.UUID)
    if not is_id.all():
        ulids, is_ulid = parse_id_column(text, IdKind.ULID)
        ids[is_ulid] = ulids[is_ulid]
        is_id |= is_ulid
    return ids, is_id


def _ascending(ids: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of `ids` in ascending order, and where in it the last of equal ones are."""
    high, low = halves(ids)
    order = np.lexsort((low, high))  # stable
    high, low = high[order], low[order]
    is_last = np.ones(len(ids), np.bool_)
    is_last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return order, np.flatnonzero(is_last)


def _usual(lengths: NDArray[np.int32]) -> int:
    return int(np.bincount(lengths[lengths > 0], minlength=1).argmax())


def _offsets(column: pa.Array) -> NDArray[np.int32]:
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)


def _has_any(wrong: NDArray[np.bool_], offsets: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which rows, cut at `offsets`, have an item that is wrong."""
    rows = np.zeros(len(offsets) - 1, np.bool_)
    rows[offsets.searchsorted(np.flatnonzero(wrong), side="right") - 1] = True
    return rows


def _has_nul(text: pa.Array) -> NDArray[np.bool_]:
    data = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    offsets = _offsets(text)
    return _has_any(data[: offsets[-1]] == 0, offsets)


def _typed(rows: pa.RecordBatch, ids: NDArray[np.uint8], dimension: int) -> pa.RecordBatch:
    schema = batch_schema(dimension, IdKind.UUID)
    storage = pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(ids)])
    floats = rows.column("vector").flatten()
    columns = {
        **dict(zip(rows.schema.names, rows.columns, strict=True)),
        "id": pa.ExtensionArray.from_storage(pa.uuid(), storage),
        "vector": pa.FixedSizeListArray.from_arrays(floats, type=schema.field("vector").type),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

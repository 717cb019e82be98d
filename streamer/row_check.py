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


class CheckedRows(NamedTuple):
    """`batch` has `batch_schema`, ids ascending, each once; None if no row is sound.

    `accepted` rows were sound; where several of them had one id the last one counts. Row i
    of `batch` came as message `places[i]` of `messages`.
    """

    batch: pa.RecordBatch | None
    accepted: int
    rejected: list[RejectedRow]
    messages: MessageRun
    places: NDArray[np.int64]

    def refuse(self, row: int, reason: str) -> RejectedRow:
        """Return a row of `batch` as one that whoever stores it rejects."""
        message = self.messages[int(self.places[row])]
        return RejectedRow(pb.Embedding.FromString(message).id, reason, message)


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
    if not len(places):
        return CheckedRows(None, 0, rejected, run, places)
    order = places[_ascending_last(ids[places])]
    if not np.array_equal(order, np.arange(len(sound))):
        rows, ids = rows.take(int64_column(order)), ids[order]
    return CheckedRows(_typed(rows, ids, dimension), len(places), rejected, run, order)


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


def _ascending_last(ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the places of `ids` in ascending order; of equal ones only the last."""
    high, low = halves(ids)
    order = np.lexsort((low, high))  # stable
    high, low = high[order], low[order]
    is_last = np.append((high[1:] != high[:-1]) | (low[1:] != low[:-1]), True)
    last: NDArray[np.int64] = order[is_last]
    return last


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

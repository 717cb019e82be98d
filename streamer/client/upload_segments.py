"""What one call of an upload sends, and what its result says. Pure.

A segment is acknowledged by an UploadResult that adds up: total_count is the rows that were
sent, success_count and failed_count make up total_count. Any other one is an UploadError, for
rows may be missing, and the segment counts as not sent. Failed ids that don't match
failed_count are a warning with the result: sending again wouldn't tell which rows they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from convert.foreign_text import quoted
from convert.id_text import format_ids
from proto import embedding_stream_pb2 as pb
from streamer.checkpoint import parse_checkpoint
from streamer.dataset_file import id_matrix
from streamer.errors import InvalidRequestError, StreamerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from convert.id_text import IdKind
    from streamer.store import EmbeddingStore


class UploadError(StreamerError):
    """A segment wasn't acknowledged, and another try wouldn't help or was one too many."""


class Segment(NamedTuple):
    """Rows that one call sends: slices of the mapped file, in order, at least one row."""

    slices: Sequence[pa.RecordBatch]
    rows: int

    @property
    def first_id(self) -> bytes:
        return id_matrix(self.slices[0])[:1].tobytes()

    @property
    def last_id(self) -> bytes:
        return id_matrix(self.slices[-1])[-1:].tobytes()


class SegmentResult(NamedTuple):
    """What the receiver did with a segment.

    `failed_ids` are ids of the segment, each once, in canonical text; where they are not
    as many as `failed`, `warning` says so.
    """

    succeeded: int
    failed: int
    failed_ids: tuple[str, ...] = ()
    warning: str | None = None


def segments(slices: Iterable[pa.RecordBatch], rows: int) -> Iterator[Segment]:
    """Cut `slices` into segments of `rows` rows, the last one what is left. Copies nothing."""
    taken: list[pa.RecordBatch] = []
    missing = rows
    for batch in slices:
        rest = batch
        while rest.num_rows:
            taken.append(rest.slice(0, missing))
            rest = rest.slice(taken[-1].num_rows)
            missing -= taken[-1].num_rows
            if not missing:
                yield Segment(taken, rows)
                taken, missing = [], rows
    if taken:
        yield Segment(taken, rows - missing)


def checked_result(answer: bytes, segment: Segment, store: EmbeddingStore) -> SegmentResult:
    """Return what `answer`, an UploadResult's bytes, says of a segment of `store`; UploadError."""
    kind = store.info.id_kind
    name = f"the segment that begins with {id_text(kind, segment.first_id)}"
    try:
        result = pb.UploadResult.FromString(answer)
    except DecodeError:
        message = f"{name} was answered with no UploadResult"
        raise UploadError(message) from None
    total, succeeded, failed = result.total_count, result.success_count, result.failed_count
    if not (total == segment.rows == succeeded + failed and succeeded >= 0 <= failed):
        message = (
            f"{name} has {segment.rows:,} rows, and the receiver's result doesn't add up to them:"
            f" total_count {total:,}, success_count {succeeded:,}, failed_count {failed:,}"
        )
        raise UploadError(message)
    named: dict[str, None] = {}
    strange: list[str] = []
    for text in result.failed_ids:
        id_ = _row_of(text, segment, store)
        if id_ is None:
            strange.append(text)
        else:
            named[id_text(kind, id_)] = None
    warning = None
    if strange or len(named) != failed:
        warning = (
            f"{name} has {failed:,} failed rows, and the receiver names {len(named):,} of them"
        )
    if strange:
        warning = f"{warning} and {len(strange):,} ids that are not in it ({quoted(strange[0])})"
    return SegmentResult(succeeded, failed, tuple(named), warning)


def id_text(kind: IdKind, id_: bytes) -> str:
    """Return the canonical text of an id."""
    return format_ids(kind, np.frombuffer(id_, np.uint8).reshape(1, 16)).tobytes().decode()


def _row_of(text: str, segment: Segment, store: EmbeddingStore) -> bytes | None:
    try:
        id_ = parse_checkpoint(text, store.info.id_kind)
    except InvalidRequestError:
        return None
    in_segment = segment.first_id <= id_ <= segment.last_id
    return id_ if in_segment and store.rows_after(id_).checkpoint_found else None

"""The pure parts of a read: its progress, headers, what a failure means, messages to batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.batch_schema import batch_schema, id_kind_of
from streamer.client import ReadPolicy, Rpc
from streamer.client.decoding import ChunkMessages, RowMessages
from streamer.client.failures import (
    DatasetChangedError,
    Failure,
    NoProgressError,
    RowOrderError,
    ServerFailedError,
)
from streamer.client.progress import DatasetHeaders, Progress
from streamer.client.reading import Reading
from streamer.errors import Status
from streamer.retry import Backoff
from tests import strategies
from tests.scripted_server import embeddings, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRANSIENT = (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.ABORTED)
_CUT = Failure(Status.UNAVAILABLE, "cut")
_LAST = b"\xff" * 16

_ids = strategies.ids | st.sampled_from(
    [bytes(16), _LAST, b"\x7f" + _LAST[1:], b"\x80" + bytes(15)]
)
# Near each other, so that both halves of an id decide its place.
_close_ids = st.builds(
    lambda high, low: high.to_bytes(8, "big") + low.to_bytes(8, "big"),
    st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]),
    st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]),
)


def _batch(ids: Sequence[bytes], kind: IdKind = IdKind.UUID) -> pa.RecordBatch:
    schema = batch_schema(1, kind)
    rows = len(ids)
    storage = pa.array(ids, pa.binary(16))
    floats = pa.array(np.zeros(rows, np.float32))
    texts = pa.array([""] * rows)
    arrays: list[Any] = [
        pa.ExtensionArray.from_storage(pa.uuid(), storage), texts, pa.array([0] * rows, pa.int32()),
        texts, texts, pa.FixedSizeListArray.from_arrays(floats, type=schema.field("vector").type),
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _progress(after: str = "", **options: Any) -> Progress:
    settings: dict[str, Any] = {"max_tries": 3, "backoff": Backoff(1, 8), "jitter": lambda: 0.0}
    return Progress(after, **{**settings, **options})


def _text(id_: bytes, kind: IdKind) -> str:
    return str(UUID(bytes=id_) if kind is IdKind.UUID else ULID(id_))


@given(st.lists(_ids | _close_ids, min_size=1, max_size=8), st.data())
def test_ids_are_taken_exactly_if_they_ascend(ids: list[bytes], data: st.DataObject) -> None:
    """In unsigned byte order, within batches and across them, after the checkpoint."""
    after = data.draw(st.none() | _ids | _close_ids)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids)))) | {len(ids)})
    whole = ([] if after is None else [after]) + ids
    progress = _progress("" if after is None else str(UUID(bytes=after)))
    refused = False
    begin = 0
    for end in cuts:
        batch = _batch(ids[begin:end])
        so_far = whole[: end + len(whole) - len(ids)]
        sound = sorted(set(so_far)) == so_far
        try:
            assert batch is progress.deliver(batch)
        except RowOrderError:
            refused = True
            assert not sound
            break
        assert sound
        assert (str(UUID(bytes=ids[end - 1])), end) == (progress.after, progress.rows)
        begin = end

    assert refused == (sorted(set(whole)) != whole)


@pytest.mark.parametrize("kind", list(IdKind))
@given(_ids)
def test_checkpoint_is_the_canonical_text_of_the_last_row(kind: IdKind, id_: bytes) -> None:
    """Of the dataset's kind of id, whatever the case of the first checkpoint was."""
    progress = _progress()
    progress.deliver(_batch([id_], kind))

    assert _text(id_, kind) == progress.after
    if id_ != bytes(16):
        resumed = _progress(_text(bytes(16), kind).lower())
        resumed.deliver(_batch([id_], kind))
        assert _text(id_, kind) == resumed.after


def test_row_that_is_the_checkpoint_is_a_repeated_one() -> None:
    """Rows come strictly after `after`, in whatever letters that was written."""
    id_ = bytes.fromhex("ab" * 16)
    for kind in IdKind:
        for after in (_text(id_, kind).lower(), _text(id_, kind).upper()):
            with pytest.raises(RowOrderError, match=f"{_text(id_, kind)} twice"):
                _progress(after).deliver(_batch([id_], kind))


def test_read_is_complete_with_the_announced_rows() -> None:
    """Over all calls; from then on no failure counts. Without announcement it never is."""
    progress = _progress()
    assert not progress.is_complete
    progress.begin(DatasetHeaders(rows_remaining=3))
    progress.deliver(_batch([bytes(15) + b"\1"]))
    assert 1.0 == progress.fail(_CUT)
    progress.begin(DatasetHeaders(rows_remaining=2))
    progress.deliver(_batch([bytes(15) + b"\2", _LAST]))
    assert progress.is_complete
    assert progress.fail(Failure(Status.INTERNAL, "late")) is None
    assert progress.end() is None
    silent = _progress()
    silent.begin(DatasetHeaders())
    silent.deliver(_batch([_LAST]))
    assert not silent.is_complete
    assert silent.end() is None
    with pytest.raises(ServerFailedError):
        silent.fail(Failure(Status.INTERNAL, "late"))


def test_later_calls_need_not_announce_again() -> None:
    """What the first one said holds for the whole read."""
    progress = _progress()
    progress.begin(DatasetHeaders(rows_remaining=2))
    progress.deliver(_batch([bytes(16)]))
    progress.begin(DatasetHeaders())
    assert 1.0 == progress.end()
    progress.deliver(_batch([_LAST]))
    assert progress.end() is None


@pytest.mark.parametrize(
    ("seen", "refused"),
    [
        (["a", "a"], False),
        ([None, "a", None, "a"], False),
        (["a", "b"], True),
        (["a", None, "b"], True),
        ([None, None, "b"], False),
    ],
)
def test_one_fingerprint_goes_through_a_read(seen: list[str | None], refused: bool) -> None:  # noqa: FBT001
    """The first that is seen; a call that names none is believed."""
    progress = _progress()
    for fingerprint in seen[:-1]:
        progress.begin(DatasetHeaders(fingerprint))
    if refused:
        with pytest.raises(DatasetChangedError):
            progress.begin(DatasetHeaders(seen[-1]))
    else:
        progress.begin(DatasetHeaders(seen[-1]))


@given(st.integers(1, 20))
def test_tries_without_a_row_are_limited(max_tries: int) -> None:
    """The last of them raises; its text has the last failure in it."""
    progress = _progress(max_tries=max_tries)
    for number in range(1, max_tries):
        assert min(8.0, 2.0 ** (number - 1)) == progress.fail(_CUT)
    with pytest.raises(NoProgressError, match=f"in {max_tries} tries.* UNAVAILABLE: cut"):
        progress.fail(_CUT)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 1.0), (0.0, 1.0), (0.5, 1.0), (7.5, 7.5), (301, 300), (1e12, 300)],
)
def test_pause_is_the_longer_of_backoff_and_retry_info(
    asked: float | None, expected: float
) -> None:
    """RetryInfo up to five minutes."""
    assert expected == _progress().fail(Failure(Status.UNAVAILABLE, "", asked))


_CUT_OFF = [
    (Status.INTERNAL, "Received RST_STREAM with error code 2"),
    (Status.INTERNAL, "Unexpected EOS"),
    (Status.UNKNOWN, "Stream removed"),
    (Status.CANCELLED, "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"),
    (Status.RESOURCE_EXHAUSTED, "Received RST_STREAM with error code 11"),
]


@pytest.mark.parametrize(("status", "text"), _CUT_OFF)
def test_stream_that_was_cut_off_is_transient(status: Status, text: str) -> None:
    """In the words of the C-core; the same status with other words isn't."""
    assert Failure(status, text).is_transient
    assert not Failure(status, "disk full").is_transient


@pytest.mark.parametrize("status", list(Status))
def test_statuses_that_are_worth_a_try(status: Status) -> None:
    """Three are by themselves, each with RetryInfo, also one of no seconds."""
    assert (status in _TRANSIENT) == Failure(status, "").is_transient
    assert Failure(status, "", 0.0).is_transient


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, DatasetHeaders()),
        (
            {
                "dataset-fingerprint": "ab", "dataset-rows": "7", "dataset-dimension": "3",
                "rows-remaining": "0", "checkpoint-found": "true", "other": "x", "bin-bin": b"x",
            },
            DatasetHeaders("ab", 7, 3, 0, checkpoint_found=True),
        ),
        ({"checkpoint-found": "false"}, DatasetHeaders(checkpoint_found=False)),
        ({"dataset-ids": "made"}, DatasetHeaders(ids="made")),
        ({"rows-remaining": "-1", "dataset-rows": "x", "dataset-dimension": ""}, DatasetHeaders()),
        ({"rows-remaining": ".5", "dataset-rows": "5 ", "checkpoint-id": "1"}, DatasetHeaders()),
        ({"rows-remaining": "\u00b2", "dataset-rows": "9" * 5000}, DatasetHeaders()),
    ],
    ids=["none", "all", "not found", "made", "wrong", "lenient", "hostile"],
)  # fmt: skip
def test_headers_are_what_the_metadata_say(
    metadata: dict[str, str | bytes], expected: DatasetHeaders
) -> None:
    """What isn't there, or is no number, is None."""
    assert expected == DatasetHeaders.from_metadata(metadata)


@given(st.text())
def test_no_header_is_an_error(text: str) -> None:
    """Any text may stand there; a number in ASCII digits is read."""
    headers = DatasetHeaders.from_metadata({"rows-remaining": text})

    if text.isascii() and text.isdigit():
        assert int(text) == headers.rows_remaining
    else:
        assert headers.rows_remaining is None


@given(st.lists(st.integers(0, 4), max_size=8))
def test_chunks_are_batches(sizes: list[int]) -> None:
    """A message a batch, none for an empty one; all rows in order."""
    rows = embeddings(sum(sizes))
    decoder = ChunkMessages()
    batches = []
    begin = 0
    for size in sizes:
        message = pb.RowChunk(rows=rows[begin : begin + size]).SerializeToString()
        batch = decoder.add(message)
        begin += size
        assert (batch is None) == (size == 0)
        if batch is not None:
            assert size == batch.num_rows
            batches.append(batch)

    assert decoder.rest() is None
    assert rows == rows_of(batches)


@given(st.integers(0, 12), st.integers(1, 5), st.sets(st.integers(0, 12)))
def test_rows_are_put_together_to_batches(count: int, batch_rows: int, breaks: set[int]) -> None:
    """`batch_rows` each, less where a call ends; none is kept back, none comes twice."""
    rows = embeddings(count)
    decoder = RowMessages(batch_rows, 1 << 20)
    batches: list[pa.RecordBatch] = []
    for number, row in enumerate(rows):
        batches += filter(None, [decoder.add(row.SerializeToString())])
        if number in breaks:
            batches += filter(None, [decoder.rest()])
    batches += filter(None, [decoder.rest()])

    assert decoder.rest() is None
    assert rows == rows_of(batches)
    assert all(batch.num_rows <= batch_rows for batch in batches)
    if not breaks:
        assert all(batch.num_rows == batch_rows for batch in batches[:-1])


@given(st.lists(st.integers(0, 300), max_size=12), st.integers(1, 1000))
def test_batches_of_long_rows_are_short(letters: list[int], batch_bytes: int) -> None:
    """What is held is less than `batch_bytes` and a row."""
    rows = embeddings(len(letters))
    for row, count in zip(rows, letters, strict=True):
        row.company_name = "x" * count
    decoder = RowMessages(100, batch_bytes)
    batches: list[pa.RecordBatch] = []
    held = 0
    for row in rows:
        message = row.SerializeToString()
        held += len(message)
        batch = decoder.add(message)
        assert (batch is not None) == (held >= batch_bytes)
        if batch is not None:
            batches.append(batch)
            held = 0
    batches += filter(None, [decoder.rest()])

    assert rows == rows_of(batches)


@pytest.mark.parametrize("kind", list(IdKind))
def test_schema_follows_from_the_first_row(kind: IdKind) -> None:
    """Its id's text and its vector's length; plain columns without nulls."""
    row = pb.Embedding(id=_text(_LAST, kind), vector=[1, 2, 3])
    (batch,) = filter(
        None, [ChunkMessages().add(pb.RowChunk(rows=[row]).SerializeToString())]
    )  # fmt: skip

    assert batch_schema(3, kind).equals(batch.schema, check_metadata=True)
    assert kind is id_kind_of(batch.schema)
    assert not any(field.nullable for field in batch.schema)
    assert [pa.uuid(), pa.string(), pa.int32(), pa.string(), pa.string()] == batch.schema.types[:5]


def test_reading_asks_for_what_is_left() -> None:
    """The request has the chunk size, and the id of the last row."""
    now = 5.0
    policy = ReadPolicy(call_seconds=20, clock=lambda: now)
    reading = Reading(
        policy, after="", chunk_size=7, max_chunk_bytes=1 << 20, rpc=Rpc.CHUNKS,
        must_exist=False, fingerprint=None, deadline_seconds=30,
    )  # fmt: skip
    assert pb.RequestParams(chunk_size=7) == reading.request()
    assert 20 == reading.call_seconds()
    rows = embeddings(2)
    reading.add(pb.RowChunk(rows=rows).SerializeToString())
    now = 20.0

    assert pb.RequestParams(last_processed_uuid=rows[1].id, chunk_size=7) == reading.request()
    assert 15 == reading.call_seconds()
    assert "/embedding.EmbeddingStreamService/StreamEmbedding" == reading.method

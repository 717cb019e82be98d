"""What the streaming RPCs answer: every rule of the contract, without a network."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULID

from proto import embedding_stream_pb2 as pb
from streamer import blocks as blocks_module
from streamer.codec.frames import GatheredFrames
from streamer.dataset import Dataset
from streamer.errors import (
    CheckpointNotFoundError,
    DatasetNotFoundError,
    InvalidDatasetError,
    InvalidRequestError,
    RowTooLargeError,
)
from streamer.service import Answer, Caller, EmbeddingService
from tests.datasets import (
    FINGERPRINT,
    id_texts,
    make_batch,
    messages_of,
    with_info,
    write_dataset,
    write_file,
)
from tests.frames import messages_of_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from streamer.codec.frames import Frames

ROWS = 23
_MIB = 1 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "jobs.arrow"


@pytest.fixture(scope="module")
def batch(path: Path) -> pa.RecordBatch:
    return write_dataset(path, rows=ROWS, batch_rows=5)


@pytest.fixture(scope="module")
def service(path: Path, batch: pa.RecordBatch) -> EmbeddingService:
    assert batch.num_rows == ROWS
    return _service(path)


def _service(path: Path, *, max_message_bytes: int = _MIB, chunk: int = 300) -> EmbeddingService:
    return EmbeddingService(
        Dataset(path), chunk_rows=lambda _: chunk, max_message_bytes=max_message_bytes
    )


@pytest.fixture(scope="module", params=["joined", "gathered"], autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """Ask for every answer in both forms that engines may take."""
    _FORM.append(request.param)
    yield request.param
    _FORM.pop()


_FORM: list[str] = []


def _caller(seconds_left: float | None = None, **metadata: str) -> Caller:
    named = {key.replace("_", "-"): value for key, value in metadata.items()}
    return Caller("test", named, lambda: seconds_left, takes_gathered=_FORM[-1] == "gathered")


def _request(after: str = "", chunk_size: int = 0) -> pb.RequestParams:
    return pb.RequestParams(last_processed_uuid=after, chunk_size=chunk_size)


def _rows(answer: Answer) -> list[pb.Embedding]:
    return [pb.Embedding.FromString(m) for m in messages_of_blocks(answer.frames)]


def _chunks(answer: Answer) -> list[pb.RowChunk]:
    return [pb.RowChunk.FromString(m) for m in messages_of_blocks(answer.frames)]


def _ids(service: EmbeddingService, after: str = "") -> list[str]:
    return [row.id for row in _rows(service.get_embeddings(_request(after), _caller()))]


def test_no_checkpoint_streams_every_row(service: EmbeddingService, batch: pa.RecordBatch) -> None:
    """An empty checkpoint means from the first row."""
    expected = [pb.Embedding(**row) for row in messages_of(batch)]

    assert expected == _rows(service.get_embeddings(_request(), _caller()))


@pytest.mark.parametrize("cut", range(ROWS))
def test_head_and_resume_are_the_whole_at_every_cut(
    service: EmbeddingService, batch: pa.RecordBatch, cut: int
) -> None:
    """Resuming after any row goes on with exactly the next one."""
    ids = id_texts(batch)

    assert ids[cut + 1 :] == _ids(service, after=ids[cut])
    assert ids[cut + 1 :] == _ids(service, after=ids[cut].upper())


@pytest.mark.parametrize("cut", range(0, ROWS, 3))
def test_resuming_twice_loses_and_repeats_nothing(
    service: EmbeddingService, batch: pa.RecordBatch, cut: int
) -> None:
    """A second crash is no different from the first."""
    ids = id_texts(batch)
    tail = _ids(service, after=ids[cut])
    head = tail[: len(tail) // 2]
    last = head[-1] if head else ids[cut]

    assert ids[cut + 1 :] == head + _ids(service, after=last)


def test_checkpoint_that_is_no_row_follows_the_same_rule(
    service: EmbeddingService, batch: pa.RecordBatch
) -> None:
    """Rows strictly greater come, and the header says that it was not found."""
    ids = id_texts(batch)
    between = str(uuid.UUID(int=uuid.UUID(ids[7]).int + 1))

    answer = service.get_embeddings(_request(between), _caller())

    assert "false" == dict(answer.headers)["checkpoint-found"]
    assert ids[8:] == [row.id for row in _rows(answer)]


@pytest.mark.parametrize("after", ["last", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
def test_nothing_left_is_an_empty_stream(
    service: EmbeddingService, batch: pa.RecordBatch, after: str
) -> None:
    """After the last id there are no messages; that never looks like no checkpoint."""
    after = id_texts(batch)[-1] if after == "last" else after

    answer = service.stream_embedding(_request(after), _caller())

    assert "0" == dict(answer.headers)["rows-remaining"]
    assert [] == _chunks(answer)


def test_must_exist_refuses_an_unknown_checkpoint(service: EmbeddingService) -> None:
    """A caller may insist that its checkpoint is a row."""
    caller = _caller(checkpoint_policy="must-exist")

    with pytest.raises(CheckpointNotFoundError, match="00000000"):
        service.get_embeddings(_request("00000000-0000-0000-0000-000000000000"), caller)


def test_must_exist_takes_a_known_checkpoint_or_none(
    service: EmbeddingService, batch: pa.RecordBatch
) -> None:
    """Insisting changes nothing where the checkpoint is a row, or where there is none."""
    caller = _caller(checkpoint_policy="must-exist")
    ids = id_texts(batch)

    assert ROWS == len(_rows(service.get_embeddings(_request(), caller)))
    assert 1 == len(_rows(service.get_embeddings(_request(ids[-2]), caller)))


def test_unknown_policy_is_refused(service: EmbeddingService) -> None:
    """A policy that the server doesn't know isn't silently ignored."""
    with pytest.raises(InvalidRequestError, match="'must-exits'"):
        service.get_embeddings(_request(), _caller(checkpoint_policy="must-exits"))


@pytest.mark.parametrize("rpc", ["get_embeddings", "stream_embedding"])
@pytest.mark.parametrize("chunk_size", [-1, 10_001, -(2**31), 2**31 - 1])
def test_chunk_size_out_of_range_is_refused(
    service: EmbeddingService, rpc: str, chunk_size: int
) -> None:
    """Both RPCs check the range, and neither clamps."""
    with pytest.raises(InvalidRequestError, match=str(chunk_size)):
        getattr(service, rpc)(_request(chunk_size=chunk_size), _caller())


@pytest.mark.parametrize("rpc", ["get_embeddings", "stream_embedding"])
def test_malformed_checkpoint_is_refused(service: EmbeddingService, rpc: str) -> None:
    """A malformed checkpoint is an error that quotes it, never a restart."""
    with pytest.raises(InvalidRequestError, match="'oops'"):
        getattr(service, rpc)(_request("oops"), _caller())


@pytest.mark.parametrize("chunk_size", [*range(1, ROWS + 3), 10_000])
def test_any_chunk_size_conserves_rows_and_order(
    service: EmbeddingService, batch: pa.RecordBatch, chunk_size: int
) -> None:
    """Chunks have the asked size, whatever the file's batches, the last one the rest."""
    answer = service.stream_embedding(_request(chunk_size=chunk_size), _caller())

    chunks = _chunks(answer)

    full, rest = divmod(ROWS, chunk_size)
    assert [chunk_size] * full + ([rest] if rest else []) == [len(c.rows) for c in chunks]
    assert messages_of(batch) == [_fields(row) for chunk in chunks for row in chunk.rows]


def _fields(row: pb.Embedding) -> dict[str, object]:
    fields = {field.name: getattr(row, field.name) for field in row.DESCRIPTOR.fields}
    return {**fields, "vector": list(row.vector)}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, ROWS - 1), chunk_size=st.integers(1, 30))
def test_resumed_chunks_go_on_where_the_head_ended(
    service: EmbeddingService, batch: pa.RecordBatch, cut: int, chunk_size: int
) -> None:
    """Resuming works in chunks of any size, from any row."""
    ids = id_texts(batch)

    answer = service.stream_embedding(_request(ids[cut], chunk_size), _caller())

    assert ids[cut + 1 :] == [row.id for chunk in _chunks(answer) for row in chunk.rows]


def test_chunk_size_zero_is_the_servers_default(path: Path, batch: pa.RecordBatch) -> None:
    """0 leaves the size to the server, which may choose it by the dimension."""
    asked: list[int] = []
    service = EmbeddingService(
        Dataset(path),
        chunk_rows=lambda dimension: asked.append(dimension) or 7,  # type: ignore[func-returns-value]
        max_message_bytes=_MIB,
    )

    chunks = _chunks(service.stream_embedding(_request(), _caller()))

    assert [7, 7, 7, 2] == [len(chunk.rows) for chunk in chunks]
    assert [batch.schema.field("vector").type.list_size] == asked


@pytest.mark.parametrize("limit", [150, 200, 333, 1000])
def test_chunks_that_would_be_too_large_are_cut_earlier(
    path: Path, batch: pa.RecordBatch, limit: int
) -> None:
    """No message exceeds the limit, and no row is lost to it."""
    service = _service(path, max_message_bytes=limit)

    answer = service.stream_embedding(_request(chunk_size=10), _caller())

    messages = messages_of_blocks(answer.frames)
    rows = [row for m in messages for row in pb.RowChunk.FromString(m).rows]
    assert max(map(len, messages)) <= limit
    assert id_texts(batch) == [row.id for row in rows]


@pytest.mark.parametrize("rpc", ["get_embeddings", "stream_embedding"])
def test_row_too_large_for_any_message_ends_the_stream(tmp_path: Path, rpc: str) -> None:
    """Rows before it are sent; the error says how large it is and what the limit is."""
    path = tmp_path / "jobs.arrow"
    batch = write_dataset(path, rows=40, text=["x", "y" * 600], seed=3)
    service = _service(path, max_message_bytes=500)
    sizes = [pb.Embedding(**row).ByteSize() for row in messages_of(batch)]
    before = next(number for number, size in enumerate(sizes) if size > 490)
    answer: Answer = getattr(service, rpc)(_request(chunk_size=3), _caller())

    sent: list[int] = []
    with pytest.raises(RowTooLargeError, match="MAX_MESSAGE_SIZE of 500"):
        sent.extend(block.rows for block in answer.frames)

    assert before == sum(sent)


def test_headers_describe_the_dataset_and_the_call(
    service: EmbeddingService, batch: pa.RecordBatch
) -> None:
    """Every header of the contract is there, with text values."""
    answer = service.get_embeddings(_request(id_texts(batch)[2]), _caller())

    expected = {
        "dataset-fingerprint": FINGERPRINT,
        "dataset-rows": "23",
        "dataset-dimension": "4",
        "rows-remaining": "20",
        "checkpoint-found": "true",
    }
    assert expected == dict(answer.headers)


def test_missing_dataset_is_not_found_until_it_is_there(tmp_path: Path) -> None:
    """A server may be started before the first conversion."""
    path = tmp_path / "jobs.arrow"
    service = _service(path)
    with pytest.raises(DatasetNotFoundError):
        service.get_embeddings(_request(), _caller())

    batch = write_dataset(path)

    assert id_texts(batch) == _ids(service)


def test_new_dataset_is_served_from_the_next_call_on(tmp_path: Path) -> None:
    """A stream that has begun ends with the dataset that it began with."""
    path = tmp_path / "jobs.arrow"
    old = write_dataset(path, seed=1, batch_rows=2)
    service = _service(path)
    begun = service.get_embeddings(_request(), _caller())
    first = next(begun.frames)

    new = write_dataset(tmp_path / "new.arrow", seed=2)
    (tmp_path / "new.arrow").replace(path)

    assert id_texts(new) == _ids(service)
    messages = messages_of_blocks([first, *begun.frames])
    assert id_texts(old) == [pb.Embedding.FromString(m).id for m in messages]


def test_damaged_dataset_is_an_error_not_the_old_data(tmp_path: Path) -> None:
    """What can't be read isn't papered over with what was there before."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path)
    service = _service(path)
    _ids(service)
    (tmp_path / "damaged").write_bytes(b"ARROW1")
    (tmp_path / "damaged").replace(path)

    with pytest.raises(InvalidDatasetError):
        service.get_embeddings(_request(), _caller())


def test_ulid_dataset_has_ulids_on_the_wire(tmp_path: Path) -> None:
    """Ids, checkpoints and errors are ULIDs if the dataset's ids are."""
    path = tmp_path / "jobs.arrow"
    batch = make_batch()
    write_file(path, with_info(batch, id_kind="ulid"))
    service = _service(path)
    expected = [str(ULID.from_bytes(value.as_py().bytes)) for value in batch.column("id")]

    assert expected == _ids(service)
    assert expected[4:] == _ids(service, after=expected[3].lower())
    with pytest.raises(InvalidRequestError, match="ULID"):
        service.get_embeddings(_request(id_texts(batch)[0]), _caller())


def _held_bytes(block: Frames) -> int:
    return block.nbytes - (block.tails.size if isinstance(block, GatheredFrames) else 0)


def test_blocks_are_encoded_as_they_are_asked_for(
    path: Path, batch: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream holds one block, however many rows are left."""
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 300)
    answer = _service(path).get_embeddings(_request(), _caller())

    blocks = list(answer.frames)

    assert len(blocks) >= ROWS // 4
    assert all(_held_bytes(block) <= 300 for block in blocks)
    assert batch.num_rows == sum(block.rows for block in blocks)


def test_begin_and_end_of_a_stream_are_logged(
    service: EmbeddingService, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says what is going to be sent, one what was and why it ended."""
    caplog.set_level(logging.INFO)
    _ids(service)

    begin, end = (record.getMessage() for record in caplog.records)

    assert "GetEmbeddings to test: 23 rows after the beginning" == begin
    assert end.startswith("GetEmbeddings to test: sent 23 rows, 0.0 MB in ")
    assert end.endswith(": complete")


@pytest.mark.parametrize(
    ("seconds_left", "reason"),
    [(None, "cancelled or gone"), (5.0, "cancelled or gone"), (0.0, "past its deadline")],
)
def test_early_end_is_logged_with_its_reason(
    service: EmbeddingService,
    caplog: pytest.LogCaptureFixture,
    seconds_left: float | None,
    reason: str,
) -> None:
    """Whoever is paged sees whether a client left or ran out of time, and how far it got."""
    caplog.set_level(logging.INFO)
    answer = service.get_embeddings(_request(), _caller(seconds_left))
    next(answer.frames)
    answer.frames.close()

    message = caplog.records[-1].getMessage()

    assert "sent 0 rows" in message
    assert message.endswith(reason)


def test_chunks_are_logged_at_debug(
    service: EmbeddingService, caplog: pytest.LogCaptureFixture
) -> None:
    """DEBUG shows every block with its messages, rows and bytes."""
    caplog.set_level(logging.DEBUG)
    _chunks(service.stream_embedding(_request(chunk_size=10), _caller()))

    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]

    # Gathered blocks end with their record batches, here of 5 rows, joined ones with chunks.
    rows = 10 if _FORM[-1] == "joined" else 5
    assert any(f"1 messages, {rows} rows" in line for line in lines)


def test_path_that_cannot_be_looked_at_is_a_dataset_error(tmp_path: Path) -> None:
    """A folder that became a file, a loop of links: typed errors, not unforeseen ones."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "file" / "jobs.arrow", tmp_path / "loop", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidDatasetError, match="can't be read"):
            _service(path).get_embeddings(_request(), _caller())

"""What the streaming RPCs answer: every rule, in this process and over both engines."""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from proto import embedding_stream_pb2 as pb
from streamer import __version__
from streamer import blocks as blocks_module
from streamer.dataset import Dataset
from streamer.errors import (
    CheckpointNotFoundError,
    DatasetNotFoundError,
    InvalidDatasetError,
    InvalidRequestError,
    RowTooLargeError,
)
from streamer.service import EmbeddingService
from tests.datasets import (
    FINGERPRINT,
    id_texts,
    make_batch,
    messages_of,
    with_info,
    write_dataset,
    write_file,
)
from tests.service_peers import OVER_NETWORK, PEERS, Service, make_request
from tests.wire_peer import DEADLINES_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

ROWS = 23
# More than fits between a server and a client that doesn't read, less than a block.
_LARGE = {"rows": 2000, "dimension": 100}
_MIB = 1 << 20


@pytest.fixture(scope="module", params=PEERS)
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., Service]]:
    """Make services, and peers that reach them: in this process, and over both engines."""
    with contextlib.ExitStack() as running:

        def start(
            path: Path,
            *,
            max_message_bytes: int = _MIB,
            chunk: Callable[[int], int] = lambda _: 300,
            **options: Any,
        ) -> Service:
            service = EmbeddingService(
                Dataset(path), chunk_rows=chunk, max_message_bytes=max_message_bytes, **options
            )
            return Service(running.enter_context(PEERS[request.param](service)))

        yield start


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "jobs.arrow"


@pytest.fixture(scope="module")
def batch(path: Path) -> pa.RecordBatch:
    return write_dataset(path, rows=ROWS, batch_rows=5)


@pytest.fixture(scope="module")
def service(path: Path, batch: pa.RecordBatch, serve: Callable[..., Service]) -> Service:
    assert batch.num_rows == ROWS
    return serve(path)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "jobs.arrow"
    write_dataset(path, **_LARGE)
    return path


def test_no_checkpoint_streams_every_row(service: Service, batch: pa.RecordBatch) -> None:
    """An empty checkpoint means from the first row."""
    expected = [pb.Embedding(**row) for row in messages_of(batch)]

    assert expected == service.rows()


@pytest.mark.parametrize("cut", range(ROWS))
def test_head_and_resume_are_the_whole_at_every_cut(
    service: Service, batch: pa.RecordBatch, cut: int
) -> None:
    """Resuming after any row goes on with exactly the next one."""
    ids = id_texts(batch)

    assert ids[cut + 1 :] == service.ids(ids[cut])
    assert ids[cut + 1 :] == service.ids(ids[cut].upper())


@pytest.mark.parametrize("cut", range(0, ROWS, 3))
def test_resuming_twice_loses_and_repeats_nothing(
    service: Service, batch: pa.RecordBatch, cut: int
) -> None:
    """A second crash is no different from the first."""
    ids = id_texts(batch)
    tail = service.ids(ids[cut])
    head = tail[: len(tail) // 2]
    last = head[-1] if head else ids[cut]

    assert ids[cut + 1 :] == head + service.ids(last)


def test_checkpoint_that_is_no_row_follows_the_same_rule(
    service: Service, batch: pa.RecordBatch
) -> None:
    """Rows strictly greater come, and the header says that it was not found."""
    ids = id_texts(batch)
    between = str(uuid.UUID(int=uuid.UUID(ids[7]).int + 1))

    reply = service.call("GetEmbeddings", make_request(between))

    assert "false" == reply.headers["checkpoint-found"]
    assert ids[8:] == [pb.Embedding.FromString(message).id for message in reply.messages]


@pytest.mark.parametrize("after", ["last", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
def test_nothing_left_is_an_empty_stream(
    service: Service, batch: pa.RecordBatch, after: str
) -> None:
    """After the last id there are no messages; that never looks like no checkpoint."""
    after = id_texts(batch)[-1] if after == "last" else after

    reply = service.call("StreamEmbedding", make_request(after))

    assert "0" == reply.headers["rows-remaining"]
    assert [] == list(reply.messages)


def test_must_exist_refuses_an_unknown_checkpoint(service: Service) -> None:
    """A caller may insist that its checkpoint is a row."""
    with pytest.raises(
        CheckpointNotFoundError, match=r"^checkpoint '0{8}-.+' is not in the dataset$"
    ):
        service.rows("00000000-0000-0000-0000-000000000000", checkpoint_policy="must-exist")


def test_must_exist_takes_a_known_checkpoint_or_none(
    service: Service, batch: pa.RecordBatch
) -> None:
    """Insisting changes nothing where the checkpoint is a row, or where there is none."""
    ids = id_texts(batch)

    assert ROWS == len(service.rows(checkpoint_policy="must-exist"))
    assert 1 == len(service.rows(ids[-2], checkpoint_policy="must-exist"))


def test_a_server_may_refuse_every_unknown_checkpoint(
    serve: Callable[..., Service], path: Path, batch: pa.RecordBatch
) -> None:
    """As if each caller had insisted; known checkpoints, and none, are what they were."""
    service = serve(path, refuses_unknown_checkpoints=True)
    ids = id_texts(batch)

    with pytest.raises(CheckpointNotFoundError, match=r"^checkpoint '0{8}-.+' is not in"):
        service.rows("00000000-0000-0000-0000-000000000000")
    assert ids == service.ids()
    assert ids[-1:] == service.ids(ids[-2])
    assert [] == service.ids(ids[-1])


def test_unknown_policy_is_refused(service: Service) -> None:
    """A policy that the server doesn't know isn't silently ignored."""
    with pytest.raises(InvalidRequestError, match=r"'must-exits' is not 'must-exist'$"):
        service.rows(checkpoint_policy="must-exits")


@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
@pytest.mark.parametrize("chunk_size", [-1, 10_001, -(2**31), 2**31 - 1])
def test_chunk_size_out_of_range_is_refused(service: Service, rpc: str, chunk_size: int) -> None:
    """Both RPCs check the range, and neither clamps."""
    text = rf"^chunk_size {chunk_size} is not in 0\.\.10000$"
    with pytest.raises(InvalidRequestError, match=text):
        service.call(rpc, make_request(chunk_size=chunk_size))


@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_malformed_checkpoint_is_refused(service: Service, rpc: str) -> None:
    """A malformed checkpoint is an error that quotes it, never a restart."""
    with pytest.raises(InvalidRequestError, match="'oops'"):
        service.call(rpc, make_request("oops"))


@pytest.mark.parametrize("serve", OVER_NETWORK, indirect=True)  # it is an engine that says so
def test_refusals_are_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever runs a server sees who was refused, and what the peer was told."""
    with pytest.raises(InvalidRequestError):
        service.call("GetEmbeddings", make_request(chunk_size=-1))

    (line,) = (record.getMessage() for record in caplog.records)

    told = r"INVALID_ARGUMENT: chunk_size -1 is not in 0\.\.10000"
    assert re.fullmatch(rf"call from ipv4:127\.0\.0\.1:\d+ refused: {told}", line)


@pytest.mark.parametrize("chunk_size", [*range(1, ROWS + 3), 10_000])
def test_any_chunk_size_conserves_rows_and_order(
    service: Service, batch: pa.RecordBatch, chunk_size: int
) -> None:
    """Chunks have the asked size, whatever the file's batches, the last one the rest."""
    chunks = service.chunks(chunk_size=chunk_size)

    full, rest = divmod(ROWS, chunk_size)
    assert [chunk_size] * full + ([rest] if rest else []) == [len(c.rows) for c in chunks]
    assert messages_of(batch) == [_fields(row) for chunk in chunks for row in chunk.rows]


def _fields(row: pb.Embedding) -> dict[str, object]:
    fields = {field.name: getattr(row, field.name) for field in row.DESCRIPTOR.fields}
    return {**fields, "vector": list(row.vector)}


@given(cut=st.integers(0, ROWS - 1), chunk_size=st.integers(1, 30))
def test_resumed_chunks_go_on_where_the_head_ended(
    service: Service, batch: pa.RecordBatch, cut: int, chunk_size: int
) -> None:
    """Resuming works in chunks of any size, from any row."""
    ids = id_texts(batch)

    chunks = service.chunks(ids[cut], chunk_size)

    assert ids[cut + 1 :] == [row.id for chunk in chunks for row in chunk.rows]


def test_chunk_size_zero_is_the_servers_default(
    serve: Callable[..., Service], path: Path, batch: pa.RecordBatch
) -> None:
    """0 leaves the size to the server, which may choose it by the dimension."""
    asked: list[int] = []

    def chunk(dimension: int) -> int:
        asked.append(dimension)
        return 7

    chunks = serve(path, chunk=chunk).chunks()

    assert [7, 7, 7, 2] == [len(chunk.rows) for chunk in chunks]
    assert [batch.schema.field("vector").type.list_size] == asked


def _written_by_protobuf(
    rows: list[pb.Embedding], chunk_rows: int, max_message_bytes: int = _MIB
) -> list[bytes]:
    """Return `rows` in chunks; one that would be too large is cut before a row."""
    chunks: list[pb.RowChunk] = []
    for number, row in enumerate(rows):
        begun = chunks[-1].rows if number % chunk_rows else []
        longer = pb.RowChunk(rows=[*begun, row])
        if begun and longer.ByteSize() <= max_message_bytes:
            chunks[-1] = longer
        else:
            chunks.append(pb.RowChunk(rows=[row]))
    return [chunk.SerializeToString() for chunk in chunks]


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6, 22, ROWS])
@pytest.mark.parametrize("chunk_size", [1, 2, 5, 7, 20, 10_000])
def test_messages_are_the_same_bytes_for_every_peer(
    service: Service, batch: pa.RecordBatch, first: int, chunk_size: int
) -> None:
    """They are those that protobuf's own runtime writes, from any row, in chunks of any size."""
    rows = [pb.Embedding(**row) for row in messages_of(batch)[first:]]
    request = make_request(id_texts(batch)[first - 1] if first else "", chunk_size)

    single = list(service.call("GetEmbeddings", request).messages)
    chunks = list(service.call("StreamEmbedding", request).messages)

    assert [row.SerializeToString() for row in rows] == single
    assert _written_by_protobuf(rows, chunk_size) == chunks


@pytest.mark.parametrize("limit", [150, 200, 333, 1000])
def test_chunks_that_would_be_too_large_are_cut_earlier(
    serve: Callable[..., Service], path: Path, batch: pa.RecordBatch, limit: int
) -> None:
    """No message exceeds the limit, and no row is lost to it."""
    service = serve(path, max_message_bytes=limit)

    reply = service.call("StreamEmbedding", make_request(chunk_size=10))

    messages = list(reply.messages)
    rows = [row for m in messages for row in pb.RowChunk.FromString(m).rows]
    assert max(map(len, messages)) <= limit
    assert id_texts(batch) == [row.id for row in rows]
    assert _written_by_protobuf(rows, 10, limit) == messages


@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_row_too_large_for_any_message_ends_the_stream(
    serve: Callable[..., Service], tmp_path: Path, rpc: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows before it are sent; the error says how large it is and what the limit is."""
    caplog.set_level(logging.INFO, "streamer.service")
    path = tmp_path / "jobs.arrow"
    batch = write_dataset(path, rows=40, text=["x", "y" * 600], seed=3)
    service = serve(path, max_message_bytes=500)
    sizes = [pb.Embedding(**row).ByteSize() for row in messages_of(batch)]
    before = next(number for number, size in enumerate(sizes) if size > 490)
    ids = id_texts(batch)
    reply = service.call(rpc, make_request(chunk_size=3))

    sent: list[bytes] = []
    text = rf"row {ids[before]} takes \d+ bytes, more than this server's MAX_MESSAGE_SIZE of 500$"
    with pytest.raises(RowTooLargeError, match=f"^{text}"):
        sent.extend(reply.messages)

    if rpc == "GetEmbeddings":
        assert ids[:before] == [pb.Embedding.FromString(m).id for m in sent]
    else:
        assert ids[:before] == [row.id for m in sent for row in pb.RowChunk.FromString(m).rows]
    end = next(r.getMessage() for r in caplog.records if " sent " in r.getMessage())
    assert re.search(f" sent {before} rows, .+: RESOURCE_EXHAUSTED: {text}", end)


def test_headers_describe_the_dataset_and_the_call(service: Service, batch: pa.RecordBatch) -> None:
    """Every header of the contract is there, with text values."""
    reply = service.call("GetEmbeddings", make_request(id_texts(batch)[2]))

    expected = {
        "dataset-fingerprint": FINGERPRINT,
        "dataset-rows": "23",
        "dataset-dimension": "4",
        "rows-remaining": "20",
        "checkpoint-found": "true",
        "server-version": __version__,
    }
    assert expected == reply.headers


@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_made_ids_are_a_header(serve: Callable[..., Service], tmp_path: Path, rpc: str) -> None:
    """`dataset-ids: made`; of other datasets, and of those of before, nothing is said."""
    batch = make_batch(5)
    made = write_file(tmp_path / "made.arrow", with_info(batch, ids="made"))
    kept = write_file(tmp_path / "kept.arrow", batch)

    assert "made" == serve(made).call(rpc, make_request("")).headers["dataset-ids"]
    assert "dataset-ids" not in serve(kept).call(rpc, make_request("")).headers


def test_missing_dataset_is_not_found_until_it_is_there(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """A server may be started before the first conversion."""
    path = tmp_path / "jobs.arrow"
    service = serve(path)
    with pytest.raises(DatasetNotFoundError, match=r"^there is no dataset file jobs\.arrow yet$"):
        service.rows()

    batch = write_dataset(path)

    assert id_texts(batch) == service.ids()


def test_new_dataset_is_served_from_the_next_call_on(
    serve: Callable[..., Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stream that has begun ends with the dataset that it began with."""
    caplog.set_level(logging.INFO, "streamer.service")
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 50_000)
    path = tmp_path / "jobs.arrow"
    old = write_dataset(path, seed=1, batch_rows=300, **_LARGE)
    service = serve(path)
    begun = service.call("GetEmbeddings", make_request())
    first = next(begun.messages)

    new = write_dataset(tmp_path / "new.arrow", seed=2)
    (tmp_path / "new.arrow").replace(path)

    assert id_texts(new) == service.ids()
    # Of the old one, most is still to be made.
    said = _said(caplog)
    client = re.findall(r" to (.+): 2,000 rows after", "\n".join(said))[0]  # others end late
    assert ["10 rows"] == re.findall(rf" to {client}: sent (.+ rows),", "\n".join(said))
    messages = [first, *begun.messages]
    assert id_texts(old) == [pb.Embedding.FromString(m).id for m in messages]


def test_damaged_dataset_is_an_error_not_the_old_data(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """What can't be read isn't papered over with what was there before."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path)
    service = serve(path)
    service.ids()
    (tmp_path / "damaged").write_bytes(b"ARROW1")
    (tmp_path / "damaged").replace(path)

    with pytest.raises(InvalidDatasetError, match=r"^dataset file jobs\.arrow: it is damaged"):
        service.rows()


def test_ulid_dataset_has_ulids_on_the_wire(serve: Callable[..., Service], tmp_path: Path) -> None:
    """Ids, checkpoints and errors are ULIDs if the dataset's ids are."""
    path = tmp_path / "jobs.arrow"
    batch = make_batch()
    write_file(path, with_info(batch, id_kind="ulid"))
    service = serve(path)
    expected = [str(ULID.from_bytes(value.as_py().bytes)) for value in batch.column("id")]

    assert expected == service.ids()
    assert expected[4:] == service.ids(expected[3].lower())
    with pytest.raises(InvalidRequestError, match="ULID"):
        service.rows(id_texts(batch)[0])


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the service logged."""
    return [r.getMessage() for r in caplog.records if r.name == "streamer.service"]


def test_begin_and_end_of_a_stream_are_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says what is going to be sent, one what was and why it ended."""
    caplog.set_level(logging.INFO, "streamer.service")
    service.ids()
    assert eventually(lambda: len(_said(caplog)) >= 2)  # a server says it after its answer's end

    begin, end = _said(caplog)[-2:]

    assert re.fullmatch("GetEmbeddings to .+: 23 rows after the beginning", begin)
    assert re.fullmatch("GetEmbeddings to .+: sent 23 rows, 0.0 MB in .+: complete", end)


@pytest.mark.parametrize("serve", OVER_NETWORK, indirect=True)  # in process: test_service_blocks
@pytest.mark.parametrize("timeout", [{}, {"grpc_timeout": "60S"}])
def test_client_that_leaves_is_logged(
    serve: Callable[..., Service],
    large: Path,
    caplog: pytest.LogCaptureFixture,
    timeout: dict[str, str],
) -> None:
    """Whether or not it had set a deadline, its stream ends when it goes."""
    caplog.set_level(logging.INFO, "streamer.service")
    reply = serve(large).call("GetEmbeddings", make_request(), **timeout)
    next(reply.messages)

    reply.leave()

    assert eventually(lambda: len(_said(caplog)) == 2)
    end = _said(caplog)[-1]
    assert re.fullmatch("GetEmbeddings to .+: sent 0 rows, .+: cancelled or gone", end)


@pytest.mark.parametrize("serve", OVER_NETWORK, indirect=True)  # it is an engine that says so
@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_late_stream_has_the_status_of_one(
    serve: Callable[..., Service], large: Path, rpc: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream past its deadline doesn't look complete, neither to its client nor in the log."""
    caplog.set_level(logging.INFO, "streamer.service")
    service = serve(large)
    for seconds in DEADLINES_SECONDS:
        # Set this way only the server keeps to it, so that the client can't be first to cancel.
        timeout = f"{1000 * seconds:.0f}m"
        with contextlib.suppress(grpc.RpcError):  # it was late before it had begun
            reply = service.call(rpc, make_request(chunk_size=10), grpc_timeout=timeout)
            next(reply.messages)
            break
    end = re.compile(f"{rpc} to .+: sent 0 rows, .+: past its deadline")
    # Whoever reads before the server has noticed may still get everything.
    assert eventually(lambda: end.fullmatch(_said(caplog)[-1]))

    with pytest.raises(grpc.RpcError) as late:
        list(reply.messages)

    assert grpc.StatusCode.DEADLINE_EXCEEDED is late.value.code()
    assert "Deadline Exceeded" == late.value.details()


def test_path_that_cannot_be_looked_at_is_a_dataset_error(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """A folder that became a file, a loop of links: typed errors, not unforeseen ones."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "file" / "jobs.arrow", tmp_path / "loop", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidDatasetError, match="can't be read"):
            serve(path).rows()

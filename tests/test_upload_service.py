"""What UploadEmbeddings answers: counters, failed ids, blocks, and calls that end early.

The sink keeps rows in memory; both engines carry the calls as `receive` sets them up.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hyperframe.frame import DataFrame
from hypothesis import given
from hypothesis import strategies as st

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer import __version__
from streamer.codec.message_run import MessageRun
from streamer.engines.tls import Certificates
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits
from streamer.errors import Status, StreamerError
from streamer.service import Caller
from streamer.upload_service import TooManyRowsError, UploadService, blocks_of
from tests.certificates import Files, secure_channel
from tests.datasets import id_texts
from tests.engines import ENGINES, start_grpcio
from tests.postgres import rows_of_batch
from tests.wire_peer import DEADLINES_SECONDS, Peer, framed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamer.engines.hosting import RunningEngine
    from streamer.row_check import CheckedRows, RejectedRow

_MIB = 1 << 20
_SECONDS = 120.0
# Messages that grpcio's engine hands over together.
_RUN = 64
_CALLER = Caller("test", {}, lambda: None)
_NAME = "embedding.EmbeddingUploadService"


class _DownError(StreamerError):
    status = Status.UNAVAILABLE


class MemorySink:
    """Rows by id, and rejected ones; open for one call after another."""

    def __init__(self, *, dimension: int | None = None, refused: Iterable[str] = ()) -> None:
        self.dimension = dimension
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.rejected: list[RejectedRow] = []
        self.blocks: list[int] = []
        self.opened = 0
        self.closed = threading.Semaphore(0)
        self.written = threading.Semaphore(0)
        self.may_write = threading.Event()
        self.may_write.set()
        self.error_on_open: Exception | None = None
        self.error_on_write: Exception | None = None
        self._refused = set(refused)

    @contextlib.contextmanager
    def open(self) -> Iterator[MemorySink]:
        if self.error_on_open:
            raise self.error_on_open
        self.opened += 1
        try:
            yield self
        finally:
            self.closed.release()

    def write(self, checked: CheckedRows) -> list[RejectedRow]:
        assert self.may_write.wait(_SECONDS)
        if self.error_on_write:
            raise self.error_on_write
        refused: list[RejectedRow] = []
        rows = checked.batch
        if rows is not None:
            self.dimension = rows.schema.field("vector").type.list_size
            _, texts, years, vectors = rows_of_batch(rows)
            for number, id_ in enumerate(id_texts(rows)):
                if id_ in self._refused:
                    refused.append(checked.refuse(number, "refused"))
                else:
                    vector = vectors[number].tobytes()
                    self.rows[id_] = (texts[number], int(years[number]), vector)
        self.rejected += [*checked.rejected, *refused]
        self.blocks.append((rows.num_rows if rows else 0) + len(checked.rejected))
        self.written.release()
        return refused


def _id(number: int) -> str:
    return str(uuid.UUID(int=number))


def _row(number: int, **changes: Any) -> pb.Embedding:
    return pb.Embedding(**{"id": _id(number), "vector": [1.0, float(number)], **changes})


def _bad(number: int) -> pb.Embedding:
    return pb.Embedding(id=f"bad {number}", vector=[1.0, 2.0])


def _run(rows: Iterable[pb.Embedding]) -> MessageRun:
    return MessageRun.of([row.SerializeToString() for row in rows])


def _upload(sink: MemorySink, runs: Iterable[MessageRun], **options: Any) -> pb.UploadResult:
    service = UploadService(sink.open, **{"block_bytes": 1, **options})
    return service.upload_embeddings(runs, _CALLER)


def _counters(result: pb.UploadResult) -> tuple[int, int, int]:
    return result.total_count, result.success_count, result.failed_count


# In process


def test_rows_are_counted_stored_and_named() -> None:
    """Sound ones and bad ones, in every block; duplicates are stored once and count each."""
    sink = MemorySink()
    result = _upload(
        sink, [_run([_row(1), _bad(1), _row(2), _row(1, exp_years=9)]), _run([_bad(2), _row(3)])]
    )

    assert (6, 4, 2) == _counters(result)
    assert ["bad 1", "bad 2"] == list(result.failed_ids)
    assert [_id(n) for n in (1, 2, 3)] == sorted(sink.rows)
    assert 9 == sink.rows[_id(1)][1]
    assert ["bad 1", "bad 2"] == [row.id for row in sink.rejected]


def test_rows_that_the_sink_refuses_failed() -> None:
    """They are named after those that were bad to begin with."""
    sink = MemorySink(refused=[_id(2), _id(4)])
    result = _upload(sink, [_run([_row(4), _row(1), _bad(1), _row(2), _row(3)])])

    assert (5, 2, 3) == _counters(result)
    assert ["bad 1", _id(2), _id(4)] == list(result.failed_ids)
    assert {_id(1), _id(3)} == sink.rows.keys()


def test_all_rows_may_fail() -> None:
    """Which is a result and no error."""
    sink = MemorySink()
    result = _upload(sink, [_run(map(_bad, range(5)))] * 2)

    assert (10, 0, 10) == _counters(result)
    assert {} == sink.rows
    assert 10 == len(sink.rejected)


def test_no_rows_are_no_failure() -> None:
    """An empty call is answered with zeros; nothing is written."""
    sink = MemorySink()

    assert pb.UploadResult() == _upload(sink, [])
    assert ([], 1) == (sink.blocks, sink.opened)
    assert sink.closed.acquire(blocking=False)


def test_the_first_rows_decide_on_the_dimension() -> None:
    """Blocks that follow have no say, unless none before them had a sound row."""
    longer = [_row(n, vector=[1.0, 2.0, 3.0]) for n in range(10, 13)]
    sink = MemorySink()
    result = _upload(sink, [_run([_bad(1)]), _run([_row(1)]), _run(longer)])

    assert (5, 1, 4) == _counters(result)
    assert ["vector: not 2 floats"] * 3 == [row.reason for row in sink.rejected[1:]]


@given(
    runs=st.lists(st.lists(st.binary(max_size=40), max_size=5).map(MessageRun.of), max_size=12),
    block_bytes=st.integers(1, 600),
)
def test_blocks_conserve_messages_and_are_no_larger_than_they_need_to_be(
    runs: list[MessageRun], block_bytes: int
) -> None:
    """Each block has the size, but for the last, and wouldn't without its last run."""
    taken: list[int] = []

    def sent() -> Iterator[MessageRun]:
        for run in runs:
            taken.append(run.held_bytes)
            yield run

    sizes = []
    blocks = []
    for block in blocks_of(sent(), block_bytes):
        blocks.append(block)
        sizes.append(block.held_bytes)
        # Nothing is taken ahead.
        assert sum(taken) == sum(sizes)
        assert sizes[-1] - taken[-1] < block_bytes

    assert [message for run in runs for message in run] == [m for block in blocks for m in block]
    assert all(size >= block_bytes for size in sizes[:-1])


def test_a_block_is_stored_before_more_is_taken() -> None:
    """Whoever sends is held back for as long as the sink takes, but for a block."""
    sink = MemorySink()
    stored_before: list[int] = []

    def sent() -> Iterator[MessageRun]:
        for number in range(5):
            stored_before.append(len(sink.rows))
            yield _run([_row(number)])

    _upload(sink, sent())

    assert all(stored >= number - 1 for number, stored in enumerate(stored_before))
    assert 5 == len(sink.rows)


def test_a_silent_sender_does_not_hold_a_thread_for_ever() -> None:
    """With one worker: the next upload has its turn when the silence has lasted long enough."""
    sink = MemorySink()
    server = WireEngine(
        UploadService(sink.open, block_bytes=1),
        host="127.0.0.1",
        port=0,
        max_workers=1,
        limits=Limits(stall_seconds=2),
    )
    silence = threading.Event()

    def messages() -> Iterator[pb.Embedding]:
        yield pb.Embedding(id=_id(1), vector=[1.0])
        silence.wait(_SECONDS)

    try:
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.EmbeddingUploadServiceStub(channel)
            silent: Any = stub.UploadEmbeddings.future(messages())
            assert sink.written.acquire(timeout=_SECONDS)
            result = stub.UploadEmbeddings(
                iter([pb.Embedding(id=_id(2), vector=[1.0])]), timeout=_SECONDS
            )
            assert 1 == result.success_count
            assert silent.code() is grpc.StatusCode.CANCELLED
            assert "sent nothing for 2 s" in silent.details()
    finally:
        silence.set()
        server.stop(0)


def test_counters_do_not_overflow() -> None:
    """A row too many ends the call before its block is stored; those before it stay."""
    sink = MemorySink()
    runs = [_run([_row(1), _bad(1)]), _run([_row(2), _bad(2)])]

    assert (4, 2, 2) == _counters(_upload(sink, runs, max_rows=4))
    sink = MemorySink()
    with pytest.raises(TooManyRowsError, match="a call takes 3 rows; send the rest in another"):
        _upload(sink, runs, max_rows=3)
    assert ([_id(1)], 1) == (list(sink.rows), len(sink.rejected))
    assert Status.OUT_OF_RANGE == TooManyRowsError.status
    assert 1 == sink.closed._value


def test_the_largest_call_fits_the_result() -> None:
    """2,147,483,647 is what an int32 holds, and what a call takes by default."""
    service = UploadService(MemorySink().open, block_bytes=1)

    pb.UploadResult(total_count=service._max_rows)
    with pytest.raises(ValueError):
        pb.UploadResult(total_count=service._max_rows + 1)


@pytest.mark.parametrize("chars", [40, 20_000, 2 * _MIB, 5 * _MIB])
def test_a_result_is_small_enough_for_any_client(chars: int) -> None:
    """3 MiB of failed ids and no more; all of them are counted and kept by the sink."""
    rows = max(5 * _MIB // chars, 3)
    sink = MemorySink()
    messages = [pb.Embedding(id=f"{n:010}".ljust(chars, "é")) for n in range(rows)]
    result = _upload(sink, [_run(messages[: rows // 2]), _run(messages[rows // 2 :])])

    assert (rows, 0, rows) == _counters(result)
    assert rows == len(sink.rejected)
    assert result.ByteSize() <= 3 * _MIB + 64
    assert sorted({row.id for row in messages} & {*result.failed_ids}) == list(result.failed_ids)
    assert len(result.failed_ids) < rows
    largest = max(len(row.id.encode()) for row in messages)
    assert result.ByteSize() + largest > 0.9 * 3 * _MIB


@pytest.mark.parametrize("place", ["error_on_open", "error_on_write"])
def test_what_the_sink_raises_is_the_answer(place: str) -> None:
    """Nothing is made of it on the way, and an open sink is closed."""
    sink = MemorySink()
    error = _DownError("gone")
    setattr(sink, place, error)

    with pytest.raises(_DownError) as raised:
        _upload(sink, [_run([_row(1)])])

    assert error is raised.value
    assert sink.opened == sink.closed._value


# By way of an engine


def start(engine: str, service: UploadService, **options: Any) -> RunningEngine:
    """Start an engine as `receive` does."""
    if engine == "grpcio":
        return start_grpcio(service, **options)
    options = {"host": "127.0.0.1", "port": 0, "max_workers": 4, **options}
    limits = Limits().for_uploads(max_message_bytes=16 * _MIB, window_bytes=_MIB)
    return WireEngine(service, limits=limits, **options)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def server(engine: str, sink: MemorySink) -> Iterator[RunningEngine]:
    """Run a server with one thread for uploads: a call that isn't over stops the next one."""
    server = start(engine, UploadService(sink.open, block_bytes=64 << 10), max_workers=1)
    yield server
    sink.may_write.set()
    server.stop(0)


@pytest.fixture
def channel(server: RunningEngine) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def _send(channel: grpc.Channel, rows: Iterable[pb.Embedding], **options: Any) -> pb.UploadResult:
    stub = pb_grpc.EmbeddingUploadServiceStub(channel)
    return stub.UploadEmbeddings(iter(rows), **{"timeout": _SECONDS, **options})


def _failure(action: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        action()
    error: Any = raised.value
    return error.code().name, error.details()


def _many(rows: int, floats: int = 400) -> Iterator[pb.Embedding]:
    """Yield rows of 4 * floats bytes and a bit."""
    for number in range(rows):
        yield pb.Embedding(id=_id(number), vector=[float(number)] * floats)


def test_every_row_arrives_through_an_engine(channel: grpc.Channel, sink: MemorySink) -> None:
    """Thousands of messages in several blocks, bad ones in between."""
    rows = [_row(n) if n % 10 else _bad(n) for n in range(5000)]
    result = _send(channel, rows)

    assert (5000, 4500, 500) == _counters(result)
    assert [row.id for row in rows if row.id[:3] == "bad"] == list(result.failed_ids)
    assert [row.id for row in rows if row.id[:3] != "bad"] == sorted(sink.rows)
    assert len(sink.blocks) > 3


def test_an_empty_upload_through_an_engine(channel: grpc.Channel) -> None:
    """Half closed at once: zeros."""
    assert pb.UploadResult() == _send(channel, [])


class _WatchedService(UploadService):
    """Notes how many messages come at a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.came: list[int] = []

    def upload_embeddings(self, runs: Iterable[MessageRun], caller: Caller) -> pb.UploadResult:
        return super().upload_embeddings(self._noted(runs), caller)

    def _noted(self, runs: Iterable[MessageRun]) -> Iterator[MessageRun]:
        for run in runs:
            self.came.append(len(run))
            yield run


def test_messages_of_one_frame_are_handed_over_together(engine: str, sink: MemorySink) -> None:
    """Two DATA frames of a hundred messages and a half each: a run a frame, or of 64."""
    service = _WatchedService(sink.open, block_bytes=_MIB)
    server = start(engine, service)
    data = b"".join(framed(_row(n).SerializeToString()) for n in range(201))
    half = len(data) // 2
    try:
        with Peer(server.port) as peer:
            head = peer.headers(f"/{_NAME}/UploadEmbeddings")
            stream_id = head.stream_id
            peer.send(head, DataFrame(stream_id, data[:half]))
            peer.send(DataFrame(stream_id, data[half:], flags=["END_STREAM"]))
            assert peer.until_ended(stream_id)
            assert "0" == peer.trailers[stream_id]["grpc-status"]
            result = pb.UploadResult.FromString(bytes(peer.data[stream_id])[5:])
    finally:
        server.stop(0)

    assert (201, 201, 0) == _counters(result)
    # Both frames may have come in one read.
    assert service.came in {"grpcio": ([64, 64, 64, 9],), "wire": ([100, 101], [201])}[engine]


def test_the_answer_says_the_version_of_the_receiver(channel: grpc.Channel) -> None:
    """As the streaming RPCs' do: the header server-version."""
    stub = pb_grpc.EmbeddingUploadServiceStub(channel)
    _, call = stub.UploadEmbeddings.with_call(iter([_row(1)]), timeout=_SECONDS)

    assert __version__ == dict(call.initial_metadata())["server-version"]


def test_large_messages_come_whole(channel: grpc.Channel, sink: MemorySink) -> None:
    """More than a megabyte each, larger than any window: one after another."""
    rows = list(_many(12, 300_000))
    result = _send(channel, rows)

    assert (12, 12, 0) == _counters(result)
    assert 12 == len(sink.rows)
    assert {4 * 300_000} == {len(row[2]) for row in sink.rows.values()}


def test_a_message_that_is_too_large_ends_the_call(channel: grpc.Channel) -> None:
    """RESOURCE_EXHAUSTED, and the server goes on."""
    assert "RESOURCE_EXHAUSTED" == _failure(lambda: _send(channel, _many(1, 5 * _MIB)))[0]
    assert 1 == _send(channel, _many(1)).success_count


def test_compressed_messages_are_stored(channel: grpc.Channel, sink: MemorySink) -> None:
    """As those that aren't."""
    result = _send(channel, _many(50), compression=grpc.Compression.Gzip)

    assert 50 == result.success_count
    assert 50 == len(sink.rows)


def test_errors_of_the_sink_have_their_status(channel: grpc.Channel, sink: MemorySink) -> None:
    """With their own text; what nobody has foreseen is INTERNAL and says nothing."""
    sink.error_on_write = _DownError("gone")
    assert ("UNAVAILABLE", "gone") == _failure(lambda: _send(channel, [_row(1)]))
    sink.error_on_write = TooManyRowsError("too many")
    assert ("OUT_OF_RANGE", "too many") == _failure(lambda: _send(channel, [_row(1)]))
    sink.error_on_write = ValueError("secret")
    code, text = _failure(lambda: _send(channel, [_row(1)]))
    assert ("INTERNAL", False) == (code, "secret" in text)


def test_failed_calls_leave_the_connection_as_it_was(
    channel: grpc.Channel, sink: MemorySink
) -> None:
    """Twenty calls that nobody reads to their end take nothing of the next one's windows."""
    sink.error_on_open = _DownError("down")
    for _ in range(20):
        assert ("UNAVAILABLE", "down") == _failure(lambda: _send(channel, _many(2000)))
    sink.error_on_open = None

    assert (2000, 2000, 0) == _counters(_send(channel, _many(2000)))


class _Sender:
    """An upload that goes on for as long as a test wants; `made` are the rows it has sent."""

    def __init__(self, channel: grpc.Channel, *, timeout: float = _SECONDS) -> None:
        self.made = 0
        self._rows: queue.SimpleQueue[pb.Embedding | None] = queue.SimpleQueue()
        self._stub = pb_grpc.EmbeddingUploadServiceStub(channel)
        self.call: Any = self._stub.UploadEmbeddings.future(self._sent(), timeout=timeout)

    def _sent(self) -> Iterator[pb.Embedding]:
        while (row := self._rows.get()) is not None:
            self.made += 1
            yield row

    def put(self, rows: Iterable[pb.Embedding]) -> None:
        for row in rows:
            self._rows.put(row)

    def end(self) -> pb.UploadResult:
        self._rows.put(None)
        result: pb.UploadResult = self.call.result()
        return result


@pytest.mark.parametrize("ending", ["cancel", "disconnect", "deadline"])
def test_a_call_that_ends_early_leaves_what_was_stored(
    server: RunningEngine, sink: MemorySink, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole blocks stay, the sink is closed, the thread is free, and it is no error."""
    caplog.set_level(logging.INFO)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for seconds in DEADLINES_SECONDS if ending == "deadline" else (_SECONDS,):
            sender = _Sender(channel, timeout=seconds)
            sender.put(_many(100))
            if sink.written.acquire(timeout=seconds):
                break
            sender._rows.put(None)  # it was late before anything was stored
        stored = len(sink.rows)
        if ending == "cancel":
            sender.call.cancel()
        elif ending == "disconnect":
            channel.close()
        else:
            assert "DEADLINE_EXCEEDED" == _failure(sender.call.result)[0]
        assert sink.closed.acquire(timeout=_SECONDS)
        sender._rows.put(None)

    assert 30 < stored <= len(sink.rows) <= 100
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert 7 == _send(channel, _many(7)).success_count
    assert [] == [record for record in caplog.records if record.levelno > logging.INFO]


def _settled(value: Callable[[], int]) -> int:
    """Return what `value` comes to."""
    end = time.monotonic() + _SECONDS
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.5 and time.monotonic() < end:
        time.sleep(0.05)
        if value() != last:
            last, since = value(), time.monotonic()
    return last


@pytest.mark.parametrize("row_bytes", [20_000, 1_200_000])
def test_a_slow_sink_holds_the_sender_back(
    channel: grpc.Channel, engine: str, sink: MemorySink, row_bytes: int
) -> None:
    """A block and the windows are on their way, however much there is to send.

    grpcio's own windows grow with what the line could carry.
    """
    rows = 40 * _MIB // row_bytes
    sink.may_write.clear()
    sender = _Sender(channel)
    sender.put(_many(rows, row_bytes // 4))
    ahead = _settled(lambda: sender.made)
    assert {} == sink.rows
    sink.may_write.set()
    result = sender.end()

    assert (rows, rows, 0) == _counters(result)
    assert ahead * row_bytes <= {"wire": 8, "grpcio": 24}[engine] * _MIB


def test_a_stop_waits_for_uploads_that_end_in_time(engine: str, sink: MemorySink) -> None:
    """One that is under way ends well; a new one is told UNAVAILABLE."""
    server = start(engine, UploadService(sink.open, block_bytes=1))
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        sender = _Sender(channel)
        sender.put(map(_row, range(_RUN)))
        assert sink.written.acquire(timeout=_SECONDS)
        stopping = threading.Thread(target=server.stop, args=(_SECONDS,))
        stopping.start()
        time.sleep(0.3)
        sender.put([_row(_RUN)])
        assert (_RUN + 1, _RUN + 1, 0) == _counters(sender.end())
        stopping.join(_SECONDS)
        assert not stopping.is_alive()
        assert "UNAVAILABLE" == _failure(lambda: _send(channel, [_row(999)], timeout=_SECONDS))[0]
    assert _RUN + 1 == len(sink.rows)


def test_a_stop_ends_uploads_that_take_longer(engine: str, sink: MemorySink) -> None:
    """UNAVAILABLE or CANCELLED, the sink is closed, and the stop comes to its end."""
    server = start(engine, UploadService(sink.open, block_bytes=1))
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        sender = _Sender(channel)
        sender.put(map(_row, range(_RUN)))
        assert sink.written.acquire(timeout=_SECONDS)
        server.stop(0.1)
        assert _failure(sender.call.result)[0] in {"UNAVAILABLE", "CANCELLED"}
        sender._rows.put(None)
    assert sink.closed.acquire(timeout=_SECONDS)


def test_health_and_reflection_name_the_service(channel: grpc.Channel) -> None:
    """Load balancers and grpcurl find it, and not the other service."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", _NAME):
        request = health_pb2.HealthCheckRequest(service=name)
        assert (
            health_pb2.HealthCheckResponse.SERVING == health.Check(request, timeout=_SECONDS).status
        )
    other = health_pb2.HealthCheckRequest(service="embedding.EmbeddingStreamService")
    assert "NOT_FOUND" == _failure(lambda: health.Check(other, timeout=_SECONDS))[0]
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    [answer] = reflection.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=_SECONDS
    )
    names = {service.name for service in answer.list_services_response.service}
    assert (True, False) == (_NAME in names, "embedding.EmbeddingStreamService" in names)


def test_streams_of_rows_are_not_served(channel: grpc.Channel) -> None:
    """A receiver has nothing to be pulled."""
    stub = pb_grpc.EmbeddingStreamServiceStub(channel)
    call = stub.GetEmbeddings(pb.RequestParams(), timeout=_SECONDS)

    assert "UNIMPLEMENTED" == _failure(lambda: list(call))[0]


def test_uploads_by_tls(engine: str, sink: MemorySink, tmp_path: Any) -> None:
    """Every row, large messages too; without TLS there is no connection."""
    ca = trustme.CA()
    files = Files.made(tmp_path, ca)
    server = start(
        engine, UploadService(sink.open, block_bytes=_MIB),
        certificates=Certificates(files.certificate, files.key, None),
    )  # fmt: skip
    try:
        with secure_channel(server.port, ca) as channel:
            assert 2000 == _send(channel, _many(2000)).success_count
            assert 3 == _send(channel, _many(3, 300_000)).total_count
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert "UNAVAILABLE" == _failure(lambda: _send(channel, _many(1)))[0]
    finally:
        server.stop(0)
    assert 2000 == len(sink.rows)

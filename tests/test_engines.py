"""A real server and real clients: what only a network shows."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import h2.config
import h2.connection
import h2.events
import numpy as np
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.codec.frames import JoinedFrames, prefixes
from streamer.dataset import Dataset
from streamer.engines.addresses import AddressError
from streamer.engines.grpcio import _options
from streamer.engines.keepalive import ConnectionAge, Keepalive
from streamer.service import Answer, Caller, EmbeddingService
from tests.datasets import FINGERPRINT, id_texts, write_dataset
from tests.engines import ENGINES, STARTERS
from tests.wire_peer import PATIENCE_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_MIB = 1 << 20


Start = Callable[..., Any]


@pytest.fixture(params=ENGINES)
def start(request: pytest.FixtureRequest) -> Start:
    """Return what starts a server of either engine; the test stops it."""
    return STARTERS[request.param]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.arrow"


@pytest.fixture
def batch(path: Path) -> pa.RecordBatch:
    return write_dataset(path, rows=50, batch_rows=20)


@pytest.fixture
def server(start: Start, path: Path) -> Iterator[RunningEngine]:
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 8, max_message_bytes=16 * _MIB)
    server = start(service)
    yield server
    server.stop(0)


@pytest.fixture
def channel(server: RunningEngine) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> pb_grpc.EmbeddingStreamServiceStub:
    return pb_grpc.EmbeddingStreamServiceStub(channel)


def test_rows_arrive_at_a_stock_client(
    stub: pb_grpc.EmbeddingStreamServiceStub, batch: pa.RecordBatch
) -> None:
    """The generated client reads both RPCs and the headers."""
    rows = list(stub.GetEmbeddings(pb.RequestParams(), timeout=PATIENCE_SECONDS))
    call = stub.StreamEmbedding(pb.RequestParams(), timeout=PATIENCE_SECONDS)
    chunks = list(call)

    assert id_texts(batch) == [row.id for row in rows]
    assert [8, 8, 8, 8, 8, 8, 2] == [len(chunk.rows) for chunk in chunks]
    assert rows == [row for chunk in chunks for row in chunk.rows]
    headers = dict(call.initial_metadata())
    assert (FINGERPRINT, "50") == (headers["dataset-fingerprint"], headers["rows-remaining"])


@pytest.mark.parametrize(
    "refused",
    [
        ({"last_processed_uuid": "oops"}, (), "INVALID_ARGUMENT", "'oops'"),
        ({"chunk_size": -1}, (), "INVALID_ARGUMENT", "-1"),
        ({"chunk_size": 10_001}, (), "INVALID_ARGUMENT", "10001"),
        (
            {"last_processed_uuid": "00000000-0000-0000-0000-000000000000"},
            (("checkpoint-policy", "must-exist"),),
            "FAILED_PRECONDITION",
            "not in the dataset",
        ),
    ],
)
@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_refused_requests_have_their_status(
    stub: pb_grpc.EmbeddingStreamServiceStub,
    batch: pa.RecordBatch,
    rpc: str,
    refused: tuple[dict[str, Any], tuple[tuple[str, str], ...], str, str],
) -> None:
    """Errors of the service reach the peer with the status of the contract."""
    assert batch.num_rows
    request_params, metadata, code, text = refused
    with pytest.raises(grpc.RpcError) as refusal:
        list(
            getattr(stub, rpc)(
                pb.RequestParams(**request_params), metadata=metadata, timeout=PATIENCE_SECONDS
            )
        )

    assert code == refusal.value.code().name
    assert text in str(refusal.value.details())


def test_missing_dataset_is_not_found(stub: pb_grpc.EmbeddingStreamServiceStub) -> None:
    """A server without data says so, without naming its folders."""
    with pytest.raises(grpc.RpcError) as refusal:
        list(stub.GetEmbeddings(pb.RequestParams(), timeout=PATIENCE_SECONDS))

    assert "NOT_FOUND" == refusal.value.code().name
    assert "/" not in str(refusal.value.details())


class _FailingService:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def get_embeddings(self, _request: pb.RequestParams, _caller: Caller) -> Answer:
        raise self._error

    stream_embedding = get_embeddings

    check_seconds = 60.0

    def check(self) -> None:
        """Find nothing in the way of calls."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("secret /path"), "INTERNAL"),
        (MemoryError("secret"), "RESOURCE_EXHAUSTED"),
        (pa.ArrowMemoryError("secret"), "RESOURCE_EXHAUSTED"),
    ],
)
def test_unforeseen_errors_keep_their_details_in_the_log(
    start: Start, error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer gets a generic text, the log the traceback."""
    server = start(_FailingService(error))
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refusal:
            list(stub.GetEmbeddings(pb.RequestParams(), timeout=PATIENCE_SECONDS))
    server.stop(0)

    assert code == refusal.value.code().name
    assert "secret" not in str(refusal.value.details())
    assert any(r.exc_info and r.exc_info[1] is error for r in caplog.records)


class _EndlessService:
    """Sends blocks of 1 MiB for as long as somebody takes them, and counts them."""

    def __init__(self) -> None:
        self.blocks = 0
        self.closed = threading.Event()

    def get_embeddings(self, _request: pb.RequestParams, _caller: Caller) -> Answer:
        return Answer((), self._frames())

    stream_embedding = get_embeddings

    check_seconds = 60.0

    def check(self) -> None:
        """Find nothing in the way of calls."""

    def _frames(self) -> Generator[JoinedFrames, None, None]:
        size = _MIB // 64 - 5
        message = prefixes(np.array([size])).tobytes() + b"\x0a" + bytes(size - 1)
        offsets = np.arange(65) * (size + 5)
        try:
            while True:
                self.blocks += 1
                yield JoinedFrames(pa.py_buffer(message * 64), offsets, 64)
        finally:
            self.closed.set()


@pytest.fixture
def endless(start: Start) -> Iterator[tuple[_EndlessService, RunningEngine]]:
    service = _EndlessService()
    server = start(service, max_workers=1)
    yield service, server
    server.stop(0)


def _raw_stream(channel: Any) -> Any:
    method = f"/{pb.DESCRIPTOR.services_by_name['EmbeddingStreamService'].full_name}/GetEmbeddings"
    return channel.unary_stream(method)(b"", timeout=PATIENCE_SECONDS)


def test_cancelled_client_frees_its_thread_at_once(
    endless: tuple[_EndlessService, RunningEngine],
) -> None:
    """With one worker, the call after a cancelled one is served."""
    service, server = endless
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = _raw_stream(channel)
        next(call)
        call.cancel()

        assert service.closed.wait(PATIENCE_SECONDS)
        assert next(_raw_stream(channel))


_VANISHING_CLIENT = """
import sys, grpc
call = grpc.insecure_channel(sys.argv[1]).unary_stream(sys.argv[2])(b"", timeout=60)
next(call)
print("begun", flush=True)
sys.stdin.read()
"""


def test_vanished_client_frees_its_thread_at_once(
    endless: tuple[_EndlessService, RunningEngine],
) -> None:
    """A client process that is killed in mid-stream doesn't hold its worker."""
    service, server = endless
    target = f"127.0.0.1:{server.port}"
    method = "/embedding.EmbeddingStreamService/GetEmbeddings"
    with subprocess.Popen(
        [sys.executable, "-c", _VANISHING_CLIENT, target, method],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdout
        assert b"begun\n" == client.stdout.readline()
        client.send_signal(signal.SIGKILL)

        assert service.closed.wait(PATIENCE_SECONDS)


def test_slow_client_holds_few_blocks(endless: tuple[_EndlessService, RunningEngine]) -> None:
    """A client that doesn't read stops the encoder, instead of filling memory."""
    service, server = endless
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = _raw_stream(channel)
        next(call)
        time.sleep(1.0)
        blocks = service.blocks
        call.cancel()

    # What fits into flow-control windows, which grow, and socket buffers, and one block more;
    # a client that reads gets thousands.
    assert blocks <= 64


def test_health_answers_while_every_worker_streams(
    endless: tuple[_EndlessService, RunningEngine],
) -> None:
    """A load balancer doesn't take a busy server for a dead one."""
    _, server = endless
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = _raw_stream(channel)
        next(call)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        names = ("", "embedding.EmbeddingStreamService")
        answers = [
            stub.Check(health_pb2.HealthCheckRequest(service=n), timeout=PATIENCE_SECONDS)
            for n in names
        ]
        call.cancel()

    assert [health_pb2.HealthCheckResponse.SERVING] * 2 == [a.status for a in answers]


def test_reflection_lists_the_service(channel: grpc.Channel) -> None:
    """Tools like grpcurl find out what can be called."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    answer = next(iter(stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE_SECONDS)))

    names = {service.name for service in answer.list_services_response.service}
    assert {"embedding.EmbeddingStreamService", "grpc.health.v1.Health"} <= names


def test_taken_port_is_a_clear_error(start: Start, server: RunningEngine) -> None:
    """A second server doesn't share the port unnoticed."""
    with pytest.raises(AddressError, match=rf":{server.port}: the port is in use.*--port"):
        start(_EndlessService(), port=server.port)


def test_unknown_host_is_a_clear_error(start: Start) -> None:
    """An address that isn't this machine's is named with the system's reason."""
    with pytest.raises(AddressError, match=r"192\.0\.2\.1"):
        start(_EndlessService(), host="192.0.2.1")


def _is_refused(channel: grpc.Channel) -> bool:
    """Return whether a new call is UNAVAILABLE."""
    call: Any = pb_grpc.EmbeddingStreamServiceStub(channel).StreamEmbedding(
        pb.RequestParams(), timeout=PATIENCE_SECONDS
    )
    try:
        next(call)
    except grpc.RpcError:
        return call.code() is grpc.StatusCode.UNAVAILABLE
    call.cancel()
    return False


def test_stop_lets_streams_end_and_takes_no_new_ones(
    start: Start, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Draining: the stream under way is complete, a new call is refused."""
    caplog.set_level(logging.INFO)
    write_dataset(path, rows=20_000, dimension=100)
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 8, max_message_bytes=16 * _MIB)
    server = start(service)
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        grpc.insecure_channel(f"127.0.0.1:{server.port}", [("new", 1)]) as other,
    ):
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        call = stub.StreamEmbedding(pb.RequestParams(), timeout=PATIENCE_SECONDS)
        rows = len(next(call).rows)
        stopping = threading.Thread(target=server.stop, args=(PATIENCE_SECONDS,))
        stopping.start()
        refused = eventually(lambda: _is_refused(other))
        rows += sum(len(chunk.rows) for chunk in call)
        stopping.join()

    assert refused
    assert 20_000 == rows
    said = [record.getMessage() for record in caplog.records]
    assert 1 == sum(line.endswith("complete") for line in said)


def test_stop_ends_streams_that_take_too_long(
    endless: tuple[_EndlessService, RunningEngine],
) -> None:
    """After the grace a stream is cut off, so that a stop always ends."""
    service, server = endless
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = _raw_stream(channel)
        next(call)
        server.stop(0.5)

        assert service.closed.wait(PATIENCE_SECONDS)


def _ping(port: int, interval: float, count: int) -> bool:
    """Ping a server on an idle connection; return whether it sent GOAWAY.

    Each time `interval` seconds after it answered the last; all at once if that is 0.
    """
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as peer:
        peer.sendall(connection.data_to_send())
        answered = 0
        for number in range(count):
            connection.ping(number.to_bytes(8, "big"))
            if not interval and number < count - 1:
                continue
            peer.sendall(connection.data_to_send())
            while answered <= number:
                data = peer.recv(65_536)
                events = connection.receive_data(data) if data else []
                if not data or any(isinstance(e, h2.events.ConnectionTerminated) for e in events):
                    return True
                answered += sum(isinstance(e, h2.events.PingAckReceived) for e in events)
                peer.sendall(connection.data_to_send())
            time.sleep(interval)
    return False


@pytest.mark.parametrize(("interval", "expected"), [(0.5, False), (0, True)])
def test_pings_get_no_goaway_unless_they_come_too_often(
    start: Start,
    interval: float,
    expected: bool,  # noqa: FBT001
) -> None:
    """The rule for 10 s, at a twentieth of its scale: on time is fine, a flood is not."""
    server = start(_EndlessService(), keepalive=Keepalive(30, 10, 0.5))

    told_to_go = _ping(server.port, interval, 8)

    server.stop(0)
    assert expected == told_to_go


def test_keepalive_options_are_the_documented_ones() -> None:
    """Keepalive after 30 s, given up after 10 s, pings allowed every 10 s without a stream."""
    options = dict(_options(Keepalive(), ConnectionAge()))

    assert 30_000 == options["grpc.keepalive_time_ms"]
    assert 10_000 == options["grpc.keepalive_timeout_ms"]
    assert 1 == options["grpc.keepalive_permit_without_calls"]
    assert 9_000 <= options["grpc.http2.min_ping_interval_without_data_ms"] <= 10_000


def test_large_messages_pass(start: Start, tmp_path: Path) -> None:
    """Chunks of up to MAX_MESSAGE_SIZE are sent whole."""
    path = tmp_path / "large.arrow"
    write_dataset(path, rows=3000, dimension=1000)
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 8, max_message_bytes=8 * _MIB)
    server = start(service, max_message_bytes=8 * _MIB)
    options = [("grpc.max_receive_message_length", 8 * _MIB)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        chunks = list(
            stub.StreamEmbedding(pb.RequestParams(chunk_size=10_000), timeout=PATIENCE_SECONDS)
        )
    server.stop(0)

    assert 3000 == sum(len(chunk.rows) for chunk in chunks)
    assert 7 * _MIB < max(chunk.ByteSize() for chunk in chunks) <= 8 * _MIB


@pytest.mark.parametrize("request_bytes", [b"\x0a\x02\xff\xfe", b"\x0a\x05x", b"\xff"])
def test_request_that_cannot_be_parsed_is_an_invalid_argument(
    channel: grpc.Channel, batch: pa.RecordBatch, request_bytes: bytes
) -> None:
    """A checkpoint that isn't UTF-8 is malformed like any other."""
    assert batch.num_rows
    method: Any = channel.unary_stream("/embedding.EmbeddingStreamService/GetEmbeddings")
    with pytest.raises(grpc.RpcError) as refusal:
        list(method(request_bytes, timeout=PATIENCE_SECONDS))

    assert "INVALID_ARGUMENT" == refusal.value.code().name

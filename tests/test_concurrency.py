"""Many streams at once on the wire engine: each is whole, none waits for another's client."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hyperframe.frame import RstStreamFrame

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.engines.wire import WireServer
from streamer.service import EmbeddingService
from tests.certificates import read_all
from tests.datasets import write_dataset
from tests.grpc_testing import interop_pb2, interop_pb2_grpc
from tests.interop_service import servicer
from tests.wire_peer import (
    HEALTH,
    MAX_WINDOW,
    PATIENCE_SECONDS,
    ROWS,
    STREAM,
    WINDOW,
    EndlessService,
    Peer,
    answer_bytes,
    eventually,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.engines.wire.engine import WireEngine

_MIB = 1 << 20
_RPCS = (STREAM, ROWS)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingService:
    path = tmp_path_factory.mktemp("data") / "jobs.arrow"
    write_dataset(path, rows=1000, dimension=64, batch_rows=350)
    return EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=_MIB)


@pytest.fixture(scope="module")
def expected(service: EmbeddingService) -> dict[str, bytes]:
    return {rpc: answer_bytes(service, rpc, pb.RequestParams()) for rpc in _RPCS}


@pytest.fixture
def server(service: EmbeddingService) -> Iterator[WireEngine]:
    with serving(service) as server:
        yield server


@pytest.fixture
def endless() -> EndlessService:
    return EndlessService(256 << 10)


@pytest.mark.parametrize("streams", [1, 8, 64, 256])
def test_streams_over_one_connection_are_all_whole(
    server: WireEngine, expected: dict[str, bytes], streams: int
) -> None:
    """However many a connection has, each gets its own bytes, and its status."""
    with Peer(server.port, settings={4: _MIB}) as peer:
        peer.open_window(16 * _MIB, 0)
        calls = {peer.call(_RPCS[i % 2]): _RPCS[i % 2] for i in range(streams)}

        assert peer.until(lambda: len(peer.trailers) == streams)
        assert {"0"} == {trailers["grpc-status"] for trailers in peer.trailers.values()}
        assert all(expected[rpc] == peer.data[stream_id] for stream_id, rpc in calls.items())


@pytest.mark.parametrize("connections", [8, 64, 256])
def test_streams_over_many_connections_are_all_whole(
    server: WireEngine, expected: dict[str, bytes], connections: int
) -> None:
    """All under way at the same time, read a few at a time."""
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)) for _ in range(connections)]
        for number, peer in enumerate(peers):
            assert 1 == peer.call(_RPCS[number % 2])

        def is_whole(number: int) -> bool:
            return peers[number].until_ended(1) and (
                expected[_RPCS[number % 2]] == peers[number].data[1]
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_whole, range(connections)))


def test_streams_of_a_stock_client_are_all_whole(
    server: WireEngine, expected: dict[str, bytes]
) -> None:
    """A grpcio client with many calls on one channel."""
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(32) as pool,
    ):
        answers = pool.map(lambda i: read_all(channel, _RPCS[i % 2]), range(32))

        assert all(expected[_RPCS[i % 2]] == answer for i, answer in enumerate(answers))


def test_fast_readers_do_not_wait_for_slow_ones(
    server: WireEngine, expected: dict[str, bytes]
) -> None:
    """Beside clients that read nothing, or with shut windows, others and health go on."""
    with ExitStack() as stack:
        for number in range(40):
            slow = Peer(server.port, settings={4: (0, MAX_WINDOW)[number % 2]}, receive_bytes=4096)
            stack.enter_context(slow)
            slow.open_window(MAX_WINDOW - WINDOW, 0)
            for _ in range(5):
                slow.call(_RPCS[number % 2])
        health = stack.enter_context(Peer(server.port))
        for number in range(8):
            with Peer(server.port) as fast:
                stream_id = fast.call(_RPCS[number % 2])

                assert fast.until_ended(stream_id)
                assert expected[_RPCS[number % 2]] == fast.data[stream_id]
            health.unary(HEALTH)


def test_health_answers_while_many_stream(endless: EndlessService) -> None:
    """On a connection of its own, and on one that streams as fast as it can."""
    with (
        serving(endless) as server,
        Peer(server.port) as health,
        Peer(server.port, settings={4: _MIB}) as both,
        ThreadPoolExecutor(4) as pool,
    ):
        over = threading.Event()

        def read() -> None:
            with Peer(server.port, settings={4: _MIB}) as peer:
                for _ in range(8):
                    peer.call(STREAM)
                peer.until(over.is_set)

        for _ in range(4):
            pool.submit(read)
        for _ in range(4):
            both.call(STREAM)
        for _ in range(8):
            health.unary(HEALTH)
            both.unary(HEALTH)
        over.set()


@pytest.mark.parametrize("stream_window", [WINDOW, MAX_WINDOW])
@pytest.mark.parametrize("connection_window", [WINDOW, 8 * _MIB])
def test_streams_share_their_connection(
    endless: EndlessService, stream_window: int, connection_window: int
) -> None:
    """Whatever window is the narrow one, none of the streams takes it all."""
    with serving(endless) as server, Peer(server.port, settings={4: stream_window}) as peer:
        peer.open_window(connection_window - WINDOW + 1, 0)
        calls = [peer.call(STREAM) for _ in range(4)]
        assert peer.until(lambda: sum(map(peer.received, calls)) > 20 * _MIB)
        received = [peer.received(stream_id) for stream_id in calls]

    assert min(received) > _MIB


def test_connections_share_the_server(endless: EndlessService) -> None:
    """A connection with many streams doesn't keep one with a single stream from its bytes."""
    with (
        serving(endless) as server,
        Peer(server.port, settings={4: _MIB}) as many,
        Peer(server.port, settings={4: _MIB}) as one,
    ):
        for _ in range(50):
            many.call(STREAM)
        stream_id = one.call(STREAM)
        reading = threading.Thread(
            target=many.until, args=(lambda: one.received(stream_id) > 8 * _MIB,)
        )
        reading.start()

        assert one.until_received(stream_id, 8 * _MIB + 1)
        reading.join()


def test_stop_lets_many_streams_end(server: WireEngine, expected: dict[str, bytes]) -> None:
    """Every stream under way is whole; calls after the GOAWAY are refused; then it's over."""
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)) for _ in range(8)]
        for peer in peers:
            for number in range(16):
                peer.call(_RPCS[number % 2])
            assert peer.until(lambda: peer.received(1) > 0)  # noqa: B023 - called at once
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda peer: peer.until_closed(), peers))
        stopping.join(PATIENCE_SECONDS)

        assert not stopping.is_alive()
        for peer in peers:
            assert [0, 0] == [goaway.error_code for goaway in peer.goaways]
            assert 16 == len(peer.trailers)
            for number in range(16):
                assert expected[_RPCS[number % 2]] == peer.data[1 + 2 * number]


@pytest.mark.parametrize("windows", ["open", "shut"])
def test_stop_ends_many_streams_that_take_too_long(
    endless: EndlessService, windows: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is told UNAVAILABLE, every generator is closed, and nothing fails inside."""
    with serving(endless) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)) for _ in range(4)]
        for peer in peers:
            peer.opens_windows = windows == "open"
            for _ in range(32):
                peer.call(STREAM)
        assert eventually(lambda: endless.open == 128)
        stopping = threading.Thread(target=server.stop, args=(0.2,))
        stopping.start()
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda peer: peer.until_closed(), peers))
        stopping.join(PATIENCE_SECONDS)

        assert not stopping.is_alive()
        assert 0 == endless.open
        for peer in peers:
            assert {"14"} == {trailers["grpc-status"] for trailers in peer.trailers.values()}
            assert 32 == len(peer.trailers)
    assert [] == [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


def test_stop_while_blocks_are_being_made_closes_every_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A thread that is at work when its call is cut off finishes, and its generator is closed."""
    service = EndlessService(16 << 10, pause_seconds=0.3)
    with serving(service) as server, Peer(server.port) as peer:
        for _ in range(8):
            peer.call(STREAM)
        assert eventually(lambda: service.open > 1)
        stopping = threading.Thread(target=server.stop, args=(0,))
        stopping.start()
        peer.until_closed()
        peer.socket.close()
        stopping.join(PATIENCE_SECONDS)

        assert not stopping.is_alive()
        assert 0 == service.open
    assert [] == [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


def test_cancelled_streams_leave_no_trace(endless: EndlessService) -> None:
    """Calls that come and go by the hundred, on connections that come and go."""
    with serving(endless) as server:
        for _ in range(5):
            channel: Any = grpc.insecure_channel(
                f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
            )
            with channel:
                calls = [
                    channel.unary_stream(STREAM)(b"", timeout=PATIENCE_SECONDS) for _ in range(40)
                ]
                for call in calls:
                    next(call)
                for call in calls[::2]:
                    call.cancel()

        assert eventually(lambda: not endless.open)
        assert eventually(lambda: not server._server._sessions)


@pytest.mark.parametrize("kind", ["stream", "unary"])
def test_methods_that_wait_for_their_callbacks_are_freed(kind: str) -> None:
    """Although every thread waits, a cancelled call's callback is called, and a stop ends."""
    left: list[bool] = []
    entered = threading.Semaphore(0)

    def wait(context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        entered.release()
        left.append(ended.wait(PATIENCE_SECONDS))

    def empty_call(request: Any, context: grpc.ServicerContext) -> Any:
        wait(context)
        return request

    def streaming_output_call(_request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        wait(context)
        yield interop_pb2.StreamingOutputCallResponse()

    server: Any = WireServer(host="127.0.0.1", port=0, max_workers=2)
    interop_pb2_grpc.add_TestServiceServicer_to_server(
        servicer(EmptyCall=empty_call, StreamingOutputCall=streaming_output_call), server
    )
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = interop_pb2_grpc.TestServiceStub(channel)
        if kind == "unary":
            calls = [stub.EmptyCall.future(interop_pb2.Empty()) for _ in range(2)]
        else:
            message = interop_pb2.StreamingOutputCallRequest()
            calls = [stub.StreamingOutputCall(message) for _ in range(2)]
        assert all(entered.acquire(timeout=PATIENCE_SECONDS) for _ in calls)
        for call in calls:
            call.cancel()
        assert eventually(lambda: left == [True, True])
        server.stop(0)


def test_deadline_of_a_call_that_has_ended_is_forgotten(endless: EndlessService) -> None:
    """A timer would keep the call, and all that it holds, for as long as its client liked."""
    with serving(endless) as server, Peer(server.port) as peer:
        timers: list[Any] = []
        loop: Any = server._server.loop

        def count() -> None:
            timers[:] = [t for t in loop._scheduled if t.when() > loop.time() + 1000]

        for number in range(100):
            stream_id = peer.call((HEALTH, STREAM)[number % 2], b"", **{"grpc-timeout": "1H"})
            if number % 2:
                peer.until_received(stream_id, 1)
                peer.send(RstStreamFrame(stream_id, 8))
            else:
                assert peer.until_ended(stream_id)
        assert eventually(lambda: not endless.open)
        loop.call_soon_threadsafe(count)
        assert eventually(lambda: timers)

        assert all(timer.cancelled() for timer in timers)

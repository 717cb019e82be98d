"""Peers that do too little, or ask for too much at once, at a real server."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hyperframe.frame import PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.engines.keepalive import Keepalive
from streamer.engines.wire import server as server_module
from streamer.engines.wire.limits import Limits
from streamer.engines.wire.server import WireServer
from streamer.service import EmbeddingService
from tests.datasets import write_dataset
from tests.wire_peer import (
    ENHANCE_YOUR_CALM,
    HEALTH,
    LOOKS_SECONDS,
    MAX_WINDOW,
    PATIENCE_SECONDS,
    PREFACE,
    REFLECTION,
    ROWS,
    STREAM,
    WINDOW,
    EndlessService,
    Peer,
    answer_bytes,
    eventually,
    request,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamer.engines.wire.engine import WireEngine


_REFUSED_STREAM = 7
_CANCELLED = "1"
_NO_KEEPALIVE = Keepalive(1000, 1000)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    _ahead_seconds = 0.0

    def time(self) -> float:
        return super().time() + self._ahead_seconds

    def put_forward(self, seconds: float, then: Callable[[], object]) -> None:
        """Do what is due until then; `then` is called behind it."""
        self._ahead_seconds += seconds
        self.call_later(LOOKS_SECONDS, self.call_soon, then)


@pytest.fixture(autouse=True)
def _loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_new_event_loop", _Loop)


def _pass_time(engine: WireEngine, seconds: float) -> None:
    """Put the server's clock forward, and return when it has looked at it."""
    loop: Any = engine._server.loop
    has_looked = threading.Event()
    loop.call_soon_threadsafe(loop.put_forward, seconds, has_looked.set)
    assert has_looked.wait(PATIENCE_SECONDS)


@pytest.fixture
def service() -> EndlessService:
    return EndlessService(256 << 10)


def _health(port: int) -> None:
    with Peer(port) as peer:
        peer.unary(HEALTH)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        PREFACE[:1],
        PREFACE[:-1],
        PREFACE,
        PREFACE + SettingsFrame().serialize()[:5],
    ],
    ids=["nothing", "a byte", "half a preface", "no SETTINGS", "half of SETTINGS"],
)
def test_peer_that_does_not_finish_its_handshake_is_hung_up_on(
    service: EndlessService, sent: bytes
) -> None:
    """After handshake_seconds the connection is closed, whatever has come until then."""
    with serving(service, handshake_seconds=0.3) as server:
        begin = time.monotonic()
        with Peer(server.port, preface=False) as peer:
            peer.replies = False
            peer.send(sent)

            assert peer.until_closed()
            assert time.monotonic() - begin > 0.25
        _health(server.port)


def test_peer_that_finishes_its_handshake_stays(service: EndlessService) -> None:
    """The time for the handshake is no time limit on connections."""
    with serving(service, handshake_seconds=20) as server, Peer(server.port) as peer:
        peer.unary(HEALTH)
        _pass_time(server, 25)
        peer.unary(HEALTH)


def test_preface_that_comes_byte_by_byte_is_understood(service: EndlessService) -> None:
    """TCP cuts where it likes."""
    with serving(service) as server, Peer(server.port, preface=False) as peer:
        for byte in PREFACE + SettingsFrame().serialize():
            peer.send(bytes([byte]))
        peer.unary(HEALTH)


def test_peer_that_vanished_is_given_up(service: EndlessService) -> None:
    """A peer that answers no ping loses its connection, once its calls have waited long enough."""
    with (
        serving(service, stall_seconds=50, keepalive=Keepalive(20, 20)) as server,
        Peer(server.port) as peer,
    ):
        peer.replies = False
        assert peer.until_received(peer.call(STREAM), WINDOW)
        for _ in range(4):  # a ping, then no answer, then the call has waited, too
            _pass_time(server, 21)

        assert peer.until_closed()
        assert 1 == peer.pings
        assert eventually(lambda: service.blocks and not service.open)


def test_a_peer_that_waits_for_its_reader_may_leave_pings_unanswered(
    service: EndlessService,
) -> None:
    """As haproxy does it; when it reads again, the stream goes on."""
    with (
        serving(service, keepalive=Keepalive(0.1, 0.1)) as server,
        Peer(server.port) as peer,
    ):
        peer.opens_windows = peer.replies = False
        stream = peer.call(STREAM)
        assert peer.until_received(stream, WINDOW)
        assert peer.until(lambda: peer.pings > 0)
        assert not peer.until_closed(1)
        peer.opens_windows = peer.replies = True
        peer.open_window(WINDOW, 0, stream)

        assert peer.until_received(stream, 3 * WINDOW)


def test_peer_that_answers_pings_stays(service: EndlessService) -> None:
    """Silence alone ends no connection, with a call that waits or without."""
    with serving(service, keepalive=Keepalive(0.1, 100)) as server, Peer(server.port) as peer:
        assert peer.until(lambda: peer.pings > 2)
        peer.opens_windows = False
        peer.call(STREAM)
        seen = peer.pings

        assert peer.until(lambda: peer.pings > seen + 2)
        assert 1 == service.open


def test_half_closed_socket_ends_its_calls(service: EndlessService) -> None:
    """Whoever shuts its side in mid-stream is gone, as for grpcio's server."""
    with serving(service) as server, Peer(server.port) as peer:
        stream_id = peer.call(STREAM)
        assert peer.until_received(stream_id, 0)
        peer.socket.shutdown(socket.SHUT_WR)

        assert peer.until_closed()
        assert eventually(lambda: not service.open)


def test_idle_connection_is_left_in_good_order(service: EndlessService) -> None:
    """After idle_seconds without a call the peer is told, with NO_ERROR, then it ends."""
    with serving(service, idle_seconds=200) as server, Peer(server.port) as peer:
        peer.unary(HEALTH)
        _pass_time(server, 201)

        assert peer.until_closed()
        assert [0, 0] == [goaway.error_code for goaway in peer.goaways]
        assert [MAX_WINDOW, 1] == [goaway.last_stream_id for goaway in peer.goaways]


def test_connection_with_a_call_is_not_idle(service: EndlessService) -> None:
    """However slowly its client takes what it is sent."""
    with serving(service, idle_seconds=20) as server, Peer(server.port) as peer:
        peer.opens_windows = False
        stream_id = peer.call(STREAM)
        assert peer.until_received(stream_id, WINDOW)
        _pass_time(server, 25)
        peer.opens_windows = True
        peer.open_window(WINDOW, 0, stream_id)

        assert peer.until_received(stream_id, 3 * WINDOW)
        assert [] == peer.goaways


def test_stock_client_calls_again_after_an_idle_time(service: EndlessService) -> None:
    """A grpcio client whose connection was left notices nothing."""
    with (
        serving(service, idle_seconds=0.3) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for _ in range(2):
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
            time.sleep(0.7)

            assert health_pb2.HealthCheckResponse.SERVING == answer.status


def test_window_that_never_opens_ends_the_call_alone(service: EndlessService) -> None:
    """After stall_seconds the call is cancelled and closed; its connection goes on."""
    with serving(service, stall_seconds=0.4) as server, Peer(server.port) as peer:
        peer.opens_windows = False
        peer.open_window(WINDOW, 0)
        stream_id = peer.call(STREAM)

        assert peer.until_ended(stream_id)
        assert _CANCELLED == peer.trailers[stream_id]["grpc-status"]
        assert WINDOW == peer.received(stream_id)
        assert eventually(lambda: not service.open)
        peer.unary(HEALTH)


def test_a_byte_now_and_then_is_as_good_as_nothing(service: EndlessService) -> None:
    """Whoever opens a window by a byte each time doesn't hold a stream forever."""
    with serving(service, stall_seconds=1) as server, Peer(server.port) as peer:
        peer.opens_windows = False
        stream_id = peer.call(STREAM)
        assert peer.until_received(stream_id, WINDOW)
        for _ in range(500):
            peer.open_window(1, 0, stream_id)
            if peer.until(lambda: stream_id in peer.trailers, 0.2):
                break

        assert _CANCELLED == peer.trailers[stream_id]["grpc-status"]


def test_peer_that_reads_nothing_loses_its_connection(service: EndlessService) -> None:
    """Open windows are no use if the socket is full: after stall_seconds that's the end."""
    with (
        serving(service, stall_seconds=0.5, keepalive=_NO_KEEPALIVE) as server,
        Peer(server.port, settings={4: MAX_WINDOW}, receive_bytes=4096) as peer,
    ):
        peer.open_window(MAX_WINDOW - WINDOW, 0)
        peer.call(STREAM)

        assert eventually(lambda: service.blocks)
        assert eventually(lambda: not service.open)
        peer.opens_windows = False
        assert peer.until_closed()


def test_headers_without_a_request_end_in_time(service: EndlessService) -> None:
    """A call whose one message doesn't come is cancelled; its connection goes on."""
    with serving(service, handshake_seconds=0.3) as server, Peer(server.port) as peer:
        head = peer.headers(STREAM)
        peer.send(head)

        assert peer.until_ended(head.stream_id)
        assert _CANCELLED == peer.trailers[head.stream_id]["grpc-status"]
        peer.unary(HEALTH)


def test_idle_reflection_streams_do_not_stop_health_watches(service: EndlessService) -> None:
    """Clients that keep a stream open and say nothing don't take the watchers' threads."""
    with serving(service, max_workers=2) as server, Peer(server.port) as peer:
        peer.send(*(peer.headers(REFLECTION) for _ in range(20)))
        peer.unary(HEALTH)
        watch = peer.call("/grpc.health.v1.Health/Watch")

        assert peer.until(lambda: peer.received(watch) > 0)


def test_idle_reflection_streams_give_their_threads_back(
    service: EndlessService, caplog: pytest.LogCaptureFixture
) -> None:
    """They end as uploads do that send nothing; those that ask are answered."""
    caplog.set_level(logging.WARNING)
    with (
        serving(service, max_workers=2, stall_seconds=2) as server,
        Peer(server.port) as idle,
        Peer(server.port) as other,
    ):
        heads = [idle.headers(REFLECTION) for _ in range(2)]
        idle.send(*heads)
        idle.unary(HEALTH)
        other.unary(REFLECTION, b"\x3a\x01*")  # field 7 asks for a list of services

        assert all(idle.until_ended(head.stream_id) for head in heads)
        for head in heads:
            trailers = idle.trailers[head.stream_id]
            assert _CANCELLED == trailers["grpc-status"]
            assert "the client has sent nothing for 2 s" == trailers["grpc-message"]
        idle.unary(HEALTH)
    assert 2 == caplog.text.count("ended: the client has sent nothing for 2 s")
    assert "Traceback" not in caplog.text


def test_connection_beyond_the_limit_is_closed_until_there_is_room(
    service: EndlessService,
) -> None:
    """Those that are there are served on; who leaves makes room for another."""
    with (
        serving(service, max_connections=2) as server,
        Peer(server.port) as first,
        Peer(server.port) as second,
    ):
        first.unary(HEALTH)
        second.unary(HEALTH)
        with Peer(server.port, preface=False) as third:
            assert third.until_closed()
        first.unary(HEALTH)
        second.socket.close()

        def has_room() -> bool:
            with Peer(server.port) as another:
                return another.until(lambda: another.is_greeted)

        assert eventually(has_room)


def test_stream_beyond_the_limit_is_refused_alone(service: EndlessService) -> None:
    """The others go on; one that ends makes room."""
    with serving(service, max_streams_per_connection=2) as server, Peer(server.port) as peer:
        first, second, third = (peer.call(STREAM) for _ in range(3))

        assert peer.until(lambda: third in peer.resets)
        assert {third: _REFUSED_STREAM} == peer.resets
        for stream_id in (first, second):
            before = peer.received(stream_id)
            assert peer.until_received(stream_id, before + WINDOW)
        peer.send(RstStreamFrame(first, 8))
        fourth = peer.call(STREAM)

        assert peer.until_received(fourth, WINDOW)


def test_pings_are_answered_while_a_stream_waits_for_its_window(service: EndlessService) -> None:
    """Keepalive of the client's and flow control have nothing to do with each other."""
    with serving(service, keepalive=Keepalive(100, 10, 0.1)) as server, Peer(server.port) as peer:
        peer.opens_windows = False
        stream_id = peer.call(STREAM)

        assert peer.until_received(stream_id, WINDOW)
        payloads = [number.to_bytes(8, "big") for number in range(5)]
        for number, payload in enumerate(payloads):
            peer.send(PingFrame(0, payload))
            assert peer.until(lambda: len(peer.pongs) > number)  # noqa: B023 - called at once
            time.sleep(0.15)  # the server takes one ping in 0.1 s

        assert payloads == peer.pongs
        assert WINDOW == peer.received(stream_id)


def test_window_of_one_byte_at_a_time_is_served_or_told_to_calm_down(tmp_path: Path) -> None:
    """Every byte is right, and there is a time when it is enough."""
    write_dataset(tmp_path / "jobs.arrow", rows=50)
    service = EmbeddingService(
        Dataset(tmp_path / "jobs.arrow"), chunk_rows=lambda _: 8, max_message_bytes=1 << 20
    )
    expected = answer_bytes(service, ROWS, pb.RequestParams())
    with serving(service) as server, Peer(server.port, settings={4: 0}) as peer:
        peer.opens_windows = False
        stream_id = peer.call(ROWS)
        for size in range(1, 3000):
            if not peer.try_to_send([WindowUpdateFrame(stream_id, 1)]):
                break
            peer.until_received(stream_id, size)
            if peer.goaways:
                break
        received = bytes(peer.data[stream_id])

        assert len(received) > 500
        assert expected.startswith(received)
        assert [ENHANCE_YOUR_CALM] * len(peer.goaways) == [g.error_code for g in peer.goaways]


class _FullListener:
    """A listener that can't accept at first, because file descriptors have run out."""

    def __init__(self, listener: socket.socket, failures: int) -> None:
        self._listener = listener
        self.failures = failures
        self.family = listener.family

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self._listener.accept()


def _fill(engine: WireEngine, failures: int) -> _FullListener:
    """Let a running server run out of file descriptors."""
    server: Any = engine._server
    listener = _FullListener(server._listeners[0], failures)

    replaced = threading.Event()

    def replace() -> None:
        server.loop.remove_reader(listener)
        server._listeners = [listener]
        server._listen()
        replaced.set()

    server.loop.call_soon_threadsafe(replace)
    assert replaced.wait(PATIENCE_SECONDS)
    return listener


def test_server_without_file_descriptors_goes_on_when_it_has_some(
    service: EndlessService,
) -> None:
    """Who connects meanwhile waits; the server's own clock goes on as before."""
    module = "streamer.engines.wire.server"
    checks: list[float] = []
    check = WireServer._check

    def counted(server: WireServer) -> None:
        checks.append(time.monotonic())
        check(server)

    with (
        mock.patch(f"{module}._RETRY_ACCEPT_SECONDS", 0.05),
        mock.patch.object(WireServer, "_check", counted),
        serving(service) as server,
    ):
        listener = _fill(server, failures=10)
        _health(server.port)

        assert 0 == listener.failures
        checks.clear()
        assert eventually(lambda: len(checks) > 5)
        gaps = [later - earlier for earlier, later in pairwise(checks)]

        assert min(gaps) > 0.04  # one clock, every 0.05 s


def test_stop_while_file_descriptors_have_run_out_is_clean(
    service: EndlessService, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt that was to come is forgotten."""
    with (
        mock.patch("streamer.engines.wire.server._RETRY_ACCEPT_SECONDS", 0.2),
        serving(service) as server,
        Peer(server.port) as there,
    ):
        there.unary(HEALTH)
        listener = _fill(server, failures=1000)
        with Peer(server.port, preface=False):
            assert eventually(lambda: listener.failures < 1000)
            there.call(STREAM)
            server.stop(0.5)

    assert [] == [r.getMessage() for r in caplog.records if r.name == "asyncio"]


def test_streams_beyond_the_servers_limit_are_refused_until_there_is_room(
    service: EndlessService,
) -> None:
    """The limit counts all connections; health checks are answered beyond it."""
    with (
        serving(service, max_streams=3) as server,
        Peer(server.port) as first,
        Peer(server.port) as second,
    ):
        calls = [first.call(STREAM) for _ in range(2)]
        second.call(STREAM)
        assert first.until(lambda: all(first.received(stream_id) for stream_id in calls))
        refused = second.call(STREAM)
        assert second.until_ended(refused)
        assert "8" == second.trailers[refused]["grpc-status"]
        second.unary(HEALTH)
        first.socket.close()

        def has_room() -> bool:
            again = second.call(STREAM)
            return second.until(lambda: second.received(again) > 0, 1)

        assert eventually(has_room)


def test_calls_without_a_request_take_no_stream_from_others(service: EndlessService) -> None:
    """Streams count when they begin: headers alone are no reason to refuse anybody."""
    with (
        serving(service, max_streams=3) as server,
        Peer(server.port) as silent,
        Peer(server.port) as other,
    ):
        silent.send(*(silent.headers(STREAM) for _ in range(50)))
        silent.unary(HEALTH)
        calls = [other.call(STREAM) for _ in range(3)]

        assert other.until(lambda: all(map(other.received, calls)))
        refused = other.call(STREAM)
        assert other.until_ended(refused)
        assert "8" == other.trailers[refused]["grpc-status"]


def test_a_byte_for_one_call_is_no_sign_of_life_of_the_others(service: EndlessService) -> None:
    """Calls that share a connection's window wait each for itself."""
    with (
        serving(service, stall_seconds=0.6) as server,
        Peer(server.port, settings={4: MAX_WINDOW}) as peer,
    ):
        peer.opens_windows = False
        calls = [peer.call(STREAM) for _ in range(20)]
        assert peer.until(lambda: sum(map(peer.received, calls)) == WINDOW)

        def trickled() -> bool:
            peer.open_window(1, 0)
            peer.until(lambda: False, 0.2)
            return len(peer.trailers) >= 15

        assert eventually(trickled)
        assert {_CANCELLED} == {each["grpc-status"] for each in peer.trailers.values()}


def test_calls_that_wait_for_a_thread_are_bounded(service: EndlessService) -> None:
    """Idle streams that hold every thread don't let the others pile up, cancelled or not."""
    with (
        serving(service, max_workers=2, max_waiting_calls=10) as server,
        Peer(server.port) as peer,
    ):
        peer.send(*(peer.headers(REFLECTION) for _ in range(2)))
        waiting = [peer.headers(REFLECTION, "END_STREAM") for _ in range(10)]
        peer.send(*waiting)
        peer.unary(HEALTH)
        peer.send(*(RstStreamFrame(head.stream_id, 8) for head in waiting))
        peer.unary(HEALTH)
        late = peer.headers(REFLECTION)
        peer.send(late)

        assert peer.until_ended(late.stream_id)
        assert "8" == peer.trailers[late.stream_id]["grpc-status"]
        call = peer.call(STREAM)
        assert peer.until_received(call, 1)


def test_calls_that_a_full_pool_refuses_end_alone() -> None:
    """One call's end lets the next one begin, which is refused, and so on: 256 in a row."""
    gate = threading.Event()
    at_work = []

    def wait(*_: object) -> bytes:
        at_work.append(1)
        gate.wait()
        return b""

    class Slow(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            del handler_call_details
            return grpc.unary_unary_rpc_method_handler(wait)

    limits = Limits(max_waiting_calls=2)
    server = WireServer(host="127.0.0.1", port=0, limits=limits)
    server.add_generic_rpc_handlers([Slow()])
    server.start()

    def call(each: Peer, count: int) -> None:
        heads = [each.headers("/a/b") for _ in range(count)]
        each.send(*heads, *(request(head.stream_id, b"") for head in heads))
        each.send(PingFrame(0, b"12345678"))
        assert each.until(lambda: b"12345678" in each.pongs)

    with Peer(server.port) as peer, Peer(server.port) as other:
        call(peer, 256)
        assert eventually(lambda: len(at_work) == 2)  # all threads
        call(other, 8)
        peer.send(RstStreamFrame(1, 8))

        assert peer.until(lambda: len(peer.trailers) >= 200)
        assert {"8"} == {fields["grpc-status"] for fields in peer.trailers.values()}
        assert not peer.is_closed
        gate.set()
        assert peer.until(lambda: len(peer.trailers) == 255)
    server.stop(1)

"""Peers that mean harm, at a real server: they go, and nobody else notices."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from itertools import repeat
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from streamer.dataset import Dataset
from streamer.engines.tls import Certificates
from streamer.engines.wire.session import Session
from streamer.service import EmbeddingService
from tests.certificates import Files, client_context
from tests.datasets import write_dataset
from tests.wire_peer import (
    HEALTH,
    MAX_WINDOW,
    PATIENCE_SECONDS,
    PREFACE,
    ROWS,
    STREAM,
    EndlessService,
    Peer,
    anonymous_bytes,
    eventually,
    request,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from streamer.engines.wire.engine import WireEngine

_MIB = 1 << 20
# Each flood is some 10 times as many frames as any peer is granted at once.
_FRAMES = 20_000


class _GoodClient:
    """A grpcio client that streams, and asks for the server's health all the while."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        method: Any = self._channel.unary_stream(STREAM)
        self._call = method(b"", timeout=PATIENCE_SECONDS)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._over = threading.Event()
        self.messages = 0
        self.healthy = 0
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=t) for t in (self._stream, self._check)]
        for thread in self._threads:
            thread.start()
        assert eventually(lambda: self.messages)

    def _stream(self) -> None:
        try:
            for _ in self._call:
                self.messages += 1
                time.sleep(0.001)  # leave some of the machine to the others
        except grpc.RpcError as error:
            if not self._over.is_set():
                self.failures.append(error)

    def _check(self) -> None:
        while not self._over.wait(0.01):
            try:
                self._health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
                self.healthy += 1
            except grpc.RpcError as error:
                self.failures.append(error)

    def is_served(self) -> bool:
        """Return whether messages and answers still come."""
        messages, healthy = self.messages, self.healthy
        return eventually(
            lambda: self.messages > messages + 10 and self.healthy > healthy + 1
        )  # the one that was under way may have been answered before

    def close(self) -> None:
        self._over.set()
        self._call.cancel()
        for thread in self._threads:
            thread.join()
        self._channel.close()


def _is_blocked(server: WireEngine) -> bool:
    """Return whether there is a peer to whom the server can't write any more."""
    return any(session._link.blocked_since for session in tuple(server._server._sessions))


@pytest.fixture
def service() -> EndlessService:
    return EndlessService(256 << 10)


@pytest.fixture
def server(service: EndlessService) -> Iterator[WireEngine]:
    with serving(service, stall_seconds=1.5) as server:
        yield server


@pytest.fixture
def client(server: WireEngine) -> Iterator[_GoodClient]:
    client = _GoodClient(server.port)
    yield client
    client.close()


def _in_chunks(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield what frames are on the wire, as many at once as make large writes."""
    chunk = bytearray()
    for frame in frames:
        chunk += frame.serialize()
        if len(chunk) > 32_768:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _open(peer: Peer) -> int:
    """Begin a call whose request message doesn't end."""
    head = peer.headers(STREAM)
    peer.send(head, DataFrame(head.stream_id, b"\0\0\x3f\xff\xff"))
    return head.stream_id


def _closed(peer: Peer) -> int:
    """Make a call, and return its stream, which is closed then."""
    peer.unary(HEALTH)
    return 1


def _resets(peer: Peer) -> Iterator[Frame]:
    for _ in range(_FRAMES // 4):
        head = peer.headers(STREAM)
        yield head
        yield DataFrame(head.stream_id, bytes(5), flags=["END_STREAM"])
        yield RstStreamFrame(head.stream_id, 8)


def _continuations(peer: Peer) -> Iterator[Frame]:
    head = peer.headers(STREAM)
    yield HeadersFrame(head.stream_id, head.data)
    yield from repeat(ContinuationFrame(head.stream_id), _FRAMES)


def _malformed(peer: Peer) -> Iterator[Frame]:
    for _ in range(_FRAMES // 4):
        yield peer.headers(STREAM, "END_STREAM", upgrade="h2c")


def _unknown_methods(peer: Peer) -> Iterator[Frame]:
    for _ in range(_FRAMES // 4):
        yield peer.headers("/no/such", "END_STREAM")


def _too_many_streams(peer: Peer) -> Iterator[Frame]:
    for _ in range(_FRAMES // 4):
        yield peer.headers(STREAM)
    for stream_id in range(1, 2 * 256, 2):  # those that were taken make room again
        yield RstStreamFrame(stream_id, 8)


# What ends at each hop: only this peer can have made it.
_HOP_BY_HOP: dict[str, Callable[[Peer], Iterable[Frame]]] = {
    "PING": lambda _: repeat(PingFrame(0, b"12345678"), _FRAMES),
    "answers to no PING": lambda _: repeat(PingFrame(0, b"12345678", flags=["ACK"]), _FRAMES),
    "SETTINGS": lambda _: repeat(SettingsFrame(), _FRAMES),
    "window sizes": lambda _: repeat(SettingsFrame(settings={4: 1000, 5: 16_384}), _FRAMES),
    "CONTINUATION": _continuations,
    "PRIORITY": lambda _: repeat(PriorityFrame(1, depends_on=3), _FRAMES),
    "unknown frames": lambda _: repeat(ExtensionFrame(0x42, 0), _FRAMES),
}
# What a proxy may pass on, or make itself, for clients that share its connection.
_RELAYED: dict[str, Callable[[Peer], Iterable[Frame]]] = {
    "empty DATA": lambda peer: repeat(DataFrame(_open(peer)), _FRAMES),
    "DATA of one byte": lambda peer: repeat(DataFrame(_open(peer), b"x"), _FRAMES),
    "DATA of padding": lambda peer: repeat(
        DataFrame(_open(peer), pad_length=1, flags=["PADDED"]), _FRAMES
    ),
    "DATA on a closed stream": lambda peer: repeat(
        DataFrame(_closed(peer), flags=["END_STREAM"]), _FRAMES
    ),
    "WINDOW_UPDATE of 1": lambda _: repeat(WindowUpdateFrame(0, 1), _FRAMES),
    "rapid reset": _resets,
    "streams that are refused": _too_many_streams,
    "malformed requests": _malformed,
    "unknown methods": _unknown_methods,
}


@pytest.mark.parametrize("flood", _HOP_BY_HOP.values(), ids=list(_HOP_BY_HOP))
def test_a_flood_of_a_peers_own_ends_its_connection_and_harms_no_other(
    server: WireEngine, client: _GoodClient, flood: Callable[[Peer], Iterable[Frame]]
) -> None:
    """What is cheap to send and dear to handle is answered with GOAWAY in the end."""
    before = anonymous_bytes()
    with Peer(server.port) as peer:
        peer.try_to_send(_in_chunks(flood(peer)))

        assert peer.until_closed()
        assert [0] != [goaway.error_code for goaway in peer.goaways] != []
    assert client.is_served()
    assert [] == client.failures
    assert anonymous_bytes() - before < 100 * _MIB


@pytest.mark.parametrize("flood", _RELAYED.values(), ids=list(_RELAYED))
def test_a_flood_that_a_proxy_may_pass_on_has_to_wait_and_harms_nobody(
    server: WireEngine, client: _GoodClient, flood: Callable[[Peer], Iterable[Frame]]
) -> None:
    """Strangers may share its connection: it goes on, and a call on it is answered, later."""
    before = anonymous_bytes()
    with Peer(server.port) as peer:
        peer.try_to_send(_in_chunks(flood(peer)))

        assert client.is_served()
        peer.unary(HEALTH)
        assert [] == peer.goaways
    assert [] == client.failures
    assert anonymous_bytes() - before < 100 * _MIB


def test_a_strangers_calls_go_on_beside_cancelled_ones(
    server: WireEngine, service: EndlessService
) -> None:
    """One connection, as behind a proxy: 3,000 calls begun and cancelled while one is read."""
    with Peer(server.port) as peer:
        stream_id = peer.call(STREAM)
        for _ in range(30):
            heads = [peer.headers(STREAM) for _ in range(100)]
            peer.send(*heads, *(request(head.stream_id, b"") for head in heads))
            peer.send(*(RstStreamFrame(head.stream_id, 8) for head in heads))
            assert peer.until_received(stream_id, peer.received(stream_id) + 1)

        assert peer.until_received(stream_id, peer.received(stream_id) + 1_000_000)
        assert [] == peer.goaways
        assert stream_id not in peer.resets
    assert service.blocks < 3_000  # hardly any of those was begun


@pytest.mark.parametrize("frame", [PingFrame(0, b"12345678"), SettingsFrame()], ids=repr)
def test_questions_without_listening_end_the_connection(
    server: WireEngine, service: EndlessService, client: _GoodClient, frame: Frame
) -> None:
    """A peer that asks and asks without reading the answers is dropped."""
    before = anonymous_bytes()
    with Peer(server.port, settings={4: MAX_WINDOW}, receive_bytes=4096) as peer:
        peer.open_window(MAX_WINDOW - 65_535, 0)
        peer.call(STREAM)
        assert eventually(lambda: _is_blocked(server))
        peer.socket.settimeout(1)
        peer.try_to_send(_in_chunks(repeat(frame, 5_000_000)))

        assert eventually(lambda: service.open == 1)  # the good client's
    assert client.is_served()
    assert [] == client.failures
    assert anonymous_bytes() - before < 100 * _MIB


def test_last_words_are_not_waited_for(server: WireEngine, service: EndlessService) -> None:
    """A peer that is at fault and takes nothing is gone in seconds, whatever it still sends."""
    with Peer(server.port, settings={4: MAX_WINDOW}, receive_bytes=4096) as peer:
        peer.open_window(MAX_WINDOW - 65_535, 0)
        peer.call(STREAM)
        assert eventually(lambda: _is_blocked(server))
        peer.send(*[PingFrame(opaque_data=bytes(8))] * 2300)

        assert eventually(lambda: not service.open)
        assert eventually(lambda: not server._server._sessions)


def test_unary_call_takes_one_message(server: WireEngine) -> None:
    """Further messages aren't collected until the call ends: they end it."""
    with Peer(server.port) as peer:
        head = peer.headers(STREAM)
        peer.send(head)
        peer.send_data(head.stream_id, bytes(5) * 2)

        assert peer.until_ended(head.stream_id)
        assert "12" == peer.trailers[head.stream_id]["grpc-status"]


def test_call_that_waits_for_its_window_holds_one_block(tmp_path: Path) -> None:
    """As many as a connection may have, none of which may send: each takes 2 MiB at most."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=32_768, dimension=64, batch_rows=16_384)
    service = EmbeddingService(
        Dataset(path, kept_head_bytes=0), chunk_rows=lambda _: 300, max_message_bytes=16 * _MIB
    )
    before = anonymous_bytes()
    with serving(service) as server, Peer(server.port, settings={4: 0}) as peer:
        calls = [peer.call((STREAM, ROWS)[number % 2]) for number in range(256)]
        peer.until(lambda: False, 1.5)

        assert anonymous_bytes() - before < 2 * _MIB * len(calls)


def test_requests_that_never_end_hold_little_memory(server: WireEngine) -> None:
    """Announcing large messages and sending nearly all of each doesn't fill memory."""
    before = anonymous_bytes()
    with Peer(server.port) as peer:
        for _ in range(100):
            head = peer.headers(STREAM)
            peer.send(head)
            if not peer.send_data(head.stream_id, b"\0\0\x3f\xff\xff" + bytes(4_000_000), 0.5):
                break

        assert anonymous_bytes() - before < 100 * _MIB


def test_empty_messages_that_nobody_takes_close_the_window(server: WireEngine) -> None:
    """A message counts, however short it is."""
    with Peer(server.port) as peer:
        head = peer.headers(STREAM)
        peer.send(head)
        is_taken = peer.send_data(head.stream_id, bytes(5) * 500_000, 0.5)

        assert not is_taken


_HTTP1 = {
    "curl": b"GET / HTTP/1.1\r\nHost: localhost:50051\r\nUser-Agent: curl/8.5.0\r\n\r\n",
    "short": b"GET /\r\n\r\n",
    "POST": b"POST /embedding.EmbeddingStreamService/GetEmbeddings HTTP/1.1\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "long": b"OPTIONS * HTTP/1.1\r\nCookie: " + b"x" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("text", _HTTP1.values(), ids=list(_HTTP1))
def test_http1_request_is_told_what_this_port_speaks(server: WireEngine, text: bytes) -> None:
    """Whoever tries a browser or curl reads what is wrong, and the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as peer:
        peer.sendall(text)
        peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"gRPC over HTTP/2" in body


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT"])
def test_http1_request_is_understood_in_pieces(server: WireEngine, method: bytes, cut: int) -> None:
    """TCP cuts where it likes."""
    text = method + b" / HTTP/1.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(text[:cut])
        time.sleep(0.05)
        peer.sendall(text[cut:])

        assert peer.recv(100).startswith(b"HTTP/1.1 505 ")


def _client_hello() -> bytes:
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


_GARBAGE = {
    "TLS": _client_hello(),
    "zeros": bytes(100_000),
    "almost a preface": PREFACE.replace(b"SM", b"MS") + bytes(100),
    "text": b"hello\n",
    **{f"noise {seed}": random.Random(seed).randbytes(10_000) for seed in range(5)},
    **{f"preface and noise {s}": PREFACE + random.Random(s).randbytes(50_000) for s in range(5)},
}


@pytest.mark.parametrize("garbage", _GARBAGE.values(), ids=list(_GARBAGE))
def test_garbage_is_hung_up_on(
    server: WireEngine, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends, whatever it was, and is no internal error."""
    with Peer(server.port, preface=False) as peer:
        peer.try_to_send([garbage])

        assert peer.until_closed()
    with Peer(server.port) as good:
        good.unary(HEALTH)
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_peer_that_takes_nothing_is_not_listened_to(tmp_path: Path, *, is_tls: bool) -> None:
    """Calls that cost it nothing aren't even read, until it reads their answers."""
    ca = trustme.CA()
    certificates = Certificates(*Files.made(tmp_path, ca)) if is_tls else None
    taken: list[int] = []
    received = Session.received

    def counted(session: Session, data: bytes) -> None:
        taken.append(len(data))
        received(session, data)

    with (
        mock.patch.object(Session, "received", counted),
        serving(EndlessService(), certificates=certificates) as server,
        Peer(
            server.port,
            settings={4: MAX_WINDOW},
            receive_bytes=4096,
            tls=client_context(ca, "h2") if is_tls else None,
        ) as peer,
    ):
        peer.open_window(MAX_WINDOW - 65_535, 0)
        stream = peer.call(STREAM)
        assert eventually(lambda: _is_blocked(server))
        taken.clear()
        calls = [peer.headers("/no/such", "END_STREAM", key="x" * 8000) for _ in range(100)]
        peer.send(*calls)
        assert eventually(lambda: taken)
        time.sleep(1)
        heard_bytes = sum(taken)
        peer.opens_windows = False

        assert 0 < heard_bytes < 400_000  # of 700,000
        assert peer.until(lambda: len(peer.trailers) == len(calls))
        assert stream not in peer.trailers

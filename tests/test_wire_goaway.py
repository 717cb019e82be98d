"""How connections end in peace: GOAWAY of either side, while calls go on."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame

from streamer.codec.message_run import MessageRun
from streamer.engines.wire import events as ours
from streamer.engines.wire.connection import DRAIN_PING, Connection
from streamer.errors import Status
from tests.memory_peer import (
    ALTSVC,
    DATA,
    DEFAULT_LIMITS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    MemoryPeer,
    calls_of,
    connected,
    frame,
    frames_in,
    handshake,
    kinds,
    last_goaway,
    prefixed,
    requests_of,
    window_update,
)


def test_calls_go_on_after_the_peers_goaway() -> None:
    """A GOAWAY between windows and messages ends nothing that is under way."""
    connection = connected()
    connection.receive(b"".join(requests_of([1, 3], ended=False)), 0.0)
    goaway = frame(GOAWAY, bytes(8))
    message = frame(DATA, prefixed(b"hi"), flags=END_STREAM, stream_id=1)
    before = connection.window(1)
    events = connection.receive(
        window_update(1, 10) + goaway + window_update(0, 20) + window_update(3, 30) + message, 0.0
    )
    connection.respond(1, [])
    connection.finish(3, Status.OK)

    assert [
        ours.WindowOpened(1),
        ours.PeerLeaving(),
        ours.WindowOpened(3),
        ours.MessagesArrived(1, MessageRun.of([b"hi"])),
        ours.RequestEnded(1),
    ] == events
    assert before + 10 == connection.window(1)


def test_nothing_that_is_due_is_lost_by_the_peers_goaway() -> None:
    """Answers that wait while a GOAWAY comes are still sent: headers change HPACK's table."""
    peer = MemoryPeer()
    first, second = peer.call(b"hello"), peer.call(b"hello")
    peer.exchange()
    peer.client.ping(b"12345678")
    peer.client.close_connection()
    peer.server.respond(first, [("key", "value")])
    peer.server.receive(peer.client.data_to_send(), 0.0)
    peer.server.finish(first, Status.OK)
    peer.server.finish(second, Status.OK, metadata=[("key", "value")])
    # h2's client takes nothing after its own GOAWAY.
    frames = frames_in(peer.server.control_bytes())

    assert [HEADERS, PING, HEADERS, HEADERS] == [frame.type for frame in frames]


def test_a_drain_asks_first_and_refuses_later() -> None:
    """GOAWAY with the highest id and a PING; calls still come in until the drain ends."""
    connection = connected()
    headers = requests_of([1, 3, 5], ended=False)
    connection.receive(headers[0], 0.0)
    connection.begin_drain()
    announced, ping = frames_in(connection.control_bytes())
    assert isinstance(announced, GoAwayFrame)
    assert isinstance(ping, PingFrame)
    still = connection.receive(headers[1] + frame(PING, ping.opaque_data, flags=1), 0.0)
    connection.end_drain()
    final = last_goaway(connection.control_bytes())
    late = connection.receive(headers[2], 0.0)
    (refusal,) = frames_in(connection.control_bytes())
    connection.finish(1, Status.OK)
    connection.finish(3, Status.OK)

    assert (2**31 - 1, ErrorCodes.NO_ERROR) == (announced.last_stream_id, announced.error_code)
    assert [ours.CallOpened, ours.PingAnswered] == kinds(still)
    assert ours.PingAnswered(DRAIN_PING) == still[-1]
    assert (3, ErrorCodes.NO_ERROR) == (final.last_stream_id, final.error_code)
    assert [] == late
    assert isinstance(refusal, RstStreamFrame)
    assert 4 == len(frames_in(connection.control_bytes()))


@pytest.mark.parametrize(
    "first",
    [b"", frame(ALTSVC, bytes(3)), frame(PRIORITY, bytes(5), stream_id=1)],
    ids=["nothing", "ALTSVC", "PRIORITY"],
)
def test_a_drain_can_begin_on_any_connection(first: bytes) -> None:
    """Whatever the peer has sent before, a connection that goes on can be drained."""
    connection = connected()
    connection.receive(first, 0.0)
    connection.begin_drain()
    events = connection.receive(requests_of([1])[0] + frame(PING, DRAIN_PING, flags=1), 0.0)
    connection.end_drain()

    assert [1] == calls_of(events)
    assert 1 == last_goaway(connection.control_bytes()).last_stream_id


def test_the_servers_first_frame_is_settings() -> None:
    """Also a peer that hasn't said anything yet gets SETTINGS first (RFC 9113 section 3.4)."""
    connection = Connection(DEFAULT_LIMITS, 0.0)
    connection.begin_drain()
    connection.receive(handshake(), 0.0)
    frames = frames_in(connection.control_bytes())

    assert "SettingsFrame" == type(frames[0]).__name__

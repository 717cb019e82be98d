"""Peers that don't speak HTTP/2, or speak it wrongly: each gets its answer, and then the end."""

from __future__ import annotations

import h2.events
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import SettingsFrame

from streamer.engines.wire.connection import Connection, ConnectionFailedError
from streamer.engines.wire.events import CallGone, Event, MessagesArrived
from streamer.engines.wire.limits import Limits
from streamer.engines.wire.stream import HeldOfAll
from tests.memory_peer import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_LIMITS,
    HEADERS,
    PING,
    PREFACE,
    PUSH_PROMISE,
    REQUEST,
    SETTINGS,
    MemoryPeer,
    answer_of,
    calls_of,
    connected,
    frame,
    frames_in,
    goaway_after,
    handshake,
    last_goaway,
    prefixed,
    receive_all,
    requests_of,
    window_update,
)

CLIENT_HELLO = bytes.fromhex("16030100c4010000c00303") + bytes(range(190))


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET /index.html HTTP/1.1\r\nHost: localhost:50051\r\nUser-Agent: curl\r\n\r\n",
        b"POST /package.Service/Method HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"PRI /somewhere HTTP/1.1\r\nHost: localhost:50051\r\nAccept: */*\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000,
    ],
)
def test_http_1_is_answered_in_its_own_words(request_line: bytes) -> None:
    """A request of any length gets 505 with a body of the length that it says."""
    connection = Connection(DEFAULT_LIMITS, 0.0)
    with pytest.raises(ConnectionFailedError):
        connection.receive(request_line, 0.0)
    head, _, body = connection.control_bytes().partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 505 ")
    assert b"Content-Length: %d" % len(body) in head


@pytest.mark.parametrize(
    "data",
    [CLIENT_HELLO, b"\0", b"PRI!", b"\x16\x03", bytes(1000), b"\xff" * 1000, b"SSH-2.0-x\r\n"],
)
def test_other_protocols_are_turned_away(data: bytes) -> None:
    """TLS on a clear-text port, or anything else, gets GOAWAY at once."""
    goaway = goaway_after(Connection(DEFAULT_LIMITS, 0.0), data)

    assert ErrorCodes.PROTOCOL_ERROR == goaway.error_code


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, b"x", stream_id=1),
        frame(HEADERS, b"", stream_id=0, flags=4),
        frame(HEADERS, b"", stream_id=2, flags=4),
        frame(HEADERS, b"\xff\xff\xff", stream_id=1, flags=4),
        frame(PUSH_PROMISE, bytes(4), stream_id=1, flags=4),
        frame(CONTINUATION, b"", stream_id=1),
        frame(PING, b"short"),
        frame(PING, bytes(8), stream_id=1),
        requests_of([3])[0] + requests_of([1])[0],
        requests_of([1], ended=False)[0] + frame(DATA, b"\xff", stream_id=1, flags=8),
        window_update(0, 0),
        window_update(9, 1),
        frame(HEADERS, b"\x20" * 3, stream_id=1, flags=4),
        frame(HEADERS, bytes(16_384), stream_id=1)
        + frame(CONTINUATION, bytes(16_384), stream_id=1) * 6,
    ],
)
def test_broken_frames_end_the_connection(data: bytes) -> None:
    """What HTTP/2 forbids is answered with GOAWAY and a code that isn't NO_ERROR."""
    goaway = goaway_after(connected(), data)

    assert ErrorCodes.NO_ERROR != goaway.error_code


@pytest.mark.parametrize("size", [16_385, 2**24 - 1])
def test_a_frame_that_is_too_long_fails_when_it_says_so(size: int) -> None:
    """FRAME_SIZE_ERROR before a byte of such a frame has come."""
    goaway = goaway_after(connected(), frame(DATA, stream_id=1, size=size))

    assert ErrorCodes.FRAME_SIZE_ERROR == goaway.error_code


def test_longer_frames_are_taken_where_the_settings_say_so() -> None:
    """A message of 60 KB in one frame; and one byte too many is still too long."""
    limits = Limits(max_request_bytes=1 << 20, max_frame_bytes=65_536)
    connection = Connection(limits, 0.0)
    connection.receive(handshake(), 0.0)
    (advertised,) = [
        part for part in frames_in(connection.control_bytes())
        if isinstance(part, SettingsFrame) and part.settings
    ]  # fmt: skip
    assert 65_536 == advertised.settings[SettingsFrame.MAX_FRAME_SIZE]
    connection.receive(requests_of([1], ended=False)[0], 0.0)
    part = frame(DATA, prefixed(b"x" * 60_000), stream_id=1)
    assert [] == connection.receive(part[:40_000], 0.0)
    (arrived,) = connection.receive(part[40_000:], 0.0)

    assert isinstance(arrived, MessagesArrived)
    assert [b"x" * 60_000] == list(arrived.messages)
    goaway = goaway_after(connection, frame(DATA, stream_id=1, size=65_537))
    assert ErrorCodes.FRAME_SIZE_ERROR == goaway.error_code


def test_too_many_header_fields_in_one_frame_end_their_call() -> None:
    """As they do in several."""
    connection = connected(Limits(max_frame_bytes=65_536))
    large = requests_of([1], [*REQUEST, (b"key", b"x" * 20_000)])[0]
    assert 16_384 < len(large)
    events = receive_all(connection, large + requests_of([3])[0])

    assert [3] == calls_of(events)
    assert 1 == connection.open_calls


def test_a_header_list_that_is_too_large_ends_its_call() -> None:
    """16 KiB may come, 17 KiB may not, however they are compressed; other calls go on."""
    peer = MemoryPeer()
    fits = peer.call(fields=[*REQUEST, (b"key", b"x" * 15_000)])
    too_large = peer.call(fields=[*REQUEST, (b"key", b"x" * 17_000)])
    events = peer.exchange()

    assert [fits] == calls_of(events)
    assert b"8" == answer_of(peer, too_large)[0][b"grpc-status"]
    assert 1 == peer.server.open_calls


def test_a_header_list_that_is_far_too_large_ends_the_connection() -> None:
    """What would have to be unpacked first, to find out which call it is."""
    peer = MemoryPeer()
    stream_id = peer.call()
    events = peer.exchange()
    # In one field it would be the same, but hpack takes seconds to encode that.
    peer.call(fields=[*REQUEST, *[(b"key", b"x" * 15_000)] * 18])
    with pytest.raises(ConnectionFailedError):
        peer.exchange()

    assert [stream_id] == calls_of(events)
    assert ErrorCodes.ENHANCE_YOUR_CALM == last_goaway(peer.server.control_bytes()).error_code


def test_an_hpack_bomb_is_not_unpacked() -> None:
    """A field of 4 KB that is indexed 16,000 times is refused."""
    connection = connected()
    connection.receive(requests_of([1], [*REQUEST, (b"bomb", b"x" * 4000)])[0], 0.0)
    bomb = frame(HEADERS, b"\xbe" * 16_000, flags=5, stream_id=3)
    goaway = goaway_after(connection, bomb)

    assert ErrorCodes.ENHANCE_YOUR_CALM == goaway.error_code


def test_an_integer_without_end_is_not_unpacked() -> None:
    """HPACK's integers may go on for ever; they are cut off with the block."""
    goaway = goaway_after(connected(), frame(HEADERS, b"\xff" * 16_000, flags=5, stream_id=1))

    assert ErrorCodes.NO_ERROR != goaway.error_code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (requests_of([1])[0], ErrorCodes.PROTOCOL_ERROR),
        (frame(SETTINGS, flags=ACK), ErrorCodes.PROTOCOL_ERROR),
        (handshake()[len(PREFACE) :] + frame(SETTINGS, bytes(6), flags=ACK),
         ErrorCodes.FRAME_SIZE_ERROR),
    ],
    ids=["a call before SETTINGS", "an answer before SETTINGS", "an answer with a payload"],
)  # fmt: skip
def test_settings_come_first_and_answers_to_them_are_empty(data: bytes, code: ErrorCodes) -> None:
    """RFC 9113 sections 3.4 and 6.5, which h2 doesn't insist on."""
    goaway = goaway_after(Connection(DEFAULT_LIMITS, 0.0), PREFACE + data)

    assert code == goaway.error_code


def test_unfinished_messages_of_a_server_are_bounded() -> None:
    """Who has sent much of one is refused; rows of a few KB go on, and so does who is left."""
    held = HeldOfAll()
    connections = []
    for _ in range(4):
        limits = Limits(max_request_bytes=200_000, max_unfinished_bytes=300_000)
        connections.append(Connection(limits, 0.0, held))
        connections[-1].receive(handshake() + requests_of([1, 3], ended=False)[0], 0.0)
    half = prefixed(bytes(160_000))[:150_000]
    for connection in connections[:2]:
        _send_data(connection, 1, half)
    assert 300_000 == held.unfinished.bytes
    assert [] == _send_data(connections[2], 1, half[:60_000])
    assert [CallGone(1)] == _send_data(connections[2], 1, half[60_000:])
    row = prefixed(b"x" * 5_000)
    (arrived,) = _send_data(connections[3], 1, row)

    assert isinstance(arrived, MessagesArrived)
    assert 300_000 == held.unfinished.bytes
    (done,) = _send_data(connections[0], 1, prefixed(bytes(160_000))[150_000:])
    assert isinstance(done, MessagesArrived)
    assert 150_000 == held.unfinished.bytes
    goaway_after(connections[1], frame(DATA, b"x"))  # on no stream: the connection's end
    assert 0 == held.unfinished.bytes
    for connection in connections:
        connection.lost()
    assert 0 == held.unfinished.bytes == held.calls.bytes


def test_open_calls_of_a_server_hold_a_bounded_amount_of_memory() -> None:
    """However many connections they come on; those that end make room."""
    held = HeldOfAll()
    limits = Limits(max_held_call_bytes=1_000_000)
    connections = [Connection(limits, 0.0, held) for _ in range(10)]
    opened = 0
    for connection in connections:
        events = receive_all(connection, handshake() + b"".join(requests_of(range(1, 201, 2))))
        opened += len(calls_of(events))
    assert 200 < opened < 1_000
    assert held.calls.bytes < 1_000_000 + 10 * 70_000
    late = Connection(limits, 0.0, held)
    assert [1] == calls_of(receive_all(late, handshake() + requests_of([1])[0]))  # holds little
    late.lost()
    for connection in connections:
        connection.lost()

    assert 0 == held.calls.bytes


def _send_data(connection: Connection, stream_id: int, data: bytes) -> list[Event]:
    """Send DATA until something comes of it."""
    for start in range(0, len(data), 16_384):
        part = frame(DATA, data[start : start + 16_384], stream_id=stream_id)
        if events := connection.receive(part, 0.0):
            return events
    return []


def test_unfinished_messages_of_a_connection_are_bounded() -> None:
    """Four calls may have sent nearly all of a message; the fifth is refused, and only it."""
    peer = MemoryPeer()
    part = prefixed(bytes(64 << 10))[:-10]
    calls = []
    for _ in range(5):
        calls.append(peer.call(ended=False))
        for start in range(0, len(part), 16_384):
            peer.client.send_data(calls[-1], part[start : start + 16_384])
            peer.exchange()
            if peer.heard_of(h2.events.TrailersReceived) or answer_of(peer, calls[-1]):
                break
    (answer,) = answer_of(peer, calls[-1])

    assert b"8" == answer[b"grpc-status"]
    assert 4 == peer.server.open_calls

"""Calls on a connection, without sockets: what the core says happened, and what it sends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

import h2.events
import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.codec.message_run import MessageRun
from streamer.engines.wire import events as ours
from streamer.engines.wire.connection import Connection
from streamer.engines.wire.limits import Limits
from streamer.errors import Status
from tests.memory_peer import (
    ACK,
    DATA,
    DEFAULT_LIMITS,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    MemoryPeer,
    answer_of,
    calls_of,
    connected,
    frame,
    frames_in,
    goaway_after,
    handshake,
    kinds,
    prefixed,
    receive_all,
    request_fields,
    requests_of,
    reset,
    window_update,
)


def test_a_call_is_opened_gets_its_message_and_ends() -> None:
    """A unary request makes four events, in order, after the peer is ready."""
    peer = MemoryPeer()
    stream_id = peer.call(b"hello")
    events = peer.exchange()
    opened = events[2]
    assert isinstance(opened, ours.CallOpened)

    assert [
        ours.PeerReady(),
        ours.WindowOpened(0),
        opened,
        ours.MessagesArrived(stream_id, MessageRun.of([b"hello"])),
        ours.RequestEnded(stream_id),
    ] == events
    assert "/package.Service/Method" == opened.head.path
    assert 1 == peer.server.open_calls


def test_headers_and_trailers_frame_the_messages() -> None:
    """A call that was answered gets status 200 first and its gRPC status last."""
    peer = MemoryPeer()
    stream_id = peer.call(b"hello")
    peer.exchange()
    peer.server.respond(stream_id, [("rows", "7")])
    peer.take(stream_id, prefixed(b"world"))
    peer.server.finish(stream_id, Status.OK, metadata=[("key-bin", b"\xff")])
    peer.exchange()
    head, trailers = answer_of(peer, stream_id)

    assert (b"200", b"application/grpc") == (head[b":status"], head[b"content-type"])
    assert b"7" == head[b"rows"]
    assert {b"grpc-status": b"0", b"key-bin": b"/w"} == trailers
    assert 1 == len(peer.heard_of(h2.events.StreamEnded))
    assert 0 == peer.server.open_calls


def test_a_call_that_fails_at_once_gets_trailers_only() -> None:
    """Without a response before, status and headers are one block that ends the stream."""
    peer = MemoryPeer()
    stream_id = peer.call(b"hello")
    peer.exchange()
    peer.server.finish(stream_id, Status.NOT_FOUND, "no such row: 7 %")
    peer.exchange()
    (answer,) = answer_of(peer, stream_id)

    assert b"200" == answer[b":status"]
    assert b"5" == answer[b"grpc-status"]
    assert b"no such row: 7 %" == unquote_to_bytes(answer[b"grpc-message"])
    assert 1 == len(peer.heard_of(h2.events.StreamEnded))


def test_the_rest_of_a_request_that_is_answered_is_not_asked_for() -> None:
    """A call that is finished before its request ends is reset with NO_ERROR afterwards."""
    peer = MemoryPeer()
    stream_id = peer.call(b"hello", ended=False)
    peer.exchange()
    peer.server.finish(stream_id, Status.OK)
    _, last = frames_in(peer.server.control_bytes())
    assert isinstance(last, RstStreamFrame)

    assert (stream_id, ErrorCodes.NO_ERROR) == (last.stream_id, last.error_code)


@pytest.mark.parametrize("text", [" a status", "a status ", "\ta\n", "é" * 9, " "])
def test_any_status_text_is_a_valid_header(text: str) -> None:
    """Header values with white space at an end are malformed (RFC 9113 section 8.2.1)."""
    peer = MemoryPeer()
    stream_id = peer.call(b"hello")
    peer.exchange()
    peer.server.finish(stream_id, Status.INTERNAL, text)
    peer.exchange()

    assert b"13" == answer_of(peer, stream_id)[0][b"grpc-status"]


@pytest.mark.parametrize("how", ["reset by the peer", "finished", "reset", "never opened"])
def test_streams_that_are_gone_take_everything_in_silence(how: str) -> None:
    """Answers that come too late are dropped, without bytes and without errors."""
    peer = MemoryPeer()
    stream_id = peer.call(b"hello", ended=False)
    peer.exchange()
    if how == "reset by the peer":
        peer.client.reset_stream(stream_id)
    elif how == "finished":
        peer.server.finish(stream_id, Status.OK)
    elif how == "reset":
        peer.server.reset(stream_id, ErrorCodes.CANCEL)
    else:
        stream_id = 99
    peer.exchange()
    peer.server.respond(stream_id, [])
    peer.server.finish(stream_id, Status.OK)
    peer.server.reset(stream_id, ErrorCodes.CANCEL)
    peer.server.consumed(stream_id, MessageRun.of([b"hello"]))

    assert b"" == peer.server.control_bytes()
    assert 0 == peer.server.window(stream_id)


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, b"x", stream_id=1),
        reset(1),
        requests_of([1])[0] + b"\xff" * 9,
        requests_of([1])[0] + frame(PING, b"short"),
    ],
    ids=["DATA without a call", "RST_STREAM without a call", "garbage", "a short PING"],
)
def test_a_connection_that_failed_takes_everything_in_silence(data: bytes) -> None:
    """What is still said to a connection after its end raises nothing."""
    connection = connected()
    goaway_after(connection, data)
    connection.respond(1, [])
    connection.consumed(1, MessageRun.of([b""]))
    connection.ping(b"12345678")
    connection.finish(1, Status.OK)
    connection.reset(1, ErrorCodes.CANCEL)
    connection.begin_drain()
    connection.end_drain()


def test_a_reset_ends_a_call() -> None:
    """The peer's RST_STREAM is one event, and the call is closed."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    peer.exchange()
    peer.client.reset_stream(stream_id, ErrorCodes.CANCEL)

    assert [ours.CallGone(stream_id)] == peer.exchange()
    assert 0 == peer.server.open_calls


def test_a_call_may_be_opened_and_reset_in_one_chunk() -> None:
    """The answers to a call that the same bytes have reset are dropped."""
    connection = connected()
    events = connection.receive(requests_of([1], ended=False)[0] + reset(1), 0.0)

    assert [ours.CallOpened, ours.CallGone] == kinds(events)
    assert b"" == connection.control_bytes()


def test_a_malformed_request_may_be_reset_in_one_chunk() -> None:
    """A refusal that comes too late is dropped, and the call never was."""
    connection = connected()
    headers = requests_of([1], request_fields(content_type="text/html"), ended=False)

    assert [] == connection.receive(headers[0] + reset(1), 0.0)
    assert b"" == connection.control_bytes()
    assert 0 == connection.open_calls


@pytest.mark.parametrize(
    ("fields", "http_status", "status"),
    [
        (request_fields(content_type="text/html"), b"415", b"2"),
        (request_fields(content_type=None), b"415", b"2"),
        (request_fields(method="GET"), b"405", b"13"),
        (request_fields(te=None), b"200", b"13"),
        (request_fields(path="/nothing"), b"200", b"12"),
        (request_fields((b"grpc-timeout", b"soon")), b"200", b"13"),
        (request_fields((b"key-bin", b"!")), b"200", b"13"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_a_request_that_is_no_call_is_answered(
    fields: list[Any], http_status: bytes, status: bytes, *, ended: bool
) -> None:
    """Such a request makes no event, gets its answer, and leaves the connection as it was."""
    peer = MemoryPeer()
    bad = peer.call(fields=fields, ended=ended)
    good = peer.call(b"hello")
    events = peer.exchange()
    (answer,) = answer_of(peer, bad)

    assert (http_status, status) == (answer[b":status"], answer[b"grpc-status"])
    assert [good] == calls_of(events)


_BAD_HEAD = requests_of([1], request_fields(te=None), ended=False)[0]
_BAD_MESSAGE = requests_of([1], ended=False)[0] + frame(DATA, prefixed(b"", 2), stream_id=1)


@pytest.mark.parametrize(
    "refused",
    [
        _BAD_HEAD + frame(DATA, prefixed(b"hello"), flags=END_STREAM, stream_id=1),
        _BAD_HEAD + frame(HEADERS, flags=END_STREAM | END_HEADERS, stream_id=1),
        _BAD_MESSAGE + frame(DATA, flags=END_STREAM, stream_id=1),
        _BAD_MESSAGE + frame(DATA, b"more", stream_id=1) + reset(1),
    ],
    ids=["head, then message", "head, then trailers", "message, then end", "message, then reset"],
)
def test_a_refused_request_may_end_in_the_same_chunk(refused: bytes) -> None:
    """What the bytes behind a refusal say about its stream is no fault of the connection."""
    connection = connected()
    connection.receive(refused, 0.0)
    events = connection.receive(frame(PING, b"12345678", flags=ACK), 0.0)

    assert [ours.PingAnswered(b"12345678")] == events
    assert 0 == connection.open_calls


def test_a_request_that_ends_within_a_message_is_refused() -> None:
    """Half a message and the end of the stream get INTERNAL, and the call is gone."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    peer.client.send_data(stream_id, prefixed(b"hello")[:-1], end_stream=True)
    events = peer.exchange()

    assert ours.CallGone(stream_id) == events[-1]
    assert b"13" == answer_of(peer, stream_id)[0][b"grpc-status"]


def test_data_after_the_end_of_a_request_ends_its_call() -> None:
    """STREAM_CLOSED for the one stream (RFC 9113 section 5.1); the connection goes on."""
    connection = connected()
    first, second = requests_of([1, 3])
    after_end = frame(DATA, b"x", stream_id=1)
    events = connection.receive(first + after_end + second, 0.0)
    (answer,) = frames_in(connection.control_bytes())
    assert isinstance(answer, RstStreamFrame)

    assert [1, 3] == calls_of(events)
    assert ours.CallGone(1) in events
    assert (1, ErrorCodes.STREAM_CLOSED) == (answer.stream_id, answer.error_code)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (prefixed(b"", 2), b"13"),
        (prefixed(b"", 1), b"13"),
        (b"\0" + (2**20).to_bytes(4, "big"), b"8"),
    ],
)
def test_a_message_that_wont_do_ends_its_call(data: bytes, status: bytes) -> None:
    """Wrong prefixes and messages that are too large are refused as soon as they begin."""
    peer = MemoryPeer(Limits(max_request_bytes=2**20 - 1))
    stream_id = peer.call(ended=False)
    peer.client.send_data(stream_id, data)
    events = peer.exchange()

    assert ours.CallGone(stream_id) == events[-1]
    assert status == answer_of(peer, stream_id)[0][b"grpc-status"]


def test_a_stream_too_many_is_refused_alone() -> None:
    """REFUSED_STREAM for the one, while the others go on, and room is made by an end."""
    connection = connected(Limits(max_streams_per_connection=2))
    headers = requests_of([1, 3, 5, 7], ended=False)
    opened = connection.receive(b"".join(headers[:3]), 0.0)
    (refusal,) = frames_in(connection.control_bytes())
    late = connection.receive(frame(DATA, prefixed(b"late"), stream_id=5), 0.0)
    connection.finish(1, Status.OK)
    after = connection.receive(frame(DATA, prefixed(b"hi"), stream_id=3) + headers[3], 0.0)
    assert isinstance(refusal, RstStreamFrame)

    assert [1, 3] == calls_of(opened)
    assert (5, ErrorCodes.REFUSED_STREAM) == (refusal.stream_id, refusal.error_code)
    assert [] == late
    assert [ours.MessagesArrived, ours.CallOpened] == kinds(after)


CONVERSATION = (
    handshake()
    + b"".join(requests_of([1, 3], encoder=(encoder := Encoder()), ended=False))
    + frame(DATA, prefixed(b"one") + prefixed(b"two")[:3], stream_id=1)
    + frame(DATA, prefixed(b"two")[3:] + prefixed(b""), flags=END_STREAM, stream_id=1)
    + window_update(0, 100)
    + frame(PING, b"12345678")
    + frame(200, b"an extension")
    + requests_of([5], request_fields(te=None), encoder=encoder)[0]
    + window_update(3, 50)
    + reset(3)
    + frame(PING, b"alive???", flags=1)
    + frame(GOAWAY, bytes(8))
)


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(CONVERSATION))))
def test_events_dont_depend_on_how_bytes_are_cut(cuts: list[int]) -> None:
    """Pieces of any size give the same events and the same answers as the whole."""
    bounds = [0, *sorted(cuts), len(CONVERSATION)]
    whole, pieces = (Connection(DEFAULT_LIMITS, 0.0) for _ in range(2))
    events = [
        event
        for start, stop in pairwise(bounds)
        for event in receive_all(pieces, CONVERSATION[start:stop])
    ]

    assert receive_all(whole, CONVERSATION) == events
    assert frames_text(whole) == frames_text(pieces)


def test_bytes_may_come_one_at_a_time() -> None:
    """The same conversation, byte by byte."""
    whole, pieces = (Connection(DEFAULT_LIMITS, 0.0) for _ in range(2))
    events = [event for byte in CONVERSATION for event in pieces.receive(bytes([byte]), 0.0)]

    assert receive_all(whole, CONVERSATION) == events
    assert frames_text(whole) == frames_text(pieces)


def frames_text(connection: Connection) -> list[str]:
    """Return what is due to the peer, without an order between streams."""
    return sorted(map(repr, frames_in(connection.control_bytes())))

"""Requests that HTTP/2 forbids: each is refused alone, whoever shares its connection."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import h2.events
import pytest
from hpack import Encoder
from hyperframe.frame import RstStreamFrame

from streamer.engines.wire import events as ours
from streamer.errors import Status
from tests.memory_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    REQUEST,
    Field,
    MemoryPeer,
    answer_of,
    calls_of,
    connected,
    frame,
    frames_in,
    prefixed,
    receive_all,
    request_fields,
    requests_of,
    reset,
    window_update,
)

# RFC 9113 sections 8.1.1, 8.2, 8.2.1, 8.2.2 and 8.3.1; what h2 doesn't insist on is left out.
MALFORMED: dict[str, list[Field]] = {
    "a blank before a value": request_fields((b"key", b" value")),
    "a blank after a value": request_fields((b"key", b"value ")),
    "a tab before a value": request_fields((b"key", b"\tvalue")),
    "NUL in a value": request_fields((b"key", b"val\0ue")),
    "a line feed in a value": request_fields((b"key", b"val\nue")),
    "a carriage return in a value": request_fields((b"key", b"val\rue")),
    "a capital letter in a name": request_fields((b"Key", b"value")),
    "a blank in a name": request_fields((b"k ey", b"value")),
    "a colon in a name": request_fields((b"k:ey", b"value")),
    "a letter beyond ASCII in a name": request_fields((b"k\xc3\xa9y", b"value")),
    "no name": request_fields((b"", b"value")),
    "te that isn't trailers": request_fields(te="gzip"),
    "connection": request_fields((b"connection", b"close")),
    "keep-alive": request_fields((b"keep-alive", b"timeout=5")),
    "proxy-connection": request_fields((b"proxy-connection", b"close")),
    "transfer-encoding": request_fields((b"transfer-encoding", b"chunked")),
    "upgrade": request_fields((b"upgrade", b"h2c")),
    "neither :authority nor host": request_fields(authority=None),
    "host that isn't :authority": request_fields((b"host", b"elsewhere")),
    "two hosts": request_fields((b"host", b"localhost"), (b"host", b"localhost")),
    "no :method": request_fields(method=None),
    "no :scheme": request_fields(scheme=None),
    "no :path": request_fields(path=None),
    "an empty :path": request_fields(path=""),
    "two :path": [*REQUEST[:3], *REQUEST[2:]],
    "a pseudo-header field of an answer": [(b":status", b"200"), *REQUEST],
    "the status of an interim answer": [(b":status", b"100"), *REQUEST],
    "an unknown pseudo-header field": [(b":key", b"value"), *REQUEST],
    "a pseudo-header field after others": [*REQUEST[1:], REQUEST[0]],
    "content-length that is no number": request_fields((b"content-length", b"many")),
    "two content-lengths": request_fields((b"content-length", b"7"), (b"content-length", b"8")),
}


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_request_is_refused_alone(kind: str, *, ended: bool) -> None:
    """Calls before and after it go on; HPACK's table, which it has changed, is still right."""
    connection = connected()
    encoder = Encoder()
    before, bad, after = (
        requests_of([stream_id], fields, encoder=encoder, ended=ended)[0]
        for stream_id, fields in ((1, REQUEST), (3, MALFORMED[kind]), (5, REQUEST))
    )
    rest = b"" if ended else frame(DATA, prefixed(b"x"), flags=END_STREAM, stream_id=3)
    events = receive_all(connection, before + bad + rest + after)
    answers = {part.stream_id for part in frames_in(connection.control_bytes())}

    assert [1, 5] == calls_of(events)
    assert [3] == [e.stream_id for e in events if isinstance(e, ours.RequestMalformed)]
    assert {3} == answers
    assert 2 == connection.open_calls


def test_the_caller_is_told_what_is_wrong() -> None:
    """400, and INTERNAL with a text, for whoever reads it."""
    peer = MemoryPeer()
    peer.client.config.validate_outbound_headers = False
    stream_id = peer.call(fields=request_fields((b"key", b"two\0words")))
    peer.exchange()
    (answer,) = answer_of(peer, stream_id)

    assert (b"400", b"13") == (answer[b":status"], answer[b"grpc-status"])
    assert b"Illegal character" in unquote_to_bytes(answer[b"grpc-message"])


@pytest.mark.parametrize(
    "rest",
    [
        frame(DATA, bytes(8), stream_id=1),
        frame(DATA, bytes(6), flags=END_STREAM, stream_id=1),
        frame(HEADERS, Encoder().encode([(b"key", b"value")]), flags=END_HEADERS, stream_id=1),
        frame(
            HEADERS, Encoder().encode([(b":path", b"/")]),
            flags=END_HEADERS | END_STREAM, stream_id=1,
        ),
        frame(HEADERS, Encoder().encode([(b"a", b"\0")])[:2], flags=END_STREAM, stream_id=1)
        + frame(
            CONTINUATION, Encoder().encode([(b"a", b"\0")])[2:], flags=END_HEADERS, stream_id=1
        ),
    ],
    ids=["too long", "too short", "trailers without end", ":path in trailers", "NUL in trailers"],
)  # fmt: skip
def test_the_rest_of_a_request_may_be_malformed_too(rest: bytes) -> None:
    """A length other than content-length says, and trailers that won't do, end their call."""
    connection = connected()
    head = requests_of([1], request_fields((b"content-length", b"7")), ended=False)[0]
    events = receive_all(connection, head + rest + requests_of([3])[0])

    assert [1, 3] == calls_of(events)
    assert ours.CallGone(1) in events
    assert 1 == connection.open_calls


def test_a_malformed_request_takes_nothing_of_the_connections_window() -> None:
    """DATA that is refused is acknowledged: a hundred such calls leave others their window."""
    peer = MemoryPeer()
    for _ in range(100):
        stream_id = peer.call(fields=request_fields((b"content-length", b"7")), ended=False)
        peer.client.send_data(stream_id, bytes(15_000))
        peer.exchange()
    good = peer.call(b"x" * 10_000)
    events = peer.exchange()

    assert any(isinstance(event, ours.MessagesArrived) for event in events)
    assert good in calls_of(events)


def test_a_call_under_way_that_goes_wrong_gets_trailers() -> None:
    """Its headers were sent already: the status comes as with any failure."""
    peer = MemoryPeer()
    stream_id = peer.call(fields=request_fields((b"content-length", b"7")), ended=False)
    peer.exchange()
    peer.server.respond(stream_id, [])
    peer.client.send_data(stream_id, bytes(8))
    peer.exchange()

    assert str(int(Status.INTERNAL)).encode() == answer_of(peer, stream_id)[-1][b"grpc-status"]
    assert not peer.heard_of(h2.events.ConnectionTerminated)


def test_priority_in_headers_means_nothing() -> None:
    """Neither on a request that will do nor on one that won't; not even on itself."""
    connection = connected()
    encoder = Encoder()
    blocks = [encoder.encode(fields) for fields in (REQUEST, request_fields(te="gzip"), REQUEST)]
    itself = (1).to_bytes(4, "big") + b"\x10"
    priority = 0x20
    data = b"".join(
        frame(HEADERS, itself + block, flags=END_HEADERS | END_STREAM | priority, stream_id=number)
        for number, block in zip((1, 3, 5), blocks, strict=True)
    )
    events = receive_all(connection, data)
    resets = [f for f in frames_in(connection.control_bytes()) if isinstance(f, RstStreamFrame)]

    assert [1, 5] == calls_of(events)
    assert [] == resets


def test_a_reset_of_no_stream_is_ignored() -> None:
    """Haproxy 2.6 cancels a call so that it hasn't begun yet; others share its connection."""
    connection = connected()
    events = receive_all(connection, requests_of([1])[0] + reset(0)[:10])
    events += receive_all(connection, reset(0)[10:] + frame(PING, b"12345678", flags=ACK))

    assert [1] == calls_of(events)
    assert ours.PingAnswered(b"12345678") == events[-1]


def test_a_refused_stream_is_closed_whatever_was_wrong() -> None:
    """What comes for it in the same read is no fault of the connection."""
    connection = connected()
    (bad,) = requests_of([1], MALFORMED["the status of an interim answer"])
    events = receive_all(connection, bad + window_update(1, 5) + requests_of([3])[0])

    assert [3] == calls_of(events)

"""Peers that ask for much: floods end the connection, heavy use doesn't."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import GoAwayFrame

from streamer.engines.wire import events as ours
from streamer.engines.wire.connection import Connection, ConnectionFailedError
from streamer.errors import Status
from tests.memory_peer import (
    ACK,
    ALTSVC,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    REQUEST,
    SETTINGS,
    connected,
    frame,
    frames_in,
    goaway_after,
    last_goaway,
    prefixed,
    request_fields,
    requests_of,
    reset,
    window_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.memory_peer import Field

_KIB = 1 << 10
# What a flood may cost at most before it ends, whether it comes at once or bit by bit.
_ENOUGH_FRAMES = 20_000
_READ_BYTES = 64 * _KIB


def _forever(data: bytes, before: bytes = b"") -> Iterator[bytes]:
    yield before
    yield from itertools.repeat(data)


def _new_streams(
    fields: Sequence[Field] = REQUEST, *, then_reset: bool = False, ended: bool = False
) -> Iterator[bytes]:
    encoder = Encoder()
    for stream_id in itertools.count(1, 2):
        (headers,) = requests_of([stream_id], fields, encoder=encoder, ended=ended)
        yield headers + (reset(stream_id) if then_reset else b"")


_OPEN = requests_of([1], ended=False)[0]
_DEAD = _OPEN + reset(1)

FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "PING": lambda: _forever(frame(PING, bytes(8))),
    "answers to PING": lambda: _forever(frame(PING, bytes(8), flags=ACK)),
    "SETTINGS": lambda: _forever(frame(SETTINGS)),
    "SETTINGS that change windows": lambda: _forever(frame(SETTINGS, b"\0\4\0\0\0\1", flags=0)),
    "answers to SETTINGS": lambda: _forever(frame(SETTINGS, flags=ACK)),
    "empty DATA": lambda: _forever(frame(DATA, stream_id=1), _OPEN),
    "DATA of padding": lambda: _forever(frame(DATA, b"\0", flags=PADDED, stream_id=1), _OPEN),
    "DATA for a dead stream": lambda: _forever(frame(DATA, b"x", stream_id=1), _DEAD),
    "ends of a dead stream": lambda: _forever(frame(DATA, flags=END_STREAM, stream_id=1), _DEAD),
    "HEADERS of a dead stream": lambda: _forever(
        frame(HEADERS, b"\x82", flags=END_HEADERS, stream_id=1), _DEAD
    ),
    "empty HEADERS": lambda: (
        frame(HEADERS, flags=END_HEADERS, stream_id=number) for number in itertools.count(1, 2)
    ),
    "CONTINUATION": lambda: _forever(frame(CONTINUATION, stream_id=1), frame(HEADERS, stream_id=1)),
    "windows of a stream": lambda: _forever(window_update(1, 1), _OPEN),
    "windows of a dead stream": lambda: _forever(window_update(1, 1), _DEAD),
    "windows of a connection": lambda: _forever(window_update(0, 1)),
    "PRIORITY": lambda: _forever(frame(PRIORITY, b"\0\0\0\2\0", stream_id=1)),
    "extensions": lambda: _forever(frame(200)),
    "ALTSVC": lambda: _forever(frame(ALTSVC, b"\0\0")),
    "GOAWAY": lambda: _forever(frame(GOAWAY, bytes(8))),
    "RST_STREAM": lambda: _forever(reset(1), _DEAD),
    "long HEADERS": lambda: _new_streams(
        [*REQUEST, *((b"key%d" % number, b"a" * 1000) for number in range(12))], then_reset=True
    ),
    "rapid reset": lambda: _new_streams(then_reset=True),
    "rapid reset of bad requests": lambda: _new_streams(request_fields(te=None), then_reset=True),
    "streams too many": _new_streams,
    "bad requests without end": lambda: _new_streams(request_fields(te=None)),
}
# The first such frame is a fault of its own.
_ENDED_BY_H2 = {"ALTSVC", "empty HEADERS"}


@pytest.mark.parametrize("frames_a_read", [1, 50, None])
@pytest.mark.parametrize("kind", FLOODS)
def test_floods_end_the_connection(kind: str, frames_a_read: int | None) -> None:
    """A bounded number of frames is handled, 20,000 a second; the last word says why."""
    frames = itertools.islice(FLOODS[kind](), _ENOUGH_FRAMES)
    goaway = _goaway_after_all(connected(), _chunks(frames, frames_a_read))

    if kind not in _ENDED_BY_H2:
        assert ErrorCodes.ENHANCE_YOUR_CALM == goaway.error_code
    assert ErrorCodes.NO_ERROR != goaway.error_code


def _goaway_after_all(connection: Connection, chunks: Iterable[tuple[int, bytes]]) -> GoAwayFrame:
    """Feed chunks, 20,000 frames a second, and return the GOAWAY that ends them."""
    now = 0.0
    answers = b""
    for count, data in chunks:
        now += count / 20_000
        try:
            connection.receive(data, now)
        except ConnectionFailedError:
            return last_goaway(answers + connection.control_bytes())
        answers = connection.control_bytes()
    pytest.fail("the flood was let pass")


def _chunks(frames: Iterator[bytes], frames_a_read: int | None) -> Iterator[tuple[int, bytes]]:
    """Join so many frames, or what a read of a socket takes."""
    chunk, count = b"", 0
    for data in frames:
        chunk += data
        count += 1
        if count == frames_a_read or len(chunk) > _READ_BYTES:
            yield count, chunk
            chunk, count = b"", 0


def test_a_byte_at_a_time_is_a_flood_of_windows() -> None:
    """A peer that takes DATA byte by byte makes frames that the server pays for."""
    connection = connected(settings=b"\0\4\0\0\0\0")
    connection.receive(_OPEN, 0.0)
    connection.respond(1, [])

    def byte_by_byte() -> Iterator[tuple[int, bytes]]:
        for _ in range(_ENOUGH_FRAMES):
            yield 1, window_update(1, 1) + window_update(0, 1)
            connection.account(1, connection.window(1))

    goaway = _goaway_after_all(connection, byte_by_byte())

    assert ErrorCodes.ENHANCE_YOUR_CALM == goaway.error_code


def test_pings_that_come_too_often_are_called_by_their_name() -> None:
    """The third early PING gets the words that gRPC clients slow down for (gRFC A8)."""
    connection = connected()
    for now in (0.0, 1.0, 2.0):
        connection.receive(frame(PING, bytes(8)), now)
    assert 3 == len(frames_in(connection.control_bytes()))
    goaway = goaway_after(connection, frame(PING, bytes(8)), 3.0)

    assert ErrorCodes.ENHANCE_YOUR_CALM == goaway.error_code
    assert b"too_many_pings" == goaway.additional_data


@pytest.mark.parametrize("seconds", [9.0, 10.0, 30.0])
def test_pings_at_the_permitted_interval_are_answered(seconds: float) -> None:
    """A client may keep an idle connection alive for as long as it likes."""
    connection = connected()
    for number in range(100):
        connection.receive(frame(PING, bytes(8)), number * seconds)

    assert 100 == len(frames_in(connection.control_bytes()))


def test_pings_between_messages_are_answered() -> None:
    """Clients that measure the line ping whenever DATA or headers have come."""
    connection = connected()
    connection.receive(_OPEN, 0.0)
    connection.respond(1, [])
    for number in range(1_000):
        connection.receive(window_update(1, 100) + window_update(0, 100), number * 0.01)
        connection.account(1, 100)
        for _ in range(2):
            connection.receive(frame(PING, bytes(8)), number * 0.01)

    assert not any(isinstance(f, GoAwayFrame) for f in frames_in(connection.control_bytes()))


class Caller:
    """A client in a hurry: frames by hand, sent when `flush` says so, as time passes."""

    def __init__(self) -> None:
        self.connection = connected()
        self.now = 0.0
        self._encoder = Encoder()
        self._next_stream = 1
        self._pending: list[bytes] = []

    def call(self, message: bytes = bytes(60), *, ended: bool = True) -> int:
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        self._pending += requests_of([stream_id], encoder=self._encoder, ended=False)
        if message:
            flags = END_STREAM if ended else 0
            self.send(frame(DATA, prefixed(message), flags=flags, stream_id=stream_id))
        return stream_id

    def send(self, data: bytes) -> None:
        self._pending.append(data)

    def flush(self, seconds: float = 0.0) -> None:
        """Deliver what is pending, in reads of 64 KiB, and let time pass."""
        data = b"".join(self._pending)
        self._pending.clear()
        for start in range(0, len(data), _READ_BYTES):
            for event in self.connection.receive(data[start : start + _READ_BYTES], self.now):
                if isinstance(event, ours.MessageArrived):
                    self.connection.consumed(event.stream_id, event.message)
        self.connection.control_bytes()
        self.now += seconds

    def answer(self, stream_id: int, message_bytes: int = 100) -> None:
        """Answer a call as the server does."""
        self.connection.respond(stream_id, [])
        self.connection.account(stream_id, message_bytes)
        self.connection.finish(stream_id, Status.OK)

    def open_windows(self, stream_id: int, size: int) -> None:
        """Give back what was read, to the stream and to the connection."""
        self.send(window_update(stream_id, size))
        self.send(window_update(0, size))


@pytest.mark.parametrize("calls_a_second", [1_000, 5_000])
def test_calls_may_follow_one_another_at_any_rate(calls_a_second: int) -> None:
    """GRPC's C-core sends two WINDOW_UPDATEs with each unary call, and sometimes a PING."""
    caller = Caller()
    for number in range(6_000):
        stream_id = caller.call()
        caller.flush(1 / calls_a_second)
        caller.answer(stream_id)
        caller.open_windows(stream_id, 100)
        if number % 100 == 0:
            caller.send(frame(PING, bytes(8)))

    assert 0 == caller.connection.open_calls


def test_calls_may_come_in_crowds() -> None:
    """256 calls at a time, one crowd after another, 10,000 calls a second."""
    caller = Caller()
    for _ in range(20):
        stream_ids = [caller.call() for _ in range(256)]
        caller.flush(256 / 10_000)
        for stream_id in stream_ids:
            caller.answer(stream_id)
            caller.open_windows(stream_id, 100)

    assert 0 == caller.connection.open_calls


def test_calls_may_be_cancelled_in_crowds() -> None:
    """A client with 256 calls may end all of them at once, and do so again a little later."""
    caller = Caller()
    for _ in range(10):
        stream_ids = [caller.call() for _ in range(256)]
        caller.flush(2.0)
        for stream_id in stream_ids:
            caller.send(reset(stream_id))
        caller.flush(0.5)

    assert 0 == caller.connection.open_calls


@pytest.mark.parametrize("window_bytes", [8 * _KIB, 16 * _KIB, 64 * _KIB])
def test_windows_may_be_opened_in_small_steps(window_bytes: int) -> None:
    """A client that reads 8 KiB at a time, at 1 GB/s, may say so for both windows."""
    caller = Caller()
    stream_id = caller.call()
    caller.flush()
    caller.connection.respond(stream_id, [])
    for _ in range((64 << 20) // window_bytes):
        size = min(window_bytes, caller.connection.window(stream_id))
        caller.connection.account(stream_id, size)
        caller.open_windows(stream_id, size)
        caller.flush(size / 1e9)

    assert caller.connection.window(stream_id) > 0


def test_a_stream_of_small_messages_is_no_flood() -> None:
    """60 bytes a DATA frame, 50,000 messages a second, in reads of 64 KiB."""
    caller = Caller()
    stream_id = caller.call(b"")
    message = frame(DATA, prefixed(bytes(55)), stream_id=stream_id)
    for _ in range(60):
        for _ in range(450):  # half a window
            caller.send(message)
        caller.flush(450 / 50_000)

    assert 1 == caller.connection.open_calls


def test_messages_may_go_to_and_fro() -> None:
    """Small messages in both directions, 5,000 a second, each read announced by windows."""
    caller = Caller()
    stream_id = caller.call(b"")
    caller.flush()
    caller.connection.respond(stream_id, [])
    for _ in range(10_000):
        caller.send(frame(DATA, prefixed(bytes(60)), stream_id=stream_id))
        caller.flush(1 / 5_000)
        caller.connection.account(stream_id, 65)
        caller.open_windows(stream_id, 65)

    assert 1 == caller.connection.open_calls


def test_refused_requests_leave_nothing_behind() -> None:
    """After some thousand requests memory doesn't grow any more."""
    connection = connected()
    requests = _new_streams(request_fields(te=None), ended=True)

    def feed(count: int) -> None:
        for _ in range(count // 10):
            connection.receive(b"".join(itertools.islice(requests, 10)), 0.0)
            connection.control_bytes()

    tracemalloc.start()
    try:
        feed(6_000)
        before, _ = tracemalloc.get_traced_memory()
        feed(2_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 50_000


def test_a_peer_doesnt_decide_how_much_is_kept_for_its_headers() -> None:
    """HPACK's table for our headers stays small, whatever SETTINGS_HEADER_TABLE_SIZE says."""
    connection = connected(settings=b"\0\1\xff\xff\xff\xff")
    for number in range(1, 4_000, 2):
        fields = [*REQUEST, (b"%d-bin" % number, b"!")]  # the answer quotes the name
        connection.receive(requests_of([number], fields)[0], number * 0.01)
        connection.control_bytes()
    entries = connection._h2.encoder.header_table.dynamic_entries

    assert sum(len(name) + len(value) + 32 for name, value in entries) <= 64 * _KIB


def test_calls_for_a_connection_that_is_drained_are_a_flood() -> None:
    """Streams that are refused because of a drain aren't free."""
    connection = connected()
    connection.begin_drain()
    connection.end_drain()
    headers = itertools.islice(_new_streams(ended=True), _ENOUGH_FRAMES)
    goaway = _goaway_after_all(connection, _chunks(headers, 10))

    assert ErrorCodes.ENHANCE_YOUR_CALM == goaway.error_code


def test_the_end_of_a_request_may_follow_its_answer() -> None:
    """Some clients end a request by an empty frame, which may come after the trailers."""
    caller = Caller()
    for _ in range(3_000):
        stream_id = caller.call(ended=False)
        caller.flush(1 / 1_000)
        caller.answer(stream_id)
        caller.send(frame(DATA, flags=END_STREAM, stream_id=stream_id))

    assert 0 == caller.connection.open_calls

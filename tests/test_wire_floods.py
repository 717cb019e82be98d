"""Peers that ask for much: floods end the connection, heavy use doesn't."""

from __future__ import annotations

import itertools
import struct
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
    calls_of,
    connected,
    frame,
    frames_in,
    goaway_after,
    last_goaway,
    prefixed,
    receive_all,
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


def _with_rest(rest: Callable[[Encoder, int], bytes]) -> Iterator[bytes]:
    """Yield calls, each with a rest of its own."""
    encoder = Encoder()
    for stream_id in itertools.count(1, 2):
        (headers,) = requests_of([stream_id], encoder=encoder, ended=False)
        yield headers + rest(encoder, stream_id)


_MANY = [(b"a", b"")] * 5_000  # a byte each, once they are in HPACK's table
_OPEN = requests_of([1], ended=False)[0]
_DEAD = _OPEN + reset(1)

_LARGE = [*REQUEST, *((b"key%d" % number, b"v" * 965) for number in range(70))]


def _blocks(fields: Sequence[Field]) -> Iterator[bytes]:
    """Yield calls whose header fields take several frames."""
    encoder = Encoder()
    for stream_id in itertools.count(1, 2):
        block = encoder.encode(fields, huffman=False)
        cuts = range(0, len(block), 16_384)
        yield b"".join(
            frame(
                CONTINUATION if cut else HEADERS,
                block[cut : cut + 16_384],
                flags=END_HEADERS if cut == cuts[-1] else 0,
                stream_id=stream_id,
            )
            for cut in cuts
        )


# What ends at each hop: no proxy passes it on, so that only the peer itself can have made it.
HOP_BY_HOP: dict[str, Callable[[], Iterator[bytes]]] = {
    "PING": lambda: _forever(frame(PING, bytes(8))),
    "answers to PING": lambda: _forever(frame(PING, bytes(8), flags=ACK)),
    "SETTINGS": lambda: _forever(frame(SETTINGS)),
    "SETTINGS that change windows": lambda: _forever(frame(SETTINGS, b"\0\4\0\0\0\1", flags=0)),
    "answers to SETTINGS": lambda: _forever(frame(SETTINGS, flags=ACK)),
    "PRIORITY": lambda: _forever(frame(PRIORITY, b"\0\0\0\2\0", stream_id=1)),
    "extensions": lambda: _forever(frame(200)),
    "GOAWAY": lambda: _forever(frame(GOAWAY, bytes(8)), _OPEN),
}
# The first such frame, or some dozens of them, are a fault of their own.
FAULTS: dict[str, Callable[[], Iterator[bytes]]] = {
    "ALTSVC": lambda: _forever(frame(ALTSVC, b"\0\0")),
    "empty HEADERS on stream 0": lambda: _forever(frame(HEADERS, flags=END_HEADERS)),
    "CONTINUATION": lambda: _forever(frame(CONTINUATION, stream_id=1), frame(HEADERS, stream_id=1)),
    "changes of HPACK's table": lambda: (
        frame(HEADERS, b"\x20" * 1_000, flags=END_HEADERS, stream_id=number)
        for number in itertools.count(1, 2)
    ),
}
# What a proxy may pass on, or make itself, for clients that share its connection.
RELAYED: dict[str, Callable[[], Iterator[bytes]]] = {
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
    "windows of a stream": lambda: _forever(window_update(1, 1), _OPEN),
    "windows of a dead stream": lambda: _forever(window_update(1, 1), _DEAD),
    "windows of a connection": lambda: _forever(window_update(0, 1)),
    "RST_STREAM": lambda: _forever(reset(1), _DEAD),
    "RST_STREAM on stream 0": lambda: _forever(reset(0)),
    "long HEADERS": lambda: _new_streams(
        [*REQUEST, *((b"key%d" % number, b"a" * 1000) for number in range(12))], then_reset=True
    ),
    "rapid reset": lambda: _new_streams(then_reset=True),
    "rapid reset of bad requests": lambda: _new_streams(request_fields(te=None), then_reset=True),
    "streams too many": _new_streams,
    "bad requests without end": lambda: _new_streams(request_fields(te=None)),
    "bad requests": lambda: _new_streams(request_fields(te=None), ended=True),
    "malformed requests": lambda: _new_streams(request_fields(te="gzip"), ended=True),
    "too much metadata": lambda: _blocks(_LARGE),
    "malformed requests of many fields": lambda: _new_streams(
        [*request_fields(te=None), *_MANY, (b"te", b"gzip")], then_reset=True
    ),
    "streams too many, of many fields": lambda: _new_streams([*REQUEST, *_MANY[:300]]),
    "trailers of many fields": lambda: _with_rest(
        lambda encoder, stream_id: frame(
            HEADERS, encoder.encode(_MANY), flags=END_HEADERS | END_STREAM, stream_id=stream_id
        )
    ),
    "requests that end within a message": lambda: _with_rest(
        lambda _, stream_id: frame(DATA, b"\0\0", flags=END_STREAM, stream_id=stream_id)
    ),
    "empty messages": lambda: _with_rest(
        lambda _, stream_id: frame(DATA, bytes(16_380), stream_id=stream_id) + reset(stream_id)
    ),
}
# Twenty times as long as what a connection may take at once.
_SECONDS = 1.0
# The cheapest frames there are, for a quarter of the time, a wait that was begun, and what a
# connection begins with.
_MOST_FRAMES = (0.25 * (_SECONDS + 0.2) + 0.05) / 6e-6


class Clocked:
    """A connection as a session handles it, and its clock: a peer waits when it must.

    Time passes in `wait` and when the peer is made to wait. Handling takes none.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now = 0.0
        self.waited = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def feed(self, data: bytes) -> list[ours.Event]:
        """Deliver bytes, turn by turn; return what they mean."""
        events: list[ours.Event] = []
        while data or self.connection.is_behind:
            while seconds := self.connection.wait_seconds(self.now):
                self.waited += seconds
                self.now += seconds
            events += self.connection.receive(data, self.now)
            data = b""
        return events


@pytest.mark.parametrize("frames_a_read", [1, 50, None])
@pytest.mark.parametrize("kind", [*HOP_BY_HOP, *FAULTS])
def test_a_flood_of_a_peers_own_ends_its_connection(kind: str, frames_a_read: int | None) -> None:
    """After a bounded number of frames; the last word says why."""
    frames = itertools.islice((HOP_BY_HOP | FAULTS)[kind](), _ENOUGH_FRAMES)
    goaway = _goaway_after_all(connected(), _chunks(frames, frames_a_read))

    if kind in HOP_BY_HOP:
        assert ErrorCodes.ENHANCE_YOUR_CALM == goaway.error_code
    assert ErrorCodes.NO_ERROR != goaway.error_code


def _goaway_after_all(connection: Connection, chunks: Iterable[tuple[int, bytes]]) -> GoAwayFrame:
    """Feed chunks, as fast as the connection takes them; return the GOAWAY that ends them."""
    peer = Clocked(connection)
    answers = b""
    for _, data in chunks:
        try:
            peer.feed(data)
        except ConnectionFailedError:
            return last_goaway(answers + connection.control_bytes())
        answers = connection.control_bytes()
    pytest.fail("the flood was let pass")


@pytest.mark.parametrize("frames_a_read", [1, None])
@pytest.mark.parametrize("kind", RELAYED)
def test_a_flood_that_a_proxy_may_pass_on_is_made_to_wait(
    kind: str, frames_a_read: int | None
) -> None:
    """It never ends the connection, and takes a quarter of the loop's time at the most."""
    peer = Clocked(connected())
    frames = 0
    for count, data in _chunks(RELAYED[kind](), frames_a_read):
        peer.feed(data)
        peer.connection.control_bytes()
        frames += count
        if peer.now > _SECONDS:
            break
    good = requests_of([2**30 + 1])[0]

    assert 5 < frames < _MOST_FRAMES
    # Calls that stand open are all that keeps another one out.
    assert [2**30 + 1] == calls_of(peer.feed(good)) or 256 == peer.connection.open_calls


def _chunks(frames: Iterator[bytes], frames_a_read: int | None) -> Iterator[tuple[int, bytes]]:
    """Join so many frames, or what a read of a socket takes."""
    chunk, count = b"", 0
    for data in frames:
        chunk += data
        count += 1
        if count == frames_a_read or len(chunk) > _READ_BYTES:
            yield count, chunk
            chunk, count = b"", 0


def test_a_byte_at_a_time_has_to_wait() -> None:
    """A peer that takes DATA byte by byte makes frames and system calls; it gets all the same."""
    peer = Clocked(connected(settings=b"\0\4\0\0\0\0"))
    peer.feed(_OPEN)
    peer.connection.respond(1, [])
    got = 0
    while peer.now < _SECONDS:
        peer.feed(window_update(1, 1) + window_update(0, 1))
        got += (size := peer.connection.window(1))
        peer.connection.account(1, size)
        peer.connection.control_bytes()

    assert 1_000 < got < (0.25 * _SECONDS + 0.05) / 60e-6


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

    def __init__(self, fields: Sequence[Field] = REQUEST) -> None:
        self.connection = connected()
        self._clocked = Clocked(self.connection)
        self.opened: list[ours.CallOpened] = []
        self._fields = fields
        self._encoder = Encoder()
        self._next_stream = 1
        self._pending: list[bytes] = []

    def call(self, message: bytes = bytes(60), *, ended: bool = True) -> int:
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        self._pending += requests_of([stream_id], self._fields, encoder=self._encoder, ended=False)
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
            for event in self._clocked.feed(data[start : start + _READ_BYTES]):
                if isinstance(event, ours.MessagesArrived):
                    self.connection.consumed(event.stream_id, event.messages)
                elif isinstance(event, ours.CallOpened):
                    self.opened.append(event)
        self.connection.control_bytes()
        self._clocked.wait(seconds)

    @property
    def waited(self) -> float:
        """Seconds for which it wasn't listened to."""
        return self._clocked.waited

    def answer(self, stream_id: int, message_bytes: int = 100) -> None:
        """Answer a call as the server does."""
        self.connection.respond(stream_id, [])
        self.connection.account(stream_id, message_bytes)
        self.connection.finish(stream_id, Status.OK, is_answer=True)

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


def test_the_end_of_a_request_may_follow_its_answer() -> None:
    """Some clients end a request by an empty frame, which may come after the trailers."""
    caller = Caller()
    for _ in range(3_000):
        stream_id = caller.call(ended=False)
        caller.flush(1 / 1_000)
        caller.answer(stream_id)
        caller.send(frame(DATA, flags=END_STREAM, stream_id=stream_id))

    assert 0 == caller.connection.open_calls


def test_settings_that_mean_nothing_are_forgotten() -> None:
    """A peer that may well send SETTINGS can't fill memory with those of its own."""
    connection = connected()
    tracemalloc.start()
    try:
        for number in range(300):
            codes = range(100 * number + 100, 100 * number + 200)
            payload = b"".join(struct.pack(">HI", code, code) for code in codes)
            connection.receive(frame(SETTINGS, payload), 1.0 * number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 1 << 20


def test_small_messages_may_wait_for_whoever_takes_them() -> None:
    """A window full of empty messages, each in a frame of its own, is no flood."""
    connection = connected()
    connection.receive(_OPEN, 0.0)
    message = frame(DATA, prefixed(b""), stream_id=1)
    events = [e for _ in range(13_000) for e in connection.receive(message, 0.0)]

    assert 13_000 == sum(isinstance(event, ours.MessagesArrived) for event in events)


@pytest.mark.parametrize("calls_at_once", [1, 20, 100])
def test_every_call_may_bring_as_much_metadata_as_is_advertised(calls_at_once: int) -> None:
    """A token of 15 KB with each of 300 calls, if the client waits for their answers."""
    caller = Caller([*REQUEST, (b"authorization", b"0" * 15_000)])
    for _ in range(300 // calls_at_once):
        stream_ids = [caller.call() for _ in range(calls_at_once)]
        caller.flush(0.001)
        for stream_id in stream_ids:
            caller.answer(stream_id)

    assert 0 == caller.connection.open_calls


def test_too_much_metadata_ends_its_call_alone() -> None:
    """70 KB are four times the limit: that call is refused, those beside it go on."""
    connection = connected()
    blocks = _blocks(_LARGE)
    first = connection.receive(next(_blocks(REQUEST)), 0.0)
    next(blocks)  # number 1
    refused = receive_all(connection, next(blocks))
    answer = frames_in(connection.control_bytes())

    assert [ours.CallOpened] == [type(event) for event in first]
    assert [] == refused
    assert {3} == {part.stream_id for part in answer}
    assert 1 == connection.open_calls


def test_windows_may_be_doubled_by_settings() -> None:
    """A client that measures its line does so, with a hundred streams under way."""
    connection = connected()
    connection.receive(window_update(0, 1 << 30), 0.0)
    stream_ids = range(1, 200, 2)
    for headers in requests_of(stream_ids):
        connection.receive(headers, 0.0)
    for power in range(17, 24):
        connection.receive(frame(SETTINGS, b"\0\4" + (1 << power).to_bytes(4, "big")), 0.1)
        for stream_id in stream_ids:
            connection.account(stream_id, connection.window(stream_id))

    assert 100 == connection.open_calls


def test_open_calls_hold_a_bounded_amount_of_metadata() -> None:
    """Fields that HPACK repeats in a byte are memory here; ends make room again."""
    fields = [*REQUEST, *((b"k%d" % (number % 50), b"xy") for number in range(400))]
    caller = Caller(fields)
    tracemalloc.start()
    try:
        calls = [caller.call(b"") for _ in range(120)]
        caller.flush(2.0)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    opened = caller.connection.open_calls
    for stream_id in calls:
        caller.connection.finish(stream_id, Status.OK)
    caller.call(b"")
    caller.flush()

    assert 10 < opened < 100
    assert held_bytes < 8 << 20
    assert 1 == caller.connection.open_calls


@pytest.mark.parametrize("is_answer", [True, False])
def test_only_what_a_method_answers_is_forgiven(*, is_answer: bool) -> None:
    """A deadline, or a server that has no room, ends a call that got nowhere: it is paid for."""
    caller = Caller()
    for _ in range(2_000):
        stream_id = caller.call()
        caller.flush()
        caller.connection.finish(stream_id, Status.OK, is_answer=is_answer)

    assert is_answer == (not caller.waited)

"""Honest peers, as odd as they like: whatever they sit behind, nothing of theirs is refused.

A model of one: it cuts its requests anywhere, acknowledges what it gets in pieces of any size,
on both levels, at once or later, pings when it has got something, changes its windows and
cancels calls. A proxy does the same for many clients at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.engines.wire import events as ours
from streamer.engines.wire.connection import Connection
from streamer.engines.wire.limits import Limits
from streamer.errors import Status
from tests.memory_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    REQUEST,
    SETTINGS,
    frame,
    frames_in,
    prefixed,
    reset,
    window_update,
)
from tests.test_wire_floods import Clocked

if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOW = 65_535
_MOST_IN_A_FRAME = 16_000  # with padding less than SETTINGS_MAX_FRAME_SIZE
_sizes = st.sampled_from([1, 3, 9, 100, 1_448, 4_096, 16_384, 65_535])


class HonestPeer:
    """Client and server of one connection; the server answers each call with what it sent."""

    def __init__(self, data: st.DataObject, window: int) -> None:
        self._draw = data.draw
        self._clocked = Clocked(Connection(Limits(), 0.0))
        self._server = self._clocked.connection
        self._encoder, self._decoder = Encoder(), Decoder()
        self._next_stream = 1
        self._unsent: dict[int, bytes] = {}  # what the server has still to send
        self._unacknowledged = {0: 0}
        self.messages: dict[int, bytes] = {}
        self.got: dict[int, bytearray] = {}
        self.cancelled: set[int] = set()
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self._window = window
        self._send(PREFACE + frame(SETTINGS, b"\0\4" + window.to_bytes(4, "big")))

    # The client.

    def call(self, message: bytes) -> None:
        """Send a request cut as one likes."""
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        self.messages[stream_id] = message
        self.got[stream_id] = bytearray()
        self._unacknowledged[stream_id] = 0
        block = self._encoder.encode([*REQUEST, (b"key", b"value %d" % stream_id)])
        parts = list(self._cut(block, st.sampled_from([9, 30, 1_000])))
        for number, part in enumerate(parts):
            flags = END_HEADERS if number == len(parts) - 1 else 0
            kind = CONTINUATION if number else HEADERS
            self._send(frame(kind, part, flags=flags, stream_id=stream_id))
        for part in self._cut(prefixed(message), _sizes):
            if self._draw(st.integers(0, 9)) == 0:
                self._send(frame(DATA, b"\2" + part + bytes(2), flags=PADDED, stream_id=stream_id))
            else:
                self._send(frame(DATA, part, stream_id=stream_id))
        self._send(frame(DATA, flags=END_STREAM, stream_id=stream_id))

    def cancel(self, stream_id: int) -> None:
        if stream_id not in self.trailers:
            self.cancelled.add(stream_id)
            self._send(reset(stream_id))

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Open a window again, in pieces of `size`, a hundred at the most; 0: the connection's."""
        for _ in range(100):
            amount = min(size, self._unacknowledged[stream_id])
            if not amount:
                break
            self._unacknowledged[stream_id] -= amount
            if stream_id not in self.trailers and stream_id not in self.cancelled:
                self._send(window_update(stream_id, amount))

    def step(self, action: str, amount: int) -> None:
        """Do something; `amount` says how much, or which."""
        calls = sorted(self.messages)
        if action == "call":
            self.call(bytes(amount))
        elif action == "cancel" and calls:
            self.cancel(calls[amount % len(calls)])
        elif action == "serve":
            self.serve(amount + 1, pings=amount % 3 == 0)
            for each in [0, *calls]:
                self.acknowledge(each, self._draw(_sizes))
        elif action == "resize":
            self.resize(max(amount, 100))
        elif action == "wait":
            self._clocked.wait(amount / 10_000)

    def take_the_rest(self) -> None:
        """Acknowledge everything until nothing more comes."""
        while self.serve(1 << 20, pings=False) or self._unsent:
            for each in [0, *self.messages]:
                while self._unacknowledged[each]:
                    self.acknowledge(each, 4_096)

    def resize(self, window: int) -> None:
        self._send(frame(SETTINGS, b"\0\4" + window.to_bytes(4, "big")))

    def _cut(self, data: bytes, sizes: st.SearchStrategy[int]) -> Iterator[bytes]:
        size = min(max(self._draw(sizes), len(data) // 60), _MOST_IN_A_FRAME)
        for start in range(0, len(data), size):
            yield data[start : start + size]

    def _send(self, data: bytes) -> None:
        for event in self._clocked.feed(data):
            if isinstance(event, ours.MessagesArrived):
                self._unsent[event.stream_id] = b"".join(map(prefixed, event.messages)) * 9
                self._server.consumed(event.stream_id, event.messages)
                self._server.respond(event.stream_id, [])
            elif isinstance(event, ours.CallGone):
                self._unsent.pop(event.stream_id, None)
        self._listen()

    def _listen(self) -> None:
        for each in frames_in(self._server.control_bytes()):
            self._hear(each)

    def _hear(self, each: Frame) -> None:
        assert not isinstance(each, GoAwayFrame), each
        if isinstance(each, HeadersFrame):
            fields = dict(self._decoder.decode(each.data, raw=True))
            if "END_STREAM" in each.flags:
                self.trailers[each.stream_id] = fields
        elif isinstance(each, RstStreamFrame):
            # Of calls that are over; none is refused.
            assert each.error_code in (ErrorCodes.NO_ERROR, ErrorCodes.STREAM_CLOSED)
            assert each.stream_id in self.trailers or each.stream_id in self.cancelled
        else:
            assert isinstance(each, SettingsFrame | WindowUpdateFrame | PingFrame)

    # The server.

    def serve(self, most: int, *, pings: bool) -> bool:
        """Send as much of every answer as windows permit; return whether any was."""
        was_sent = False
        for stream_id, left in list(self._unsent.items()):
            size = min(self._server.window(stream_id), len(left), most)
            if size:
                was_sent = True
                self._server.account(stream_id, size)
                self.got[stream_id] += left[:size]
                for each in (0, stream_id):
                    self._unacknowledged[each] += size
                self._unsent[stream_id] = left[size:]
                if pings:
                    self._send(frame(PING, bytes(8)))
            if not self._unsent.get(stream_id, b"-"):
                del self._unsent[stream_id]
                self._server.finish(stream_id, Status.OK, is_answer=True)
                self._listen()
        return was_sent


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.data(),
    st.sampled_from([1, 100, 5_000, _WINDOW]),
    st.lists(
        st.tuples(
            st.sampled_from(["call", "call", "cancel", "serve", "serve", "resize", "wait"]),
            st.integers(0, 20_000),
        ),
        min_size=5,
        max_size=40,
    ),
)
def test_whatever_an_honest_peer_does_it_gets_everything(
    data: st.DataObject, window: int, steps: list[tuple[str, int]]
) -> None:
    """Every answer is whole, every status OK, and no connection ends; it may take its time."""
    peer = HonestPeer(data, window)
    for action, amount in steps:
        peer.step(action, amount)
    peer.resize(_WINDOW)
    peer.take_the_rest()

    for stream_id, message in peer.messages.items():
        if stream_id not in peer.cancelled:
            assert prefixed(message) * 9 == peer.got[stream_id]
            assert b"0" == peer.trailers[stream_id][b"grpc-status"]


def test_thousands_of_cancelled_calls_end_nobody_elses() -> None:
    """What another client does behind the same proxy: 3,000 calls begun and cancelled."""
    connection = Connection(Limits(), 0.0)
    peer = Clocked(connection)
    peer.feed(PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=ACK))
    encoder = Encoder()

    def call(stream_id: int) -> bytes:
        head = frame(HEADERS, encoder.encode(REQUEST), flags=END_HEADERS, stream_id=stream_id)
        return head + frame(DATA, prefixed(b""), flags=END_STREAM, stream_id=stream_id)

    peer.feed(call(1))
    connection.respond(1, [])
    got = 0
    opened = 0
    for stream_id in range(3, 6_003, 2):
        events = peer.feed(call(stream_id) + reset(stream_id))
        opened += sum(isinstance(event, ours.CallOpened) for event in events)
        if stream_id % 100 == 1:
            got += (size := connection.window(1))
            connection.account(1, size)
            peer.feed(window_update(1, size) + window_update(0, size))
    answers = frames_in(connection.control_bytes())

    assert 3_000 == opened
    assert 30 * _WINDOW < got
    assert not any(isinstance(each, GoAwayFrame | RstStreamFrame) for each in answers)


def test_data_frames_may_be_cut_into_single_bytes() -> None:
    """An upload of one byte a frame takes its time, and arrives."""
    peer = Clocked(Connection(Limits(), 0.0))
    head = frame(HEADERS, Encoder().encode(REQUEST), flags=END_HEADERS, stream_id=1)
    peer.feed(PREFACE + frame(SETTINGS) + head)
    arrived = 0
    for message in [bytes(60)] * 200:
        for byte in prefixed(message):
            for event in peer.feed(frame(DATA, bytes([byte]), stream_id=1)):
                assert isinstance(event, ours.MessagesArrived)
                arrived += len(event.messages)
                peer.connection.consumed(1, event.messages)

    assert 200 == arrived
    assert not any(
        isinstance(each, GoAwayFrame | RstStreamFrame | DataFrame)
        for each in frames_in(peer.connection.control_bytes())
    )

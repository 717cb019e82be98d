"""Flow control of the core, with h2's client as the judge of what may be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import PingFrame, RstStreamFrame, WindowUpdateFrame
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
    END_STREAM,
    PING,
    SETTINGS,
    MemoryPeer,
    connected,
    frame,
    frames_in,
    goaway_after,
    handshake,
    prefixed,
    requests_of,
    reset,
    window_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_WINDOW = 65_535
_MAX_WINDOW = 2**31 - 1
_KIB = 1 << 10

window_sizes = st.one_of(st.integers(0, 100), st.integers(0, 200_000), st.just(_MAX_WINDOW))
frame_sizes = st.one_of(st.just(16_384), st.integers(16_384, 2**24 - 1))
# What a client does, or how much the server would like to send; the first number is a stream's.
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["send", "send", "open stream", "open connection", "resize", "reframe"]),
        st.integers(1, 100_000),
    ),
    max_size=30,
)


def settings_frame(**values: int) -> bytes:
    """Return SETTINGS, by the lower-case names of h2's codes."""
    payload = b"".join(
        SettingCodes[name.upper()].to_bytes(2, "big") + value.to_bytes(4, "big")
        for name, value in values.items()
    )
    return frame(SETTINGS, payload)


def _send(peer: MemoryPeer, stream_id: int, wanted: int) -> int:
    size = min(wanted, peer.server.window(stream_id))
    if size:
        peer.take(stream_id, bytes(size))
    return size


@settings(max_examples=150)
@given(window_sizes, frame_sizes, steps)
def test_data_never_exceeds_what_the_client_permits(
    window: int, frame_bytes: int, steps: list[tuple[int, str, int]]
) -> None:
    """h2's client raises at a byte too many; the server's windows are its windows, always."""
    peer = MemoryPeer(
        settings={
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_FRAME_SIZE: frame_bytes,
        }
    )
    stream_ids = [peer.call() for _ in range(3)]
    peer.exchange()
    for stream_id in stream_ids:
        peer.server.respond(stream_id, [])
    for number, action, amount in steps:
        stream_id = stream_ids[number]
        room = peer.client.remote_flow_control_window(stream_id)
        if action == "send":
            _send(peer, stream_id, amount)
        elif action == "open stream" and room + amount <= _MAX_WINDOW:
            _open(peer, amount, stream_id)
        elif action == "open connection":
            _open(peer, amount)
        elif action == "resize":
            peer.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: amount})
        elif action == "reframe":
            peer.client.update_settings({SettingCodes.MAX_FRAME_SIZE: 16_383 + amount})
        peer.exchange()
        for each in stream_ids:
            client_window = peer.client.remote_flow_control_window(each)
            assert max(client_window, 0) == peer.server.window(each)


def _open(peer: MemoryPeer, amount: int, stream_id: int | None = None) -> None:
    """Open a window of the client's, unless it is as large as can be."""
    windows = peer.client.inbound_flow_control_window
    if stream_id is not None:
        windows = peer.client.streams[stream_id].inbound_flow_control_window
    if windows + amount <= _MAX_WINDOW:
        peer.client.increment_flow_control_window(amount, stream_id)


@settings(max_examples=50)
@given(
    st.integers(0, 100_000),
    frame_sizes,
    st.lists(st.integers(0, 100_000), min_size=1, max_size=4),
    st.integers(2_000, 70_000),
)
def test_a_client_that_reads_gets_everything(
    window: int, frame_bytes: int, sizes: list[int], share: int
) -> None:
    """Streams that take turns end, whatever the windows, as long as the client opens them."""
    peer = MemoryPeer(
        settings={
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_FRAME_SIZE: frame_bytes,
        }
    )
    left = {peer.call(): size for size in sizes}
    got = dict.fromkeys(left, 0)
    peer.exchange()
    for stream_id in left:
        peer.server.respond(stream_id, [])
    for _ in range(500):
        if not any(left.values()):
            break
        peer.now += 0.01
        for stream_id, wanted in left.items():
            left[stream_id] -= _send(peer, stream_id, min(wanted, share))
        taken, peer.heard = peer.heard, []
        for event in taken:
            if isinstance(event, h2.events.DataReceived):
                got[event.stream_id] += len(event.data)
                peer.client.increment_flow_control_window(event.flow_controlled_length)
        for stream_id, wanted in left.items():
            if wanted and not peer.server.window(stream_id):
                peer.client.increment_flow_control_window(1_000, stream_id)
        peer.exchange()

    assert dict(zip(left, sizes, strict=True)) == got


def test_a_window_may_become_negative() -> None:
    """A smaller initial window takes back what was granted (RFC 9113 section 6.9.2)."""
    connection = connected()
    connection.receive(requests_of([1])[0], 0.0)
    connection.account(1, 40_000)
    connection.receive(settings_frame(initial_window_size=1_000), 0.0)
    negative = connection.window(1)
    connection.receive(window_update(1, 39_000), 0.0)
    still_nothing = connection.window(1)
    connection.receive(window_update(1, 7), 0.0)

    assert (0, 0, 7) == (negative, still_nothing, connection.window(1))


def test_the_smaller_of_the_two_windows_counts() -> None:
    """A stream's window is of no use while the connection's is shut, and vice versa."""
    connection = connected()
    connection.receive(b"".join(requests_of([1, 3])) + window_update(1, 5), 0.0)
    connection.account(1, _WINDOW)
    shut = connection.window(1), connection.window(3)
    connection.receive(window_update(0, 100), 0.0)

    assert (0, 0) == shut
    assert (5, 100) == (connection.window(1), connection.window(3))


def test_larger_windows_are_events() -> None:
    """WINDOW_UPDATE tells of its stream, a new initial window of all (0)."""
    connection = connected()
    connection.receive(requests_of([1])[0], 0.0)
    data = window_update(1, 1) + window_update(0, 1) + settings_frame(initial_window_size=2**20)

    assert [
        ours.WindowOpened(1),
        ours.WindowOpened(0),
    ] == connection.receive(data, 0.0)
    assert [] == connection.receive(window_update(1, 0)[:-4], 0.0)


def test_a_stream_window_that_overflows_ends_the_call() -> None:
    """Over 2**31 - 1: FLOW_CONTROL_ERROR for the stream alone."""
    connection = connected()
    connection.receive(b"".join(requests_of([1, 3])), 0.0)
    events = connection.receive(window_update(1, _MAX_WINDOW), 0.0)
    (answer,) = frames_in(connection.control_bytes())
    assert isinstance(answer, RstStreamFrame)

    assert [ours.CallGone(1)] == events
    assert (1, ErrorCodes.FLOW_CONTROL_ERROR) == (answer.stream_id, answer.error_code)
    assert (0, _WINDOW) == (connection.window(1), connection.window(3))


@pytest.mark.parametrize(
    "data",
    [
        window_update(0, _MAX_WINDOW),
        window_update(1, 10) + settings_frame(initial_window_size=_MAX_WINDOW),
        settings_frame(initial_window_size=_MAX_WINDOW + 1),
    ],
)
def test_a_connection_window_that_overflows_ends_the_connection(data: bytes) -> None:
    """So does an initial window with which a stream's overflows."""
    connection = connected()
    connection.receive(requests_of([1])[0], 0.0)

    assert ErrorCodes.FLOW_CONTROL_ERROR == goaway_after(connection, data).error_code


def test_more_data_than_was_permitted_ends_the_connection() -> None:
    """A client's DATA beyond the window of its stream is FLOW_CONTROL_ERROR."""
    connection = connected()
    connection.receive(requests_of([1], ended=False)[0], 0.0)
    too_much = frame(DATA, bytes(16_384), stream_id=1) * 5

    assert ErrorCodes.FLOW_CONTROL_ERROR == goaway_after(connection, too_much).error_code


def _runs(events: Iterable[ours.Event]) -> list[MessageRun]:
    return [event.messages for event in events if isinstance(event, ours.MessagesArrived)]


def _send_until_shut(peer: MemoryPeer, stream_id: int, message: bytes) -> list[bytes]:
    """Send messages until the windows are shut; return those that arrived."""
    arrived: list[bytes] = []
    for _ in range(10_000):
        data = prefixed(message)
        while data and (window := peer.client.local_flow_control_window(stream_id)):
            peer.client.send_data(stream_id, data[:window])
            data = data[window:]
            arrived += [m for run in _runs(peer.exchange()) for m in run]
        if data:
            return arrived
    return arrived


@pytest.mark.parametrize("size", [60, 1_000, 16_000])
def test_a_call_that_takes_nothing_gets_no_more(size: int) -> None:
    """Messages that nobody consumes fill some windows, and no more than that."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    peer.exchange()
    arrived = _send_until_shut(peer, stream_id, bytes(size))

    assert 0 < sum(map(len, arrived)) <= 3 * _WINDOW
    assert 0 == peer.client.local_flow_control_window(stream_id)


def test_messages_without_bytes_take_room_as_well() -> None:
    """Empty messages that nobody consumes aren't accepted for ever."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    peer.exchange()
    empty = prefixed(b"") * 3_000
    for _ in range(100):
        if peer.client.local_flow_control_window(stream_id) < len(empty):
            break
        peer.client.send_data(stream_id, empty)
        peer.now += 0.01
        peer.exchange()

    assert peer.client.local_flow_control_window(stream_id) < len(empty)


@pytest.mark.parametrize("size", [60, 1_000, 16_000])
def test_windows_come_back_as_messages_are_consumed(size: int) -> None:
    """A call that takes its messages late gets as many as the client has."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    peer.exchange()
    data = prefixed(bytes(size)) * (1_000_000 // size)
    waiting: list[MessageRun] = []
    arrived = 0
    while data:
        window = min(peer.client.local_flow_control_window(stream_id), 16_384)
        peer.client.send_data(stream_id, data[:window])
        data = data[window:]
        waiting += _runs(peer.exchange())
        if not peer.client.local_flow_control_window(stream_id):
            assert waiting
            arrived += sum(map(len, waiting))
            while waiting:
                peer.server.consumed(stream_id, waiting.pop())
            peer.exchange()

    assert 1_000_000 // size == arrived + sum(map(len, waiting))


ENDS: dict[str, Callable[[MemoryPeer, int], None]] = {
    "reset by the peer": lambda peer, stream_id: peer.client.reset_stream(stream_id),
    "finished": lambda peer, stream_id: peer.server.finish(stream_id, Status.OK),
    "reset": lambda peer, stream_id: peer.server.reset(stream_id, ErrorCodes.CANCEL),
    "refused": lambda peer, stream_id: peer.client.send_data(stream_id, b"\xff"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_window_of_a_call_that_ends_comes_back(end: str) -> None:
    """What a call hadn't consumed is given back to the connection, however the call ends."""
    peer = MemoryPeer()
    for _ in range(8):
        stream_id = peer.call(ended=False)
        peer.exchange()
        for _ in range(5):  # more than is taken unasked, less than shuts the window
            peer.client.send_data(stream_id, prefixed(bytes(15_000)))
            peer.exchange()
        ENDS[end](peer, stream_id)
        peer.exchange()
    stream_id = peer.call(ended=False)
    peer.exchange()

    assert peer.client.local_flow_control_window(stream_id) >= _WINDOW // 2


def test_a_call_that_takes_nothing_doesnt_stop_others() -> None:
    """The connection's window stays open for other calls while one of them is slow."""
    peer = MemoryPeer()
    slow = peer.call(ended=False)
    peer.exchange()
    _send_until_shut(peer, slow, bytes(15_000))
    quick = peer.call(ended=False)
    peer.exchange()

    assert peer.client.local_flow_control_window(quick) >= 1_000


def test_padding_gives_its_window_back() -> None:
    """Padding counts for windows though nobody consumes it."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    for _ in range(2_000):
        peer.client.send_data(stream_id, prefixed(b"message"), pad_length=255)
        for run in _runs(peer.exchange()):
            peer.server.consumed(stream_id, run)
        peer.now += 0.01

    assert peer.client.local_flow_control_window(stream_id) >= 1_000


def test_data_for_calls_that_are_gone_gives_its_window_back() -> None:
    """What was under way to calls that have ended is no loss to the connection."""
    connection = Connection(DEFAULT_LIMITS, 0.0)
    connection.receive(handshake(), 0.0)
    stream_ids = range(1, 80, 2)
    granted = _WINDOW
    for stream_id, headers in zip(stream_ids, requests_of(stream_ids, ended=False), strict=True):
        connection.receive(headers, 0.0)
        connection.finish(stream_id, Status.OK)
        size = 10_000 if stream_id < 79 else 0
        connection.receive(frame(DATA, bytes(size), flags=END_STREAM, stream_id=stream_id), 0.0)
        granted += sum(
            parsed.window_increment
            for parsed in frames_in(connection.control_bytes())
            if isinstance(parsed, WindowUpdateFrame) and parsed.stream_id == 0
        )
        granted -= size

    assert granted >= _WINDOW // 4


def test_a_message_larger_than_the_window_arrives() -> None:
    """Half a message is no reason to wait: nobody can consume it."""
    peer = MemoryPeer(Limits(max_request_bytes=1 << 20))
    stream_id = peer.call(ended=False)
    data = prefixed(bytes(1 << 20))
    events = peer.exchange()
    while data:
        size = min(peer.client.local_flow_control_window(stream_id), 16_384)
        assert size
        peer.client.send_data(stream_id, data[:size])
        data = data[size:]
        events += peer.exchange()

    assert [1 << 20] == [len(message) for run in _runs(events) for message in run]


def test_nobody_spells_out_what_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """h2 asks each frame for its text, though nobody reads it: bytes in hexadecimal."""
    peer = MemoryPeer()
    stream_id = peer.call(ended=False)
    peer.exchange()
    spelled = mock.Mock(side_effect=AssertionError)
    monkeypatch.setattr("hyperframe.frame._raw_data_repr", spelled)
    peer.client.send_data(stream_id, prefixed(b"message" * 1000))
    sent = peer.client.data_to_send()

    assert [MessageRun.of([b"message" * 1000])] == _runs(peer.server.receive(sent, peer.now))
    assert not spelled.called


def _cancelled(connection: Connection, stream_ids: Iterable[int]) -> list[ours.Event]:
    """Begin calls, send them what the window takes, and have them cancelled."""
    events: list[ours.Event] = []
    for stream_id in stream_ids:
        connection.receive(requests_of([stream_id])[0], 0.0)
        connection.respond(stream_id, [])
        connection.account(stream_id, connection.window(stream_id))
        events += connection.receive(reset(stream_id), 0.0)
    return events


def _answered(connection: Connection) -> list[ours.Event]:
    """Answer the PING that the connection has sent last, if it has sent one."""
    pings = [part for part in frames_in(connection.control_bytes()) if isinstance(part, PingFrame)]
    return [
        event
        for ping in pings
        for event in connection.receive(frame(PING, ping.opaque_data, flags=ACK), 0.0)
    ]


def test_a_window_that_isnt_given_back_is_lost() -> None:
    """As haproxy does it: DATA of a cancelled call is thrown away, window and all."""
    connection = connected()
    _cancelled(connection, [1])

    assert ours.WindowLost() in _answered(connection)


def test_a_window_that_is_given_back_late_is_not_lost() -> None:
    """Before the answer to the PING it may come, whole or in halves."""
    connection = connected()
    for stream_id in range(1, 200, 2):
        _cancelled(connection, [stream_id])
        given_back = window_update(0, _WINDOW) if stream_id % 4 == 1 else window_update(0, 40_000)
        connection.receive(given_back, 0.0)
        assert ours.WindowLost() not in _answered(connection)
        if rest := _WINDOW - connection.window_of_all:
            connection.receive(window_update(0, rest), 0.0)


def test_a_window_that_open_calls_use_is_not_lost() -> None:
    """Their peer may be slow to read: a cancelled call beside them is no reason to leave."""
    connection = connected()
    connection.receive(b"".join(requests_of([1, 3])), 0.0)
    connection.respond(1, [])
    connection.account(1, connection.window(1))
    connection.receive(reset(3), 0.0)

    assert [] == _answered(connection)

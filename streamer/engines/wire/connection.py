"""One HTTP/2 connection of a gRPC server: no sockets, no clock, no threads.

In go the peer's bytes, as they come (`receive`), and what the server has to say
(`respond`, `finish`, `reset`); out come events, and bytes for the peer
(`control_bytes`). DATA alone doesn't pass through here: whoever sends it asks `window`
how much may be sent, frames it (data_frames.py) and says so to `account`.

`receive` handles about a millisecond's worth of frames. While `is_behind` it has kept some:
call it again, with no further bytes, once others have had their turn and `wait_seconds` have
passed, which is what a peer owes that makes work and no progress (flood.py).

Calls on a stream that is gone do nothing: its end is among the events, or about to be.
ConnectionFailedError from `receive` ends the connection, after `control_bytes` have been
sent.

Sources: RFC 9113, and "gRPC over HTTP/2" (grpc/grpc, doc/PROTOCOL-HTTP2.md). States,
HPACK, settings and windows are h2's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from streamer.engines.wire import events as ours
from streamer.engines.wire.faults import NotHttp2Error, PeerFaultError
from streamer.engines.wire.flood import FloodAccount, PingRule, Work
from streamer.engines.wire.h2_state import (
    RequestMalformed,
    can_send,
    forget_unknown_settings,
    initiate,
    let_go,
    limit_header_table,
    lower_windows,
    new_h2_connection,
)
from streamer.engines.wire.inbound import Inbound
from streamer.engines.wire.lost_window import LostWindow
from streamer.engines.wire.preface import Preface
from streamer.engines.wire.request import RefusedError, list_bytes
from streamer.engines.wire.response import headers, trailers
from streamer.engines.wire.stream import HeldOfAll, Streams
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.limits import Limits
    from streamer.engines.wire.metadata import Value

    _Events = Iterable[ours.Event]

# From where h2 quotes the peer's header on: its value may be a secret, or end a log line.
_QUOTED = re.compile(r"""b?['"].*""", re.DOTALL)
_MAX_STREAM_ID = 2**31 - 1
DRAIN_PING = b"draining"
_WINDOW_PING = b"windows?"


class ConnectionFailedError(Exception):
    """The connection can't go on; the text says why, for the log."""


class Connection:
    """The server's side of one connection, from the first byte on."""

    def __init__(
        self,
        limits: Limits,
        now: float,
        held: HeldOfAll | None = None,
        flood: FloodAccount | None = None,
    ) -> None:
        """`held` and `flood` are the server's; without them, it has this connection only."""
        self._limits = limits
        self._h2 = new_h2_connection()
        self._account = (flood or FloodAccount(limits.flood_tolerance, now)).connection(now)
        self._inbound = Inbound(limits, self._account)
        self._lost_window = LostWindow(self._h2)
        self._preface = Preface()
        self._ping_rule = PingRule(limits.keepalive)
        self._answer = b""  # to somebody who doesn't speak HTTP/2
        self._streams = Streams(limits, self._account, held or HeldOfAll())
        self._now = now
        self._is_ready = False
        self._refuses_calls = False
        self._has_failed = False

    def receive(self, data: bytes, now: float) -> list[ours.Event]:
        """Handle bytes from the peer, after those that were kept; return what they mean."""
        self._now = now
        self._account.refill(now)
        try:
            self._inbound.feed(self._after_preface(data))
            piece = self._inbound.next_piece()
            happened = self._h2.receive_data(piece) if piece else []
            for stream_id, size in self._h2.take_decoded():
                self._account.charge(Work.FIELD_BYTE, size, stream_id)
            return [
                event
                for h2_event in happened
                if (handle := self._HANDLERS.get(type(h2_event)))
                for event in handle(self, h2_event)
            ]
        except PeerFaultError as fault:
            failure = str(fault)
            if isinstance(fault, NotHttp2Error) and fault.answer:
                self._answer = fault.answer
            else:
                self._close(fault.code, failure.encode())
        except ProtocolError as error:  # h2 has its GOAWAY ready
            failure = f"{type(error).__name__}: {_without_values(str(error))}"
        self._has_failed = True
        self._streams.clear()
        raise ConnectionFailedError(failure)

    def control_bytes(self) -> bytes:
        """Return what is due to the peer, in order, DATA excepted; each byte once."""
        answer, self._answer = self._answer, b""
        return answer or self._h2.data_to_send()

    @property
    def awaited_bytes(self) -> int:
        return self._inbound.awaited_bytes

    @property
    def is_behind(self) -> bool:
        """Whether there are frames that were kept for another turn."""
        return self._inbound.is_behind

    def wait_seconds(self, now: float) -> float:
        """Return how long the peer is to wait until it is listened to again."""
        self._account.refill(now)
        return self._account.wait_seconds

    @property
    def is_in_good_standing(self) -> bool:
        """Whether the peer makes progress: its turn comes before that of others."""
        return self._account.is_in_good_standing

    def charge(self, stream_id: int, work: Work) -> None:
        """Let a call pay for work that it makes elsewhere."""
        self._account.charge(work, stream_id=stream_id)

    @property
    def open_calls(self) -> int:
        return len(self._streams)

    @property
    def frame_bytes(self) -> int:
        """The longest DATA frame that the peer takes."""
        return self._h2.max_outbound_frame_size

    def window(self, stream_id: int) -> int:
        """Return how many bytes of DATA the peer takes on a stream now."""
        return min(self.window_of(stream_id), self.window_of_all)

    def window_of(self, stream_id: int) -> int:
        """Return how many bytes of DATA it takes on a stream, had the connection a window."""
        stream = self._h2.streams.get(stream_id) if stream_id in self._streams else None
        return 0 if stream is None else max(stream.outbound_flow_control_window, 0)

    @property
    def window_of_all(self) -> int:
        """How many bytes of DATA the peer takes on all streams together."""
        return max(self._h2.outbound_flow_control_window, 0)

    def account(self, stream_id: int, data_bytes: int) -> None:
        """Take `data_bytes`, no more than `window`, from the windows: they are being sent."""
        lower_windows(self._h2, stream_id, data_bytes)
        self._account.accepted(stream_id, data_bytes)
        self._ping_rule.sent()

    def consumed(self, stream_id: int, messages: MessageRun) -> None:
        """Take note that messages were used: the peer may send more."""
        self._account.taken(stream_id, len(messages))
        stream = self._streams.get(stream_id)
        window = 0 if stream is None else stream.take(messages)
        if window and can_send(self._h2, stream_id):
            self._h2.increment_flow_control_window(window, stream_id)

    def respond(self, stream_id: int, metadata: Iterable[tuple[str, Value]]) -> None:
        """Begin the answer to a call: headers; ValueError for metadata that can't be sent."""
        fields = headers(metadata)
        stream = self._streams.get(stream_id)
        if stream is not None and can_send(self._h2, stream_id):
            self._h2.send_headers(stream_id, fields)
            stream.has_responded = True
            self._ping_rule.sent()

    def finish(
        self,
        stream_id: int,
        status: Status,
        text: str = "",
        metadata: Iterable[tuple[str, Value]] = (),
        http_status: int = 200,
        *,
        is_answer: bool = False,
    ) -> None:
        """End a call: trailers, or headers and trailers in one if nothing was sent yet.

        `is_answer`: it is what the method says, not that there will be no answer.
        """
        fields = trailers(status, text, metadata)
        stream = self._streams.get(stream_id)
        if stream is None or not can_send(self._h2, stream_id):
            self._streams.drop(stream_id)
            return
        if not stream.has_responded:
            fields = headers((), http_status) + fields
        self._h2.send_headers(stream_id, fields, end_stream=True)
        if can_send(self._h2, stream_id):  # the peer could, too, but needn't any more
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)  # RFC 9113 section 8.1
            is_whole = stream.has_message  # its end may be an empty frame that comes later
        else:
            is_whole = True
        self._streams.drop(stream_id, is_answered=is_whole and is_answer)
        self._ping_rule.sent()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """End a call without an answer."""
        self._streams.drop(stream_id)
        if can_send(self._h2, stream_id):
            self._h2.reset_stream(stream_id, code)

    def ping(self, payload: bytes) -> None:
        """Ask the peer for a sign of life; `payload`, 8 bytes, comes back."""
        if self._is_open:
            self._h2.ping(payload)

    def ask_for_lost_window(self) -> None:
        """Find out whether the peer has lost its window; WindowLost may follow."""
        lost = self._lost_window
        if self._is_open and not lost.is_asked and lost.is_lost(self._streams):
            lost.is_asked = True
            self._h2.ping(_WINDOW_PING)

    def begin_drain(self) -> None:
        """Ask the peer to open no more calls; those that it is opening are still served.

        The answer to the PING that goes with it means that it knows: `end_drain` then.
        """
        if self._is_open:
            self._h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=_MAX_STREAM_ID)
            self._h2.ping(DRAIN_PING)

    def end_drain(self) -> None:
        """Tell the peer which call was the last one; refuse those after it."""
        self._refuses_calls = True
        if self._is_open:
            self._close(ErrorCodes.NO_ERROR)

    def lost(self) -> None:
        """Take note that the connection is gone; nothing may be asked of it any more."""
        self._streams.clear()
        self._account.let_go()
        let_go(self._h2)

    @property
    def _is_open(self) -> bool:
        """Whether HTTP/2 is spoken: from the peer's preface to its first fault."""
        return self._preface.is_complete and not self._has_failed

    def _close(self, code: ErrorCodes, why: bytes = b"") -> None:
        self._h2.close_connection(code, additional_data=why or None)

    def _after_preface(self, data: bytes) -> bytes:
        """Return what h2 may see of `data`; answer the preface with our own."""
        if self._preface.is_complete:
            return data
        data = self._preface.feed(data)
        if data:
            initiate(self._h2, self._limits)
        return data

    def _on_settings(self, event: h2.events.RemoteSettingsChanged) -> _Events:
        limit_header_table(self._h2)
        forget_unknown_settings(self._h2)
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            self._account.charge(Work.SETTINGS_PER_CALL, len(self._streams))
        if not self._is_ready:
            self._is_ready = True
            yield ours.PeerReady()
        yield ours.WindowOpened(0)  # the initial window may have grown

    def _on_request(self, event: h2.events.RequestReceived) -> _Events:
        stream_id = event.stream_id
        if self._refuses_calls or self._streams.are_full:
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        try:
            yield ours.CallOpened(stream_id, self._streams.open(stream_id, event.headers))
        except RefusedError as refusal:
            self._refuse(stream_id, refusal)

    def _on_trailers(self, event: h2.events.TrailersReceived) -> _Events:
        size, most = list_bytes(event.headers), self._limits.max_header_list_bytes
        if event.stream_id in self._streams and size > most:
            text = f"the trailers take {size} bytes, more than {most}"
            self._refuse(event.stream_id, RefusedError(Status.RESOURCE_EXHAUSTED, text))
            yield ours.CallGone(event.stream_id)

    def _on_malformed(self, event: RequestMalformed) -> _Events:
        text = _without_values(event.text)
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        is_open = event.stream_id in self._streams
        if not is_open:
            self._streams.begin(event.stream_id)
        self._refuse(event.stream_id, RefusedError(Status.INTERNAL, text, 400))
        yield ours.RequestMalformed(event.stream_id, text)
        if is_open:
            yield ours.CallGone(event.stream_id)

    def _on_data(self, event: h2.events.DataReceived) -> _Events:
        stream_id, size = event.stream_id, event.flow_controlled_length
        stream = self._streams.get(stream_id)
        if stream is None:
            self._h2.acknowledge_received_data(size, stream_id)
            return
        try:
            messages = self._streams.feed(stream_id, event.data)
        except RefusedError as refusal:
            self._h2.acknowledge_received_data(size, stream_id)
            self._refuse(stream_id, refusal)
            yield ours.CallGone(stream_id)
            return
        if size and stream.withholds(size):
            self._h2.increment_flow_control_window(size)  # others on the connection may go on
        else:
            self._h2.acknowledge_received_data(size, stream_id)
        if len(messages):
            yield ours.MessagesArrived(stream_id, messages)

    def _on_end(self, event: h2.events.StreamEnded) -> _Events:
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.unfinished_bytes:
            yield ours.RequestEnded(event.stream_id)
        elif stream is not None:
            self.finish(event.stream_id, Status.INTERNAL, "the request ends within a message")
            yield ours.CallGone(event.stream_id)

    def _on_reset(self, event: h2.events.StreamReset) -> _Events:
        if self._streams.drop(event.stream_id):
            yield ours.CallGone(event.stream_id)
        self.ask_for_lost_window()

    def _on_window(self, event: h2.events.WindowUpdated) -> _Events:
        if event.stream_id:  # the connection's own makes nobody ready who wasn't
            yield ours.WindowOpened(event.stream_id)
        else:
            self._lost_window.opened()

    def _on_ping(self, _event: h2.events.Event) -> _Events:
        self._ping_rule.pinged(self._now)
        return ()

    def _on_ping_answer(self, event: h2.events.PingAckReceived) -> _Events:
        if event.ping_data == _WINDOW_PING and self._lost_window.is_asked:
            self._lost_window.is_asked = False
            if self._lost_window.is_lost(self._streams):
                yield ours.WindowLost()
        yield ours.PingAnswered(event.ping_data)

    def _on_goaway(self, _event: h2.events.Event) -> _Events:
        yield ours.PeerLeaving()

    def _refuse(self, stream_id: int, refusal: RefusedError) -> None:
        self.finish(stream_id, refusal.status, refusal.text, http_status=refusal.http_status)

    _HANDLERS: ClassVar[dict[type, Callable[..., _Events]]] = {
        h2.events.RemoteSettingsChanged: _on_settings,
        h2.events.RequestReceived: _on_request,
        h2.events.TrailersReceived: _on_trailers,
        RequestMalformed: _on_malformed,
        h2.events.DataReceived: _on_data,
        h2.events.StreamEnded: _on_end,
        h2.events.StreamReset: _on_reset,
        h2.events.WindowUpdated: _on_window,
        h2.events.PingReceived: _on_ping,
        h2.events.PingAckReceived: _on_ping_answer,
        h2.events.ConnectionTerminated: _on_goaway,
    }


def _without_values(text: str) -> str:
    """Return what h2 says without what it quotes of the peer."""
    return _QUOTED.sub("...", text)

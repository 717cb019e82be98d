"""The calls of one connection, between its core and its link.

The link asks `next_output` for more when it has none left: first what the core has to say,
then DATA of the calls that have some. On the event loop only.
"""

from __future__ import annotations

import logging
import random
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, ClassVar

from streamer.engines.wire import events
from streamer.engines.wire.call import Call
from streamer.engines.wire.connection import DRAIN_PING, Connection, ConnectionFailedError
from streamer.engines.wire.context import CallFailedError
from streamer.engines.wire.flood import Work
from streamer.engines.wire.handlers import Pool
from streamer.engines.wire.times import LAST_WORDS_SECONDS, Due, Times
from streamer.engines.wire.turns import Turns
from streamer.errors import Status

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.interfaces import Block, Host, Link
    from streamer.engines.wire.limits import Limits
    from streamer.engines.wire.metadata import Metadata
    from streamer.engines.wire.segments import Outgoing

_log = logging.getLogger(__name__)

# A peer that was told that the server drains has this long to say that it has heard.
_DRAIN_PING_SECONDS = 1.0
# Quick calls of one connection that are at work together: all share two threads, first come, first
# served. With 8 of each, others waited 1.6 times as long, and answers came no faster.
_QUICK_CALLS = 2
# Calls are begun when all that was read has been handled, or after so long.
_READY_SECONDS = 0.02
_KEEPALIVE_PING = b"alive???"


class Session:
    """One connection's calls."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host = host
        self._link = link
        self.prepare: Callable[[Any], Block] = link.prepare
        self.now = host.loop.time
        self._core = Connection(host.limits, self.now(), host.held, host.flood)
        self._unhandled = bytearray()
        self._has_turn = False  # it is queued, or waits until the peer's debt is paid
        self._has_ended = False  # the peer has closed its side
        self._is_deaf = False  # the peer is at fault, or gone
        self._ready: deque[tuple[float, Call]] = deque()  # since when
        self._quick_waiting: OrderedDict[int, Call] = OrderedDict()
        self._quick_at_work = 0
        self._calls: dict[int, Call] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._turns = Turns(self._core, link, self.now)
        self._has_told_malformed = False  # once a connection: there may be any number
        self._has_lost_window = False
        self._is_draining = False
        self._has_drained = False
        self._may_close = False  # no call will follow those under way
        self._times = Times(host.limits, self.now(), _age_factor())
        host.opened(self)

    @property
    def peer(self) -> str:
        """Who is at the other end, for the log."""
        return self._link.peer

    @property
    def awaited_bytes(self) -> int:
        """Bytes still to come of a frame that the peer has begun to send."""
        return self._core.awaited_bytes

    # What the link tells.

    def received(self, data: bytes) -> None:
        """Take note of bytes from the peer; they are handled in turn."""
        self._times.heard(self.now())
        self._unhandled += data
        self._queue()

    def ended(self) -> None:
        """Take note that the peer says no more; what it has said is handled before that."""
        self._has_ended = True
        self._queue()

    def lost(self) -> None:
        """Take note that the connection is gone."""
        self._is_deaf = True
        self._end_calls()
        self._turns.clear()
        self._core.lost()
        self._host.closed(self)

    def _queue(self) -> None:
        if not self._has_turn:
            self._has_turn = True
            self._host.intake.add(self._guarded_turn, is_last=not self._core.is_in_good_standing)

    def _guarded_turn(self) -> None:
        self._has_turn = False
        if not self._is_deaf:
            self.guarded(self._take_turn)

    def _take_turn(self) -> None:
        """Handle a part of what has been read, unless the peer has to wait."""
        now = self.now()
        if wait_seconds := self._core.wait_seconds(now):
            if self._has_ended:
                self._link.abort()
                return
            self._has_turn = True
            self._begin_ready()
            self._link.hold(is_held=True)
            self._host.loop.call_later(wait_seconds, self._guarded_turn)
            return
        data, self._unhandled = bytes(self._unhandled), bytearray()
        try:
            for event in self._core.receive(data, now):
                self._HANDLERS[type(event)](self, event)
        except ConnectionFailedError as failure:
            _log.warning("connection from %s ended: %s", self.peer, failure)
            self._is_deaf = True
            self._end_calls()
            self._link.close()
            self._host.loop.call_later(LAST_WORDS_SECONDS, self._link.abort)
        self._begin_ready()
        is_behind = self._core.is_behind and not self._is_deaf
        if is_behind:
            self._queue()
        self._close_if_done()
        self._link.wake()
        if self._has_ended and not is_behind:  # when what is due has been written
            self._host.loop.call_soon(self._link.abort)
        elif not self._has_ended:
            self._link.hold(is_held=is_behind)

    def next_output(self) -> bytes | Outgoing | None:
        """Return what is to be sent next; None if there is nothing now."""
        if control := self._core.control_bytes():
            return control
        return self._turns.next_output()

    # What the calls tell.

    def run_soon(self, action: Callable[..., None], *arguments: object) -> None:
        """Run `action` on the loop; from any thread."""
        self._host.loop.call_soon_threadsafe(self.guarded, action, *arguments)

    def guarded(self, action: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        """Run `action`; an error that nobody has foreseen ends this connection alone."""
        try:
            return action(*arguments)
        except Exception:
            _log.exception("connection from %s ended by an internal error", self.peer)
            self._link.abort()
            return None

    def send_headers(self, call: Call, metadata: Metadata) -> None:
        if self._calls.get(call.stream_id) is call:
            self._core.respond(call.stream_id, metadata)
            self._link.wake()

    def has_block(self, call: Call) -> None:
        self._turns.add(call)
        self._link.wake()

    def finish(
        self, call: Call, status: Status, text: str, metadata: Metadata, *, is_answer: bool = False
    ) -> None:
        if self._calls.get(call.stream_id) is call:
            self._core.finish(call.stream_id, status, text, metadata, is_answer=is_answer)
            self._forget(call.stream_id)
            self._link.wake()

    def consumed(self, call: Call, messages: MessageRun) -> None:
        self._core.consumed(call.stream_id, messages)
        self._link.wake()

    # What the server tells.

    def drain(self) -> None:
        """Let calls under way end, take no new ones, then close."""
        if not self._times.is_ready:
            self._link.close()
        elif not self._is_draining:
            self._is_draining = True
            self._core.begin_drain()
            self._host.loop.call_later(_DRAIN_PING_SECONDS, self._end_drain)
            self._link.wake()

    def _end_drain(self) -> None:
        if not self._has_drained:
            self._has_drained = self._may_close = True
            self._core.end_drain()
            self._end_blocked()
            self._close_if_done()
            self._link.wake()

    def _end_blocked(self) -> None:  # had the peer not lost its window, they could send
        if self._has_lost_window and self._has_drained and not self._core.window_of_all:
            for call in self._turns.ready():
                self.finish(call, Status.UNAVAILABLE, "the peer's window is lost; call again", ())

    def cut_off(self, why: str = "the server is shutting down") -> None:
        """End what is left, now."""
        for call in list(self._calls.values()):
            self.finish(call, Status.UNAVAILABLE, why, ())
        self._link.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._link.abort()

    def check_times(self) -> None:
        """End what takes too long; called now and then."""
        now, limits = self.now(), self._host.limits
        if self._has_turn:  # what the peer says is there, and has to wait
            self._times.heard(now)
        self._turns.note_waiting()
        self._core.ask_for_lost_window()
        self._end_blocked()
        is_untaken = any(call.waits_for_window_since is not None for call in self._calls.values())
        blocked, calls = self._link.blocked_since, self._core.open_calls
        due, why = self._times.due(now, calls=calls, blocked_since=blocked, is_untaken=is_untaken)
        if due is Due.GIVE_UP:
            _log.warning("connection from %s given up: %s", self.peer, why)
            self._link.abort()
        elif due is Due.LEAVE:
            self.drain()
        elif due is Due.CUT_OFF:
            self.cut_off(why)
            self._host.loop.call_later(LAST_WORDS_SECONDS, self._link.abort)
        elif due is Due.PING:
            self._times.pinged(now)
            self._core.ping(_KEEPALIVE_PING)
        self._link.wake()
        for call in list(self._calls.values()):
            self._check_call(call, now, limits)

    def _check_call(self, call: Call, now: float, limits: Limits) -> None:
        stalled, unasked = call.waits_for_window_since, call.waits_for_request_since
        if stalled is not None and now - stalled > limits.stall_seconds:
            text = f"the client has taken nothing for {limits.stall_seconds:.0f} s"
            self.finish(call, Status.CANCELLED, text, ())
        elif unasked is not None and now - unasked > limits.handshake_seconds:
            text = f"no request message in {limits.handshake_seconds:.0f} s"
            self.finish(call, Status.CANCELLED, text, ())

    def _on_ready(self, _event: events.PeerReady) -> None:
        self._times.ready()

    def _on_call(self, event: events.CallOpened) -> None:
        try:
            handler = self._host.handler_for(event.head)
        except CallFailedError as error:
            self._core.finish(event.stream_id, error.status, error.text)
            return
        if handler is None:
            self._core.finish(event.stream_id, Status.UNIMPLEMENTED, "Method not found!")
            return
        call = Call(event.stream_id, event.head, handler, self._host.pools, self)
        self._calls[event.stream_id] = call
        if event.head.timeout is not None:
            self._timers[event.stream_id] = self._host.loop.call_later(
                event.head.timeout, self.guarded, self.finish, call,
                Status.DEADLINE_EXCEEDED, "Deadline Exceeded", (),
            )  # fmt: skip
        if handler.takes_stream:
            self._is_ready(call)

    def _is_ready(self, call: Call) -> None:
        call.is_ready()
        self._ready.append((self.now(), call))

    def _begin_ready(self) -> None:
        """Begin calls, those that the peer hasn't cancelled in what was read with them."""
        before = self.now() - (_READY_SECONDS if self._core.is_behind else 0)
        while self._ready and self._ready[0][0] <= before:
            _, call = self._ready.popleft()
            if not call.may_begin:
                continue
            if call.handler.is_quick and self._quick_at_work >= _QUICK_CALLS:
                self._quick_waiting[call.stream_id] = call
            else:
                self._begin(call)

    def _begin_waiting(self) -> None:
        while self._quick_waiting and self._quick_at_work < _QUICK_CALLS:
            _, call = self._quick_waiting.popitem(last=False)
            self._begin(call)

    def _begin(self, call: Call) -> None:
        """Call the method, unless there are as many streams or waiting calls as there may be."""
        if self._host.is_busy(call.handler.pool):
            text = "too many calls wait for the server; try again later"
            self.finish(call, Status.RESOURCE_EXHAUSTED, text, ())
            return
        if call.handler.pool is Pool.BLOCKS:
            if self._host.open_streams >= self._host.limits.max_streams:
                text = "the server has as many streams as it takes; try again later"
                self.finish(call, Status.RESOURCE_EXHAUSTED, text, ())
                return
            self._host.open_streams += 1
        self._quick_at_work += call.handler.is_quick
        is_stream = call.handler.pool is Pool.BLOCKS
        self._core.charge(call.stream_id, Work.STREAM if is_stream else Work.METHOD)
        call.begin()

    def _on_messages(self, event: events.MessagesArrived) -> None:
        if call := self._calls.get(event.stream_id):
            if call.takes(len(event.messages)):
                call.receive(event.messages)
                if not call.handler.takes_stream:  # it is the only one: nothing to wait for
                    call.end_request()
                    self._is_ready(call)
            else:
                text = f"{call.context.head.path} takes one request message, not several"
                self.finish(call, Status.UNIMPLEMENTED, text, ())

    def _on_request_end(self, event: events.RequestEnded) -> None:
        if call := self._calls.get(event.stream_id):
            call.end_request()
            if call.waits_for_request_since is not None:
                self._is_ready(call)

    def _on_gone(self, event: events.CallGone) -> None:
        self._forget(event.stream_id)

    def _on_malformed(self, event: events.RequestMalformed) -> None:
        level = logging.DEBUG if self._has_told_malformed else logging.WARNING
        self._has_told_malformed = True
        _log.log(level, "malformed request from %s refused: %s", self.peer, event.text)

    def _on_window(self, event: events.WindowOpened) -> None:
        self._turns.window_opened(event.stream_id)

    def _on_window_lost(self, _event: events.WindowLost) -> None:
        if not self._is_draining:
            _log.info("%s doesn't give its window back: it is to connect again", self.peer)
            self._has_lost_window = True
            self.drain()

    def _on_ping_answer(self, event: events.PingAnswered) -> None:
        if event.payload == DRAIN_PING:
            self._end_drain()

    def _on_leaving(self, _event: events.PeerLeaving) -> None:
        self._may_close = True

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        events.PeerReady: _on_ready,
        events.CallOpened: _on_call,
        events.MessagesArrived: _on_messages,
        events.RequestEnded: _on_request_end,
        events.CallGone: _on_gone,
        events.RequestMalformed: _on_malformed,
        events.WindowOpened: _on_window,
        events.WindowLost: _on_window_lost,
        events.PingAnswered: _on_ping_answer,
        events.PeerLeaving: _on_leaving,
    }

    def _forget(self, stream_id: int) -> None:
        if timer := self._timers.pop(stream_id, None):
            timer.cancel()
        self._turns.drop(stream_id)
        if call := self._calls.pop(stream_id, None):
            self._host.open_streams -= call.has_begun and call.handler.pool is Pool.BLOCKS
            self._quick_at_work -= call.has_begun and call.handler.is_quick
            call.stop()
            self._quick_waiting.pop(stream_id, None)
            if self._quick_waiting:  # soon: whoever begins a call may end it, and come by here
                self._host.loop.call_soon(self.guarded, self._begin_waiting)
        self._times.call_ended(self.now())
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._may_close and not self._calls:
            self._link.close()

    def _end_calls(self) -> None:
        self._ready.clear()
        self._quick_waiting.clear()
        for stream_id in list(self._calls):
            self._forget(stream_id)


def _age_factor() -> float:
    """Return how much older than others a connection may get: up to a tenth, as in gRPC."""
    return random.uniform(0.9, 1.1)  # noqa: S311 - no secret

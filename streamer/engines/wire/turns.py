"""Which call of a connection sends next: each a share of its block, one after another."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.engines.wire.call import Call
    from streamer.engines.wire.connection import Connection
    from streamer.engines.wire.interfaces import Block, Link
    from streamer.engines.wire.segments import Outgoing

# What one call sends before others on its connection have their turn.
_SHARE_BYTES = 1 << 20
# What a peer must take before its wait for a window is over: one byte now and then isn't taking.
_PROGRESS_BYTES = 16 << 10


class Turns:
    """The calls that have a block to send. On the event loop only."""

    def __init__(self, core: Connection, link: Link, now: Callable[[], float]) -> None:
        self._core = core
        self._link = link
        self._now = now
        # Calls that may send as soon as the connection's window lets them, in their order.
        self._ready: OrderedDict[int, Call] = OrderedDict()
        # Calls that have a block and no window of their own.
        self._waiting: dict[int, Call] = {}

    def add(self, call: Call) -> None:
        """Let a call send its block."""
        self._ready[call.stream_id] = call

    def drop(self, stream_id: int) -> None:
        self._ready.pop(stream_id, None)
        self._waiting.pop(stream_id, None)

    def clear(self) -> None:
        """Forget all calls, those that were dropped, too."""
        self._ready.clear()
        self._waiting.clear()

    def window_opened(self, stream_id: int) -> None:
        """Take note that a stream may send more; 0: perhaps any of them."""
        for waiting in (stream_id,) if stream_id else tuple(self._waiting):
            if waiting in self._waiting and self._core.window_of(waiting):
                self.add(self._waiting.pop(waiting))

    def ready(self) -> list[Call]:
        """Return the calls that wait for their turn, or for the connection's window alone."""
        return list(self._ready.values())

    def note_waiting(self) -> None:
        """Take note of calls that could send, had the connection a window; now and then."""
        if not self._core.window_of_all:
            for call in self._ready.values():
                self._waits(call)

    def next_output(self) -> bytes | Outgoing | None:
        """Return DATA of the call whose turn it is; None if none may send."""
        while self._ready and self._core.window_of_all:
            stream_id, call = self._ready.popitem(last=False)
            if call.block is None:
                continue
            share = _SHARE_BYTES if self._ready else self._link.share_alone_bytes
            left = call.block.nbytes - call.position
            size = min(left, share, self._core.window(stream_id))
            if size:
                return self._cut(call, call.block, size)
            self._waits(call)
            self._waiting[stream_id] = call
        return None

    def _waits(self, call: Call) -> None:
        if call.waits_for_window_since is None:
            call.waits_for_window_since, call.taken_bytes = self._now(), 0

    def _cut(self, call: Call, block: Block, size: int) -> bytes | Outgoing:
        call.taken_bytes += size
        if call.taken_bytes >= _PROGRESS_BYTES or call.position + size == block.nbytes:
            call.waits_for_window_since, call.taken_bytes = None, 0
        start, stop = call.position, call.position + size
        self._core.account(call.stream_id, size)
        cut = self._link.cut(block, start, stop, self._core.frame_bytes, call.stream_id)
        call.position = stop
        if stop == block.nbytes:
            call.block_sent()
        else:
            self.add(call)
        return cut  # type: ignore[no-any-return]

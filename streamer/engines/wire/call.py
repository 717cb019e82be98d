"""One call: from its request, through a method's blocks, to its trailers.

Lives on the event loop; only `_advance` and what it calls runs in a pool's thread. A call
holds one block, the one that is being sent, and has the next one made when the last bytes
of it are on their way.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from streamer.engines.wire.context import CallFailedError, Context, Requests
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Executor

    from streamer.codec.frames import Frames
    from streamer.engines.wire.handlers import Handler
    from streamer.engines.wire.interfaces import Block, Metadata, Owner
    from streamer.engines.wire.request import RequestHead

    # What a method's thread hands over: a block, None at the end, or why there is no more.
    Outcome = Block | CallFailedError | None

_log = logging.getLogger(__name__)


class Call:
    """A call that a handler answers. `block` is what is being sent, from `position` on."""

    def __init__(
        self, stream_id: int, head: RequestHead, handler: Handler, pool: Executor, owner: Owner
    ) -> None:
        self.stream_id = stream_id
        self.block: Block | None = None
        self.position = 0
        self.waits_for_window_since: float | None = None
        self.waits_for_request_since: float | None = None if handler.takes_stream else owner.now()
        self.handler = handler
        self._pool = pool
        self._owner = owner
        self._deadline = None if head.timeout is None else owner.now() + head.timeout
        self._requests = Requests(lambda message: owner.run_soon(owner.consumed, self, message))
        self.context = Context(head, owner.peer, self._requests, self, self._seconds_left)
        self._frames: Generator[Frames, None, None] | None = None
        self._is_advancing = False
        self._is_over = False
        self._has_ended = False  # its last block is there
        self._pushed: deque[Block | None] = deque()
        if handler.takes_stream:
            self._start()

    @property
    def takes_more(self) -> bool:
        """Whether another request message may come."""
        return self.handler.takes_stream or self.waits_for_request_since is not None

    def receive(self, message: bytes) -> None:
        self._requests.put(message)
        if not self.handler.takes_stream:  # it is the only one: nothing to wait for
            self.end_request()

    def end_request(self) -> None:
        self._requests.end()
        if self.waits_for_request_since is not None:
            self.waits_for_request_since = None
            self._start()

    def stop(self) -> None:
        """Let go of everything: the call is over, however it ended."""
        if self._is_over:
            return
        self._is_over = True
        self.block = None
        self._pushed.clear()
        self._requests.cancel()
        for callback in self.context.end():
            self._run(callback)
        if self._frames is not None and not self._is_advancing:
            self._run(self._frames.close)

    def block_sent(self) -> None:
        """Take note that every byte of the block is on its way: make the next one."""
        self.block = None
        self.position = 0
        if self._has_ended:
            self._take(None)
        elif self.handler.pushes:
            self._next_pushed()
        elif self._frames is not None:
            self._ask_for_block(self._frames)

    # What a context asks for, from any thread.

    def send_headers_soon(self, metadata: Metadata) -> None:
        self._owner.run_soon(self._owner.send_headers, self, metadata)

    def cancel_soon(self) -> None:
        self._owner.run_soon(self._owner.finish, self, Status.CANCELLED, "CANCELLED", ())

    def push(self, frames: Frames | None) -> None:
        block = None if frames is None else self._owner.prepare(frames)
        self._owner.run_soon(self._push, block)

    def _push(self, block: Block | None) -> None:
        if not self._is_over:
            self._pushed.append(block)
            if self.block is None:
                self._next_pushed()

    def _next_pushed(self) -> None:
        if self._pushed:
            self._take(self._pushed.popleft())

    def _start(self) -> None:
        arguments = (self.push,) if self.handler.pushes else ()
        self._frames = self.handler.begin(self.context, *arguments)
        self._ask_for_block(self._frames)

    def _ask_for_block(self, generator: Generator[Frames, None, None]) -> None:
        self._is_advancing = True
        self._pool.submit(self._advance, generator)

    def _advance(self, generator: Generator[Frames, None, None]) -> None:
        """Make the next block; in a thread of the pool."""
        outcome: Outcome = None
        try:
            frames = None if self._is_over else next(generator, None)
            outcome = None if frames is None else self._owner.prepare(frames)
            if self.handler.gives_one:
                generator.close()
        except CallFailedError as error:
            outcome = error
        except BaseException:  # a defect, or sys.exit(): the peer gets an answer all the same
            _log.exception("call from %s failed", self._owner.peer)
            outcome = CallFailedError(Status.INTERNAL, "internal error")
        self._owner.run_soon(self._advanced, generator, outcome)

    def _advanced(self, generator: Generator[Frames, None, None], outcome: Outcome) -> None:
        self._is_advancing = False
        self._has_ended = self.handler.gives_one
        if outcome is None or isinstance(outcome, CallFailedError) or self._has_ended:
            self._frames = None  # it has run to its end
        if self._is_over:
            self._run(generator.close)
        elif outcome is not None or not self.handler.pushes:
            self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        trailing = self.context.trailing_metadata()
        if isinstance(outcome, CallFailedError):
            self._owner.finish(self, outcome.status, outcome.text, trailing)
        elif outcome is None:
            status = self.context.code() or Status.OK
            self._owner.finish(self, status, self.context.details(), trailing)
        else:
            self.block = outcome
            self._owner.has_block(self)

    def _run(self, action: Callable[[], None]) -> None:
        """Run code of the method's in the pool; nobody waits for it."""
        try:
            self._pool.submit(_run_logged, action)
        except RuntimeError:  # the server has stopped, and the loop has nothing else to do
            _run_logged(action)

    def _seconds_left(self) -> float | None:
        if self._deadline is None:
            return None
        return max(self._deadline - self._owner.now(), 0.0)


def _run_logged(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        _log.exception("a callback, or the end of a generator, failed")

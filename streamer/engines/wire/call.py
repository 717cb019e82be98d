"""One call: from its request, through a method's blocks, to its trailers.

    WAITING ──request──▶ READY ──turn──▶ MAKING ──block──▶ SENDING ──sent──▶ MAKING ... ──▶ OVER
    a method that pushes:                MAKING ──▶ IDLE ──pushed──▶ SENDING ──sent──▶ IDLE

OVER comes from every state: a call is answered, or it is reset, refused or too late. Lives
on the event loop; only `_advance` and what it calls runs in a pool's thread, and only while
MAKING. A call holds one block, the one that is being sent, and has the next one made when
the last bytes of it are on their way.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from streamer.engines.wire.context import CallFailedError, Context, Requests
from streamer.engines.wire.handlers import Pool
from streamer.errors import Status, answer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from concurrent.futures import Executor

    from streamer.codec.frames import Frames
    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.handlers import Handler
    from streamer.engines.wire.interfaces import Block, Owner
    from streamer.engines.wire.metadata import Metadata
    from streamer.engines.wire.request import RequestHead

    # What a method's thread hands over: a block, None at the end, or why there is no more.
    Outcome = Block | CallFailedError | None

_log = logging.getLogger(__name__)


class _State(Enum):
    WAITING = auto()  # for its one request message
    READY = auto()  # to be begun
    MAKING = auto()  # a thread of the method's is at work, or about to be
    SENDING = auto()  # there is a block
    IDLE = auto()  # the method has returned, and will push
    OVER = auto()


class Call:
    """A call that a handler answers. `block` is what is being sent, from `position` on.

    `waits_for_window_since`: the time when it could first have sent, had there been a window;
    `taken_bytes`: what it has sent since.
    """

    def __init__(
        self,
        stream_id: int,
        head: RequestHead,
        handler: Handler,
        pools: Mapping[Pool, Executor],
        owner: Owner,
    ) -> None:
        self.stream_id = stream_id
        self.handler = handler
        self.block: Block | None = None
        self.position = 0
        self.waits_for_window_since: float | None = None
        self.taken_bytes = 0
        self._pool = pools[handler.pool]
        self._callback_pool = pools[Pool.CALLBACKS]
        self._owner = owner
        self._began = owner.now()
        deadline = None if head.timeout is None else self._began + head.timeout
        seconds_left = functools.partial(_seconds_left, deadline, owner.now)
        self._requests = Requests(lambda run: owner.run_soon(owner.consumed, self, run))
        self.context = Context(head, owner.peer, self._requests, self, seconds_left)
        self._state = _State.WAITING
        self._generator: Generator[Frames, None, None] | None = None  # None: at its end, too
        self._pushed: deque[Block | None] = deque()

    @property
    def waits_for_request_since(self) -> float | None:
        """Since when its request message is missing; None if nothing is."""
        return self._began if self._state is _State.WAITING else None

    @property
    def has_begun(self) -> bool:
        """Whether its method has been called: it holds a block from then on."""
        return self._state not in (_State.WAITING, _State.READY)

    def takes(self, messages: int) -> bool:
        """Whether so many more request messages may come."""
        return self.handler.takes_stream or (messages == 1 and self._state is _State.WAITING)

    def receive(self, messages: MessageRun) -> None:
        self._requests.put(messages)

    def end_request(self) -> None:
        self._requests.end()

    def is_ready(self) -> None:
        """Take note that there is nothing to wait for but its turn."""
        self._state = _State.READY

    @property
    def may_begin(self) -> bool:
        """Whether it is ready still: most that are cancelled at once never begin."""
        return self._state is _State.READY

    def begin(self) -> None:
        """Call the method: its request is there, or it takes a stream of them."""
        arguments = (self.push,) if self.handler.pushes else ()
        self._generator = self.handler.begin(self.context, *arguments)
        self._make(self._generator)

    def stop(self) -> None:
        """Let go of everything: the call is over, however it ended."""
        if self._state is _State.OVER:
            return
        is_making = self._state is _State.MAKING
        self._state = _State.OVER
        self.block = None
        self._pushed.clear()
        self._requests.cancel()
        for callback in self.context.end():
            _submit(self._callback_pool, callback)
        if self._generator is not None and not is_making:
            _submit(self._pool, self._generator.close)

    def block_sent(self) -> None:
        """Take note that every byte of the block is on its way: make the next one."""
        self.block = None
        self.position = 0
        if self.handler.gives_one:
            self._finish()
        elif self._generator is not None:
            self._make(self._generator)
        else:
            self._state = _State.IDLE
            self._next_pushed()

    # What a context asks for, from any thread.

    def send_headers_soon(self, metadata: Metadata) -> None:
        self._owner.run_soon(self._owner.send_headers, self, metadata)

    def cancel_soon(self) -> None:
        self._owner.run_soon(self._owner.finish, self, Status.CANCELLED, "CANCELLED", ())

    def push(self, frames: Frames | None) -> None:
        block = None if frames is None else self._owner.prepare(frames)
        self._owner.run_soon(self._push, block)

    def _push(self, block: Block | None) -> None:
        if self._state is not _State.OVER:
            self._pushed.append(block)
            self._next_pushed()

    def _next_pushed(self) -> None:
        if self._pushed and self._state is _State.IDLE:
            block = self._pushed.popleft()
            if block is None:
                self._finish()
            else:
                self._send(block)

    def _make(self, generator: Generator[Frames, None, None]) -> None:
        self._state = _State.MAKING
        try:
            self._pool.submit(self._advance, generator)
        except RuntimeError:  # there is no memory for a thread
            _log.warning("call from %s: no thread can be started", self._owner.peer)
            self._finish(CallFailedError(*answer_for(MemoryError())))

    def _advance(self, generator: Generator[Frames, None, None]) -> None:
        """Make the next block; in a thread of the pool."""
        outcome: Outcome = None
        try:
            frames = None if self._state is _State.OVER else next(generator, None)
            outcome = None if frames is None else self._owner.prepare(frames)
            if self.handler.gives_one:
                generator.close()
        except CallFailedError as error:
            outcome = error.with_traceback(None)  # which refers to this frame
        except BaseException as error:  # a defect, or sys.exit(): the peer gets an answer, too
            _log.exception("call from %s failed", self._owner.peer)
            outcome = CallFailedError(*answer_for(error))
        self._owner.run_soon(self._advanced, generator, outcome)

    def _advanced(self, generator: Generator[Frames, None, None], outcome: Outcome) -> None:
        if self._state is _State.OVER:
            _submit(self._pool, generator.close)
            return
        failed = isinstance(outcome, CallFailedError)
        if outcome is None or failed or self.handler.gives_one:
            self._generator = None  # it has run to its end
        if isinstance(outcome, CallFailedError):
            self._finish(outcome)
        elif outcome is not None:
            self._send(outcome)
        elif self.handler.pushes:
            self._state = _State.IDLE
            self._next_pushed()
        else:
            self._finish()

    def _send(self, block: Block) -> None:
        self._state = _State.SENDING
        self.block = block
        self._owner.has_block(self)

    def _finish(self, failure: CallFailedError | None = None) -> None:
        status, text, trailing = self.context.outcome(failure)
        self._owner.finish(self, status, text, trailing, is_answer=True)


def _seconds_left(deadline: float | None, now: Callable[[], float]) -> float | None:
    return None if deadline is None else max(deadline - now(), 0.0)


def _submit(pool: Executor, action: Callable[[], None]) -> None:
    """Run code of a method's; nobody waits for it."""
    try:
        pool.submit(_run_logged, action)
    except RuntimeError:  # the server has stopped, and the loop has nothing else to do
        _run_logged(action)


def _run_logged(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        _log.exception("a callback, or the end of a generator, failed")

"""What the parts on the event loop ask of each other: server, session, link and call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from streamer.codec.frames import Frames
    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.call import Call
    from streamer.engines.wire.flood import FloodAccount
    from streamer.engines.wire.handlers import Handler, Pool
    from streamer.engines.wire.limits import Limits
    from streamer.engines.wire.metadata import Metadata
    from streamer.engines.wire.pump import Pump
    from streamer.engines.wire.request import RequestHead
    from streamer.engines.wire.session import Session
    from streamer.engines.wire.stream import HeldOfAll
    from streamer.errors import Status


class Block(Protocol):
    """A block of messages, made ready for one kind of link."""

    nbytes: int


class Link(Protocol):
    """What carries a session's bytes.

    It asks its session for output when it can send. `blocked_since` says since when it
    can't, None if it can.
    """

    peer: str
    blocked_since: float | None
    # What one call may send at a time if no other has anything to send.
    share_alone_bytes: int

    def prepare(self, frames: Any) -> Any:  # noqa: ANN401
        """Make a Block of Frames; from any thread, and may take long."""

    def cut(self, block: Any, start: int, stop: int, frame_bytes: int, stream_id: int) -> Any:  # noqa: ANN401
        """Return bytes start..stop of a block as DATA frames, fit for this link."""

    def wake(self) -> None:
        """Ask the session for output as soon as others have had their turn."""

    def hold(self, *, is_held: bool) -> None:
        """Read nothing more from the peer for now, or again."""

    def close(self) -> None:
        """Send what is due, then close."""

    def abort(self) -> None:
        """Close at once."""


class Host(Protocol):
    """What a session asks of the server that it belongs to."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    pools: Mapping[Pool, Executor]
    open_streams: int  # calls in all sessions that encode blocks
    intake: Pump  # turns to handle what has been read
    flood: FloodAccount
    held: HeldOfAll

    def is_busy(self, pool: Pool) -> bool:
        """Whether as many calls wait for a thread as may."""

    def handler_for(self, head: RequestHead) -> Handler | None:
        """Return what answers a call, None if nothing does; CallFailedError."""

    def opened(self, session: Session) -> None: ...
    def closed(self, session: Session) -> None: ...


class Owner(Protocol):
    """What a call asks of the session that it belongs to."""

    prepare: Callable[[Frames], Block]

    @property
    def peer(self) -> str:
        """Who calls, for the log."""

    def now(self) -> float:
        """Return the loop's time in seconds; from any thread."""

    def run_soon(self, action: Callable[..., None], *arguments: object) -> None:
        """Run `action` on the loop; from any thread."""

    def send_headers(self, call: Call, metadata: Metadata) -> None: ...
    def has_block(self, call: Call) -> None: ...
    def finish(
        self, call: Call, status: Status, text: str, metadata: Metadata, *, is_answer: bool = False
    ) -> None: ...
    def consumed(self, call: Call, messages: MessageRun) -> None: ...

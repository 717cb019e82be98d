"""What both links have in common: when they write, when they don't listen, how they close."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.engines.wire.interfaces import Host
    from streamer.engines.wire.pump import Pump
    from streamer.engines.wire.session import Session

# What is read from a peer that takes nothing itself: enough for its resets and windows,
# little enough that the answers to its frames don't fill memory.
_READ_WHILE_BLOCKED_BYTES = 65_536
# How long a closed connection is kept for the peer to read our last words: closing it with
# unread input would reset it, and destroy them.
_LINGER_SECONDS = 1.0


class BaseLink(ABC):
    """A connection's bytes; `blocked_since` says since when the peer takes none, if so."""

    session: Session

    def __init__(self, host: Host, pump: Pump, peer: str) -> None:
        self.peer = peer
        self.blocked_since: float | None = None
        self._loop = host.loop
        self._pump = pump
        self._is_queued = False
        self._is_closing = False  # nothing more is heard
        self._is_shut = False  # nothing more is written
        self._read_while_blocked = 0
        self._is_held = False  # by the session, which has more than it may handle

    def wake(self) -> None:
        """Write as soon as the others have had their turn."""
        if not (self._is_queued or self._is_shut or self.blocked_since is not None):
            self._is_queued = True
            self._pump.add(self.write)

    def write(self) -> None:
        """Write a little, unless nothing may be written any more."""
        self._is_queued = False
        if not (self._is_shut or self.blocked_since is not None):
            self._write()

    def hold(self, *, is_held: bool) -> None:
        """Read nothing more from the peer for now, or again."""
        self._is_held = is_held
        self._listen_if_wanted()

    def close(self) -> None:
        """Send what is due, then close."""
        self._is_closing = True
        self.wake()

    @abstractmethod
    def abort(self) -> None:
        """Close at once."""

    @abstractmethod
    def _write(self) -> None:
        """Write once; `_shut` if all is written and the link is closing."""

    @abstractmethod
    def _listen(self, *, wanted: bool) -> None:
        """Begin to read from the peer, or cease to."""

    def _received(self, data: bytes) -> None:
        if self.blocked_since is not None:
            self._read_while_blocked += len(data)
            self._listen_if_wanted()
        if not self._is_closing:
            self._take(data)

    def _take(self, data: bytes) -> None:
        self.session.guarded(self.session.received, data)

    def _lost(self) -> None:
        """Take note that the connection is gone, and let go of the session.

        The two refer to each other. Left to the collector, what streams held would stay
        until it comes by.
        """
        self._is_shut = True
        self.session.lost()
        del self.session

    def _blocked(self) -> None:
        """Take note that the peer takes nothing now."""
        self.blocked_since = self._loop.time()

    def _unblocked(self) -> None:
        self.blocked_since = None
        self._read_while_blocked = 0
        self._listen_if_wanted()
        self.wake()

    def _listen_if_wanted(self) -> None:
        has_enough = self._read_while_blocked >= _READ_WHILE_BLOCKED_BYTES
        self._listen(wanted=not (self._is_held or has_enough))

    def _shut(self, close: Callable[[], None]) -> None:
        """Take note that the last words are written; `close` when the peer has read them."""
        self._is_shut = True
        self._loop.call_later(_LINGER_SECONDS, close)

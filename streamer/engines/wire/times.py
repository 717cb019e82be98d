"""When a connection has waited long enough for its peer. No clock: seconds come in."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.engines.wire.limits import Limits


# A peer that must go has this long to take what it is told about that.
LAST_WORDS_SECONDS = 2.0


class Due(Enum):
    """What it is time for."""

    NOTHING = auto()
    PING = auto()
    LEAVE = auto()  # it was idle, or is old: let the peer know, and close
    CUT_OFF = auto()  # it was to leave, and calls are still under way: end them
    GIVE_UP = auto()  # close at once: there is nobody


class Times:
    """What has last happened on one connection, and what follows from that."""

    def __init__(self, limits: Limits, now: float, age_factor: float = 1.0) -> None:
        """`age_factor` is what this connection may be older than others."""
        self._limits = limits
        self._max_age_seconds = limits.age.max_seconds * age_factor
        self._aged: float | None = None
        self._began = self._heard = self._last_call = now
        self._is_ready = False
        self._pinged: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the peer has finished its part of the handshake."""
        return self._is_ready

    def ready(self) -> None:
        self._is_ready = True

    def heard(self, now: float) -> None:
        """Take note of a sign of life."""
        self._heard = now
        self._pinged = None

    def call_ended(self, now: float) -> None:
        self._last_call = now

    def pinged(self, now: float) -> None:
        """Take note that the peer was asked for a sign of life."""
        self._pinged = now

    def due(
        self, now: float, *, calls: int, blocked_since: float | None, is_untaken: bool = False
    ) -> tuple[Due, str]:
        """Return what is due, and why, for the log.

        `calls` are under way; `blocked_since` says when the peer stopped taking bytes,
        `is_untaken` whether a call waits for its window: how long it may, is for it to say.
        """
        limits, keepalive = self._limits, self._limits.keepalive
        if not self._is_ready and now - self._began > limits.handshake_seconds:
            return Due.GIVE_UP, "no handshake"
        if self._aged is None and now - self._began > self._max_age_seconds:
            self._aged = now
            return Due.LEAVE, "old"
        if self._aged is not None and now - self._aged > limits.age.grace_seconds:
            return Due.CUT_OFF, "the connection is too old; call again"
        if blocked_since is not None:  # a PING of ours would wait behind what isn't taken
            stalled = now - blocked_since > limits.stall_seconds
            return (Due.GIVE_UP, "it takes nothing") if stalled else (Due.NOTHING, "")
        # haproxy doesn't even read a PING while its client doesn't read.
        waited = 0.0 if self._pinged is None or is_untaken else now - self._pinged
        if waited > keepalive.timeout_seconds:
            return Due.GIVE_UP, "no answer to a ping"
        if not calls and now - self._last_call > limits.idle_seconds:
            return Due.LEAVE, "idle"
        if self._pinged is None and now - self._heard > keepalive.time_seconds:
            return Due.PING, "silence"
        return Due.NOTHING, ""

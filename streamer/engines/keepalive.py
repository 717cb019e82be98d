"""When a server looks for vanished clients, and how often they may ping it; both engines."""

from __future__ import annotations

from typing import NamedTuple


class Keepalive(NamedTuple):
    """Times in seconds."""

    # A connection on which nothing came for so long is pinged, with or without calls ...
    time_seconds: float = 30
    # ... and given up if it doesn't answer in this time.
    timeout_seconds: float = 10
    # Clients that ping every 10 to 30 s get no GOAWAY, also while nothing is streamed.
    min_ping_interval_seconds: float = 10

    @property
    def tolerated_ping_seconds(self) -> float:
        """The interval to enforce: a ping sent exactly on time may come early."""
        return self.min_ping_interval_seconds * 0.9

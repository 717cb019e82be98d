"""How long connections are kept, and how often clients may ping; both engines."""

from __future__ import annotations

from math import inf
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


class ConnectionAge(NamedTuple):
    """How old connections get, so that balancers that choose a server for each choose again."""

    # From then on, a tenth more or less so that not all end at once, the client is asked to
    # open its next calls on another connection (GOAWAY); calls under way go on ...
    max_seconds: float = inf
    # ... for so much longer.
    grace_seconds: float = inf

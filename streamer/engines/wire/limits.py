"""What a peer may ask of the server: each limit, its default, and the reason for it.

No clock: whoever calls says what time it is, in seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from streamer.engines.keepalive import ConnectionAge, Keepalive
from streamer.engines.wire.faults import CalmDownError


class Limits(NamedTuple):
    """Bounds on one server and its peers; README.md says which variables set them."""

    # An idle connection takes about 50 KB and a file descriptor, of which a process
    # commonly has 1024.
    max_connections: int = 512
    # Twice the hundred that most clients keep to. A stream that waits takes a block.
    max_streams_per_connection: int = 256
    # Streams of embeddings in all connections together, 1 MiB each at the worst: whoever opens
    # many and takes nothing doesn't fill memory. Health checks don't count.
    max_streams: int = 512
    # Calls that wait for a thread of one kind. Each holds what it was sent, also when it is
    # over, until a thread comes by. h2load has a thousand health checks under way.
    max_waiting_calls: int = 4096
    # What is advertised; a call with more is refused. The default of gRPC's own C-core
    # (16 KiB as hard limit).
    max_header_list_bytes: int = 16 << 10
    # A RequestParams takes less than 100 bytes. A connection may hold four unfinished ones.
    max_request_bytes: int = 64 << 10
    # The same in all connections together; peers that send rows of a few KB never notice.
    max_unfinished_bytes: int = 256 << 20
    # What a client stream may send ahead of whoever takes its messages. HTTP/2's default:
    # requests here are single messages; a receiver of uploads wants more.
    receive_window_bytes: int = 65_535
    # The longest frame that is taken: HTTP/2's default.
    max_frame_bytes: int = 16_384
    # From accept to the peer's first SETTINGS, TLS included; and from the headers of a
    # call with one request message to that message. Seconds on a very bad line.
    handshake_seconds: float = 20
    # A connection without a call. Clients reconnect by themselves with their next call.
    idle_seconds: float = 900
    # A stream whose peer takes nothing. A batch server may be writing to its database
    # meanwhile, but hardly for longer than this.
    # And an upload that sends nothing, though it may: it holds a thread that others wait for.
    stall_seconds: float = 300
    keepalive: Keepalive = Keepalive()
    age: ConnectionAge = ConnectionAge()
    # None: behind a proxy all clients have its address. Peers at a socket file have none.
    max_connections_per_address: int | None = None

    def for_uploads(self, *, max_message_bytes: int, window_bytes: int) -> Limits:
        """Return the limits of a receiver whose peers send much.

        A MiB of theirs takes 4.3 ms in frames of 16 KiB, 1.7 ms of 64 KiB, 1.4 ms of 256 KiB.
        """
        return self._replace(
            max_request_bytes=max_message_bytes,
            receive_window_bytes=window_bytes,
            max_frame_bytes=65_536,
        )

    @property
    def hard_header_list_bytes(self) -> int:
        """What header fields h2 decodes, so that one call alone is refused for too many.

        More ends the connection. Decoding takes up to 40 ms, during which everybody waits.
        """
        return 16 * self.max_header_list_bytes

    @property
    def max_held_head_bytes(self) -> int:
        """What the requests' metadata of one connection's open calls takes in memory.

        2 MiB by default: room for 256 calls with a token of 4 KiB, or 100 with one of 16 KiB.
        """
        return 128 * self.max_header_list_bytes


# What is read at once, at most 80 KiB, is refused before it is handled if it costs more than is
# left, so that no peer gets the loop for long. The worst that a full account pays for, 660
# malformed requests in one read, takes 100 ms, once; frames of most floods take h2 15 us each.
_FULL = 2000.0
_REFILL_PER_SECOND = 800.0


_FLOOD = "too many frames for the calls they make"
# gRPC clients look for these words, and ping less often then.
_TOO_MANY_PINGS = "too_many_pings"
_PING_STRIKES = 2


class Patience:
    """What a peer's frames may still cost before it is told to calm down.

    Frames that make work without letting any be done cost; time, DATA that the peer takes
    and calls that it lets finish give back. One account for all kinds of floods
    (CVE-2019-9511 to 9518, CVE-2023-44487): what they share is this proportion.
    """

    def __init__(self, now: float) -> None:
        self._left = _FULL
        self._time = now

    def spend(self, cost: float, now: float) -> None:
        """Take `cost`; CalmDownError if there isn't as much."""
        refilled = self._left + (now - self._time) * _REFILL_PER_SECOND
        self._time = now
        self._left = min(refilled, _FULL) - cost
        if self._left < 0:
            raise CalmDownError(_FLOOD)

    def owe(self, cost: float) -> None:
        """Take `cost` for what has been done already; the next `spend` takes notice."""
        self._left -= cost

    def earn(self, amount: float) -> None:
        """Give back `amount`."""
        self._left = min(self._left + amount, _FULL)


class PingRule:
    """Whether a peer pings too often with nothing sent in between (gRFC A8, A9)."""

    def __init__(self, keepalive: Keepalive) -> None:
        self._interval = keepalive.tolerated_ping_seconds
        self._last = float("-inf")
        self._strikes = 0

    def pinged(self, now: float) -> None:
        """Take note of a PING; CalmDownError if it is one too many."""
        self._strikes = self._strikes + 1 if now - self._last < self._interval else 0
        self._last = now
        if self._strikes > _PING_STRIKES:
            raise CalmDownError(_TOO_MANY_PINGS)

    def sent(self) -> None:
        """Take note that the peer was sent headers or DATA."""
        self._strikes = 0

"""What a peer may make the server do without letting it get anywhere.

Everything is counted in one unit: microseconds of work for the event loop. Work has a price
(PRICES), and progress pays it back (EARNINGS): bytes that a peer accepts, calls that a method
answers, request messages that it takes. There is a bucket at each of three levels:

    FloodAccount ──time's gift, as long as it has any──▶ ConnectionAccount ◀──what it lacks── call
     the server                                           a connection

A call pays from its allowance, then its connection pays. A call that is answered is forgiven
what it cost; one that ends otherwise costs its connection what it took of its allowance. Time
fills the server's bucket, half of the loop's time, and connections draw from it, a quarter each
at the most: work without progress takes no more than that, however many connections there are.

Nobody is refused for being slow, odd, or chatty. A connection in debt isn't read until the debt
is paid (`wait_seconds`), and one in good standing, with savings, has its turn before others.
Only work that the peer itself must have made (PING, SETTINGS, PRIORITY, ... end at each hop, no
proxy passes them on for a client) has a further bucket, and ends the connection when that is
empty: CalmDownError.

What floods share is the proportion of work to progress, so that one account serves for all of
them (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2025-8671). FLOOD_TOLERANCE scales it.

No clock: whoever calls says what time it is, in seconds. Prices were measured with h2 4.4 on a
2-core machine and rounded up by about a half.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from streamer.engines.wire.faults import CalmDownError

if TYPE_CHECKING:
    from streamer.engines.keepalive import Keepalive


class Work(Enum):
    """What a peer can make the server do."""

    DATA = auto()
    MESSAGE = auto()
    HEADERS = auto()
    CONTINUATION = auto()
    BLOCK_BYTE = auto()
    FIELD_BYTE = auto()
    RST_STREAM = auto()
    LATE_RST_STREAM = auto()
    WINDOW_UPDATE = auto()
    PRIORITY = auto()
    SETTINGS = auto()
    SETTINGS_BYTE = auto()
    SETTINGS_PER_CALL = auto()
    PING = auto()
    GOAWAY = auto()
    OTHER_FRAME = auto()
    TURN = auto()
    METHOD = auto()
    STREAM = auto()


class Price(NamedTuple):
    """Microseconds, and why; `hop_by_hop` for what no proxy passes on from its clients."""

    microseconds: float
    why: str
    hop_by_hop: bool = False


PRICES = {
    Work.DATA: Price(15, "h2's states, both windows, our reader of messages"),
    Work.MESSAGE: Price(0.6, "a message may be empty: 3,276 of them are a frame of 16 KiB"),
    Work.HEADERS: Price(80, "h2's states and checks, ours, and the call's own objects"),
    Work.CONTINUATION: Price(10, "h2 keeps the pieces and joins them"),
    Work.BLOCK_BYTE: Price(0.3, "Huffman code, and hpack copies what is left of a block"),
    Work.FIELD_BYTE: Price(0.15, "of decoded fields, each counted as 32 more: decoding, checking"),
    Work.RST_STREAM: Price(40, "a call is taken apart"),
    # haproxy sends one for each DATA frame that was on its way to a call that it has cancelled.
    Work.LATE_RST_STREAM: Price(6, "h2's states, on a stream that is gone"),
    Work.WINDOW_UPDATE: Price(6, "h2's states; what is sent then is a turn"),
    Work.PRIORITY: Price(6, "h2 parses it; it means nothing here", hop_by_hop=True),
    Work.SETTINGS: Price(15, "h2's states and an answer", hop_by_hop=True),
    Work.SETTINGS_BYTE: Price(0.6, "6 bytes are one setting, which h2 keeps", hop_by_hop=True),
    Work.SETTINGS_PER_CALL: Price(2, "a new initial window touches each call", hop_by_hop=True),
    Work.PING: Price(10, "h2's states and an answer", hop_by_hop=True),
    Work.GOAWAY: Price(15, "h2's states", hop_by_hop=True),
    Work.OTHER_FRAME: Price(6, "extensions, which h2 parses and nobody reads", hop_by_hop=True),
    Work.TURN: Price(60, "DATA is cut, framed and written: a system call, however few bytes"),
    Work.METHOD: Price(150, "a thread is woken for it, which takes the interpreter's lock"),
    Work.STREAM: Price(1000, "a first block is looked up and encoded, in another thread"),
}


class Progress(Enum):
    """What lets the server get somewhere."""

    ACCEPTED_BYTE = auto()
    ACCEPTED_DATA = auto()
    TAKEN_RUN = auto()
    TAKEN_MESSAGE = auto()
    ANSWERED_CALL = auto()


class Earning(NamedTuple):
    microseconds: float
    why: str


EARNINGS = {
    # haproxy acknowledges each piece of a frame on both levels: 6 WINDOW_UPDATEs for 16 KiB
    # were seen; this pays for 80.
    Progress.ACCEPTED_BYTE: Earning(0.03, "both windows opened again for every 400 bytes"),
    Progress.ACCEPTED_DATA: Earning(
        100, "the turn, and what C-core answers to DATA of any size: two windows, two PINGs"
    ),
    Progress.TAKEN_RUN: Earning(30, "the frame that brought the messages, and two windows"),
    Progress.TAKEN_MESSAGE: Earning(0.6, "what reading it costs"),
    Progress.ANSWERED_CALL: Earning(60, "two windows and a PING; its price is forgiven besides"),
}

# DATA of fewer bytes earns a part of ACCEPTED_DATA: one byte at a time is no progress.
_WHOLE_DATA_BYTES = 32
# A call's own, which covers one with 5 KiB of metadata.
_CALL_ALLOWANCE = 2_000.0
# What a connection may take at once, and goes on to get: a quarter of the loop's time.
_CONNECTION_MICROSECONDS = 50_000.0
_CONNECTION_PER_SECOND = 250_000.0
# What progress can save up beyond that: 13 MiB that are sent at once and acknowledged later.
_CONNECTION_SAVINGS = 400_000.0
# A connection that has this left has shown progress, or was quiet.
_GOOD_STANDING = _CONNECTION_MICROSECONDS / 2
# What a new one gets, if the server has it, and in any case: a handshake and some ten calls.
_NEWCOMER = _GOOD_STANDING + 3_000.0
_NEWCOMER_AT_LEAST = 3_000.0
# Hop-by-hop work alone: some 6,000 PINGs at once, 600 a second.
_HOP_MICROSECONDS = 60_000.0
_HOP_PER_SECOND = 6_000.0
# All connections together: half of the loop's time for what leads nowhere.
_SERVER_MICROSECONDS = 250_000.0
_SERVER_PER_SECOND = 500_000.0
# What the server owes at the most, of its own: when an attack is over, its debt soon is, too.
_MOST_SERVER_DEBT_SECONDS = 1.0
# A debt is looked at again after this long, however large it is: answers may have paid it.
_MAX_WAIT_SECONDS = 0.1

_FLOOD = "too many frames for the calls they make"
# gRPC clients look for these words, and ping less often then.
_TOO_MANY_PINGS = "too_many_pings"
_PING_STRIKES = 2


class Bucket:
    """Work that may be done before there is progress; less than nothing is a debt.

    Time fills it up to `capacity`, earnings up to `savings` more.
    """

    def __init__(self, capacity: float, per_second: float, now: float, savings: float = 0) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self.left = capacity
        self._most = capacity + savings
        self._time = now

    def due(self, now: float) -> float:
        """Return what time gives; it is due once."""
        given = (now - self._time) * self.per_second
        self._time = now
        return max(min(given, self.capacity - self.left), 0.0)

    def refill(self, now: float) -> None:
        """Give back what time gives."""
        self.left += self.due(now)

    def spend(self, work: float) -> float:
        """Take `work`; return how much of it there was no room for."""
        debt = min(work, max(work - self.left, 0.0))
        self.left -= work
        return debt

    def earn(self, work: float) -> float:
        """Give back `work`; return how much of it is more than the bucket holds."""
        self.left += work
        surplus = max(self.left - self._most, 0.0)
        self.left -= surplus
        return surplus

    @property
    def seconds_of_debt(self) -> float:
        """How long time takes to pay the debt, if it is more than rounding leaves."""
        return -self.left / self.per_second if self.left < -1.0 else 0.0


class FloodAccount:
    """A server's. `share`: its part of what several processes may take together."""

    def __init__(self, tolerance: float, now: float, share: float = 1.0) -> None:
        self.tolerance = tolerance
        scale = tolerance * share
        self.bucket = Bucket(_SERVER_MICROSECONDS * scale, _SERVER_PER_SECOND * scale, now)

    def connection(self, now: float) -> ConnectionAccount:
        return ConnectionAccount(self, now)

    def draw(self, work: float, at_least: float = 0.0) -> float:
        """Take `work`, or what there is, for a connection; return how much that is."""
        given = max(min(work, self.bucket.left), at_least)
        self.spend(given)
        return given

    def spend(self, work: float) -> None:
        """Pay for what no connection can pay for any more."""
        most = _MOST_SERVER_DEBT_SECONDS * self.bucket.per_second
        self.bucket.left = max(self.bucket.left - work, min(self.bucket.left, -most))


class ConnectionAccount:
    """A connection's, and those of its calls."""

    def __init__(self, server: FloodAccount, now: float) -> None:
        scale = server.tolerance
        self._server = server
        self._bucket = Bucket(
            _CONNECTION_MICROSECONDS * scale,
            _CONNECTION_PER_SECOND * scale,
            now,
            savings=_CONNECTION_SAVINGS * scale,
        )
        server.bucket.refill(now)
        self._bucket.left = server.draw(_NEWCOMER * scale, _NEWCOMER_AT_LEAST * scale)
        self._hop = Bucket(_HOP_MICROSECONDS * scale, _HOP_PER_SECOND * scale, now)
        self._good_standing = _GOOD_STANDING * scale
        self._calls: dict[int, _CallAccount] = {}

    def refill(self, now: float) -> None:
        self._hop.refill(now)
        self._server.bucket.refill(now)
        self._bucket.left += self._server.draw(self._bucket.due(now))

    def open_call(self, stream_id: int) -> None:
        """Begin a call's account; `end_call` ends it."""
        self._calls[stream_id] = _CallAccount(self)

    def has_call(self, stream_id: int) -> bool:
        return stream_id in self._calls

    def end_call(self, stream_id: int, *, is_answered: bool) -> None:
        """Forgive a call that was answered what it cost; let the connection pay for others."""
        if (call := self._calls.pop(stream_id, None)) is None:
            return
        if is_answered:
            self.earn(call.passed_on + EARNINGS[Progress.ANSWERED_CALL].microseconds)
        else:
            self.spend(call.used)

    def let_go(self) -> None:
        """Take note that the connection is gone, with its calls; the server pays for those."""
        self._server.spend(sum(call.used for call in self._calls.values()))
        self._calls.clear()

    def charge(self, work: Work, amount: float = 1.0, stream_id: int = 0) -> float:
        """Let the call on `stream_id`, if there is one, pay for work; return its price.

        CalmDownError if it is work that only this peer can have made, and too much of it.
        """
        price = PRICES[work]
        microseconds = price.microseconds * amount
        payer = self._calls.get(stream_id, self)
        payer.spend(microseconds)
        if price.hop_by_hop and self._hop.spend(microseconds):
            raise CalmDownError(_FLOOD)
        return microseconds

    def accepted(self, stream_id: int, data_bytes: int) -> None:
        """Take note that the peer lets DATA be sent."""
        self.charge(Work.TURN, stream_id=stream_id)
        part = min(data_bytes / _WHOLE_DATA_BYTES, 1.0)
        self._pay_back(Progress.ACCEPTED_DATA, part, stream_id)
        self._pay_back(Progress.ACCEPTED_BYTE, data_bytes, stream_id)

    def taken(self, stream_id: int, messages: int) -> None:
        """Take note that a method has taken the messages that came in one frame."""
        self._pay_back(Progress.TAKEN_RUN, 1.0, stream_id)
        self._pay_back(Progress.TAKEN_MESSAGE, messages, stream_id)

    def spend(self, work: float) -> None:
        self._bucket.spend(work)

    def earn(self, work: float) -> None:
        self._bucket.earn(work)
        self._hop.earn(work)

    @property
    def wait_seconds(self) -> float:
        """How long the connection isn't to be read; as of the last `refill`.

        As long as the server has nothing to give, nobody is helped by asking often: of 300
        connections that did, each a thousand times a second, the loop did little else.
        """
        seconds = self._bucket.seconds_of_debt
        may_get = not seconds or self._server.bucket.left > 0
        return min(seconds, _MAX_WAIT_SECONDS) if may_get else _MAX_WAIT_SECONDS

    @property
    def is_in_good_standing(self) -> bool:
        """Whether the connection has shown progress, or was quiet: it goes before others."""
        return self._bucket.left >= self._good_standing

    def _pay_back(self, progress: Progress, amount: float, stream_id: int) -> None:
        payee = self._calls.get(stream_id, self)
        payee.earn(EARNINGS[progress].microseconds * amount)


class _CallAccount:
    """A call's: `passed_on` is what its connection had to pay for it."""

    def __init__(self, connection: ConnectionAccount) -> None:
        self._connection = connection
        self._bucket = Bucket(_CALL_ALLOWANCE, 0.0, 0.0)
        self.passed_on = 0.0

    @property
    def used(self) -> float:
        """What it has taken of its allowance and not given back."""
        return self._bucket.capacity - self._bucket.left

    def spend(self, work: float) -> None:
        lacking = self._bucket.spend(work)
        self._bucket.left += lacking
        self.passed_on += lacking
        if lacking:
            self._connection.spend(lacking)

    def earn(self, work: float) -> None:
        if surplus := self._bucket.earn(work):
            self._connection.earn(surplus)


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

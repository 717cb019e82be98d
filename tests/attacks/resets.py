"""Attacks by calls that are begun and not finished."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from proto import embedding_stream_pb2 as pb
from tests.attacks.attacker import MAX_WINDOW, Attacker, attack
from tests.attacks.heads import HEALTH, ROWS, STREAM, WATCH, calls, heads, request
from tests.memory_peer import DATA, END_HEADERS, HEADERS, PRIORITY, frame, reset, window_update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attacks.attacker import Line

_CROWD = 100
_PRIORITY_FLAG = 0x20
_LARGE_CHUNKS = pb.RequestParams(chunk_size=10_000).SerializeToString()


@attack("rapid reset", "CVE-2023-44487: calls are begun and cancelled before they have a message")
def rapid_reset(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (head + reset(i) for i, head in heads()))


@attack("rapid reset of requests", "CVE-2023-44487: whole requests are cancelled at once")
def rapid_reset_of_requests(attacker: Attacker) -> None:
    parts = (call + reset(i) for i, call in calls(STREAM, _LARGE_CHUNKS))
    attacker.flood(attacker.connect(), parts)


@attack("rapid reset of ended HEADERS", "CVE-2023-44487: requests without a message are cancelled")
def rapid_reset_of_ended(attacker: Attacker) -> None:
    parts = (head + reset(i) for i, head in heads(ended=True))
    attacker.flood(attacker.connect(), parts)


@attack("rapid reset on 32 connections", "an account for each connection is opened 32 times")
def rapid_reset_on_many(attacker: Attacker) -> None:
    lines = [attacker.connect() for _ in range(32)]
    attacker.flood_all({
        line: (call + reset(i) for i, call in calls(STREAM, _LARGE_CHUNKS)) for line in lines
    })  # fmt: skip


@attack("rapid reset of health checks", "work of another pool than that of streams is cancelled")
def rapid_reset_of_checks(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (call + reset(i) for i, call in calls(HEALTH)))


@attack("rapid reset of bad requests", "what is refused is also cancelled")
def rapid_reset_of_bad(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (head + reset(i) for i, head in heads(te=None)))


@attack("rapid reset of 15 KB of metadata", "5 ms of HPACK for a call that is cancelled")
def rapid_reset_of_metadata(attacker: Attacker) -> None:
    parts = (head + reset(i) for i, head in heads(STREAM, (b"key", b"0" * 15_000)))
    attacker.flood(attacker.connect(), parts)


@attack("cancels in crowds of 256", "as many calls as there may be are begun, then all cancelled")
def cancels_in_crowds(attacker: Attacker) -> None:
    def crowds() -> Iterator[bytes]:
        source = calls(ROWS)
        while crowd := list(itertools.islice(source, 256)):
            yield b"".join(call for _, call in crowd)
            yield b"".join(reset(i) for i, _ in crowd)

    attacker.flood(attacker.connect(), crowds())


def _cancels_after(attacker: Attacker, come: Callable[[Line], set[int]], window: int) -> None:
    line = attacker.connect({4: window})
    attacker.flood(line, [window_update(0, MAX_WINDOW - 65_535)])
    source = calls(STREAM, _LARGE_CHUNKS)
    while attacker.may_go_on and not line.is_over:
        crowd = dict(itertools.islice(source, _CROWD))
        attacker.flood(line, crowd.values())
        attacker.wait(lambda crowd=crowd: crowd.keys() <= come(line))  # type: ignore[misc]
        attacker.flood(line, map(reset, crowd))


@attack("cancels after the headers", "each call is cancelled when its answer has begun")
def cancels_after_headers(attacker: Attacker) -> None:
    _cancels_after(attacker, lambda line: line.heard, 0)


@attack("cancels after the first DATA", "each call is cancelled when a block has been made for it")
def cancels_after_data(attacker: Attacker) -> None:
    _cancels_after(attacker, lambda line: line.received, 65_535)


@attack("streams too many", "calls that are refused are cheap to send")
def streams_too_many(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (head for _, head in heads()))


@attack("refused and cancelled", "beyond 256 calls that are held, others are refused and cancelled")
def refused_and_cancelled(attacker: Attacker) -> None:
    source = calls(STREAM)
    held = (call for _, call in itertools.islice(source, 256))
    parts = (call + reset(i) for i, call in source)
    attacker.flood(attacker.connect({4: 0}), itertools.chain(held, parts))


@attack("deadlines of 1 ns", "calls end by themselves as soon as they have begun")
def deadlines(attacker: Attacker) -> None:
    parts = (call for _, call in calls(STREAM, b"", (b"grpc-timeout", b"1n")))
    attacker.flood(attacker.connect(), parts)


@attack("health Watch, cancelled", "calls that never end by themselves are begun and cancelled")
def watches_cancelled(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (call + reset(i) for i, call in calls(WATCH)))


@attack("health Watch", "calls that never end by themselves are begun and kept")
def watches(attacker: Attacker) -> None:
    lines = [attacker.connect() for _ in range(16)]
    attacker.flood_all({line: (call for _, call in calls(WATCH)) for line in lines})


def _made(name: str, how: str, fault: Callable[[int], bytes], *more: tuple[bytes, bytes]) -> None:
    """Enter one of the ways in which a client makes the server reset its calls."""

    @attack(f"MadeYouReset: {name}", f"CVE-2025-8671: the server resets each call, for {how}")
    def made_you_reset(attacker: Attacker) -> None:
        source = heads(STREAM, *more) if more else calls(STREAM, _LARGE_CHUNKS)
        attacker.flood(attacker.connect(), (call + fault(i) for i, call in source))


_made("window of 0", "WINDOW_UPDATE by 0", lambda i: window_update(i, 0))
_made("window too large", "WINDOW_UPDATE beyond 2^31-1", lambda i: window_update(i, MAX_WINDOW))
_made("DATA after the end", "DATA after END_STREAM", lambda i: frame(DATA, b"x", stream_id=i))
_made(
    "HEADERS after the end", "HEADERS after END_STREAM",
    lambda i: frame(HEADERS, b"\x82", flags=END_HEADERS, stream_id=i),
)  # fmt: skip
_made(
    "PRIORITY of 4 bytes", "PRIORITY of a wrong length",
    lambda i: frame(PRIORITY, bytes(4), stream_id=i),
)  # fmt: skip
_made(
    "PRIORITY on itself", "PRIORITY that depends on itself",
    lambda i: frame(PRIORITY, i.to_bytes(4, "big") + b"\0", stream_id=i),
)  # fmt: skip
_made(
    "beyond content-length", "DATA of more bytes than content-length says",
    lambda i: frame(DATA, bytes(5), stream_id=i), (b"content-length", b"1"),
)  # fmt: skip
_made(
    "below content-length", "an end before as many bytes as content-length says",
    request, (b"content-length", b"99"),
)  # fmt: skip
_made(
    "trailers that go on", "trailers without END_STREAM",
    lambda i: frame(HEADERS, b"\x82", flags=END_HEADERS, stream_id=i), (b"key", b"value"),
)  # fmt: skip


@attack("MadeYouReset: HEADERS on themselves", "calls whose priority depends on their own stream")
def headers_on_themselves(attacker: Attacker) -> None:
    blocks = (head[9:] for _, head in heads())
    flags = END_HEADERS | _PRIORITY_FLAG
    parts = (
        frame(HEADERS, i.to_bytes(4, "big") + b"\x10" + block, flags=flags, stream_id=i)
        for i, block in zip(itertools.count(1, 2), blocks, strict=False)
    )
    attacker.flood(attacker.connect(), parts)

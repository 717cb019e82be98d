"""Attacks by frames that carry nothing for any call."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

from tests.attacks.attacker import MAX_WINDOW, Attacker, attack
from tests.attacks.heads import STREAM, calls, heads
from tests.memory_peer import (
    ACK,
    ALTSVC,
    END_HEADERS,
    GOAWAY,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    SETTINGS,
    frame,
    reset,
    window_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PRIORITY_UPDATE = 0x10
_ORIGIN = 0x0C
_UNKNOWN = 0x42


def _settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def _begun() -> bytes:
    """Return a call that waits for its message."""
    return next(heads())[1]


# Name, what it tries, what comes first, and what comes again and again.
_FLOODS: list[tuple[str, str, Callable[[], bytes], list[bytes]]] = [
    ("PING", "CVE-2019-9512: each is answered", bytes, [frame(PING, bytes(8))]),
    (
        "answers to no PING", "answers that nobody has asked for",
        bytes, [frame(PING, bytes(8), flags=ACK)],
    ),
    ("SETTINGS", "CVE-2019-9515: each is answered", bytes, [frame(SETTINGS)]),
    (
        "answers to no SETTINGS", "answers that nobody has asked for",
        bytes, [frame(SETTINGS, flags=ACK)],
    ),
    (
        "SETTINGS of 2,730 entries", "one frame changes what h2 knows 2,730 times",
        bytes, [_settings(*((4, 65_535 + number) for number in range(2730)))],
    ),
    (
        "SETTINGS of unknown names", "each of 65,536 settings is remembered",
        bytes,
        [_settings(*((start + n, 1) for n in range(2700))) for start in range(100, 60_000, 2700)],
    ),
    (
        "HEADER_TABLE_SIZE up and down", "HPACK's table is changed, and said to be",
        bytes, [_settings((1, 0)), _settings((1, 4096))],
    ),
    (
        "MAX_FRAME_SIZE up and down", "the size of frames changes all the time",
        bytes, [_settings((5, 16_384)), _settings((5, 2**24 - 1))],
    ),
    (
        "WINDOW_UPDATE by 1, of the connection", "windows grow by what nobody can use",
        bytes, [window_update(0, 1)],
    ),
    (
        "WINDOW_UPDATE by 1, of a stream", "windows grow by what nobody can use",
        _begun, [window_update(1, 1)],
    ),
    (
        "WINDOW_UPDATE of a call that is over", "frames for what isn't there any more",
        lambda: _begun() + reset(1), [window_update(1, 1)],
    ),
    (
        "RST_STREAM of a call that is over", "frames for what isn't there any more",
        lambda: _begun() + reset(1), [reset(1)],
    ),
    ("RST_STREAM of no call", "a fault ends the connection; there are more", bytes, [reset(99)]),
    (
        "PRIORITY", "CVE-2019-9513: a tree of streams is built and changed",
        bytes, [frame(PRIORITY, b"\0\0\0\x03\x10", stream_id=1),
                frame(PRIORITY, b"\0\0\0\x01\x20", stream_id=3)],
    ),
    (
        "PRIORITY of ever new streams", "each stream is remembered",
        bytes,
        [frame(PRIORITY, b"\0\0\0\0\x10", stream_id=number) for number in range(1, 100_000, 2)],
    ),
    (
        "PRIORITY_UPDATE", "RFC 9218: priorities of streams that don't exist",
        bytes, [frame(_PRIORITY_UPDATE, b"\0\0\0\x01u=0")],
    ),
    ("unknown frames, empty", "frames that are ignored", bytes, [frame(_UNKNOWN)]),
    (
        "unknown frames of 16 KiB", "frames that are ignored when all of them is there",
        bytes, [frame(_UNKNOWN, bytes(16_384))],
    ),
    ("ALTSVC", "frames that only a server sends", bytes, [frame(ALTSVC, b"\0\0")]),
    ("ORIGIN", "frames that only a server sends", bytes, [frame(_ORIGIN)]),
    (
        "PUSH_PROMISE", "a fault ends the connection; there are more",
        bytes, [frame(PUSH_PROMISE, bytes(4), flags=END_HEADERS, stream_id=1)],
    ),
    ("GOAWAY", "the peer leaves, and leaves, and leaves", _begun, [frame(GOAWAY, bytes(8))]),
    (
        "frames longer than agreed", "a length of 16 MiB is waited for",
        bytes, [frame(_UNKNOWN, bytes(16_384), size=2**24 - 1)],
    ),
]  # fmt: skip


def _enter(name: str, tries: str, first: Callable[[], bytes], again: list[bytes]) -> None:
    @attack(name, tries)
    def flood(attacker: Attacker) -> None:
        attacker.flood(attacker.connect(), itertools.chain([first()], itertools.cycle(again)))


for _flood in _FLOODS:
    _enter(*_flood)


@attack("INITIAL_WINDOW_SIZE up and down", "each frame opens and closes the windows of 250 calls")
def window_sizes(attacker: Attacker) -> None:
    held = (call for _, call in itertools.islice(calls(STREAM), 250))
    sizes = itertools.cycle([_settings((4, 1000)), _settings((4, 0))])
    attacker.flood(attacker.connect({4: 0}), itertools.chain(held, sizes))


@attack("INITIAL_WINDOW_SIZE up by 1", "each frame makes a DATA frame of one byte for 250 calls")
def window_sizes_by_one(attacker: Attacker) -> None:
    held = (call for _, call in itertools.islice(calls(STREAM), 250))
    opened = [window_update(0, MAX_WINDOW - 65_535)]
    sizes = (_settings((4, size)) for size in range(1, 1_000_000))
    attacker.flood(attacker.connect({4: 0}), itertools.chain(held, opened, sizes))


@attack("WINDOW_UPDATE by 1, for 250 calls", "each frame makes the server look at all that wait")
def window_of_waiting(attacker: Attacker) -> None:
    held = (call for _, call in itertools.islice(calls(STREAM), 250))
    again = itertools.repeat(window_update(0, 1))
    attacker.flood(attacker.connect({4: 0}), itertools.chain(held, again))


def _unread(attacker: Attacker, part: bytes) -> None:
    line = attacker.connect({4: MAX_WINDOW}, listens=False, receive_bytes=4096)
    first = next(calls(STREAM))[1] + window_update(0, MAX_WINDOW - 65_535)
    attacker.flood(line, itertools.chain([first], itertools.repeat(part)))


@attack("PING, answers unread", "CVE-2019-9512: answers pile up that nobody takes")
def unread_pings(attacker: Attacker) -> None:
    _unread(attacker, frame(PING, bytes(8)))


@attack("SETTINGS, answers unread", "CVE-2019-9515: answers pile up that nobody takes")
def unread_settings(attacker: Attacker) -> None:
    _unread(attacker, frame(SETTINGS))

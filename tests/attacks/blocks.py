"""Attacks by header blocks: by what HPACK makes of few bytes, and by blocks without an end."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hpack import Encoder

from tests.attacks.attacker import Attacker, attack
from tests.attacks.heads import HEALTH, STREAM, calls, each_head, heads, request
from tests.memory_peer import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    request_fields,
    reset,
)

if TYPE_CHECKING:
    from tests.attacks.attacker import Line

_FRAME_BYTES = 16_384
_REQUEST = request_fields(path=STREAM)
_SIZE_0, _SIZE_4096 = b"\x20", b"\x3f\xe1\x1f"
# The first entry of HPACK's dynamic table; a field's name and value there are one byte to name.
_ENTRY = b"\xbe"


def _endless(attacker: Attacker, line: Line, payload: bytes) -> None:
    """Begin a header block and never end it."""
    line.is_mute = True
    start = frame(HEADERS, stream_id=1)
    more = itertools.repeat(frame(CONTINUATION, payload, stream_id=1))
    attacker.flood(line, itertools.chain([start], more))


@attack("CONTINUATION without bytes", "CVE-2024-27316 and the like: a block that never ends")
def empty_continuations(attacker: Attacker) -> None:
    _endless(attacker, attacker.connect(), b"")


@attack("CONTINUATION of 1 byte", "CVE-2024-27316: a block that never ends, byte by byte")
def short_continuations(attacker: Attacker) -> None:
    _endless(attacker, attacker.connect(), b"\x82")


@attack("CONTINUATION of 16 KiB", "CVE-2024-27316: a block that never ends and is kept in memory")
def long_continuations(attacker: Attacker) -> None:
    _endless(attacker, attacker.connect(), bytes(_FRAME_BYTES))


@attack("blocks half sent on 300 connections", "each connection keeps 48 KiB of a block in memory")
def half_blocks(attacker: Attacker) -> None:
    part = frame(HEADERS, bytes(_FRAME_BYTES), stream_id=1)
    part += frame(CONTINUATION, bytes(_FRAME_BYTES), stream_id=1) * 2
    lines = [attacker.connect() for _ in range(300)]
    for line in lines:
        line.is_mute = True
    attacker.flood_all({line: [part] for line in lines})
    attacker.hold(5.0)


@attack("slow headers", "200 connections send a block byte by byte, as slowly as they may")
def slow_headers(attacker: Attacker) -> None:
    lines = [attacker.connect() for _ in range(200)]
    for line in lines:
        line.is_mute = True
    attacker.flood_all({line: [frame(HEADERS, stream_id=1)] for line in lines})
    for _ in range(10):
        attacker.hold(0.3)
        byte = frame(CONTINUATION, b"\x82", stream_id=1)
        attacker.flood_all({line: [byte] for line in lines if not line.is_over})


def _blocks(attacker: Attacker, first: bytes, later: bytes, *, then_reset: bool = False) -> None:
    blocks = itertools.chain([first], itertools.repeat(later))
    ends = reset if then_reset else request
    attacker.flood(attacker.connect(), (head + ends(i) for i, head in each_head(blocks)))


def _literal(name: bytes, value: bytes) -> bytes:
    """Encode a short field without HPACK's table."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


_USUAL = b"".join(_literal(name, value) for name, value in _REQUEST)


def _bomb(references: int) -> tuple[bytes, bytes]:
    """Return a block that puts a field of 4,000 bytes into the table, and one that names it."""
    first = Encoder().encode([*_REQUEST, (b"x", b"0" * 4000)], huffman=False)
    return first, _USUAL + _ENTRY * references


@attack("HPACK bomb", "CVE-2016-6581: 48 MB of fields by 12,000 references to one of 4,000 bytes")
def hpack_bomb(attacker: Attacker) -> None:
    _blocks(attacker, *_bomb(12_000), then_reset=True)


@attack(
    "HPACK bomb of 240 KB",
    "as many references as are still decoded, in each call",
    enough_frames=60,
)
def small_hpack_bomb(attacker: Attacker) -> None:
    _blocks(attacker, *_bomb(60), then_reset=True)


@attack(
    "HPACK bomb in calls that stay",
    "16 KiB of fields for 600 bytes, in 1,024 open calls",
    enough_frames=400,
)
def hpack_bomb_held(attacker: Attacker) -> None:
    block = _USUAL + b"\x40\x01k\x02xy" + _ENTRY * 400
    lines = [attacker.connect() for _ in range(4)]
    parts = [head for _, head in itertools.islice(each_head(itertools.repeat(block)), 256)]
    attacker.flood_all(dict.fromkeys(lines, parts))
    attacker.hold(2.0)


@attack("table-size updates", "16,000 updates of HPACK's table in each call", enough_frames=60)
def table_sizes_in_a_block(attacker: Attacker) -> None:
    block = _SIZE_0 * (_FRAME_BYTES - len(_USUAL)) + _USUAL
    _blocks(attacker, block, block)


@attack(
    "table-size updates in long blocks",
    "65,000 updates of HPACK's table in each call",
    enough_frames=60,
)
def table_sizes_in_continuations(attacker: Attacker) -> None:
    block = _SIZE_0 * (4 * _FRAME_BYTES - len(_USUAL)) + _USUAL
    _blocks(attacker, block, block)


@attack("table-size updates in short blocks", "each call empties HPACK's table and fills it again")
def table_sizes_of_blocks(attacker: Attacker) -> None:
    block = _SIZE_0 + _SIZE_4096 + Encoder().encode(_REQUEST)
    _blocks(attacker, block, block)


@attack(
    "Huffman code",
    "the costliest code for header values: 15 KB of it a call, answered",
    enough_frames=400,
)
def huffman(attacker: Attacker) -> None:
    attacker.flood(
        attacker.connect(), (call for _, call in calls(HEALTH, b"", (b"k", b"0" * 15_000)))
    )


@attack(
    "metadata of 15 KB, not Huffman",
    "fields that are stored plain, of calls that are answered",
    enough_frames=400,
)
def plain_metadata(attacker: Attacker) -> None:
    encoder = Encoder()
    block = encoder.encode([*_REQUEST, (b"k", b"\\" * 15_000)], huffman=False)
    _blocks(attacker, block, block)


@attack("metadata of 20 KB", "more than is advertised, which is decoded all the same, and refused")
def too_much_metadata(attacker: Attacker) -> None:
    parts = (call for _, call in calls(STREAM, b"", (b"k", b"0" * 20_000)))
    attacker.flood(attacker.connect(), parts)


@attack("metadata of 250 KB", "as much as is decoded at all, in frames that are within limits")
def far_too_much_metadata(attacker: Attacker) -> None:
    fields = [(b"key%d" % number, b"0" * 1000) for number in range(240)]
    attacker.flood(attacker.connect(), (call for _, call in calls(STREAM, b"", *fields)))


@attack("fields without bytes", "CVE-2019-9516: empty names and values that take memory")
def empty_fields(attacker: Attacker) -> None:
    block = _USUAL + b"\0\0\0" * 500
    attacker.flood(attacker.connect(), (head for _, head in each_head(itertools.repeat(block))))


@attack("cookies", "4,000 crumbs of a cookie in one call, and again in the next", enough_frames=60)
def cookies(attacker: Attacker) -> None:
    block = _USUAL + b"\x0f\x11\x01a" * 4_000
    _blocks(attacker, block, block, then_reset=True)


@attack("cookies, answered", "crumbs are one field when they are counted", enough_frames=60)
def answered_cookies(attacker: Attacker) -> None:
    block = _USUAL + b"\x0f\x11\x01a" * 4_000
    parts = (head for _, head in each_head(itertools.repeat(block), ended=True))
    attacker.flood(attacker.connect(), parts)


@attack("integers without end", "a number of HPACK's that takes all of a block")
def endless_integers(attacker: Attacker) -> None:
    block = b"\x7f" + b"\xff" * (4 * _FRAME_BYTES - 1)
    attacker.flood(attacker.connect(), (head for _, head in each_head(itertools.repeat(block))))


@attack("indices that HPACK hasn't", "each connection is ended by its first call; there are more")
def bad_indices(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), [frame(HEADERS, b"\xff\xff\x7f", flags=5, stream_id=1)])


@attack("trailers of 15 KB", "fields after the message, which nobody has a use for")
def trailers(attacker: Attacker) -> None:
    encoder = Encoder()
    block, last = encoder.encode(_REQUEST), encoder.encode([(b"k", b"0" * 15_000)])
    flags = END_HEADERS | END_STREAM
    parts = (
        head + frame(HEADERS, last, flags=flags, stream_id=i)
        for i, head in each_head(itertools.repeat(block))  # what is so long empties the table
    )
    attacker.flood(attacker.connect(), parts)


@attack("HEADERS of a call that is over", "fields that belong to nothing are decoded all the same")
def headers_of_the_dead(attacker: Attacker) -> None:
    _, head = next(heads())
    late = frame(HEADERS, b"\x82" * 1000, flags=END_HEADERS, stream_id=1)
    parts = itertools.chain([head + reset(1)], itertools.repeat(late))
    attacker.flood(attacker.connect(), parts)


@attack("HEADERS after the preface at once", "calls before SETTINGS are settled")
def early_calls(attacker: Attacker) -> None:
    some = b"".join(call for _, call in itertools.islice(calls(HEALTH), 500))
    attacker.connect(first=PREFACE + frame(SETTINGS) + some).is_mute = False
    attacker.frames += 500


def _save_up(attacker: Attacker, lines: list[Line], payload: bytes) -> None:
    """Begin a block of 16 KiB frames on each connection: as long a one as is borne in the time.

    A server that charges for length and forgives with time takes some frames at once, and then
    some more every second; h2 takes 64.
    """
    for line in lines:
        line.is_mute = True
    more = frame(CONTINUATION, payload, stream_id=1)
    start = frame(HEADERS, stream_id=1) + more * 15
    attacker.flood_all({line: [start] for line in lines})
    frames = 15
    while frames < 60 and attacker.seconds_left > 1.0:
        attacker.hold(0.15)
        attacker.flood_all({line: [more] for line in lines if not line.is_over})
        frames += 1


@attack("blocks saved up on 200 connections", "a block of up to 1 MiB is kept for each, unended")
def saved_up_blocks(attacker: Attacker) -> None:
    _save_up(attacker, [attacker.connect() for _ in range(200)], bytes(_FRAME_BYTES))
    attacker.hold(5.0)


@attack("table-size updates, saved up", "up to 1,000,000 updates in a block, handled at once")
def saved_up_table_sizes(attacker: Attacker) -> None:
    lines = [attacker.connect() for _ in range(4)]
    _save_up(attacker, lines, _SIZE_0 * _FRAME_BYTES)
    end = frame(CONTINUATION, _USUAL, flags=END_HEADERS, stream_id=1)
    attacker.flood_all({line: [end] for line in lines if not line.is_over})
    for line in lines:
        line.is_mute = False


@attack(
    "Huffman code on 16 connections", "15 KB of it a call, answered, on many connections",
    enough_frames=200,
)  # fmt: skip
def huffman_of_many(attacker: Attacker) -> None:
    lines = [attacker.connect() for _ in range(16)]
    source = [call for _, call in itertools.islice(calls(HEALTH, b"", (b"k", b"0" * 15_000)), 500)]
    attacker.flood_all(dict.fromkeys(lines, source))


@attack("metadata held on 300 connections", "CVE-2016-6581: 20 bytes a call that keep 16 KiB")
def held_metadata(attacker: Attacker) -> None:
    field = (b"x", b"0" * 3800)
    first = Encoder().encode([*_REQUEST, field], huffman=False)
    blocks = itertools.chain([first], itertools.repeat(_USUAL + _ENTRY * 4))
    some = [head for _, head in itertools.islice(each_head(blocks), 130)]
    lines = [attacker.connect() for _ in range(300)]
    attacker.flood_all(dict.fromkeys(lines, some))
    attacker.hold(3.0)


@attack("binary metadata of commas", "16,000 empty values by a comma each", enough_frames=200)
def binary_values(attacker: Attacker) -> None:
    parts = (call for _, call in calls("/no/such", b"", (b"k-bin", b"," * 16_000)))
    attacker.flood(attacker.connect(), parts)

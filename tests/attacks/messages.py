"""Attacks by DATA, and by answers that aren't taken."""

from __future__ import annotations

import gzip
import itertools
from typing import TYPE_CHECKING

from proto import embedding_stream_pb2 as pb
from tests.attacks.attacker import MAX_WINDOW, Attacker, attack
from tests.attacks.heads import HEALTH, REFLECTION, ROWS, STREAM, calls, heads, request
from tests.memory_peer import DATA, END_STREAM, PADDED, frame, prefixed, window_update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.attacker import Line

_KIB, _MIB = 1 << 10, 1 << 20
_ALL_WINDOW = window_update(0, MAX_WINDOW - 65_535)
_LARGE_CHUNKS = pb.RequestParams(chunk_size=10_000).SerializeToString()
# A ServerReflectionRequest for all services: field 7, "*".
_LIST_SERVICES = b"\x3a\x01*"


def _data(attacker: Attacker, payload: bytes, *, flags: int = 0, first: bytes = b"") -> None:
    _, head = next(heads())
    again = itertools.repeat(frame(DATA, payload, flags=flags, stream_id=1))
    attacker.flood(attacker.connect(), itertools.chain([head + first], again))


_BEGUN = frame(DATA, b"\0\0\0\xff\xff", stream_id=1)  # a message of 64 KiB


@attack("empty DATA", "CVE-2019-9518: frames that bring nothing")
def empty_data(attacker: Attacker) -> None:
    _data(attacker, b"", first=_BEGUN)


@attack("DATA of padding", "CVE-2019-9518: frames that bring only padding")
def padded_data(attacker: Attacker) -> None:
    _data(attacker, b"\x01\0", flags=PADDED, first=_BEGUN)


@attack("DATA of 1 byte", "a message that comes byte by byte")
def short_data(attacker: Attacker) -> None:
    _data(attacker, b"x", first=_BEGUN)


@attack("DATA of a call that is over", "frames for what isn't there any more")
def data_of_the_dead(attacker: Attacker) -> None:
    _, call = next(calls(HEALTH))
    again = itertools.repeat(frame(DATA, b"x", stream_id=1))
    attacker.flood(attacker.connect(), itertools.chain([call], again))


@attack("DATA beyond the window", "a fault ends the connection; there are more")
def data_beyond_the_window(attacker: Attacker) -> None:
    _data(attacker, bytes(16_384), first=frame(DATA, b"\0\0\0\xff\xff", stream_id=1))


@attack("messages too many", "a call that takes one message gets thousands")
def messages_too_many(attacker: Attacker) -> None:
    parts = (head + frame(DATA, prefixed(b"") * 3000, stream_id=i) for i, head in heads())
    attacker.flood(attacker.connect(), parts)


@attack("messages half sent", "100 calls hold nearly 64 KiB of a message each")
def half_messages(attacker: Attacker) -> None:
    def halves() -> Iterator[bytes]:
        source = heads()
        for i, head in itertools.islice(source, 100):
            yield head + frame(DATA, b"\0\0\0\xff\xff", stream_id=i)
        for start in range(4):
            size = 16_384 if start < 3 else 16_000
            yield frame(DATA, bytes(size), stream_id=2 * start + 1)

    lines = [attacker.connect() for _ in range(100)]
    attacker.flood_all({line: halves() for line in lines})
    attacker.hold(2.0)


@attack("messages half sent, and cancelled", "bytes that were kept for nothing, again and again")
def half_messages_cancelled(attacker: Attacker) -> None:
    part = b"\0\0\0\xff\xff" + bytes(16_000)
    parts = (
        head + frame(DATA, part, stream_id=i) + frame(3, b"\0\0\0\x08", stream_id=i)
        for i, head in heads()
    )
    attacker.flood(attacker.connect(), parts)


@attack("messages of 4 GiB", "a length that is believed")
def huge_messages(attacker: Attacker) -> None:
    parts = (head + frame(DATA, b"\0\xff\xff\xff\xff", stream_id=i) for i, head in heads())
    attacker.flood(attacker.connect(), parts)


@attack("requests that are no protobuf", "each is refused, and said so in the log")
def garbage_requests(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (call for _, call in calls(STREAM, b"\xff" * 20)))


@attack("checkpoints that are no UUID", "each is refused, and said so in the log")
def bad_checkpoints(attacker: Attacker) -> None:
    message = pb.RequestParams(last_processed_uuid="x" * 5000).SerializeToString()
    attacker.flood(attacker.connect(), (call for _, call in calls(STREAM, message)))


@attack("gzip bombs", "64 KB unpack to 64 MB")
def gzip_bombs(attacker: Attacker) -> None:
    packed = gzip.compress(bytes(16 * _MIB))[: 16_384 - 5]
    parts = (
        head + frame(DATA, prefixed(packed, 1), flags=END_STREAM, stream_id=i)
        for i, head in heads(STREAM, (b"grpc-encoding", b"gzip"))
    )
    attacker.flood(attacker.connect(), parts)


@attack("gzip of gzip bombs", "many small messages that each unpack to the most that may be")
def small_gzip_bombs(attacker: Attacker) -> None:
    packed = gzip.compress(bytes(64 * _KIB - 100))
    parts = (
        head + frame(DATA, prefixed(packed, 1), flags=END_STREAM, stream_id=i)
        for i, head in heads(HEALTH, (b"grpc-encoding", b"gzip"))
    )
    attacker.flood(attacker.connect(), parts)


@attack("windows of 1 byte", "CVE-2019-9511: a stream is taken byte by byte")
def byte_by_byte(attacker: Attacker) -> None:
    _, call = next(calls(STREAM))
    again = itertools.repeat(window_update(1, 1) + window_update(0, 1))
    attacker.flood(attacker.connect({4: 0}), itertools.chain([call], again))


@attack("windows of 1 byte, 250 calls", "CVE-2019-9511: many streams are taken byte by byte")
def byte_by_byte_of_many(attacker: Attacker) -> None:
    held = [call for _, call in itertools.islice(calls(STREAM), 250)]
    windows = [window_update(i, 1) for i in range(1, 500, 2)]
    parts = itertools.chain(held, [_ALL_WINDOW], itertools.cycle(windows))
    attacker.flood(attacker.connect({4: 0}), parts)


@attack("windows of 0, held by 448 calls", "CVE-2019-9517: blocks wait in memory for windows")
def closed_windows(attacker: Attacker) -> None:
    lines = [attacker.connect({4: 0}) for _ in range(7)]
    attacker.flood_all({
        line: [call for _, call in itertools.islice(calls(ROWS, _LARGE_CHUNKS), 64)]
        for line in lines
    })  # fmt: skip
    attacker.hold(5.0)


@attack("windows opened slowly", "448 calls are given a byte of window now and then")
def slow_windows(attacker: Attacker) -> None:
    lines = [attacker.connect({4: 0}) for _ in range(2)]
    attacker.flood_all({
        line: [call for _, call in itertools.islice(calls(STREAM, _LARGE_CHUNKS), 224)]
        for line in lines
    })  # fmt: skip
    windows = [window_update(i, 1) for i in range(1, 448, 2)]
    for _ in range(10):
        attacker.hold(0.3)
        attacker.flood_all({line: windows for line in lines if not line.is_over})


def _unread(attacker: Attacker, lines: int, parts: Iterator[bytes]) -> None:
    """Flood connections whose answers nobody takes, though HTTP/2's windows are open."""
    some = [*itertools.islice(parts, 2000)]
    attacker.flood_all({
        attacker.connect({4: MAX_WINDOW}, listens=False, receive_bytes=4096): [_ALL_WINDOW, *some]
        for _ in range(lines)
    })  # fmt: skip
    attacker.hold(2.0)


@attack("health checks, answers unread", "answers pile up that nobody takes")
def unread_checks(attacker: Attacker) -> None:
    _unread(attacker, 16, (call for _, call in calls(HEALTH)))


@attack("unknown methods, answers unread", "answers pile up that nobody takes")
def unread_refusals(attacker: Attacker) -> None:
    _unread(attacker, 16, (call for _, call in calls("/no/such")))


@attack("reflection, answers unread", "large answers pile up that nobody takes")
def unread_reflection(attacker: Attacker) -> None:
    _unread(attacker, 16, (call for _, call in calls(REFLECTION, _LIST_SERVICES)))


@attack("streams, unread on 60 connections", "CVE-2019-9517: open windows, a socket that is full")
def unread_streams(attacker: Attacker) -> None:
    lines = [
        attacker.connect({4: MAX_WINDOW}, listens=False, receive_bytes=4096) for _ in range(60)
    ]
    some = [call for _, call in itertools.islice(calls(STREAM, _LARGE_CHUNKS), 8)]
    attacker.flood_all({line: [_ALL_WINDOW, *some] for line in lines})
    attacker.hold(5.0)


def _sips(attacker: Attacker, line: Line) -> None:
    """Ask, and take the answers a few bytes at a time."""
    some = [call for _, call in itertools.islice(calls(STREAM, _LARGE_CHUNKS), 250)]
    attacker.flood(line, [_ALL_WINDOW, *some])
    attacker.hold(5.0)


@attack("250 streams, read at once", "as many streams as a connection may have, at full speed")
def greedy(attacker: Attacker) -> None:
    _sips(attacker, attacker.connect({4: MAX_WINDOW}, takes=True))


@attack("reflection, asked without end", "one call asks and asks, and takes the answers")
def endless_reflection(attacker: Attacker) -> None:
    _, head = next(heads(REFLECTION))
    ask = frame(DATA, prefixed(_LIST_SERVICES), stream_id=1)
    attacker.flood(attacker.connect(takes=True), itertools.chain([head], itertools.repeat(ask)))


@attack("reflection, asked anew", "each call makes a thread wait for messages")
def reflection_calls(attacker: Attacker) -> None:
    parts = (call for _, call in calls(REFLECTION, _LIST_SERVICES))
    attacker.flood(attacker.connect(takes=True), parts)


@attack("reflection calls that say nothing", "256 calls hold the threads of streams")
def silent_reflection(attacker: Attacker) -> None:
    line = attacker.connect()
    attacker.flood(line, [head for _, head in itertools.islice(heads(REFLECTION), 256)])
    attacker.hold(2.0)


@attack("health checks without a pause", "calls that are answered, as many as can be sent")
def health_checks(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(takes=True), (call for _, call in calls(HEALTH)))


@attack("health checks on 32 connections", "calls that are answered, as many as can be sent")
def health_checks_of_many(attacker: Attacker) -> None:
    lines = [attacker.connect(takes=True) for _ in range(32)]
    attacker.flood_all({line: (call for _, call in calls(HEALTH)) for line in lines})


@attack("health checks, 256 at a time", "as many as 32 connections may have, again and again")
def crowds_of_health_checks(attacker: Attacker) -> None:
    lines = {attacker.connect(takes=True): calls(HEALTH) for _ in range(32)}
    asked = dict.fromkeys(lines, 0)

    def idle() -> list[Line]:
        return [line for line in lines if line.answers >= asked[line] and not line.is_over]

    while attacker.may_go_on and any(not line.is_over for line in lines):
        floods = {line: [call for _, call in itertools.islice(lines[line], 256)] for line in idle()}
        for line in floods:
            asked[line] += 256
        attacker.flood_all(floods)
        attacker.wait(lambda: bool(idle()))


@attack("calls begun on 300 connections", "256 calls each that wait for their message in memory")
def begun_calls(attacker: Attacker) -> None:
    some = [head for _, head in itertools.islice(heads(), 256)]
    lines = [attacker.connect() for _ in range(300)]
    attacker.flood_all(dict.fromkeys(lines, some))
    attacker.hold(3.0)


@attack("short streams without a pause", "calls after the last row, each answered at once")
def empty_streams(attacker: Attacker) -> None:
    last = pb.RequestParams(last_processed_uuid="f" * 8 + "-ffff-ffff-ffff-" + "f" * 12)
    message = last.SerializeToString()
    attacker.flood(attacker.connect(), (call for _, call in calls(STREAM, message)))


@attack("unary requests without END_STREAM", "calls that are answered before they end")
def unended_requests(attacker: Attacker) -> None:
    parts = (head + frame(DATA, prefixed(b""), stream_id=i) for i, head in heads(HEALTH))
    attacker.flood(attacker.connect(), parts)


@attack("requests without a message", "calls that end before they ask anything")
def empty_requests(attacker: Attacker) -> None:
    attacker.flood(attacker.connect(), (head for _, head in heads(STREAM, ended=True)))


@attack("unknown methods", "each is refused; refusing is work")
def unknown_methods(attacker: Attacker) -> None:
    parts = (head + request(i) for i, head in heads("/no.such.Service/Method"))
    attacker.flood(attacker.connect(), parts)


@attack("unknown methods on 32 connections", "each is refused; refusing is work")
def unknown_methods_of_many(attacker: Attacker) -> None:
    lines = [attacker.connect() for _ in range(32)]
    attacker.flood_all({line: (call for _, call in calls("/no.such.Service/M")) for line in lines})

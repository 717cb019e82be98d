"""What a peer's bytes will cost, told from frame headers alone, before they are handled.

In go the bytes of a connection as they arrive, cut anywhere; nothing comes out.
CalmDownError if they are a flood, FrameSizeError if a frame is longer than was agreed
(RFC 9113 section 4.2): h2 would first wait for all of it, up to 16 MiB. PeerFaultError if
they don't begin with SETTINGS (RFC 9113 section 3.4), without which h2 goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.wire.data_frames import HEADER_BYTES
from streamer.engines.wire.faults import FrameSizeError, PeerFaultError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.engines.wire.limits import Limits, Patience

_PREFACE_BYTES = 24
# The default of SETTINGS_MAX_FRAME_SIZE. Longer header blocks cost as if they were cut by it.
_USUAL_FRAME_BYTES = 16_384

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = range(5)
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 6, 7, 8, 9
_ACK = _END_STREAM = 0x1
_PADDED = 0x8
_STREAM_ID = 0x7FFFFFFF
_MAX_PADDING_BYTES = 256  # with the byte that says how much there is

# What one frame costs. A call that is let finish gives back its HEADERS (`EARNED_BY_CALL`);
# one that is reset costs both.
_COSTS = {
    _HEADERS: 3.0,
    _PRIORITY: 2.0,
    _RST_STREAM: 2.0,
    _PING: 2.0,
    _GOAWAY: 10.0,
    _WINDOW_UPDATE: 1.0,
    _CONTINUATION: 1.0,
}
# Header fields beyond the size that is advertised, which are decoded all the same: 16 KiB of
# them take hpack up to 5 ms.
_CONTINUATION_TOO_MANY_COST = 100.0
# HEADERS that open no call. No gRPC client sends them, and 1 byte may be a field of 4 KiB.
_COST_PER_BYTE_OF_OTHER_HEADERS = 0.1
# DATA that carries nothing, or may be padding alone; no gRPC client pads.
_EMPTY_DATA_COST = 10.0
# DATA for a call that is over: what was on its way when it ended, as many as fit a window.
_DEAD_DATA_COST = 0.5
# DATA of a few bytes takes 15 us like any other; but a window of them, the smallest messages
# too, costs no more than two thirds of what there is: whoever takes them may be slow.
_SMALL_DATA_BYTES = 1024
_SMALL_DATA_COST = 0.3
_WINDOW_OF_SMALL_DATA_COST = 1300.0
_SMALLEST_MESSAGE_BYTES = 5
# When a method has taken what came in one frame, however many messages: less work than that is.
# C-core answers an answer of a few bytes, which earns next to nothing, by 1.3 WINDOW_UPDATEs.
EARNED_BY_RUN = 1.5
_SETTINGS_COST = 20.0
# h2 keeps every setting it is told, known or not; one takes 6 bytes.
_COST_PER_SETTINGS_BYTE = 0.5
_OTHER_COST = 2.0
# HEADERS, and two WINDOW_UPDATEs and a PING, with which C-core answers some calls' ends.
EARNED_BY_CALL = 7.0
# One setting opens the windows of all calls: each costs as if it were opened alone, and what
# a few bytes of DATA earn.
WINDOWS_COST_PER_CALL = 3.0


def earned_by(data_bytes: int) -> float:
    """Return what a peer earns that lets DATA of that many bytes be sent.

    It may open two windows for each DATA frame, and for each 16 KiB; but not by a few bytes.
    """
    return 2.0 * min(data_bytes / 32, 1.0) + data_bytes / 8192


def price_of_fields(list_bytes: int) -> float:
    """Return what decoding header fields cost, by HTTP/2's reckoning of their size.

    Up to 0.28 ms a KiB was measured (Huffman code); the first is paid for by HEADERS.
    """
    return 0.005 * max(list_bytes - 1024, 0)


class FrameMeter:
    """Follows the frames of one connection, from its preface on."""

    def __init__(self, limits: Limits, patience: Patience, is_dead: Callable[[int], bool]) -> None:
        """`is_dead` says of a stream whether its call is over."""
        self._patience = patience
        self._is_dead = is_dead
        self._partial_header = b""
        self._to_skip = _PREFACE_BYTES
        self._has_begun = False
        self._last_stream_id = 0
        # Of the header block that is coming: whether it opens a call, and how many more
        # frames of it are no more than was advertised.
        self._opens_call = False
        self._continuations_left = 0
        self._window_bytes = limits.receive_window_bytes
        self._max_continuations = (limits.max_header_list_bytes - 1) // _USUAL_FRAME_BYTES
        self._max_frame_bytes = limits.max_frame_bytes

    @property
    def awaited_bytes(self) -> int:
        """Bytes still to come of the frame that has begun, as far as its header has come."""
        return self._to_skip

    def feed(self, data: bytes, now: float) -> None:
        """Account for every frame that begins in `data`."""
        data = self._partial_header + data
        place = self._to_skip
        cost = 0.0
        while len(data) - place >= HEADER_BYTES:
            header = data[place : place + HEADER_BYTES]
            length = int.from_bytes(header[:3], "big")
            self._check(header[3], header[4], length)
            cost += self._cost(header, length)
            place += HEADER_BYTES + length
        self._to_skip = max(place - len(data), 0)
        self._partial_header = data[place:]  # empty if there is something to skip
        if cost:
            self._patience.spend(cost, now)

    def _check(self, kind: int, flags: int, length: int) -> None:
        if length > self._max_frame_bytes:
            message = f"a frame of {length} bytes is longer than {self._max_frame_bytes}"
            raise FrameSizeError(message)
        is_answer = kind == _SETTINGS and flags & _ACK
        if is_answer and length:
            message = f"an answer to SETTINGS has {length} bytes"
            raise FrameSizeError(message)
        if not self._has_begun and (kind != _SETTINGS or is_answer):
            message = "the first frame is not SETTINGS"
            raise PeerFaultError(message)
        self._has_begun = True

    def _cost(self, header: bytes, length: int) -> float:
        kind, flags = header[3], header[4]
        stream_id = int.from_bytes(header[5:], "big") & _STREAM_ID
        if kind == _DATA:
            return self._cost_of_data(flags, stream_id, length)
        if kind in (_HEADERS, _CONTINUATION):
            return self._cost_of_headers(kind, stream_id, length)
        if kind == _SETTINGS:
            return _SETTINGS_COST + _COST_PER_SETTINGS_BYTE * length
        return _COSTS.get(kind, _OTHER_COST)

    def _cost_of_headers(self, kind: int, stream_id: int, length: int) -> float:
        cost = 0.0
        continuations = max(length - 1, 0) // _USUAL_FRAME_BYTES
        if kind == _HEADERS:
            cost += _COSTS[_HEADERS]
            self._opens_call = stream_id > self._last_stream_id
            self._last_stream_id = max(stream_id, self._last_stream_id)
            self._continuations_left = self._max_continuations
        else:
            continuations += 1
        expected = min(continuations, self._continuations_left)
        self._continuations_left -= expected
        cost += _COSTS[_CONTINUATION] * expected
        cost += _CONTINUATION_TOO_MANY_COST * (continuations - expected)
        if not self._opens_call:
            cost += _COST_PER_BYTE_OF_OTHER_HEADERS * length
        return cost

    def _cost_of_data(self, flags: int, stream_id: int, length: int) -> float:
        if flags & _PADDED and length <= _MAX_PADDING_BYTES:
            return _EMPTY_DATA_COST
        if self._is_dead(stream_id):
            return _DEAD_DATA_COST
        if flags & _END_STREAM or length >= _SMALL_DATA_BYTES:
            return 0.0
        share = max(length, _SMALLEST_MESSAGE_BYTES) / self._window_bytes
        by_window = _WINDOW_OF_SMALL_DATA_COST * share
        return min(_SMALL_DATA_COST, by_window) if length else _EMPTY_DATA_COST

"""What a peer's bytes will cost, told from frame headers alone, before they are handled.

In go the bytes of a connection as they arrive, cut anywhere; nothing comes out.
CalmDownError if they are a flood, FrameTooLongError if a frame is longer than was agreed
(RFC 9113 section 4.2): h2 would first wait for all of it, up to 16 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.wire.faults import FrameTooLongError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.engines.wire.limits import Patience

HEADER_BYTES = 9
_PREFACE_BYTES = 24
# The default of SETTINGS_MAX_FRAME_SIZE, which this server leaves as it is.
_MAX_FRAME_BYTES = 16_384

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = range(5)
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 6, 7, 8, 9
_END_STREAM, _PADDED = 0x1, 0x8
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
    _CONTINUATION: 50.0,  # 16 KiB of fields fit into one frame, or into few
}
# Decoding takes hpack up to 0.3 ms a KiB. Clients may send a long token with every call;
# beyond gRPC's customary limit on metadata, 8 KiB, they pay for it.
_SHORT_HEADERS_BYTES = 8192
_COST_PER_LONG_HEADERS_BYTE = 0.05
# DATA that carries nothing, or may be padding alone; no gRPC client pads.
_EMPTY_DATA_COST = 10.0
# DATA for a call that is over: what was on its way when it ended, as many as fit a window.
_DEAD_DATA_COST = 0.5
# DATA of a few bytes, of which a message gives back twice as much.
_SMALL_DATA_BYTES = 16
_SMALL_DATA_COST = 0.25
EARNED_BY_MESSAGE = 0.5
_SETTINGS_COST = 20.0
# h2 keeps every setting it is told, known or not; one takes 6 bytes.
_COST_PER_SETTINGS_BYTE = 0.5
_OTHER_COST = 2.0
# HEADERS, and two WINDOW_UPDATEs and a PING, with which C-core answers some calls' ends.
EARNED_BY_CALL = 7.0


def earned_by(data_bytes: int) -> float:
    """Return what a peer earns that lets DATA of that many bytes be sent.

    It may open two windows for each DATA frame, and for each 16 KiB; but not by a few bytes.
    """
    return 2.0 * min(data_bytes / 32, 1.0) + data_bytes / 8192


class FrameMeter:
    """Follows the frames of one connection, from its preface on."""

    def __init__(self, patience: Patience, is_dead: Callable[[int], bool]) -> None:
        """`is_dead` says of a stream whether its call is over."""
        self._patience = patience
        self._is_dead = is_dead
        self._partial_header = b""
        self._to_skip = _PREFACE_BYTES

    def feed(self, data: bytes, now: float) -> None:
        """Account for every frame that begins in `data`."""
        data = self._partial_header + data
        place = self._to_skip
        cost = 0.0
        while len(data) - place >= HEADER_BYTES:
            length = int.from_bytes(data[place : place + 3], "big")
            if length > _MAX_FRAME_BYTES:
                message = f"a frame of {length} bytes is longer than {_MAX_FRAME_BYTES}"
                raise FrameTooLongError(message)
            cost += self._cost(data[place : place + HEADER_BYTES], length)
            place += HEADER_BYTES + length
        self._to_skip = max(place - len(data), 0)
        self._partial_header = data[place:]  # empty if there is something to skip
        if cost:
            self._patience.spend(cost, now)

    def _cost(self, header: bytes, length: int) -> float:
        kind, flags = header[3], header[4]
        if kind == _SETTINGS:
            return _SETTINGS_COST + _COST_PER_SETTINGS_BYTE * length
        if kind in (_HEADERS, _CONTINUATION):
            long_bytes = max(length - _SHORT_HEADERS_BYTES, 0)
            return _COSTS[kind] + _COST_PER_LONG_HEADERS_BYTE * long_bytes
        if kind != _DATA:
            return _COSTS.get(kind, _OTHER_COST)
        if flags & _PADDED and length <= _MAX_PADDING_BYTES:
            return _EMPTY_DATA_COST
        if self._is_dead(int.from_bytes(header[5:], "big") & _STREAM_ID):
            return _DEAD_DATA_COST
        if flags & _END_STREAM or length >= _SMALL_DATA_BYTES:
            return 0.0
        return _SMALL_DATA_COST if length else _EMPTY_DATA_COST

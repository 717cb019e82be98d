"""What a peer's bytes will cost, told from frame headers alone, before they are handled.

In go the bytes of a connection as they arrive, cut anywhere; nothing comes out.
CalmDownError if they are a flood, FrameTooLongError if a frame is longer than was agreed
(RFC 9113 section 4.2): h2 would first wait for all of it, up to 16 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.wire.faults import FrameTooLongError

if TYPE_CHECKING:
    from streamer.engines.wire.limits import Patience

HEADER_BYTES = 9
_PREFACE_BYTES = 24
# The default of SETTINGS_MAX_FRAME_SIZE, which this server leaves as it is.
_MAX_FRAME_BYTES = 16_384

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = range(5)
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 6, 7, 8, 9
_END_STREAM = 0x1

# What one frame costs. A call that is let finish gives back its HEADERS (`COMPLETED_CALL`);
# one that is reset costs both.
_COSTS = {
    _HEADERS: 2.0,
    _PRIORITY: 2.0,
    _RST_STREAM: 2.0,
    _PING: 2.0,
    _GOAWAY: 10.0,
    _WINDOW_UPDATE: 1.0,
    _CONTINUATION: 10.0,
}
_EMPTY_DATA_COST = 10.0
_SETTINGS_COST = 20.0
# h2 keeps every setting it is told, known or not; one takes 6 bytes.
_COST_PER_SETTINGS_BYTE = 0.5
_OTHER_COST = 2.0
COMPLETED_CALL = 2.0
# A peer that reads 16 KiB at a time may open two windows for each of them.
EARNED_PER_BYTE = 2 / 16_384


class FrameMeter:
    """Follows the frames of one connection, from its preface on."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
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
            cost += _cost(data[place + 3], data[place + 4], length)
            place += HEADER_BYTES + length
        self._to_skip = max(place - len(data), 0)
        self._partial_header = data[place:]  # empty if there is something to skip
        if cost:
            self._patience.spend(cost, now)


def _cost(kind: int, flags: int, length: int) -> float:
    if kind == _DATA:
        return 0.0 if length or flags & _END_STREAM else _EMPTY_DATA_COST
    if kind == _SETTINGS:
        return _SETTINGS_COST + _COST_PER_SETTINGS_BYTE * length
    return _COSTS.get(kind, _OTHER_COST)

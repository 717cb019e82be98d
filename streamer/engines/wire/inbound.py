"""A peer's bytes, cut between frames into pieces that are handled one after another.

In go the bytes as they arrive, cut anywhere. Out come pieces that take a part of a millisecond to
handle, told from frame headers and paid for before they are handled, so that other connections
have their turn in between. Bytes of a long frame are passed on as they come.

FrameSizeError if a frame is longer than was agreed (RFC 9113 section 4.2): h2 would first wait
for all of it, up to 16 MiB. PeerFaultError if the bytes don't begin with SETTINGS (RFC 9113
section 3.4), without which h2 goes on. CalmDownError as from ConnectionAccount.charge.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from streamer.engines.wire.data_frames import HEADER_BYTES
from streamer.engines.wire.faults import CalmDownError, FrameSizeError, PeerFaultError
from streamer.engines.wire.flood import Work

if TYPE_CHECKING:
    from streamer.engines.wire.flood import ConnectionAccount
    from streamer.engines.wire.limits import Limits

_PREFACE_BYTES = 24
# By their prices: with 1000 health checks of others took 1.8 times as long beside 32 connections
# that ask for health without a pause.
_PIECE_MICROSECONDS = 300.0

_HEADER = struct.Struct(">BHBBI")  # length in 8 and 16 bits, kind, flags, stream
_STREAM_ID = 0x7FFFFFFF
_ACK = 0x1
_HEADERS, _RST_STREAM, _SETTINGS, _CONTINUATION = 1, 3, 4, 9
_EXTENSION = 0xFF  # any kind that HTTP/2 doesn't know, and that is ignored
_WORK = {
    0: Work.DATA,
    _HEADERS: Work.HEADERS,
    2: Work.PRIORITY,
    _RST_STREAM: Work.RST_STREAM,
    _SETTINGS: Work.SETTINGS,
    6: Work.PING,
    7: Work.GOAWAY,
    8: Work.WINDOW_UPDATE,
    _CONTINUATION: Work.CONTINUATION,
}
_WORK_OF_BYTES = {
    _HEADERS: Work.BLOCK_BYTE,
    _CONTINUATION: Work.BLOCK_BYTE,
    _SETTINGS: Work.SETTINGS_BYTE,
}


class Inbound:
    """What has come on one connection and wasn't handled yet, from its preface on."""

    def __init__(self, limits: Limits, account: ConnectionAccount) -> None:
        self._account = account
        self._bytes = bytearray()
        self._to_skip = _PREFACE_BYTES  # of the frame that has begun
        self._has_begun = False
        self._last_stream_id = 0
        self._block_bytes = 0
        self._max_block_bytes = limits.max_header_block_bytes
        self._max_frame_bytes = limits.max_frame_bytes

    @property
    def awaited_bytes(self) -> int:
        """Bytes still to come of the frame that has begun, as far as its header has come."""
        return max(self._to_skip - len(self._bytes), 0)

    @property
    def is_behind(self) -> bool:
        """Whether a frame, or the part of one, could be handled now."""
        return len(self._bytes) >= HEADER_BYTES or (self._to_skip > 0 and len(self._bytes) > 0)

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next_piece(self) -> bytes:
        """Return what is to be handled next, and charge for the frames that begin in it."""
        come = len(self._bytes)
        place = min(self._to_skip, come)
        self._to_skip -= place
        work = 0.0
        while come - place >= HEADER_BYTES and work < _PIECE_MICROSECONDS:
            high, low, kind, flags, stream_id = _HEADER.unpack_from(self._bytes, place)
            length = (high << 16) + low
            stream_id &= _STREAM_ID
            self._check(kind, flags, length)
            work += self._charge(kind, stream_id, length)
            if kind == _RST_STREAM and not stream_id:
                # haproxy 2.6 cancels a call so that it hasn't given a number yet; RFC 9113
                # section 6.4 would end the calls of all its clients.
                self._bytes[place + 3] = _EXTENSION
            end = place + HEADER_BYTES + length
            place = min(end, come)
            self._to_skip = end - place
        piece = bytes(self._bytes[:place])
        del self._bytes[:place]
        return piece

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

    def _charge(self, kind: int, stream_id: int, length: int) -> float:
        if kind in (_HEADERS, _CONTINUATION):
            self._follow_block(kind, stream_id, length)
        what = _WORK.get(kind, Work.OTHER_FRAME)
        if what is Work.RST_STREAM and not self._account.has_call(stream_id):
            what = Work.LATE_RST_STREAM
        work = self._account.charge(what, 1.0, stream_id)
        if length and (of_bytes := _WORK_OF_BYTES.get(kind)):
            work += self._account.charge(of_bytes, length, stream_id)
        return work

    def _follow_block(self, kind: int, stream_id: int, length: int) -> None:
        """Open an account with a call's HEADERS; CalmDownError for a header block too long."""
        if kind == _HEADERS:
            self._block_bytes = 0
            if stream_id > self._last_stream_id:
                self._last_stream_id = stream_id
                self._account.open_call(stream_id)
        self._block_bytes += length
        if self._block_bytes > self._max_block_bytes:
            message = f"a header block is longer than {self._max_block_bytes} bytes"
            raise CalmDownError(message)

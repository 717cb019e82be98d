"""A connection over one of asyncio's transports, which TLS needs: blocks are joined."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from streamer.engines.wire.data_frames import framed_pieces
from streamer.engines.wire.link import BaseLink
from streamer.engines.wire.session import Session

if TYPE_CHECKING:
    from streamer.codec.frames import JoinedFrames
    from streamer.engines.wire.interfaces import Host
    from streamer.engines.wire.pump import Pump


class JoinedBlock:
    """A block of messages in one piece."""

    def __init__(self, frames: JoinedFrames) -> None:
        start = int(frames.offsets[0])
        self.nbytes = frames.nbytes
        self.view = memoryview(frames.data)[start : start + self.nbytes]


class TransportLink(BaseLink, asyncio.Protocol):
    """A transport of asyncio's: TLS."""

    prepare = staticmethod(JoinedBlock)
    share_alone_bytes = 1 << 20

    def __init__(self, host: Host, pump: Pump, peer: str) -> None:
        super().__init__(host, pump, peer)
        self._host = host
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.session = Session(self._host, self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_shut = True
        self.session.lost()

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def pause_writing(self) -> None:
        self._blocked()

    def resume_writing(self) -> None:
        self._unblocked()

    def cut(
        self, block: JoinedBlock, start: int, stop: int, frame_bytes: int, stream_id: int
    ) -> bytes:
        return b"".join(framed_pieces(block.view[start:stop], frame_bytes, stream_id))

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _write(self) -> None:
        """Hand over one output of the session, if it has any."""
        output = self.session.guarded(self.session.next_output)
        if output is not None:
            self._transport.write(cast("bytes", output))
            self.wake()
        elif self._is_closing:
            self._shut(self._transport.close)

    def _listen(self, *, wanted: bool) -> None:
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

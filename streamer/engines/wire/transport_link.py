"""A connection over one of asyncio's transports, which TLS needs: blocks are joined."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from streamer.engines.wire.data_frames import framed_pieces
from streamer.engines.wire.session import Session
from streamer.engines.wire.socket_link import LINGER_SECONDS, READ_WHILE_BLOCKED_BYTES

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


class TransportLink(asyncio.Protocol):
    """A transport of asyncio's: TLS."""

    prepare = staticmethod(JoinedBlock)
    share_alone_bytes = 1 << 20
    session: Session

    def __init__(self, host: Host, pump: Pump, peer: str) -> None:
        self.peer = peer
        self.blocked_since: float | None = None
        self._host = host
        self._pump = pump
        self._transport: asyncio.Transport
        self._is_queued = False
        self._is_closing = False
        self._read_while_blocked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.session = Session(self._host, self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self.blocked_since = self._host.loop.time()
        self.session.lost()

    def data_received(self, data: bytes) -> None:
        if self.blocked_since is not None:
            self._read_while_blocked += len(data)
            if self._read_while_blocked > READ_WHILE_BLOCKED_BYTES:
                self._transport.pause_reading()
        if self._is_closing:
            return
        self.session.guarded(self.session.received, data)

    def pause_writing(self) -> None:
        self.blocked_since = self._host.loop.time()

    def resume_writing(self) -> None:
        self.blocked_since = None
        self._read_while_blocked = 0
        self._transport.resume_reading()
        self.wake()

    def cut(
        self, block: JoinedBlock, start: int, stop: int, frame_bytes: int, stream_id: int
    ) -> bytes:
        return b"".join(framed_pieces(block.view[start:stop], frame_bytes, stream_id))

    def wake(self) -> None:
        """Write as soon as the others have had their turn."""
        if not self._is_queued and self.blocked_since is None:
            self._is_queued = True
            self._pump.add(self)

    def close(self) -> None:
        """Send what is due, then close."""
        self._is_closing = True
        self.wake()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def write(self) -> None:
        """Hand over one output of the session, if it has any."""
        self._is_queued = False
        if self.blocked_since is not None:
            return
        output = self.session.guarded(self.session.next_output)
        if output is not None:
            self._transport.write(cast("bytes", output))
            self.wake()
        elif self._is_closing:
            self.blocked_since = self._host.loop.time()  # nothing is written any more
            self._host.loop.call_later(LINGER_SECONDS, self._transport.close)

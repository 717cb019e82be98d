"""What carries a connection's bytes: a plain socket, or one of asyncio's transports.

Both ask their session for output when they can send, so that what a slow peer doesn't take
isn't made. A SocketLink sends segments from where they lie; a TransportLink, which TLS
needs, joined bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from streamer.engines.wire.data_frames import framed_pieces
from streamer.engines.wire.segments import Outgoing, SegmentedBlock
from streamer.engines.wire.session import Session

if TYPE_CHECKING:
    from streamer.codec.frames import JoinedFrames
    from streamer.engines.wire.session import Host

_READ_BYTES = 65_536
# What is read from a peer that takes nothing itself: enough for its resets and windows,
# little enough that the answers to its frames don't fill memory.
_READ_WHILE_BLOCKED_BYTES = 65_536
# How long a closed connection is kept for the peer to read our last words: closing it with
# unread input would reset it, and destroy them.
_LINGER_SECONDS = 1.0
# How long links write before the loop looks at everything else.
_TURN_SECONDS = 0.002


class Writer(Protocol):
    """A link, as a pump sees it."""

    def write(self) -> None: ...


class Pump:
    """Lets links write in turn, a system call each, and the loop do other things between."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Writer] = deque()
        self._is_scheduled = False

    def add(self, link: Writer) -> None:
        self._waiting.append(link)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        end = time.perf_counter() + _TURN_SECONDS
        while self._waiting and time.perf_counter() < end:
            self._waiting.popleft().write()
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)


class SocketLink:
    """A plain socket, written from where the bytes lie."""

    prepare = staticmethod(SegmentedBlock)
    # 1 MiB a turn was slower alone: cutting costs some 100 us a time.
    share_alone_bytes = 8 << 20

    def __init__(self, host: Host, pump: Pump, peer_socket: socket.socket, peer: str) -> None:
        self.peer = peer
        self.blocked_since: float | None = None
        self._loop = host.loop
        self._pump = pump
        self._socket = peer_socket
        self._descriptor = peer_socket.fileno()
        self._outgoing: Outgoing | None = None
        self._is_queued = False
        self._is_reading = True
        self._is_closing = False
        self._is_closed = False
        self._read_while_blocked = 0
        self.session = Session(host, self)
        self._loop.add_reader(self._descriptor, self._readable)

    def cut(
        self, block: SegmentedBlock, start: int, stop: int, frame_bytes: int, stream_id: int
    ) -> Outgoing:
        return block.cut(start, stop, frame_bytes, stream_id)

    def wake(self) -> None:
        """Write as soon as the others have had their turn."""
        if not (self._is_queued or self._is_closed or self.blocked_since is not None):
            self._is_queued = True
            self._pump.add(self)

    def close(self) -> None:
        """Send what is due, then close."""
        self._is_closing = True
        self.wake()

    def abort(self) -> None:
        """Close at once."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._outgoing = None
            self._socket.close()
            self.session.lost()

    def write(self) -> None:
        """Make one system call, if there is anything to write."""
        self._is_queued = False
        if self._is_closed:
            return
        if self._outgoing is None:
            output = self.session.guarded(self.session.next_output)
            if output is None:
                if self._is_closing:
                    self._shut()
                return
            self._outgoing = Outgoing.of_bytes(output) if isinstance(output, bytes) else output
        try:
            taken = self._outgoing.write_to(self._descriptor)
        except OSError:
            self.abort()
            return
        if self._outgoing.is_done:
            self._outgoing = None
        if taken:
            self.wake()
        else:
            self.blocked_since = self._loop.time()
            self._loop.add_writer(self._descriptor, self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._descriptor)
        self.blocked_since = None
        self._read_while_blocked = 0
        self._read_on(wanted=True)
        self.wake()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.abort()
        elif not self._is_closing:
            if self.blocked_since is not None:
                self._read_while_blocked += len(data)
                self._read_on(wanted=self._read_while_blocked < _READ_WHILE_BLOCKED_BYTES)
            self.session.guarded(self.session.received, data)

    def _read_on(self, *, wanted: bool) -> None:
        if wanted == self._is_reading:
            return
        self._is_reading = wanted
        if wanted:
            self._loop.add_reader(self._descriptor, self._readable)
        else:
            self._loop.remove_reader(self._descriptor)

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._loop.call_later(_LINGER_SECONDS, self.abort)
        self.blocked_since = self._loop.time()  # nothing is written any more


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
        if self._is_closing:
            return
        if self.blocked_since is not None:
            self._read_while_blocked += len(data)
            if self._read_while_blocked > _READ_WHILE_BLOCKED_BYTES:
                self._transport.pause_reading()
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
            self._host.loop.call_later(_LINGER_SECONDS, self._transport.close)

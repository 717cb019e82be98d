"""A connection over a plain socket: segments are written from where they lie."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from streamer.engines.wire.segments import Outgoing, SegmentedBlock
from streamer.engines.wire.session import Session

if TYPE_CHECKING:
    from streamer.engines.wire.interfaces import Host
    from streamer.engines.wire.pump import Pump

# Little enough that no peer's frames keep the loop from others for long.
_READ_BYTES = 16_384
# Outputs are sent together up to here; a system call costs as much as copying this.
_SMALL_BYTES = 16_384
# What is read from a peer that takes nothing itself: enough for its resets and windows,
# little enough that the answers to its frames don't fill memory.
READ_WHILE_BLOCKED_BYTES = 65_536
# How long a closed connection is kept for the peer to read our last words: closing it with
# unread input would reset it, and destroy them.
LINGER_SECONDS = 1.0


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
            self._outgoing = self._next_outgoing()
        if self._is_closed:  # by what was to be sent
            return
        if self._outgoing is None:
            if self._is_closing:
                self._shut()
            return
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

    def _next_outgoing(self) -> Outgoing | None:
        """Return what is due, small things together: the answer of a unary call is three."""
        outputs: list[Outgoing] = []
        size = 0
        while size < _SMALL_BYTES:
            output = self.session.guarded(self.session.next_output)
            if output is None:
                break
            outputs.append(Outgoing.of_bytes(output) if isinstance(output, bytes) else output)
            size += outputs[-1].nbytes
        return Outgoing.together(outputs) if outputs else None

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
            return
        if self.blocked_since is not None:
            self._read_while_blocked += len(data)
            self._read_on(wanted=self._read_while_blocked < READ_WHILE_BLOCKED_BYTES)
        if not self._is_closing:
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
        self._loop.call_later(LINGER_SECONDS, self.abort)
        self.blocked_since = self._loop.time()  # nothing is written any more

"""A connection over a plain socket: segments are written from where they lie."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from streamer.engines.wire.link import BaseLink
from streamer.engines.wire.segments import Outgoing, SegmentedBlock
from streamer.engines.wire.session import Session

if TYPE_CHECKING:
    from streamer.engines.wire.interfaces import Host
    from streamer.engines.wire.pump import Pump

# Besides the rest of a frame; little enough that no peer's frames keep the loop from others
# for long.
_READ_BYTES = 16_384
# Outputs are sent together up to here; a system call costs as much as copying this.
SMALL_BYTES = 16_384


class SocketLink(BaseLink):
    """A plain socket, written from where the bytes lie."""

    prepare = staticmethod(SegmentedBlock)
    # 1 MiB a turn was slower alone: cutting costs some 100 us a time.
    share_alone_bytes = 8 << 20

    def __init__(self, host: Host, pump: Pump, peer_socket: socket.socket, peer: str) -> None:
        super().__init__(host, pump, peer)
        self._socket = peer_socket
        self._descriptor = peer_socket.fileno()
        self._outgoing: Outgoing | None = None
        self._is_listening = False
        self._is_gone = False
        self.session = Session(host, self)
        self._listen(wanted=True)

    def cut(
        self, block: SegmentedBlock, start: int, stop: int, frame_bytes: int, stream_id: int
    ) -> Outgoing:
        return block.cut(start, stop, frame_bytes, stream_id)

    def abort(self) -> None:
        """Close at once."""
        if not self._is_gone:
            self._is_gone = True
            self._listen(wanted=False)
            self._loop.remove_writer(self._descriptor)
            self._outgoing = None
            self._socket.close()
            self._lost()

    def _write(self) -> None:
        """Make one system call, if there is anything to write."""
        if self._outgoing is None:
            self._outgoing = self._next_outgoing()
        if self._is_gone:  # by what was to be sent
            return
        if self._outgoing is None:
            if self._is_closing:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
                self._shut(self.abort)
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
            self._blocked()
            self._loop.add_writer(self._descriptor, self._writable)

    def _next_outgoing(self) -> Outgoing | None:
        """Return what is due, small things together: the answer of a unary call is three."""
        outputs: list[Outgoing] = []
        size = 0
        while size < SMALL_BYTES:
            output = self.session.guarded(self.session.next_output)
            if output is None:
                break
            outputs.append(Outgoing.of_bytes(output) if isinstance(output, bytes) else output)
            size += outputs[-1].nbytes
        return Outgoing.together(outputs) if outputs else None

    def _writable(self) -> None:
        self._loop.remove_writer(self._descriptor)
        self._unblocked()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(self.session.awaited_bytes + _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self._ended()

    def _ended(self) -> None:
        """Take note that nothing more will come."""
        self._listen(wanted=False)
        self.session.ended()

    def _listen(self, *, wanted: bool) -> None:
        wanted = wanted and not self._is_gone
        if wanted and not self._is_listening:
            self._loop.add_reader(self._descriptor, self._readable)
        elif self._is_listening and not wanted:
            self._loop.remove_reader(self._descriptor)
        self._is_listening = wanted

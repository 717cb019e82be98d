"""Raw addresses: the only module that holds them, and that keeps alive what they point to.

A block of Frames becomes a table of addresses and lengths, cut into DATA frames and given
to writev(2), so that vectors go from the mapped file to the socket without a copy in user
space. Every table travels with the objects that own its memory: they are let go when the
kernel has taken the last byte, or the connection is closed. Between two calls of
`write_to` nothing reads the memory; during one, this object is on the stack.

Measured on 141,897 rows in frames of 16 KiB, encoding included: socket.sendmsg, which wants
a Python object for each segment, 0.26 million rows a second; writev by ctypes 1.4 million.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

from streamer.codec.frames import PREFIX_BYTES, GatheredFrames
from streamer.engines.wire.data_frames import Segments, framed_segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamer.codec.frames import JoinedFrames

_libc = ctypes.CDLL(None, use_errno=True)
_writev = _libc.writev
_writev.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_writev.restype = ctypes.c_ssize_t
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_mincore = _libc.mincore
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)

_IOV_MAX = os.sysconf("SC_IOV_MAX")
_MINCORE_IS_TRUE = os.geteuid() == 0
_ROW_BYTES = 16  # of struct iovec, and of a row of a table
# madvise(2), since Linux 5.14; older kernels say EINVAL.
_MADV_POPULATE_READ = 22


class Outgoing:
    """Bytes on their way to a socket: a table of segments, and the owners of their memory."""

    def __init__(self, table: NDArray[np.int64], owners: object) -> None:
        self.table = np.ascontiguousarray(table)
        self._ends = table[:, 1].cumsum()
        self._sent = 0
        self._row = 0
        self._owners = owners

    @classmethod
    def of_bytes(cls, data: bytes) -> Outgoing:
        view = np.frombuffer(data, np.uint8)
        return cls(np.array([[view.ctypes.data, len(data)]], np.int64), view)

    @classmethod
    def together(cls, parts: list[Outgoing]) -> Outgoing:
        """Return parts of which nothing is written yet as one."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.table for part in parts]), parts)

    @property
    def nbytes(self) -> int:
        return int(self._ends[-1])

    def write_to(self, descriptor: int) -> int:
        """Write once, as much as the kernel takes, and return how many bytes that was.

        0 if it takes nothing now; OSError if the socket is broken. Must not be called
        when `is_done`.
        """
        rows = min(len(self.table) - self._row, _IOV_MAX)
        address = self.table.ctypes.data + _ROW_BYTES * self._row
        taken: int = _writev(descriptor, address, rows)
        if taken < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return 0
            raise OSError(code, os.strerror(code))
        self._sent += taken
        if self._sent == self._ends[self._row + rows - 1]:
            self._row += rows
        else:
            self._row = int(self._ends.searchsorted(self._sent, "right"))
            left = int(self._ends[self._row]) - self._sent
            self.table[self._row, 0] += self.table[self._row, 1] - left
            self.table[self._row, 1] = left
        return taken

    @property
    def is_done(self) -> bool:
        return self._row == len(self.table)


class SegmentedBlock:
    """A block of messages where it lies, ready to be cut into DATA frames."""

    def __init__(self, frames: GatheredFrames | JoinedFrames) -> None:
        """Find the segments, and bring those of a file into memory (which may take long)."""
        self.nbytes = frames.nbytes
        self._frames = frames
        if isinstance(frames, GatheredFrames):
            self._segments = _gathered_segments(frames)
            _populate(frames.tails.address, frames.tails.size)
        else:
            self._segments = _joined_segments(frames)

    def cut(self, start: int, stop: int, frame_bytes: int, stream_id: int) -> Outgoing:
        """Return bytes start..stop as DATA frames."""
        table, headers = framed_segments(self._segments, start, stop, frame_bytes, stream_id)
        return Outgoing(table, (self._frames, headers))


def _gathered_segments(frames: GatheredFrames) -> Segments:
    rows = frames.rows
    offsets = frames.head_offsets.astype(np.int64)
    table = np.empty((2 * rows, 2), np.int64)
    table[0::2, 0] = offsets[:-1] + frames.heads.address
    table[0::2, 1] = np.diff(offsets)
    table[1::2, 0] = np.arange(rows) * frames.tail_bytes + frames.tails.address
    table[1::2, 1] = frames.tail_bytes
    if frames.starts is not None and frames.start_prefixes is not None:
        begun = np.empty((len(frames.starts), 2), np.int64)
        begun[:, 0] = PREFIX_BYTES * np.arange(len(begun)) + frames.start_prefixes.ctypes.data
        begun[:, 1] = PREFIX_BYTES
        table = np.insert(table, 2 * frames.starts, begun, axis=0)
    return Segments(table, table[:, 1].cumsum())


def _joined_segments(frames: JoinedFrames) -> Segments:
    table = np.array([[frames.data.address + int(frames.offsets[0]), frames.nbytes]], np.int64)
    return Segments(table, table[:, 1].cumsum())


def _populate(address: int, size: int) -> None:
    """Let the kernel read pages of the mapped file now, instead of while a socket waits.

    mincore first, because it takes 0.2 ms for 230 MB that are there, and madvise 8 ms. But
    of a file that a process neither owns nor may write, the kernel calls everything there:
    only root can believe it in any case.
    """
    begin = address - address % mmap.PAGESIZE
    pages = -(-(address + size - begin) // mmap.PAGESIZE)
    is_there = np.zeros(pages, np.uint8)
    if (
        not _MINCORE_IS_TRUE
        or _mincore(begin, address + size - begin, is_there.ctypes.data)
        or not is_there.all()
    ):
        _madvise(begin, address + size - begin, _MADV_POPULATE_READ)

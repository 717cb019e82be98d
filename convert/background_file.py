"""A file that threads write while the caller goes on."""

from __future__ import annotations

import os
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

# Most of a write is the kernel's search for free memory, which two threads can share.
MOST_PENDING = 2
_MOVED_BYTES = 1 << 20

# Bytes, and where in the file they belong.
Piece: TypeAlias = "tuple[int, bytes | memoryview]"


class BackgroundFile:
    """Writes to `file`, two calls at once.

    What a call is given mustn't change before MOST_PENDING more have returned, or `wait`.
    What goes wrong is raised by a later call, by `wait` at the latest. It has a file
    descriptor of its own: a caller that gives up may close `file` while it is written.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.descriptor = os.dup(file.fileno())
        # Threads that still write hold `self`.
        weakref.finalize(self, os.close, self.descriptor)
        self._threads = ThreadPoolExecutor(MOST_PENDING, "writer")
        self._pending: deque[Future[None]] = deque()

    def write(self, *pieces: Piece) -> None:
        """Begin to write `pieces`."""
        self._wait(MOST_PENDING - 1)
        self._pending.append(self._threads.submit(self._write, pieces))

    def move_down(self, begin: int, to: int, size: int) -> None:
        """Move `size` bytes, at `begin`, to a place before that, and end the file with them."""
        for done in range(0, size, _MOVED_BYTES):
            content = self.read(begin + done, min(_MOVED_BYTES, size - done))
            self.write((to + done, content))
        self.truncate(to + size)

    def read(self, place: int, size: int) -> bytes:
        """Return `size` bytes that lie at `place`."""
        self.wait()
        return os.pread(self.descriptor, size, place)

    def truncate(self, size: int) -> None:
        """End the file behind its first `size` bytes."""
        self.wait()
        os.ftruncate(self.descriptor, size)

    def wait(self) -> None:
        """Wait until everything is written."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            self._pending.popleft().result()

    def _write(self, pieces: Iterable[Piece]) -> None:
        for place, content in pieces:
            if not memoryview(content).nbytes:  # which can't be cast
                continue
            view, done = memoryview(content).cast("B"), 0
            while done < len(view):
                done += os.pwrite(self.descriptor, view[done:], place + done)

"""A file that threads write while the caller goes on."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

# Most of a write is the kernel's search for free memory, which two threads can share.
_THREADS = 2
_MOVED_BYTES = 1 << 20


class BackgroundFile:
    """Writes to `file`, two writes at once; what a call is given mustn't change.

    What goes wrong is raised by a later call, by `end` at the latest.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = file.fileno()
        self._threads = ThreadPoolExecutor(_THREADS, "writer")
        self._pending: deque[Future[None]] = deque()

    def write(self, place: int, *contents: bytes | memoryview) -> None:
        """Begin to write `contents` one behind another, from the byte `place` on."""
        self._wait(_THREADS - 1)
        self._pending.append(self._threads.submit(self._write, place, contents))

    def move_down(self, begin: int, to: int, size: int) -> None:
        """Move the last `size` bytes of the file, at `begin`, to a place before that."""
        self._wait(0)
        for done in range(0, size, _MOVED_BYTES):
            content = os.pread(self._descriptor, min(_MOVED_BYTES, size - done), begin + done)
            self._write(to + done, (content,))
        os.ftruncate(self._descriptor, to + size)

    def end(self) -> None:
        """Wait until everything is written."""
        self._wait(0)
        self._threads.shutdown()

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            self._pending.popleft().result()

    def _write(self, place: int, contents: tuple[bytes | memoryview, ...]) -> None:
        for content in contents:
            left = memoryview(content).cast("B")
            while left:
                written = os.pwrite(self._descriptor, left, place)
                place += written
                left = left[written:]

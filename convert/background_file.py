"""A file that is written by a thread, one write at a time."""

from __future__ import annotations

import threading
from typing import IO

_MOVED_BYTES = 1 << 20


class BackgroundFile:
    """Writes to `file` while the caller goes on; what a call is given mustn't change.

    Each method waits for the write before it, and raises what went wrong with that.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def write(self, place: int, *contents: bytes | memoryview) -> None:
        """Begin to write `contents` one behind another, from the byte `place` on."""
        self._wait()
        self._thread = threading.Thread(
            target=self._write, args=(place, contents), name="writer", daemon=True
        )
        self._thread.start()

    def move_down(self, begin: int, to: int, size: int) -> None:
        """Move the last `size` bytes of the file, at `begin`, to a place before that."""
        self._wait()
        for done in range(0, size, _MOVED_BYTES):
            self._file.seek(begin + done)
            content = self._file.read(min(_MOVED_BYTES, size - done))
            self._file.seek(to + done)
            self._file.write(content)
        self._file.truncate(to + size)

    def end(self) -> None:
        """Wait until everything is written."""
        self._wait()
        self._file.flush()

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _write(self, place: int, contents: tuple[bytes | memoryview, ...]) -> None:
        try:
            self._file.seek(place)
            for content in contents:
                self._file.write(content)
        except Exception as error:
            self._error = error

"""LOG_FILE: appended to by any number of processes, rotated by whichever of them comes to it.

A line is one write to a file that is open for appending, which the system does in one go:
lines of several processes don't mix or overwrite each other. Before each line the path is
looked at: where another file is there now, because another process or logrotate has moved
ours, that one is opened. A line that comes in between is in the file that was moved. Rotation
takes a lock that nobody waits for: whoever finds it taken writes on meanwhile.

The standard library's RotatingFileHandler must have the file to itself (of two processes one
goes on writing a file that the other removes: 60,000 of 120,000 lines were lost), and its
WatchedFileHandler doesn't rotate. concurrent-log-handler would do both, by a lock for every
line in a file beside the log: where only the log itself may be written, it can't log at all.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A day of a busy server is about 1 MB; six files are kept.
_MAX_BYTES = 10 << 20
_KEPT_FILES = 5
# A full disk is tried again so often: it may have room for one line and not for the next.
_RETRY_SECONDS = 60.0


class LogFile(logging.Handler):
    """Writes to `path`, whose folder is made; OSError if that can't be had.

    What can't be written once it runs is said, once, to `others`, the handler beside this
    one, and left out here until it can be.
    """

    def __init__(
        self,
        path: Path,
        others: logging.Handler,
        *,
        max_bytes: int = _MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._descriptor = self._open()
        super().__init__()
        self._others = others
        self._max_bytes = max_bytes
        self._clock = clock
        self._rotates = True
        self._is_torn = False  # the last line was written in part
        self._left_out = 0
        self._failed_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if self._descriptor < 0:  # a thread that outlives the end of the program
            return
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # arguments that don't fit the text, or can't be printed
            self.handleError(record)
            return
        if self._left_out and self._clock() - self._failed_at < _RETRY_SECONDS:
            self._left_out += 1
            return
        try:
            self._follow()
            self._rotate(len(line))
            self._write(line)
        except OSError as error:
            if not self._left_out:
                why = error.strerror or error
                self._tell("can't be written: %s; until it can, lines are left out there", why)
            self._left_out += 1
            self._failed_at = self._clock()
            return
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            self.handle(self._tell("can be written again; %d lines are not in it", left_out))

    def look_again(self) -> None:
        """Open the file that is at the path now, or make it; OSError if that can't be had."""
        with self.lock:  # type: ignore[union-attr] # None only before createLock
            self._open_again()
            self._failed_at = self._clock() - _RETRY_SECONDS

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()

    def _open(self) -> int:
        """Open the file; a pipe without waiting for whoever is to read it.

        Nor are lines waited for that the pipe has no room for: they are left out.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "it is a pipe that nobody reads") from None
            raise
        os.set_blocking(descriptor, not stat.S_ISFIFO(os.fstat(descriptor).st_mode))
        return descriptor

    def _open_again(self) -> None:
        descriptor = self._open()
        os.dup2(descriptor, self._descriptor, inheritable=False)  # in one step: see diagnosis.py
        os.close(descriptor)
        self._rotates = True
        self._is_torn = False

    def _is_in_place(self) -> bool:
        """Return whether the open file is the one at the path."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _follow(self) -> None:
        if not self._is_in_place():
            self._open_again()

    def _rotate(self, line_bytes: int) -> None:
        """Move the file away if it has no room for a line; where that fails, it grows on."""
        status = os.fstat(self._descriptor)
        is_full = status.st_size > 0 and status.st_size + line_bytes > self._max_bytes
        if not (is_full and self._rotates and stat.S_ISREG(status.st_mode)):
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            if self._is_in_place():  # else another process was first
                self._move_away()
        except OSError as error:
            self._rotates = False
            self._tell("can't be rotated: %s; it grows on", error.strerror or error)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._follow()

    def _move_away(self) -> None:
        """Give each file the name of the next older one; the oldest is removed."""
        older = [self.path.with_name(f"{self.path.name}.{n}") for n in range(1, _KEPT_FILES + 1)]
        for newer, name in reversed(list(zip([self.path, *older], older, strict=False))):
            if newer.exists():
                newer.replace(name)

    def _write(self, line: bytes) -> None:
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._is_torn = 0 < written < len(line)
        if self._is_torn:
            os.write(self._descriptor, line[written:])  # or what is wrong is said
            self._is_torn = False

    def _tell(self, text: str, argument: object) -> logging.LogRecord:
        """Tell the other handler, which writes elsewhere; return the record."""
        record = logging.LogRecord(
            __name__, logging.WARNING, __file__, 0, f"LOG_FILE %s {text}", (self.path, argument),
            None,
        )  # fmt: skip
        self._others.handle(record)
        return record

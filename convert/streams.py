"""Standard output and standard error that take any text, and that may fail.

Output that can't be written ends a command with one line and exit code 1; where its reader is
gone (`| head`), without the line. Standard error that can't be written is done without, so that
the exit code says what it would have said.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any

import click

from convert.terminal import complain

if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import ReadableBuffer


class OutputLostError(click.ClickException):
    """Standard output can't be written."""

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - as click says
        del file
        complain(f"error: {self.message}")


def prepare_streams() -> None:
    """Replace standard output and standard error, unless they are closed or somebody's own."""
    sys.stdout = _replaced(sys.stdout, _Output)
    sys.stderr = _replaced(sys.stderr, _Errors)
    atexit.register(_flush, sys.stdout)


def _flush(output: TextIO | None) -> None:
    """Write what a signal has kept from being written, or do without.

    Python would complain of it, and end with exit code 120.
    """
    if output is not None:
        with contextlib.suppress(OSError, ValueError, OutputLostError):  # ValueError: closed
            output.flush()


class _Output(io.FileIO):
    """Fails once; what is left in buffers is then thrown away."""

    _is_lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._is_lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._is_lost = True
            if isinstance(error, BrokenPipeError):  # click and rich end the command quietly
                raise
            message = f"standard output can't be written: {error.strerror or error}"
            raise OutputLostError(message) from None


class _Errors(io.FileIO):
    """Throws away what can't be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _replaced(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # None where it is closed
        return stream
    stream.flush()
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )

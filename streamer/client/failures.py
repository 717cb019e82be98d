"""What can go wrong with a read, and what may be tried again."""

from __future__ import annotations

from typing import NamedTuple

from convert.foreign_text import fit_to_show
from streamer.errors import Status, StreamerError

# Statuses that say nothing about the request: the same one may work a moment later.
_TRANSIENT = {Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.ABORTED}
# How the C-core words a stream that was reset, or cut off before its trailers.
_CUT_OFF = {
    Status.INTERNAL: ("rst_stream", "unexpected eos", "stream removed"),
    Status.UNKNOWN: ("stream removed",),
    Status.CANCELLED: ("rst_stream",),
    Status.RESOURCE_EXHAUSTED: ("rst_stream",),
}


# Characters of a server's text that are shown: it may be a stack trace.
_MAX_TEXT_CHARS = 300
# A server may ask for patience, not for a standstill.
_MAX_RETRY_INFO_SECONDS = 300.0
CLOSED = "the read was closed, or its client"


class ReadError(StreamerError):
    """A read can't go on."""


class ClosedError(ReadError):
    """The read, or its client, was closed before the read had come to its end."""

    status = Status.CANCELLED


class ServerFailedError(ReadError):
    """The server answered with a status that another try wouldn't change."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"the server answered {failure.said}")
        self.status = failure.status


class NoProgressError(ReadError):
    """Too many tries in a row, or too much time, brought no further row."""

    status = Status.UNAVAILABLE


class DeadlineError(NoProgressError):
    """The time for the whole read is over."""

    status = Status.DEADLINE_EXCEEDED


class RowOrderError(ReadError):
    """The server sent, or announces, rows that don't go with those before them."""

    status = Status.DATA_LOSS


class DatasetChangedError(ReadError):
    """The server has another dataset than the one that the rows so far came from."""

    status = Status.FAILED_PRECONDITION


def failure_to_repeat(error: BaseException) -> Exception:
    """Return what a read that `error` has ended raises from then on."""
    if isinstance(error, StreamerError):
        return error
    return ClosedError(f"the read was broken off ({type(error).__name__}); begin another one")


class Failure(NamedTuple):
    """How a call ended: its status, its text, and the seconds that RetryInfo asks for.

    `advice` is ours: what is wrong, where it is known.
    """

    status: Status
    text: str
    retry_seconds: float | None = None
    advice: str = ""

    @property
    def said(self) -> str:
        """Status and text in one line, whatever the server has put into it."""
        line = fit_to_show(" ".join(self.text[: 2 * _MAX_TEXT_CHARS].split()))
        if len(line) > _MAX_TEXT_CHARS:
            line = f"{line[:_MAX_TEXT_CHARS]} ..."
        return f"{self.status.name}: {line}" + (f"; {self.advice}" if self.advice else "")

    @property
    def is_transient(self) -> bool:
        """Whether another try may succeed: what the server says, else what is known of it."""
        if self.retry_seconds is not None or self.status in _TRANSIENT:
            return True
        text = self.text.lower()
        return any(words in text for words in _CUT_OFF.get(self.status, ()))

    def wait_seconds(self, backoff_seconds: float) -> float:
        """Return how long to wait before another try: what the server asks for, if more."""
        return max(backoff_seconds, min(self.retry_seconds or 0.0, _MAX_RETRY_INFO_SECONDS))

"""What can go wrong with a read, and what may be tried again."""

from __future__ import annotations

from typing import NamedTuple

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


CLOSED = "the client was closed"


class ReadError(StreamerError):
    """A read can't go on."""


class ClosedError(ReadError):
    """The client was closed before the read had come to its end."""

    status = Status.CANCELLED


class ServerFailedError(ReadError):
    """The server answered with a status that another try wouldn't change."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(f"the server answered {status.name}: {text}")
        self.status = status


class NoProgressError(ReadError):
    """Too many tries in a row, or too much time, brought no further row."""

    status = Status.UNAVAILABLE


class DeadlineError(NoProgressError):
    """The time for the whole read is over."""

    status = Status.DEADLINE_EXCEEDED


class RowOrderError(ReadError):
    """The server sent a row that doesn't come after the one before it."""

    status = Status.DATA_LOSS


class DatasetChangedError(ReadError):
    """The server has another dataset than the one that the rows so far came from."""

    status = Status.FAILED_PRECONDITION


class Failure(NamedTuple):
    """How a call ended: its status, its text, and the seconds that RetryInfo asks for."""

    status: Status
    text: str
    retry_seconds: float | None = None

    @property
    def is_transient(self) -> bool:
        """Whether another try may succeed: what the server says, else what is known of it."""
        if self.retry_seconds is not None or self.status in _TRANSIENT:
            return True
        text = self.text.lower()
        return any(words in text for words in _CUT_OFF.get(self.status, ()))

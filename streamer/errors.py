"""Everything that can go wrong on purpose: one tree, each class with its gRPC status.

Raise a subclass of StreamerError for what a caller or an operator can act on; its
text goes to the peer as it is, so it names no path and no internals. Everything else
is unforeseen: `answer_for` turns it into INTERNAL with a generic text, and whoever
catches it logs the traceback.
"""

from __future__ import annotations

from enum import IntEnum

from convert.foreign_text import fit_to_show

_OUT_OF_MEMORY = "the server is out of memory; try again later"


class Status(IntEnum):
    """The gRPC status codes (https://grpc.io/docs/guides/status-codes/)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StreamerError(Exception):
    """Base of every expected failure.

    `status` is what the peer of a call is told, `exit_code` how a command ends. Its text is
    one line that is fit to show, whatever it quotes.
    """

    status = Status.INTERNAL
    exit_code = 1

    def __str__(self) -> str:
        return fit_to_show(super().__str__())


class InvalidRequestError(StreamerError):
    """The request itself is wrong: the caller must change it."""

    status = Status.INVALID_ARGUMENT


class CheckpointNotFoundError(StreamerError):
    """The caller insisted on a checkpoint that is not a row of the dataset."""

    status = Status.FAILED_PRECONDITION


class DatasetNotFoundError(StreamerError):
    """There is no dataset file (yet)."""

    status = Status.NOT_FOUND


class InvalidDatasetError(StreamerError):
    """The dataset file is damaged, or not one that `convert` wrote."""

    status = Status.DATA_LOSS


class RowTooLargeError(StreamerError):
    """One row alone does not fit into a message of the permitted size."""

    status = Status.RESOURCE_EXHAUSTED


class OutOfMemoryError(StreamerError):
    """There is no room for what was about to be made."""

    status = Status.RESOURCE_EXHAUSTED

    def __init__(self) -> None:
        super().__init__(_OUT_OF_MEMORY)


class SchemaMismatchError(StreamerError):
    """A message type and an Arrow schema can't be converted into each other."""


class EncodeError(StreamerError):
    """A record batch holds what its message type can't say (a null, too many bytes)."""


class DecodeError(StreamerError):
    """Bytes from a peer are not the messages they should be."""

    status = Status.INVALID_ARGUMENT


def answer_for(error: BaseException) -> tuple[Status, str]:
    """Return the status and the text that the peer of a failed call gets to see."""
    if isinstance(error, StreamerError):
        return error.status, str(error)
    if isinstance(error, MemoryError):  # Arrow's own out-of-memory error included
        return Status.RESOURCE_EXHAUSTED, _OUT_OF_MEMORY
    return Status.INTERNAL, "internal error; the server's log has the details"

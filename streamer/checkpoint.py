"""Where a stream resumes: a checkpoint's text to bytes, bytes to a row. Pure.

A checkpoint is the id of the last row that the caller has committed. The order is that
of the ids' 16 bytes as unsigned numbers, which is the order of their canonical text.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ulid import ULID

from convert.foreign_text import quoted
from convert.id_text import IdKind
from streamer.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_BYTES = 16


class Position(NamedTuple):
    """The first row after a checkpoint, as batch and row in it.

    `found`: the checkpoint is the id of a row, the one just before. After the last row
    `batch` is the number of batches and `row` is 0.
    """

    batch: int
    row: int
    found: bool


def parse_checkpoint(text: str, kind: IdKind) -> bytes:
    """Return the 16 bytes of an id in canonical form, in any letter case.

    Raises InvalidRequestError for every other form: what one peer takes for a UUID in
    braces must not be another's silent restart.
    """
    try:
        id_ = UUID(text) if kind is IdKind.UUID else ULID.from_str(text.upper())
    except ValueError:
        id_ = None
    # The parsers are lenient (braces, underscores, no hyphens): the text must come back.
    if id_ is None or str(id_).lower() != text.lower():
        message = f"last_processed_uuid {quoted(text)} is not a {kind.upper()} in canonical form"
        raise InvalidRequestError(message)
    return id_.bytes


def first_row_after(checkpoint: bytes, batches: Sequence[memoryview]) -> Position:
    """Return the first row whose id is strictly greater than `checkpoint`.

    `batches` holds the ids of each record batch, 16 bytes a row, ascending within and
    across batches. Reads O(log rows) ids.
    """

    def id_at(batch: int, row: int) -> bytes:
        return bytes(batches[batch][ID_BYTES * row : ID_BYTES * (row + 1)])

    def rows_in(batch: int) -> int:
        return len(batches[batch]) // ID_BYTES

    def last_id(batch: int) -> bytes:
        return id_at(batch, rows_in(batch) - 1)

    batch = bisect_right(range(len(batches)), checkpoint, key=last_id)
    if batch == len(batches):
        return Position(batch, 0, found=batch > 0 and last_id(batch - 1) == checkpoint)
    row = bisect_right(range(rows_in(batch)), checkpoint, key=lambda row: id_at(batch, row))
    if row > 0:
        return Position(batch, row, found=id_at(batch, row - 1) == checkpoint)
    return Position(batch, 0, found=batch > 0 and last_id(batch - 1) == checkpoint)

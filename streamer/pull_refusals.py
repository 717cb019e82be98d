"""What ends a pull before its end, in words that say which row it is, or what to do."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, NoReturn

import psycopg

from convert.foreign_text import quoted
from streamer.client.failures import DatasetChangedError, ServerFailedError
from streamer.client.progress import MADE_IDS, DatasetHeaders
from streamer.client.upload_segments import id_text
from streamer.errors import InvalidRequestError, Status, StreamerError
from streamer.sinks import checkpoints
from streamer.sinks.copy_binary import id_of_row
from streamer.sinks.database import DatabaseError, TargetError, is_row_refused, translated
from streamer.sinks.target import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convert.id_text import IdKind
    from streamer.client.client import BatchStream, EmbeddingClient
    from streamer.sinks.checkpoints import Checkpoint
    from streamer.sinks.table import CopyRows

_ADVICE = "--restart writes all of its rows over those of the same id."
# Of `convert` where the source has no ids that it keeps.
_MADE_ADVICE = (
    "Its ids were made when it was converted (dataset-ids: made), others than before for the same"
    " rows: after --restart every row would be there twice. Empty the table first; or keep the"
    " source's ids, or convert with --ids uuid5 --id-from COLUMN, which gives equal rows equal ids."
)
# "COPY jobs, line 7, column vector" in whatever language; the column only if it is to blame.
_COPY_LINE = re.compile(r"COPY .+?, \D*(\d+)(\D*)")


class OtherDatasetError(StreamerError):
    """The table was loaded from another dataset than the server has now."""

    status = Status.FAILED_PRECONDITION
    exit_code = 3


def read_after(
    client: EmbeddingClient, checkpoint: Checkpoint | None, chunk_rows: int, max_chunk_bytes: int
) -> BatchStream:
    """Ask for the rows after a checkpoint, None for all; TargetError if its id is none."""
    if checkpoint is None:
        return client.batches(chunk_size=chunk_rows, max_chunk_bytes=max_chunk_bytes)
    try:
        return client.batches(
            checkpoint.last_id,
            chunk_rows,
            max_chunk_bytes=max_chunk_bytes,
            must_exist=bool(checkpoint.last_id),
            fingerprint=checkpoint.fingerprint or None,
        )
    except InvalidRequestError:
        _refuse(checkpoint, "which is no id")


def check_position(checkpoint: Checkpoint | None, dataset: DatasetHeaders) -> None:
    """Raise TargetError if the checkpoint's row is another one of the same dataset."""
    if checkpoint is None or dataset.fingerprint != checkpoint.fingerprint:
        return
    if dataset.rows is None or dataset.rows_remaining is None:
        return
    if checkpoint.rows != dataset.rows - dataset.rows_remaining:
        _refuse(checkpoint, f"after which {dataset.rows_remaining:,} of {dataset.rows:,} are left")


@contextlib.contextmanager
def explained(
    client: EmbeddingClient, last_checkpoint: Callable[[], Checkpoint | None]
) -> Iterator[None]:
    """Say what to do where the server doesn't have the dataset, or the row, of the checkpoint."""
    try:
        yield
    except (DatasetChangedError, ServerFailedError) as error:
        # Ids of another kind are no checkpoints at all to a server.
        if error.status not in (Status.FAILED_PRECONDITION, Status.INVALID_ARGUMENT):
            raise
        checkpoint = last_checkpoint()
        if not checkpoint or not checkpoint.rows:
            raise
        dataset = _served(client)
        if isinstance(error, ServerFailedError) and dataset.fingerprint == checkpoint.fingerprint:
            _refuse(checkpoint, "which is no row of it")
        message = (
            f"the table has {checkpoint.rows:,} rows of dataset {checkpoint.fingerprint[:12]},"
            f" up to {checkpoint.last_id}, and the server has another dataset now. "
            f"{_MADE_ADVICE if dataset.ids == MADE_IDS else _ADVICE} ({error})"
        )
        raise OtherDatasetError(message) from None


@contextlib.contextmanager
def located(rows: CopyRows, kind: IdKind) -> Iterator[None]:
    """Name the row, or the rows of which it is one, that the database refuses."""
    try:
        yield
    except psycopg.Error as error:
        if not is_row_refused(error):
            raise
        message = f"{translated(error)} ({_place(error, rows, kind)})"
        raise DatabaseError(message) from error


def _place(error: psycopg.Error, rows: CopyRows, kind: IdKind) -> str:
    for line in (error.diag.context or "").splitlines():
        match = _COPY_LINE.fullmatch(line)
        if match and 0 < int(match[1]) <= rows.rows:
            row = f"row {id_text(kind, id_of_row(rows.pieces, int(match[1]) - 1))}"
            column = match[2].rpartition(" ")[2]
            return f"{row}, column {column}" if column in COLUMNS else row
    first, last = (id_text(kind, id_.bytes) for id_ in (rows.first_id, rows.last_id))
    return f"a row from {first} to {last}"


def _served(client: EmbeddingClient) -> DatasetHeaders:
    """Return what the server says of the dataset that it has now, as far as it answers."""
    with contextlib.suppress(StreamerError), client.batches(chunk_size=1) as stream:
        return stream.dataset
    return DatasetHeaders()


def _refuse(checkpoint: Checkpoint, problem: str) -> NoReturn:
    message = (
        f"somebody changed what {checkpoints.TABLE} says of the table: it has"
        f" {checkpoint.rows:,} rows of dataset {checkpoint.fingerprint[:12]}, up to"
        f" {quoted(checkpoint.last_id)}, {problem}. --restart begins at the first row"
    )
    raise TargetError(message) from None

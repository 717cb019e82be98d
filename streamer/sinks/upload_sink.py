"""Where received rows go: a table, and a dead-letter table for those that it refuses."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from streamer.dataset_file import id_matrix
from streamer.sinks.copy_binary import copy_rows
from streamer.sinks.database import clear_errors, connect, is_row_refused
from streamer.sinks.dead_letters import DeadLetters
from streamer.sinks.table import CopyRows, EmbeddingTable, OnConflict
from streamer.sinks.target import TableName, check_table, dimension_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from streamer.row_check import CheckedRows, RejectedRow

# So few are found faster by trying each than by more halves.
_FEW_ROWS = 32


class UploadSink:
    """Writes the rows of one call; `dimension` is the table's once there is one."""

    def __init__(
        self, connection: psycopg.Connection, name: TableName, dimension: int | None
    ) -> None:
        if name.oid(connection) is not None:
            check_table(connection, name, dimension)
        self.dimension = dimension_of(connection, name) or dimension
        self._connection = connection
        self._name = name
        self._table: EmbeddingTable | None = None
        self._dead_letters = DeadLetters(connection, name)

    def write(self, rows: CheckedRows) -> list[RejectedRow]:
        """Store sound rows over those of the same id, the others apart, in one transaction.

        Returns the rows that the database refuses; they are kept apart, too.
        """
        with clear_errors():
            if rows.batch is not None and self._table is None:
                self.dimension = rows.batch.schema.field("vector").type.list_size
                self._table = EmbeddingTable(self._connection, self._name, self.dimension)
            with self._connection.transaction():
                refused: list[RejectedRow] = []
                rejected = rows.rejected
                while rows.batch is not None and self._table is not None:
                    reasons = self._upsert(self._table, rows.batch)
                    refused += [rows.refuse(row, reason) for row, reason in reasons]
                    # What came before a refused row stays what it would be without that.
                    rows = rows.before([row for row, _ in reasons])
                self._dead_letters.add([*rejected, *refused])
        return refused

    def _upsert(
        self, table: EmbeddingTable, batch: pa.RecordBatch, first_row: int = 0
    ) -> list[tuple[int, str]]:
        """Write rows; where the database refuses some, find out which, and why.

        By halves, until few are left: these are tried one by one.
        """
        first, last = (UUID(bytes=id_.tobytes()) for id_ in id_matrix(batch)[[0, -1]])
        copied = CopyRows(batch.num_rows, first, last, [copy_rows(batch)])
        try:
            with self._connection.transaction():
                table.write(copied, OnConflict.UPDATE)
        except psycopg.Error as error:
            if not is_row_refused(error):
                raise
            if batch.num_rows == 1:
                return [(first_row, _reason(error))]
        else:
            return []
        if batch.num_rows <= _FEW_ROWS:
            ids = [UUID(bytes=id_.tobytes()) for id_ in id_matrix(batch)]
            try:
                with self._connection.transaction():
                    refused = table.write_each(copied, ids)
            except psycopg.Error as error:
                if not is_row_refused(error):
                    raise
            else:
                return [(first_row + row, _reason(error)) for row, error in refused.items()]
        half = batch.num_rows // 2
        return [
            *self._upsert(table, batch.slice(0, half), first_row),
            *self._upsert(table, batch.slice(half), first_row + half),
        ]


def _reason(error: psycopg.Error) -> str:
    return f"the database: {error.diag.message_primary}"


class UploadSinks:
    """Opens a sink a call; `dimension` is for a table that isn't there yet."""

    def __init__(self, dsn: str, table: str, dimension: int | None) -> None:
        self._dsn = dsn
        self._table = table
        self._dimension = dimension
        self._connections: set[psycopg.Connection] = set()

    @contextlib.contextmanager
    def open(self) -> Iterator[UploadSink]:
        with connect(self._dsn) as connection:
            self._connections.add(connection)
            try:
                with clear_errors():
                    name = TableName.parse(connection, self._table)
                    sink = UploadSink(connection, name, self._dimension)
                yield sink
            finally:
                self._connections.discard(connection)

    def cancel(self) -> None:
        """Break off what the database is doing for any call."""
        for connection in list(self._connections):
            connection.cancel_safe()

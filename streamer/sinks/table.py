"""The table that rows are written into: made if missing, checked if there.

Rows go in by COPY where the table has no id between their first and their last, which is so
unless somebody else wrote them; otherwise by way of a temporary table and INSERT ... ON
CONFLICT.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import errors, sql

from streamer.sinks.copy_binary import HEADER, TRAILER
from streamer.sinks.database import DatabaseError, TargetError, creation_lock, is_row_refused
from streamer.sinks.target import COLUMNS, check_table, create_if_missing, vector_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    import pyarrow as pa

    from streamer.sinks.target import TableName

_VALUES = [name for name in COLUMNS if name != "id"]
_STAGE = sql.Identifier("pg_temp", "embedding_streamer_stage")
_MERGE = (
    "INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM {stage}"
    " WHERE id BETWEEN %s AND %s ON CONFLICT (id) DO "
)
_SKIP = _MERGE + "NOTHING"
# Compared by their bytes: pgvector's = may be out of sight, and takes -0.0 for 0.0.
_UPDATE = _MERGE + (
    "UPDATE SET ({values}) = ROW({new})"
    " WHERE ROW({old})::record OPERATOR(pg_catalog.*<>) ROW({new})::record"
)
# pgvector's limit for the type `vector`.
_MAX_DIMENSION = 16_000


class OnConflict(StrEnum):
    """What becomes of a row whose id the table has already."""

    UPDATE = "update"
    SKIP = "skip"
    ERROR = "error"


class CopyRows(NamedTuple):
    """Rows as COPY takes them: their number, smallest and greatest id, their bytes in pieces.

    No id is there twice.
    """

    rows: int
    first_id: UUID
    last_id: UUID
    pieces: Sequence[pa.Buffer]


class TakenIdError(DatabaseError):
    """The table has a row of this id already, and rows must be new."""


class EmbeddingTable:
    """A table of embeddings; `dimension` is floats per vector."""

    def __init__(self, connection: psycopg.Connection, name: TableName, dimension: int) -> None:
        """Make the table, and pgvector, where missing; TargetError if it can't take the rows."""
        if not 0 < dimension <= _MAX_DIMENSION:
            message = f"pgvector takes vectors of 1 to {_MAX_DIMENSION:,} floats, not {dimension:,}"
            raise TargetError(message)
        self._connection = connection
        self._name = name
        with connection.transaction():
            creation_lock(connection)
            schema = vector_schema(connection).replace("%", "%%")
            self._columns = _columns(sql.Identifier(schema, "vector"), dimension)
            create_if_missing(connection, name, self._columns + sql.SQL(", PRIMARY KEY (id)"))
            check_table(connection, name, dimension)
        self.oid = name.oid(connection) or 0

    def count(self) -> int:
        """Return the rows that the table has now."""
        row = self._execute("SELECT count(*) FROM {table}").fetchone()
        return int(row[0]) if row else 0

    def write(self, rows: CopyRows, on_conflict: OnConflict) -> None:
        """Write `rows`, in the transaction that is open; TakenIdError, DatabaseError."""
        self._check_at_once()
        if on_conflict is OnConflict.ERROR or not self._has_between(rows.first_id, rows.last_id):
            try:
                with self._connection.transaction():  # a savepoint
                    self._copy(sql.Identifier(*self._name), rows)
            except errors.UniqueViolation as error:
                if on_conflict is OnConflict.ERROR:
                    message = f"the table has such a row already: {error.diag.message_detail}"
                    raise TakenIdError(message) from None
                # Somebody else wrote it between the look and the COPY.
            else:
                return
        self._merge(rows, on_conflict)

    def write_each(self, rows: CopyRows, ids: Iterable[UUID]) -> dict[int, psycopg.Error]:
        """Write each row by itself, by their `ids`; return what is wrong with those refused.

        psycopg.Error: one of them can't even be brought to the database.
        """
        self._check_at_once()
        self._fill_stage(rows)
        refused: dict[int, psycopg.Error] = {}
        for row, id_ in enumerate(ids):
            try:
                with self._connection.transaction():
                    self._execute(_UPDATE, id_, id_)
            except psycopg.Error as error:
                if not is_row_refused(error):
                    raise
                refused[row] = error
        return refused

    def _check_at_once(self) -> None:
        """Let constraints that would wait for the commit say which row they refuse."""
        self._execute("SET CONSTRAINTS ALL IMMEDIATE")

    def _has_between(self, first: UUID, last: UUID) -> bool:
        query = "SELECT EXISTS (SELECT FROM {table} WHERE id BETWEEN %s AND %s)"
        row = self._execute(query, first, last).fetchone()
        return row is not None and bool(row[0])

    def _copy(self, table: sql.Identifier, rows: CopyRows) -> None:
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, _names(COLUMNS))
        with self._connection.cursor().copy(query) as copy:
            copy.write(HEADER)
            for piece in rows.pieces:
                copy.write(memoryview(piece))
            copy.write(TRAILER)

    def _merge(self, rows: CopyRows, on_conflict: OnConflict) -> None:
        """Write rows of which some may be there; those that are the same stay untouched."""
        self._fill_stage(rows)
        # What an earlier merge of the same transaction has left there is not its matter.
        query = _UPDATE if on_conflict is OnConflict.UPDATE else _SKIP
        self._execute(query, rows.first_id, rows.last_id)

    def _fill_stage(self, rows: CopyRows) -> None:
        self._execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ({types}) ON COMMIT DELETE ROWS"
        )
        # What merges of the same transaction that were rolled back have left there is invisible,
        # and yet would be looked at again by each of those after them.
        if self._execute("SELECT pg_relation_size({stage_name}::regclass)").fetchone() != (0,):
            self._execute("TRUNCATE {stage}")
        self._copy(_STAGE, rows)

    def _execute(self, query: str, *values: object) -> psycopg.Cursor:
        parts = {
            "table": self._name.identifier,
            "stage": _STAGE,
            "stage_name": sql.Literal(_STAGE.as_string()),
            "types": self._columns,
            "columns": _names(COLUMNS),
            "values": _names(_VALUES),
            "new": _names(_VALUES, "excluded"),
            "old": _names(_VALUES, "old"),
        }
        return self._connection.execute(sql.SQL(query).format(**parts), values)


def _columns(vector_type: sql.Identifier, dimension: int) -> sql.Composed:
    types = ("uuid", "text", "integer", "text", "text")
    columns = [
        sql.SQL("{} " + kind + " NOT NULL").format(sql.Identifier(column))
        for column, kind in zip(COLUMNS, types, strict=False)
    ]
    columns.append(sql.SQL("vector {}({}) NOT NULL").format(vector_type, dimension))
    return sql.SQL(", ").join(columns)


def _names(columns: Sequence[str], *table: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table, column) for column in columns)

"""How far each table has been loaded, in a table of the same database.

A row a target table, changed in the transaction that writes the rows: either both are there
or neither. Whoever writes must have seen the last state, so that of two programs that load
the same table one is told, whatever became of their locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from streamer.sinks.database import TargetError
from streamer.sinks.target import TableName, create_if_missing

if TYPE_CHECKING:
    import psycopg

TABLE = "embedding_streamer_checkpoint"
_COLUMNS = sql.SQL(
    "target oid PRIMARY KEY, target_name text NOT NULL, fingerprint text NOT NULL,"
    " last_id text NOT NULL, rows bigint NOT NULL, updated_at timestamptz NOT NULL DEFAULT now()"
)


class Checkpoint(NamedTuple):
    """The first `rows` rows of dataset `fingerprint` are in the table with oid `target`.

    `last_id` is the text of the last one's id as the server writes it, "" for none.
    """

    target: int
    fingerprint: str
    last_id: str
    rows: int


class Checkpoints:
    """The checkpoints of the tables in one schema, by the tables' oid.

    A table that takes the place of another one of the same name starts from nothing.
    """

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._name = TableName(schema, TABLE)

    def load(self, target: int | None) -> Checkpoint | None:
        if self._name.oid(self._connection) is None:
            return None
        row = self._execute(
            "SELECT target, fingerprint, last_id, rows FROM {table} WHERE target = %s", target
        ).fetchone()
        return Checkpoint(*row) if row else None

    def start(self, target: int, fingerprint: str) -> Checkpoint:
        """Set a table's checkpoint to the beginning of a dataset; the first makes their table."""
        create_if_missing(self._connection, self._name, _COLUMNS)
        self._execute(
            "INSERT INTO {table} (target, target_name, fingerprint, last_id, rows)"
            " VALUES (%s, %s::oid::regclass::text, %s, '', 0)"
            " ON CONFLICT (target) DO UPDATE SET fingerprint = excluded.fingerprint,"
            " last_id = '', rows = 0, updated_at = now()",
            target, target, fingerprint,
        )  # fmt: skip
        return Checkpoint(target, fingerprint, "", 0)

    def move(self, seen: Checkpoint, last_id: str, rows: int) -> Checkpoint:
        """Move on by `rows` from what was `seen`; TargetError if it isn't that any more."""
        moved = seen._replace(last_id=last_id, rows=seen.rows + rows)
        done = self._execute(
            "UPDATE {table} SET last_id = %s, rows = %s, updated_at = now() WHERE target = %s"
            " AND fingerprint = %s AND last_id = %s AND rows = %s",
            moved.last_id, moved.rows, *seen,
        )  # fmt: skip
        if done.rowcount != 1:
            message = "another program has moved this table's checkpoint; nothing was written"
            raise TargetError(message)
        return moved

    def defer_flushes(self) -> None:
        """Don't let commits wait for the disk, until `flush`.

        A crash of the database may then take the last of them back, each of them whole, rows
        and checkpoint: the load goes on from there.
        """
        self._connection.execute("SET synchronous_commit TO off")

    def flush(self, seen: Checkpoint) -> None:
        """Wait until everything that was committed is on disk, as the database is set up."""
        with self._connection.transaction():
            self._connection.execute("SET LOCAL synchronous_commit TO DEFAULT")
            self._execute("UPDATE {table} SET updated_at = now() WHERE target = %s", seen.target)

    def _execute(self, query: str, *values: object) -> psycopg.Cursor:
        return self._connection.execute(sql.SQL(query).format(table=self._name.identifier), values)

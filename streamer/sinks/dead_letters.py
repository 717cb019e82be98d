"""Rows that were received and can't be stored, kept with the reason, so that nothing is lost."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from psycopg import sql

from streamer.sinks.target import TableName, create_if_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from streamer.row_check import RejectedRow

TABLE = "embedding_streamer_dead_letter"
_COLUMNS = sql.SQL(
    "target_name text, digest bytea, id text NOT NULL, reason text NOT NULL,"
    " message bytea NOT NULL, received_at timestamptz NOT NULL DEFAULT now(),"
    " PRIMARY KEY (target_name, digest)"
)


class DeadLetters:
    """The rejected rows of one table: each message once, however often it is sent."""

    def __init__(self, connection: psycopg.Connection, name: TableName) -> None:
        self._connection = connection
        self._target = str(name)
        self._name = TableName(name.schema, TABLE)
        create_if_missing(connection, self._name, _COLUMNS)

    def add(self, rows: Sequence[RejectedRow]) -> None:
        """Keep `rows`, in the transaction that is open; `message` is the protobuf Embedding.

        Of those with the same message the last one: to write a row again and again in one
        transaction takes time that grows with the square of it.
        """
        if not rows:
            return
        query = sql.SQL(
            "INSERT INTO {} (target_name, digest, id, reason, message) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (target_name, digest) DO UPDATE"
            " SET reason = excluded.reason, received_at = now()"
        ).format(self._name.identifier)
        letters = {hashlib.sha256(row.message).digest(): row for row in rows}
        with self._connection.cursor() as cursor:
            cursor.executemany(
                query,
                [
                    (self._target, digest, self._sayable(row.id), row.reason, row.message)
                    # In an order, so that no two calls wait for each other.
                    for digest, row in sorted(letters.items())
                ],
            )

    def _sayable(self, id_: str) -> str:
        """Return an id without what the database can't say; the message has it as it came."""
        id_ = id_.replace("\0", "\\0")
        if self._connection.info.parameter_status("server_encoding") != "UTF8":
            id_ = id_.encode("ascii", "backslashreplace").decode()
        return id_

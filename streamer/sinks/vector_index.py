"""The index that makes nearest-neighbour queries fast, built when all rows are there.

Built first, each row would be put into it one by one: see benchmarks for how much
slower that is. Lists of ivfflat, and limits, are those of pgvector's README.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

from psycopg import sql

from streamer.sinks.database import TargetError, clear_errors
from streamer.sinks.target import vector_schema

if TYPE_CHECKING:
    import psycopg

    from streamer.sinks.target import TableName

# pgvector indexes vectors of so many floats at most.
_MAX_DIMENSION = 2000
_MANY_ROWS = 1_000_000


class IndexKind(StrEnum):
    HNSW = "hnsw"
    IVFFLAT = "ivfflat"
    NONE = "none"


def check_index(kind: IndexKind, dimension: int) -> None:
    """Raise TargetError, before rows are loaded, if such vectors can't be indexed."""
    if kind is not IndexKind.NONE and dimension > _MAX_DIMENSION:
        message = f"pgvector indexes at most {_MAX_DIMENSION:,} floats, these have {dimension:,}"
        raise TargetError(message)


def check_memory(connection: psycopg.Connection, memory: str | None) -> None:
    """Raise DatabaseError, before rows are loaded, if `memory` is none to the database."""
    if memory:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", (memory,))


def build_index(
    connection: psycopg.Connection, name: TableName, kind: IndexKind, *, memory: str | None
) -> bool:
    """Build the index for cosine distance; False if the table has one of its kind already.

    `memory` is maintenance_work_mem while it is built, such as 1GB; None: the server's own.
    """
    if kind is IndexKind.NONE or _has_index(connection, name, kind):
        return False
    with clear_errors(), connection.transaction():
        if memory:
            connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", (memory,))
        options: sql.Composable = sql.SQL("")
        if kind is IndexKind.IVFFLAT:
            options = sql.SQL(" WITH (lists = {})").format(_lists(connection, name))
        connection.execute(
            sql.SQL("CREATE INDEX ON {} USING {} (vector {})").format(
                sql.Identifier(*name),
                sql.Identifier(kind.value),
                sql.Identifier(vector_schema(connection), "vector_cosine_ops"),
            )
            + options
        )
    return True


def _has_index(connection: psycopg.Connection, name: TableName, kind: IndexKind) -> bool:
    with clear_errors():
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " JOIN pg_opclass o ON o.oid = i.indclass[0] AND o.opcname = 'vector_cosine_ops'"
            " JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = %s AND m.amname = %s"
            " AND i.indisvalid)",
            (name.oid(connection), kind.value),
        ).fetchone()
    return row is not None and bool(row[0])


def _lists(connection: psycopg.Connection, name: TableName) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*name))
    row = connection.execute(query).fetchone()
    rows = int(row[0]) if row else 0
    return max(1, rows // 1000 if rows <= _MANY_ROWS else math.isqrt(rows))

"""The table that is written into: what it is called, and whether it can take the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import errors, sql

from convert.foreign_text import quoted
from streamer.sinks.database import TargetError, creation_lock

if TYPE_CHECKING:
    import psycopg

# Types that may stand in for those of a new table: their binary forms are the same.
_TEXT = ("text", "character varying")
_TYPES = {
    "id": ("uuid",),
    "company_name": _TEXT,
    "exp_years": ("integer",),
    "english_level": _TEXT,
    "primary_keyword": _TEXT,
    "vector": ("vector",),
}
COLUMNS = tuple(_TYPES)


class TableName(NamedTuple):
    """A table, as the catalogue spells it."""

    schema: str
    table: str

    @classmethod
    def parse(cls, connection: psycopg.Connection, text: str) -> TableName:
        """Read a name as PostgreSQL does: "Quotes" keep letter case, a schema may precede it."""
        try:
            row = connection.execute("SELECT parse_ident(%s), current_schema()", (text,)).fetchone()
        except (errors.InvalidParameterValue, UnicodeEncodeError):
            row = None
        if row is None or not 1 <= len(row[0]) <= 2:
            message = f"{quoted(text)} is no name of a table"
            raise TargetError(message)
        parts, schema = row
        found = connection.execute(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = to_regclass(%s)", (text,),
        ).fetchone()  # fmt: skip
        if len(parts) == 2:
            return cls(*parts)
        schema = found[0] if found else schema
        if schema is None:
            message = "no schema of the search_path exists; give the table as SCHEMA.TABLE"
            raise TargetError(message)
        return cls(schema, parts[0])

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def identifier(self) -> sql.Identifier:
        """For queries with parameters, even with none of them: there % is doubled."""
        return sql.Identifier(*(part.replace("%", "%%") for part in self))

    def oid(self, connection: psycopg.Connection) -> int | None:
        """Return the table's identity, None if there is no such table."""
        row = connection.execute(
            "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s", tuple(self),
        ).fetchone()  # fmt: skip
        return int(row[0]) if row else None

    def has_rows(self, connection: psycopg.Connection) -> bool:
        """Whether the table, which is there, has any."""
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(*self))
        row = connection.execute(query).fetchone()
        return bool(row and row[0])


def create_if_missing(
    connection: psycopg.Connection, name: TableName, columns: sql.Composable
) -> None:
    """Make a table if there is none of that name; one program at a time.

    CREATE TABLE IF NOT EXISTS needs the right to create also where there is nothing to do.
    """
    with connection.transaction():
        creation_lock(connection)
        if name.oid(connection) is None:
            query = sql.SQL("CREATE TABLE {} ({})").format(name.identifier, columns)
            connection.execute(query, ())


def vector_schema(connection: psycopg.Connection) -> str:
    """Return the schema where pgvector lives; install pgvector if it isn't there."""
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.FeatureNotSupported, errors.UndefinedFile, errors.InsufficientPrivilege) as e:
        message = (
            f"pgvector is missing and can't be added ({e.diag.message_primary}): install it on"
            " the database server, then run CREATE EXTENSION vector as its administrator"
        )
        raise TargetError(message) from None
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector'"
    ).fetchone()
    return str(row[0]) if row else "public"


def dimension_of(connection: psycopg.Connection, name: TableName) -> int | None:
    """Return the floats per vector of the table; None if it isn't there or doesn't say."""
    row = connection.execute(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s AND attname = 'vector'",
        (name.oid(connection),),
    ).fetchone()
    return int(row[0]) if row and row[0] > 0 else None


def check_table(connection: psycopg.Connection, name: TableName, dimension: int | None) -> None:
    """Raise TargetError if rows with vectors of `dimension` floats can't go into the table."""
    kind = connection.execute(
        "SELECT relkind FROM pg_class WHERE oid = %s", (name.oid(connection),)
    ).fetchone()
    if kind is None or kind[0] not in ("r", "p"):  # a table, or one in partitions
        message = f"{name} is no table"
        raise TargetError(message)
    there = {
        column: (kind, modifier, required)
        for column, kind, modifier, required in connection.execute(
            "SELECT attname, format_type(atttypid, NULL), atttypmod,"
            " attnotnull AND NOT atthasdef AND attidentity = ''"
            " FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
            (name.oid(connection),),
        )
    }
    for column, types in _TYPES.items():
        if column not in there:
            message = f"table {name} has no column {column}"
            raise TargetError(message)
        kind, modifier, _ = there[column]
        if kind.split(".")[-1] not in types:
            message = f"table {name}: column {column} is of type {kind}, not {types[0]}"
            raise TargetError(message)
        if column == "vector" and modifier == -1:
            message = (
                f"table {name}: vectors of column vector may be of any dimension: ALTER TABLE"
                f" {sql.Identifier(*name).as_string(connection)} ALTER COLUMN vector TYPE"
                f" {kind}({dimension or 'DIMENSION'})"
            )
            raise TargetError(message)
        if column == "vector" and dimension and modifier != dimension:
            message = (
                f"table {name} holds vectors of {modifier} floats, the dataset's have {dimension}"
            )
            raise TargetError(message)
    for column, (_, _, required) in there.items():
        if required and column not in _TYPES:
            message = (
                f"table {name}: column {column} must be given a value, and rows have none for it"
            )
            raise TargetError(message)
    unique = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " WHERE i.indrelid = %s AND i.indisunique AND i.indpred IS NULL"
        " AND i.indimmediate AND i.indisvalid AND i.indnkeyatts = 1"
        " AND i.indkey[0] = a.attnum AND a.attname = 'id')",
        (name.oid(connection),),
    ).fetchone()
    if unique is None or not unique[0]:
        message = f"table {name}: id must be its primary key, or have a unique index"
        raise TargetError(message)

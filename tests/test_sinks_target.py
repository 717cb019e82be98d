"""What a table is called, and which tables are accepted and which refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamer.sinks.database import DatabaseError, TargetError
from streamer.sinks.table import OnConflict
from tests.datasets import make_batch
from tests.postgres import (
    TABLE,
    assert_table_holds,
    configure,
    load,
    new_database,
    new_role,
    open_table,
    run,
    session_url,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS = (
    "id uuid PRIMARY KEY, company_name text NOT NULL, exp_years integer NOT NULL,"
    " english_level text NOT NULL, primary_keyword text NOT NULL, vector vector(4) NOT NULL"
)
_ROWS = make_batch(20, seed=1)


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


def _with_table(url: str, columns: str = _COLUMNS, name: str = TABLE) -> None:
    run(url, "CREATE EXTENSION IF NOT EXISTS vector")
    run(url, f"CREATE TABLE {name} ({columns})")


def test_table_and_extension_are_made(url: str) -> None:
    """An empty database gets pgvector and a table whose columns say what they hold."""
    load(url, _ROWS)

    assert_table_holds(url, _ROWS)
    assert [
        ("id", "uuid"), ("company_name", "text"), ("exp_years", "integer"),
        ("english_level", "text"), ("primary_keyword", "text"), ("vector", "vector(4)"),
    ] == run(
        url, "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'recruit_embedding'::regclass AND attnum > 0"
        " AND attnotnull ORDER BY attnum",
    )  # fmt: skip
    assert [("PRIMARY KEY (id)",)] == run(
        url, "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p'"
        " AND conrelid = 'recruit_embedding'::regclass",
    )  # fmt: skip


@pytest.mark.parametrize(
    "columns",
    [
        _COLUMNS,
        _COLUMNS.replace("text", "varchar(80)"),
        _COLUMNS.replace(" NOT NULL", ""),
        _COLUMNS.replace("PRIMARY KEY", "UNIQUE"),
        _COLUMNS + ", note text, at timestamptz NOT NULL DEFAULT now(), n serial,"
        " g integer NOT NULL GENERATED ALWAYS AS IDENTITY,"
        " len integer NOT NULL GENERATED ALWAYS AS (length(company_name)) STORED",
        "vector vector(4), " + _COLUMNS.removesuffix(", vector vector(4) NOT NULL"),
    ],
    ids=["own", "varchar", "nullable", "unique", "more columns", "other order"],
)
def test_existing_table_that_fits_is_taken(url: str, columns: str) -> None:
    """A table somebody else made is written into if every row can go into it."""
    _with_table(url, columns)

    load(url, _ROWS)
    load(url, _ROWS)  # and by way of the merge

    assert_table_holds(url, _ROWS)


@pytest.mark.parametrize("kind", ["PARTITION BY HASH (id)", "PARTITION BY RANGE (id)"])
def test_partitioned_table_is_taken(url: str, kind: str) -> None:
    """Partitions share the primary key of their parent."""
    run(url, "CREATE EXTENSION vector")
    run(url, f"CREATE TABLE recruit_embedding ({_COLUMNS}) {kind}")
    bound = "WITH (MODULUS 1, REMAINDER 0)" if "HASH" in kind else "FROM (MINVALUE) TO (MAXVALUE)"
    run(url, f"CREATE TABLE part PARTITION OF recruit_embedding FOR VALUES {bound}")

    load(url, _ROWS)
    load(url, _ROWS)

    assert_table_holds(url, _ROWS)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("company_name text NOT NULL,", "", "has no column company_name"),
        ("id uuid", "id text", "column id is of type text, not uuid"),
        ("exp_years integer", "exp_years bigint", "exp_years is of type bigint, not integer"),
        ("english_level text", "english_level bytea", "english_level is of type bytea"),
        ("vector vector(4)", "vector halfvec(4)", "vector is of type halfvec, not vector"),
        ("vector vector(4)", "vector real[]", r"vector is of type real\[\], not vector"),
        ("vector(4)", "vector", r'TABLE "public"\."recruit_embedding" ALTER .* vector\(4\)$'),
        ("vector(4)", "vector(5)", "holds vectors of 5 floats, the dataset's have 4"),
        (" PRIMARY KEY", "", "id must be its primary key, or have a unique index"),
        (
            " PRIMARY KEY, company_name text NOT NULL",
            ", company_name text, UNIQUE (id, company_name)",
            "id must be its primary key",
        ),
        ("id uuid", "tenant integer NOT NULL, id uuid", "column tenant must be given a value"),
    ],
)  # fmt: skip
def test_table_that_does_not_fit_is_refused(url: str, old: str, new: str, text: str) -> None:
    """What the rows can't go into is named before any of them is sent."""
    assert old in _COLUMNS
    _with_table(url, _COLUMNS.replace(old, new))

    with pytest.raises(TargetError, match=text), open_table(url):
        pass


@pytest.mark.parametrize(
    "key",
    ["CREATE UNIQUE INDEX ON t (id) WHERE exp_years > 0", "CREATE UNIQUE INDEX ON t ((id::text))",
     "CREATE INDEX ON t (id)", "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED"],
    ids=["partial", "expression", "not unique", "deferrable"],
)  # fmt: skip
def test_index_that_can_not_arbitrate_is_refused(url: str, key: str) -> None:
    """ON CONFLICT (id) needs an index that is unique for every row, and at once."""
    _with_table(url, _COLUMNS.replace(" PRIMARY KEY", " NOT NULL"), "t")
    run(url, key)

    with pytest.raises(TargetError, match="have a unique index"), open_table(url, "t"):
        pass


@pytest.mark.parametrize(
    "relation",
    [
        "CREATE VIEW x AS SELECT * FROM t",
        "CREATE MATERIALIZED VIEW x AS TABLE t",
        "CREATE SEQUENCE x",
        "CREATE INDEX x ON t (exp_years)",
    ],
)
def test_what_is_no_table_is_refused(url: str, relation: str) -> None:
    """The name of a view, a sequence or an index ends in a clear text."""
    _with_table(url, name="t")
    run(url, relation)
    if "MATERIALIZED" in relation:
        run(url, "CREATE UNIQUE INDEX ON x (id)")

    with pytest.raises(TargetError, match="x"), open_table(url, "x"):
        pass


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("Jobs", ("public", "jobs")),
        ('"Jobs ""2026"""', ("public", 'Jobs "2026"')),
        ("public.jobs", ("public", "jobs")),
        ('other."Jobs.2"', ("other", "Jobs.2")),
        ('"Öther".späße', ("Öther", "späße")),
        ('"select"', ("public", "select")),
        ('"100% {x} %s"', ("public", "100% {x} %s")),
        ('"a;DROP TABLE safe;--"', ("public", "a;DROP TABLE safe;--")),
        ("x" * 63, ("public", "x" * 63)),
    ],
)
def test_names_are_read_as_the_database_reads_them(
    url: str, name: str, stored: tuple[str, str]
) -> None:
    """Case, quotes, dots and schemas mean what they mean in SQL, and nothing is executed."""
    run(url, "CREATE SCHEMA other")
    run(url, 'CREATE SCHEMA "Öther"')
    run(url, "CREATE TABLE safe ()")

    load(url, _ROWS, name)

    assert_table_holds(url, _ROWS, name)
    assert [stored] == run(
        url, "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg_%%'"
        " AND schemaname <> 'information_schema' AND tablename <> %s", "safe",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a.b.c", "jobs; DROP TABLE safe", "jobs'", '"jobs', "jobs)--", "1st", "a..b"],
)
def test_what_is_no_name_is_refused(url: str, name: str) -> None:
    """Text that is no identifier is quoted in the error and never run."""
    run(url, "CREATE TABLE safe ()")

    with pytest.raises(TargetError, match="is no name of a table"), open_table(url, name):
        pass

    assert [("safe",)] == run(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")


def test_name_without_schema_follows_the_search_path(url: str) -> None:
    """An existing table is found in any schema of the path, a new one made in the first."""
    run(url, "CREATE SCHEMA one")
    run(url, "CREATE SCHEMA two")
    _with_table(url, name="two.there")
    configure(url, "search_path = one, two, public")

    load(url, _ROWS, "there")
    load(url, _ROWS, "missing")

    assert_table_holds(url, _ROWS, "two.there")
    assert_table_holds(url, _ROWS, "one.missing")


def test_search_path_without_a_schema_is_a_clear_error(url: str) -> None:
    """There is nowhere to make the table in; the text says what to give instead."""
    configure(url, "search_path = nowhere")

    with pytest.raises(TargetError, match=r"give the table as SCHEMA\.TABLE"), open_table(url):
        pass


def test_schema_that_is_not_there_is_a_clear_error(url: str) -> None:
    """Schemas are not made: a misspelt one would go unnoticed."""
    with pytest.raises(DatabaseError, match='schema "nowhere" does not exist'):
        load(url, _ROWS, "nowhere.jobs")


@pytest.mark.parametrize("dimension", [0, -1, 16_001])
def test_dimension_that_pgvector_lacks_is_refused(url: str, dimension: int) -> None:
    """Before anything is made in the database."""
    with (
        pytest.raises(TargetError, match="1 to 16,000 floats"),
        open_table(url, dimension=dimension),
    ):
        pass

    assert [] == run(url, "SELECT FROM pg_tables WHERE schemaname = 'public'")


@pytest.mark.parametrize("choice", OnConflict)
def test_pgvector_may_live_in_another_schema(url: str, choice: OnConflict) -> None:
    """Managed databases keep extensions in a schema that is on nobody's search_path."""
    run(url, "CREATE SCHEMA extensions")
    run(url, "CREATE EXTENSION vector SCHEMA extensions")

    with open_table(url) as table:
        write(table, _ROWS.slice(0, 10), choice)
    if choice is OnConflict.ERROR:
        with open_table(url) as table:
            write(table, _ROWS.slice(10), choice)
    else:
        with open_table(url) as table:
            write(table, _ROWS, choice)

    assert_table_holds(url, _ROWS)


def test_missing_pgvector_is_a_clear_error(url: str) -> None:
    """Where the server's installation lacks it, the text says what an administrator does."""
    configure(url, "extension_control_path = '/nowhere'")

    with (
        pytest.raises(TargetError, match="pgvector is missing and can't be added"),
        open_table(url),
    ):
        pass

    assert [] == run(url, "SELECT FROM pg_tables WHERE schemaname = 'public'")


def test_role_that_may_not_add_pgvector_is_told(url: str) -> None:
    """Adding an extension needs a privilege on the database that most roles lack."""
    with (
        new_role(url, "GRANT CREATE, USAGE ON SCHEMA public TO ROLE") as role,
        pytest.raises(TargetError, match=r"permission denied.*CREATE EXTENSION vector"),
        open_table(role),
    ):
        pass


def test_role_that_may_not_make_tables_is_told(url: str) -> None:
    """The database's own words, after what they mean."""
    run(url, "CREATE EXTENSION vector")

    with (
        new_role(url) as role,
        pytest.raises(TargetError, match="does not permit it: permission denied for schema"),
        open_table(role),
    ):
        pass

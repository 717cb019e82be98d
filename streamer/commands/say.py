"""What commands tell whoever called them, which LOG_FILE is to have, too."""

from __future__ import annotations

import logging

import click

from streamer.logs import SHOWN

_log = logging.getLogger("streamer.commands")


def say(text: str) -> None:
    """Print a result on standard output."""
    click.echo(text)
    record(text)


def warn(text: str) -> None:
    """Print what isn't as it should be on standard error."""
    click.echo(text, err=True)
    record(text, logging.WARNING)


def record(text: str, level: int = logging.INFO) -> None:
    """Put what is shown elsewhere into LOG_FILE."""
    if not _log.hasHandlers():  # settings that are wrong don't say where
        return
    for line in text.splitlines():
        _log.log(level, "%s", line, extra=SHOWN)

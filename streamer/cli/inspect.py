"""`python -m streamer info` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli.options import FILE
from streamer.commands import inspect

if TYPE_CHECKING:
    from pathlib import Path


@click.command("info")
@FILE
def info(file: Path) -> None:
    """Show schema, rows, first and last id, and fingerprint of FILE."""
    inspect.info(file)


@click.command("verify")
@FILE
def verify(file: Path) -> None:
    """Check all of FILE: format, order, uniqueness, UTF-8, nulls, NaN and infinity."""
    inspect.verify(file)

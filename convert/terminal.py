"""What commands print, a line at a time, made fit to show here, whatever it quotes.

Nothing else prints: tests/test_architecture.py sees to that. Tables are in `tables`, which
takes longer to import.
"""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any

import click

from convert.foreign_text import fit_to_show

if TYPE_CHECKING:
    from collections.abc import Iterator


def take_any_text() -> None:
    """Let standard output and error have text that their encoding can't say: escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a result on standard output."""
    click.echo(fit_to_show(line))


def complain(line: str) -> None:
    """Print what isn't as it should be on standard error."""
    click.echo(fit_to_show(line), err=True)


def complain_of(error: Exception) -> None:
    """Print an error of ours, which may have more than one line."""
    for line in f"error: {error}".split("\n"):
        complain(line)


class Command(click.Command):
    """A command that quotes its arguments as all else: a shell makes them of files' names."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:  # noqa: ANN401
        with _usage_errors_fit():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        with _usage_errors_fit():
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_errors_fit() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = fit_to_show(error.message)  # type: ignore[misc] # final, click says
        raise

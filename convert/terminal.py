"""What commands print, a line at a time, made fit to show here, whatever it quotes.

Nothing else prints: tests/test_architecture.py sees to that. Tables are in `tables`, which
takes longer to import.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from convert.foreign_text import fit_to_show
from convert.signals import Endings, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@contextlib.contextmanager
def ends_by_signal() -> Iterator[None]:
    """Let signals end the command in the body cleanly: one line, and the exit code, say which."""
    endings = Endings()
    try:
        yield
    except (Interrupted, SystemExit):  # which click makes of it
        if endings.interruption is None:
            raise
        complain(str(endings.interruption))
        sys.exit(endings.interruption.exit_code)

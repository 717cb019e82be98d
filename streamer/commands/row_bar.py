"""A progress bar of rows, on standard error; nothing where that is no terminal."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator


class RowBar:
    """Rows done, rows a second since `expect`, time left."""

    def __init__(self, bars: Progress, description: str) -> None:
        self._bars = bars
        self._task = bars.add_task(description, total=None, rate="")
        self._begin = time.monotonic()
        self.rows = 0

    @property
    def rate(self) -> float:
        """Rows a second of those that were done since `expect`."""
        return self.rows / max(time.monotonic() - self._begin, 1e-9)

    def expect(self, total: int | None, done: int = 0) -> None:
        """Say how many rows there are, and how many of them need not be done."""
        self._begin = time.monotonic()
        self._bars.update(self._task, total=total, completed=done)

    def advance(self, rows: int) -> None:
        self.rows += rows
        self._bars.update(self._task, advance=rows, rate=f"{self.rate:,.0f} rows/s")


@contextlib.contextmanager
def row_bar(description: str) -> Iterator[RowBar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield RowBar(bars, description)

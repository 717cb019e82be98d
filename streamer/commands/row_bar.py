"""A progress bar of rows, on standard error; nothing where that is no terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING

from streamer.commands.say import record, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress


class RowBar:
    """Rows done, rows a second since `expect`, time left; drawn from `expect` on."""

    def __init__(self, bars: Progress | None, description: str) -> None:
        self._bars = bars
        if bars is not None:
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
        if self._bars is not None:
            self._bars.update(self._task, total=total, completed=done)
            self._bars.start()

    def advance(self, rows: int) -> None:
        self.rows += rows
        if self._bars is not None:
            self._bars.update(self._task, advance=rows, rate=f"{self.rate:,.0f} rows/s")

    def note(self, text: str) -> None:
        """Print a line on standard error, above the bar."""
        if self._bars is not None and self._bars.live.is_started:
            self._bars.console.print(text)
            record(text, logging.WARNING)
        else:
            warn(text)


@contextlib.contextmanager
def row_bar(description: str) -> Iterator[RowBar]:
    if sys.stderr is None or not sys.stderr.isatty():  # it may be closed
        yield RowBar(None, description)
        return
    from rich.progress import (  # noqa: PLC0415 - a tenth of the start
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from convert.tables import Console  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True))
    try:
        yield RowBar(bars, description)
    finally:
        bars.stop()

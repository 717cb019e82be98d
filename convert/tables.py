"""rich's console and tables, for text alone: no markup, and all of it made fit to show."""

from __future__ import annotations

from typing import Any

import rich.console
import rich.table
from rich.text import Text

from convert.foreign_text import fit_to_show


class Console(rich.console.Console):
    """Prints a string as one line that nothing wraps; what else there is as rich does."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401
        options.setdefault("soft_wrap", any(isinstance(each, str) for each in objects))
        super().print(*map(_shown, objects), **options)


class Table(rich.table.Table):
    """A table whose names and cells are text."""

    def add_column(self, header: str = "", **options: Any) -> None:  # type: ignore[override] # noqa: ANN401
        super().add_column(Text(fit_to_show(header)), **options)

    def add_row(self, *cells: str) -> None:  # type: ignore[override] # text alone
        super().add_row(*(Text(fit_to_show(cell)) for cell in cells))


def _shown(item: object) -> object:
    return Text(fit_to_show(item)) if isinstance(item, str) else item

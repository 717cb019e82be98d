"""Rows that were read together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.vectors import FloatLists

if TYPE_CHECKING:
    from collections.abc import Mapping


class RowRun:
    """Rows with the same keys, as columns of values as the machine makes them."""

    def __init__(self, columns: Mapping[str, list[Any] | FloatLists], count: int) -> None:
        self.columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> RowRun:
        columns = {name: values[rows] for name, values in self.columns.items()}
        return RowRun(columns, len(range(*rows.indices(self._count))))

    def row(self, row: int) -> dict[Any, Any]:
        """Return a row, its values as the machine makes them, but numbers plain."""
        return {
            name: values.plain_row(row) if isinstance(values, FloatLists) else values[row]
            for name, values in self.columns.items()
        }

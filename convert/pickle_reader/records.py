"""Rows that are dicts, as batches of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from convert.pickle_reader.alike.run import RowRun
from convert.pickle_reader.columns import BATCH_BYTES, Batch, column_of_parts
from convert.pickle_reader.errors import UnsupportedPickle
from convert.pickle_reader.rows.long_texts import rows_at_once
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from convert.pickle_reader.plain import Plain
    from convert.pickle_reader.spans import Buffer
    from convert.pickle_reader.vectors import FloatLists

# Rows one after another: dicts, or what stands for several.
Rows: TypeAlias = "list[dict[Any, Any]] | RowRun"


class Records:
    """Collects rows; `columns` are the names seen so far, in order of appearance."""

    def __init__(self, data: Buffer, plain: Plain, wanted: Callable[[Any], bool]) -> None:
        self.columns: dict[Any, bool] = {}
        self._data = data
        self._plain = plain
        self._wanted = wanted
        self._rows = 0

    def batches(
        self, pieces: Iterable[list[Any]], batch_rows: int, where: Callable[[], int]
    ) -> Iterator[Batch]:
        """Yield batches of `batch_rows` rows, or of fewer that are long.

        A piece holds dicts, or RowRuns. `where` says how far the file was read.
        """
        waiting: list[Rows] = []
        count = 0
        for piece in pieces:
            for rows in self._checked(piece, where()):
                waiting.append(rows)
                count += len(rows)
            most = min(batch_rows, max(BATCH_BYTES * self._rows // (where() or 1), 1))
            while count >= most:
                batch = self._batch(waiting, most)
                count -= batch.rows
                yield batch
        while count:
            batch = self._batch(waiting, count)
            count -= batch.rows
            yield batch

    def _checked(self, piece: list[Any], offset: int) -> Iterator[Rows]:
        """Yield what a piece holds, stretches of dicts as lists."""
        self._plain.offset = offset
        dicts: list[dict[Any, Any]] = []
        for item in piece:
            if type(item) is RowRun:
                self._see(item.columns)
                self._rows += len(item)
                if dicts:
                    yield dicts
                    dicts = []
                yield item
                continue
            if type(item) is not dict:
                message = f"row {self._rows} is {kind_of(item)}, not a dict"
                raise UnsupportedPickle(message, offset)
            self._see(item)
            self._rows += 1
            dicts.append(item)
        if dicts:
            yield dicts

    def _see(self, row: Mapping[Any, Any]) -> None:
        if not self.columns.keys() >= row.keys():
            for name in row:
                if name not in self.columns:
                    self.columns[name] = self._wanted(name)

    def _batch(self, waiting: list[Rows], most: int) -> Batch:
        """Take the first `most` rows off those that wait, fewer if their texts are long."""
        names = [name for name, is_wanted in self.columns.items() if is_wanted]
        parts = _taken(waiting, most)
        count = rows_at_once((_loose_values(parts, name) for name in names), most)
        if count < most:
            parts, rest = _taken(parts, count), parts
            waiting[:0] = rest

        def whole_row(row: int) -> dict[Any, Any]:
            for part in parts:
                if row < len(part):
                    break
                row -= len(part)
            return self._plain.row(part.row(row) if isinstance(part, RowRun) else part[row])

        columns = {
            name: column_of_parts(
                (_values_of(part, name) for part in parts), self._data, self._plain
            )
            for name in names
        }
        return Batch(count, columns, whole_row)


def _values_of(rows: Rows, name: Any) -> list[Any] | FloatLists:  # noqa: ANN401
    if isinstance(rows, RowRun):
        return rows.columns.get(name) or [None] * len(rows)
    return [row.get(name) for row in rows]


def _loose_values(parts: list[Rows], name: Any) -> list[Any]:  # noqa: ANN401
    """Return the values of a column, None in place of numbers in the file."""
    loose: list[Any] = []
    for rows in parts:
        values = _values_of(rows, name)
        loose += values if isinstance(values, list) else [None] * len(rows)
    return loose


def _taken(waiting: list[Rows], count: int) -> list[Rows]:
    """Take the first `count` rows off `waiting`, which has at least so many."""
    taken: list[Rows] = []
    while count:
        rows = waiting.pop(0)
        if len(rows) > count:
            waiting.insert(0, rows[count:])
            rows = rows[:count]
        taken.append(rows)
        count -= len(rows)
    return taken

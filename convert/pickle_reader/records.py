"""Rows that are dicts, as batches of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.columns import BATCH_BYTES, Batch, make_column
from convert.pickle_reader.errors import UnsupportedPickle
from convert.pickle_reader.rows.long_texts import rows_at_once
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convert.pickle_reader.plain import Plain
    from convert.pickle_reader.spans import Buffer


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

        `where` says how far the file was read.
        """
        waiting: list[Any] = []
        for piece in pieces:
            self._check(piece, where())
            waiting += piece
            most = min(batch_rows, max(BATCH_BYTES * self._rows // (where() or 1), 1))
            while len(waiting) >= most:
                batch = self._batch(waiting[:most])
                del waiting[: batch.rows]
                yield batch
        while waiting:
            batch = self._batch(waiting)
            waiting = waiting[batch.rows :]
            yield batch

    def _check(self, rows: list[Any], offset: int) -> None:
        self._plain.offset = offset
        names = self.columns.keys()
        for row in rows:
            if type(row) is not dict:
                message = f"row {self._rows} is {kind_of(row)}, not a dict"
                raise UnsupportedPickle(message, offset)
            if not names >= row.keys():
                for name in row:
                    if name not in names:
                        self.columns[name] = self._wanted(name)
            self._rows += 1

    def _batch(self, rows: list[dict[Any, Any]]) -> Batch:
        """Return the rows as columns; fewer of them if their texts are long."""

        def whole_row(row: int) -> dict[Any, Any]:
            return self._plain.row(rows[row])

        columns = {
            name: [row.get(name) for row in rows]
            for name, is_wanted in self.columns.items()
            if is_wanted
        }
        count = rows_at_once(columns.values(), len(rows))
        for values in columns.values():
            del values[count:]
        made = {n: make_column(values, self._data, self._plain) for n, values in columns.items()}
        return Batch(count, made, whole_row)

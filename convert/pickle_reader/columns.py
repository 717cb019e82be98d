"""Batches of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from convert.pickle_reader.vectors import FloatLists, float_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from convert.pickle_reader.plain import Plain
    from convert.pickle_reader.spans import Buffer

# Bytes of the file whose values are handed out together, as rows of 384 floats are by 4,096.
BATCH_BYTES = 16 << 20

Values: TypeAlias = "list[Any] | NDArray[Any] | pa.Array | FloatLists"


class IndexName(str):
    """The name of a column that was a DataFrame's index, or a level of it."""

    __slots__ = ()


@dataclass(frozen=True)
class Repeated:
    """A column of a name that others before it have: the second, the third ..."""

    name: Any
    number: int

    def __str__(self) -> str:
        return str(self.name)

    @property
    def key(self) -> str:
        """What tells it from the others, in a row."""
        return f"{self.name} ({self.number})"


@dataclass(frozen=True)
class Batch:
    """Some rows; `columns` are those that were wanted, by name, each of `rows` values.

    `row(i)` returns one of the rows whole, as a dict of plain values; it may read parts of
    the file again.
    """

    rows: int
    columns: Mapping[Any, Values]
    row: Callable[[int], dict[Any, Any]]

    def pieces(self, rows: int) -> Iterator[Batch]:
        """Yield the same rows, in batches of at most that many."""
        for begin in range(0, self.rows, rows):
            end = min(begin + rows, self.rows)
            columns = {name: values[begin:end] for name, values in self.columns.items()}
            yield Batch(end - begin, columns, self._row_from(begin))

    def _row_from(self, begin: int) -> Callable[[int], dict[Any, Any]]:
        return lambda row: self.row(begin + row)


def make_column(values: list[Any], data: Buffer, plain: Plain) -> Values:
    """Return `values`, as the machine made them, as a column."""
    return float_lists(values, data, plain.values) or plain.values(values)

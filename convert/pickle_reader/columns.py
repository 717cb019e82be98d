"""Batches of columns."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convert.pickle_reader.spans import ArrayRun
from convert.pickle_reader.values.texts import long_texts
from convert.pickle_reader.vectors import FloatLists, float_lists, floats_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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


def make_column(values: list[Any], data: Buffer, plain: Plain) -> list[Any] | FloatLists:
    """Return `values`, as the machine made them, as a column."""
    return float_lists(values, data, plain.values) or plain.values(values)


def column_of_parts(
    parts: Iterable[list[Any] | FloatLists], data: Buffer, plain: Plain
) -> list[Any] | FloatLists | pa.DictionaryArray:
    """Return one column of parts: numbers in the file, and values as the machine made them.

    The values are converted together, so that what several of them share is converted once.
    """
    values: list[Any] = []
    places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    joined: list[tuple[NDArray[np.int64], list[Any] | FloatLists]] = []
    count = 0
    for part in parts:
        rows = np.arange(count, count + len(part))
        count += len(part)
        if isinstance(part, list):
            values += part
            places.append(rows)
        else:
            joined.append((rows, part))
    if not joined:
        texts = long_texts(values, data)
        return make_column(values, data, plain) if texts is None else texts
    if values:
        joined.append((np.concatenate(places), make_column(values, data, plain)))
    return FloatLists.joined(count, joined) if len(joined) > 1 else joined[0][1]


def column_of_items(
    items: Iterable[Any], count: int, data: Buffer, plain: Plain
) -> list[Any] | FloatLists | pa.DictionaryArray:
    """Return `count` items of a list, among which ArrayRuns stand for several, as a column.

    ValueError: there are fewer.
    """
    parts: list[list[Any] | FloatLists] = []
    for is_run, found in itertools.groupby(items, _is_run_in_place):
        if is_run:
            parts += [floats_of_run(run, data) for run in found]
        else:
            parts.append(list(plain.items(list(found))))
    values = column_of_parts(parts, data, plain)
    if len(values) != count:
        message = f"{len(values)} objects where {count} belong"
        raise ValueError(message)
    return values


def _is_run_in_place(item: object) -> bool:
    return type(item) is ArrayRun and not item.as_text

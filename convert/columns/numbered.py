"""A vector that has one column a dimension: `emb_0`, `emb_1`, ..., said as `emb_*`."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.columns.vector_text import NUMBER, arrow_texts, is_text
from convert.errors import UnreadableSourceError
from convert.foreign_text import quoted
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from convert.pickle_reader import Values

# Digits of a column's number; no vector has more dimensions.
_MOST_DIGITS = 9
_SHOWN = 5  # columns or numbers that an error lists
# What may be a number in text, as CSV has nothing else, and how long it may be: rows may share it.
_IS_NUMBER = re.compile(NUMBER).fullmatch
_BLANKS = " \t"
_MOST_CHARS = 400
# Rows that are made of Python's values together, where some of them hold something else.
_ROWS_AT_ONCE = 256
# Columns that must differ in a number alone to be taken for one vector's.
_ALIKE = 3
_LAST_NUMBER = re.compile("[0-9]+(?=[^0-9]*$)")


class NumberedNames(tuple[Any, ...]):
    """The names of the columns of one vector."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self[0]} to {self[-1]}" if len(self) > 1 else str(self[0])


class NumberedPattern:
    """Names with a number where `pattern` has its `*`."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        before, after = map(re.escape, plain_name(pattern).split("*"))
        self._matches = re.compile(f"{before}([0-9]{{1,{_MOST_DIGITS}}}){after}").fullmatch

    def fits(self, name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
        return self._matches(plain_name(name)) is not None

    def in_order(self, names: Iterable[Any], source: str) -> NumberedNames:
        """Return names that fit in the order of their numbers, from 0 or 1 on.

        UnreadableSourceError: a number is missing, or there twice.
        """
        by_number: dict[int, list[Any]] = {}
        for name in names:
            match = self._matches(plain_name(name))
            if match is not None:
                by_number.setdefault(int(match[1]), []).append(name)
        for number, same in by_number.items():
            if len(same) > 1:
                shown = " and ".join(quoted(str(name)) for name in same[:_SHOWN])
                self._refuse(source, f"{shown} have the same number {number}")
        first, last = 0 if 0 in by_number else 1, max(by_number)
        missing = last + 1 - first - len(by_number)
        if missing:
            gaps = (n for n in range(first, last + 1) if n not in by_number)
            shown = ", ".join(map(str, itertools.islice(gaps, _SHOWN)))
            others = f" and {missing - _SHOWN:,} others" if missing > _SHOWN else ""
            self._refuse(
                source, f"there are {len(by_number):,} up to number {last}, none of {shown}{others}"
            )
        return NumberedNames(by_number[number][0] for number in sorted(by_number))

    def _refuse(self, source: str, why: str) -> None:
        message = f"{source}: vector: of the columns {quoted(self._pattern)} {why}"
        raise UnreadableSourceError(message)


class ColumnPerDimension:
    """Rows whose numbers lie in several columns, in the order of the dimensions."""

    def __init__(self, columns: Sequence[Values]) -> None:
        self.dimension = len(columns)
        self._columns = columns
        # The rows that were made last, and the first of them: others near it are asked for next.
        self._made: tuple[int, list[tuple[Any, ...]]] = 0, []

    def __len__(self) -> int:
        return len(self._columns[0])

    def numbers(self, begin: int, end: int) -> NDArray[Any] | None:
        """Return these rows as a matrix, (rows, dimension); None if one of them isn't numbers."""
        columns = list(map(_numbers, self._cut(slice(begin, end))))
        found = [column for column in columns if column is not None]
        return np.stack(found, axis=1) if len(found) == len(columns) else None

    def row(self, row: int) -> tuple[Any, ...]:
        """Return one row as it is."""
        begin, made = self._made
        if not begin <= row < begin + len(made):
            some = slice(row, row + _ROWS_AT_ONCE)
            begin, made = row, self._rows(some)
            self._made = begin, made
        return made[row - begin]

    def _rows(self, rows: slice) -> list[tuple[Any, ...]]:
        columns = (map(_number_or, python_values(column)) for column in self._cut(rows))
        return list(zip(*columns, strict=True))

    def _cut(self, rows: slice) -> Iterator[Values]:
        return (column[rows] for column in self._columns)


def pattern_of(names: Iterable[str]) -> str | None:
    """Return what fits the most of `names`, if these are three or more."""
    patterns = Counter(_LAST_NUMBER.sub("*", name) for name in names if "*" not in name)
    ((pattern, count),) = patterns.most_common(1) or [("", 0)]
    return pattern if count >= _ALIKE and "*" in pattern else None


def plain_name(name: Any) -> str:  # noqa: ANN401 - a column's name may be a number
    """Return a column's name as names are compared: composed, as macOS doesn't write them (NFC)."""
    return unicodedata.normalize("NFC", str(name))


def _numbers(column: Values) -> NDArray[Any] | None:
    """Return a column as an array of numbers; None if one of its values is something else."""
    if isinstance(column, pa.Array):
        if is_text(column.type):
            return _numbers_of_text(column)
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        return column.to_numpy() if is_number and not column.null_count else None
    if isinstance(column, list):
        if {int, float}.issuperset(map(type, column)):
            column = np.array(column)
        elif all(isinstance(value, str) and len(value) <= _MOST_CHARS for value in column):
            return _numbers_of_text(arrow_texts(column))
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub" and column.ndim == 1:
        return column
    return None


def _numbers_of_text(column: pa.Array) -> NDArray[np.float64] | None:
    is_long = pc.greater(pc.binary_length(column), _MOST_CHARS)
    trimmed = pc.utf8_trim(column, _BLANKS)
    is_number = pc.and_not(pc.match_substring_regex(trimmed, f"^{NUMBER}$"), is_long)
    if column.null_count or not pc.all(is_number, min_count=0).as_py():
        return None
    numbers: NDArray[np.float64] = trimmed.cast(pa.float64()).to_numpy()
    return numbers


def _number_or(value: Any) -> Any:  # noqa: ANN401
    """Return the number that a text is, any other value as it is."""
    if isinstance(value, str) and len(value) <= _MOST_CHARS:
        text = value.strip(_BLANKS)
        return float(text) if _IS_NUMBER(text) else value
    return value

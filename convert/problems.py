"""Rows that can't be converted: which, in what field, and why."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHOWN = 10
# What a reason quotes from the row: left out where rows with the same reason are counted.
_QUOTED = re.compile(
    r"""^('(\\.|[^'])*'|"(\\.|[^"])*"|[-+.\de]+(?=\ is\b))(\.\.\.\ \(\d+\ characters\))?""",
    re.VERBOSE,
)


class Problem(NamedTuple):
    row: int
    field: str
    reason: str


class Problems:
    """The problems of a source: counts, the first ones, and the rows that have any."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: list[Problem] = []
        self._rows: list[NDArray[np.int64]] = []

    @property
    def invalid_rows(self) -> int:
        return sum(map(len, self._rows))

    def add(self, found: list[Problem]) -> None:
        """Add the problems of some rows, which are behind those of all calls before."""
        found = sorted(found)
        self._counts.update((p.field, _QUOTED.sub("...", p.reason)) for p in found)
        self._first += found[: _SHOWN - len(self._first)]
        self._rows.append(np.unique(np.array([p.row for p in found], np.int64)))

    def valid_rows(self, rows: int) -> NDArray[np.bool_]:
        """Return the mask of the rows, bool (rows,), that have no problem."""
        valid = np.ones(rows, np.bool_)
        for invalid in self._rows:
            valid[invalid] = False
        return valid

    def summary(self) -> str:
        """Return counts by reason and the first ten problems as lines of text."""
        lines = [
            f"  {count:,} x {field_name}: {reason}"
            for (field_name, reason), count in self._counts.most_common(_SHOWN)
        ]
        if len(self._counts) > _SHOWN:
            lines.append(f"  ... and {len(self._counts) - _SHOWN:,} other reasons")
        lines.append("the first of them:")
        lines += [
            f"  row {problem.row}: {problem.field}: {problem.reason}" for problem in self._first
        ]
        return "\n".join(lines)

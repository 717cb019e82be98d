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
    """The problems of a source: counts and the first of each kind, and the rows that have any.

    Of a kind are the problems of a field whose reasons differ in what they quote alone.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first_of_kind: dict[tuple[str, str], Problem] = {}
        self._first: list[Problem] = []
        self._rows: list[NDArray[np.int64]] = []

    @property
    def invalid_rows(self) -> int:
        return sum(map(len, self._rows))

    @property
    def reasons(self) -> set[str]:
        """What is wrong, without what is quoted from rows."""
        return {reason for _field, reason in self._counts}

    def add(self, found: list[Problem]) -> None:
        """Add the problems of some rows, which are behind those of all calls before."""
        found = sorted(found)
        kinds = [(p.field, _QUOTED.sub("...", p.reason)) for p in found]
        self._counts.update(kinds)
        for kind, problem in zip(kinds, found, strict=True):
            self._first_of_kind.setdefault(kind, problem)
        self._first += found[: _SHOWN - len(self._first)]
        self._rows.append(np.unique(np.array([p.row for p in found], np.int64)))

    def valid_rows(self, rows: int) -> NDArray[np.bool_]:
        """Return the mask of the rows, bool (rows,), that have no problem."""
        valid = np.ones(rows, np.bool_)
        for invalid in self._rows:
            valid[invalid] = False
        return valid

    def summary(self) -> str:
        """Return counts by kind, and ten problems, one of each kind at least, as lines of text."""
        kinds = self._counts.most_common(_SHOWN)
        lines = [f"  {count:,} x {field}: {reason}" for (field, reason), count in kinds]
        if len(self._counts) > _SHOWN:
            lines.append(f"  ... and {len(self._counts) - _SHOWN:,} other reasons")
        examples = [self._first_of_kind[kind] for kind, _ in kinds]
        examples += [problem for problem in self._first if problem not in examples]
        lines.append("examples of each:")
        lines += [f"  row {p.row}: {p.field}: {p.reason}" for p in sorted(examples[:_SHOWN])]
        return "\n".join(lines)

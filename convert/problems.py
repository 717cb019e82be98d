"""Rows that can't be converted: which, in what field, and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_SHOWN = 10
# What a reason quotes from the row: left out where rows with the same reason are counted.
_QUOTED = re.compile(r"""^('(\\.|[^'])*'|"(\\.|[^"])*"|[-+.\de]+(?=\ is\b))(\.\.\.)?""", re.VERBOSE)


class Problem(NamedTuple):
    row: int
    field: str
    reason: str


@dataclass
class Problems:
    """Every problem found, in the order of finding; a row can have several."""

    found: list[Problem] = field(default_factory=list)

    def add(self, field_name: str, reasons: Mapping[int, str]) -> None:
        """Add one problem a row of `reasons`, which maps source rows to reasons."""
        self.found += [Problem(row, field_name, reason) for row, reason in reasons.items()]

    def valid_rows(self, rows: int) -> NDArray[np.bool_]:
        """Return the mask of the rows, bool (rows,), that have no problem."""
        valid = np.ones(rows, np.bool_)
        valid[[problem.row for problem in self.found]] = False
        return valid

    def by_row(self) -> dict[int, list[Problem]]:
        """Return the problems of each row that has any, rows ascending."""
        rows: dict[int, list[Problem]] = {}
        for problem in sorted(self.found):
            rows.setdefault(problem.row, []).append(problem)
        return rows

    def summary(self) -> str:
        """Return counts by reason and the first ten problems as lines of text."""
        counts = Counter(
            (problem.field, _QUOTED.sub("...", problem.reason)) for problem in self.found
        )
        lines = [
            f"  {count:,} x {field_name}: {reason}"
            for (field_name, reason), count in counts.most_common(_SHOWN)
        ]
        if len(counts) > _SHOWN:
            lines.append(f"  ... and {len(counts) - _SHOWN:,} other reasons")
        lines.append("the first of them:")
        lines += [
            f"  row {problem.row}: {problem.field}: {problem.reason}"
            for problem in sorted(self.found)[:_SHOWN]
        ]
        return "\n".join(lines)

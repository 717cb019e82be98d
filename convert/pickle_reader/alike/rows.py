"""Rows that are written like one that the machine has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convert.pickle_reader.alike.columns import Columns
from convert.pickle_reader.alike.pace import Pace
from convert.pickle_reader.alike.pattern import Column, Constant, Floats, Vector, row_pattern
from convert.pickle_reader.alike.references import References
from convert.pickle_reader.alike.run import RowRun
from convert.pickle_reader.alike.walk import Atoms, Numbers, Walk

if TYPE_CHECKING:
    from convert.pickle_reader.state import State

_HEAD, _TAIL = Constant(b"}\x94("), Constant(b"u")
# Bytes of a row that is looked at: of 7,000 floats.
_MAX_ROW_BYTES = 1 << 16
# Ways of writing that are looked at; a file has one, or two.
_MAX_LEARNED = 20
# Rows that were unlike, before another one is looked at.
_MAX_MISSES = 8


class Found(NamedTuple):
    """Rows, where the last one ends, and the size of the memo there."""

    rows: RowRun
    end: int
    size: int


class RowsAlike:
    """Looks for rows of one machine."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pace = Pace(state.data)
        self._references = References()
        self._columns: list[Column] = []
        self._between: list[Constant] = []
        self._least = 0
        self._learned = 0
        self._misses = 0
        self._is_proven = False  # rows like that were found

    def learn(self, begin: int, end: int, row: dict[Any, Any]) -> None:
        """Remember how `row` was written, from `begin` to `end`, if others may be like it."""
        self._misses += 1
        is_due = not self._is_proven or self._misses > _MAX_MISSES
        if not is_due or self._learned == _MAX_LEARNED or end - begin > _MAX_ROW_BYTES:
            return
        self._learned += 1
        columns = row_pattern(self._state.data, begin, end, row)
        if columns is not None:
            self._columns = columns
            # What is always the same, before each column's value and behind the last one.
            behind = [_HEAD, *(column.value.tail for column in columns)]
            before = [column.key.then(column.value.head) for column in columns]
            self._between = [
                *(one.then(other) for one, other in zip(behind[:-1], before, strict=True)),
                behind[-1].then(_TAIL),
            ]
            self._least = sum(len(constant.content) for constant in self._between) + sum(
                column.value.size for column in columns
            )
            self._is_proven = False
            self._references.start()
            self._pace.restart()

    def follow(self, stack: list[Any], pos: int, size: int) -> Found | None:
        """Return the rows from `pos` on, where the memo has `size` entries; None: they are unlike.

        `stack` is what the machine has on top of the last mark.
        """
        state = self._state
        if not self._columns or not self._pace.is_due() or not state.is_between_rows(stack):
            return None
        walk = self._pace.walk(pos, self._between[0].content, self._least)
        if walk is None:
            return None
        found, ends = self._read(walk)
        firsts = size + np.cumsum(walk.entries) - walk.entries
        for atoms in found:
            if isinstance(atoms, Atoms):  # what it refers to must be there already
                walk.is_like &= atoms.references < firsts + atoms.entries
        count = walk.count(state.data, pos)
        self._pace.found(count, int(ends[count - 1]) if count else 0)
        if not count:
            return None
        self._misses = 0
        self._is_proven = True
        self._references.count(count)
        state.note_rows(pos, size)
        state.note_run(pos + walk.begins[:count], firsts[:count])
        columns = Columns(state, self._references, walk, pos, firsts[:count])
        return Found(
            RowRun(columns.made(self._columns, found), count),
            pos + int(ends[count - 1]),
            int(firsts[count - 1] + walk.entries[count - 1]),
        )

    def _read(self, walk: Walk) -> tuple[list[Atoms | Numbers], np.ndarray[Any, Any]]:
        """Read rows to where the next ones begin; return their values, and where they end."""
        walk.memoize(1)
        found: list[Atoms | Numbers] = []
        for constant, column in zip(self._between, self._columns, strict=False):
            walk.expect(constant)
            walk.memoize(column.key_entries)
            match column.value:
                case Floats() as floats:
                    found.append(walk.floats(floats))
                case Vector() as vector:
                    found.append(walk.vector(vector))
                case _:
                    walk.skip_frame()
                    found.append(walk.atom())
        walk.expect(self._between[-1])
        ends = walk.at
        walk.skip_between()
        return found, ends

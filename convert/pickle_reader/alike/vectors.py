"""Arrays one after another, each written like the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.alike.pace import WORTH_IT, Pace
from convert.pickle_reader.alike.pattern import Vector, array_pattern
from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.spans import ArrayRun, Raw

if TYPE_CHECKING:
    from convert.pickle_reader.state import State

# Ways of writing that are looked at; a column has one, or two.
_MAX_LEARNED = 100
# Values that an opcode takes from the stack at most, if not all up to a mark: TUPLE3. So many
# arrays stay alone, so that no opcode meets a span that stands for several.
_MAX_TAKEN = 3


class VectorsAlike:
    """Looks for items of a list; `follow` is told of each array that the machine made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pace = Pace(state.data)
        # Where the array before ended, and on which stack.
        self._pos = 0
        self._stack: list[Any] = []
        self._depth = 0
        self._vector: Vector | None = None
        self._learned = 0

    def follow(self, array: Array, pos: int) -> int:
        """Push the arrays that follow `array`, which ends at `pos`; return where they end."""
        state = self._state
        if state.irregular >= 0 or not state.marks:
            return pos
        below = state.marks[-1][0]
        if not below or type(below[-1]) is not list or below[-1] is state.root:
            return pos
        if (
            self._stack is state.stack
            and len(self._stack) == self._depth + 1
            and self._learned < _MAX_LEARNED
            and not self._is_like(array)
        ):
            self._learned += 1
            self._vector = array_pattern(state.data, self._pos, pos, array) or self._vector
            self._pace.restart()
        if self._vector is not None and self._is_like(array) and self._pace.is_due():
            pos = self._push(self._vector, pos)
        self._pos, self._stack, self._depth = pos, state.stack, len(state.stack)
        return pos

    def _is_like(self, array: Array) -> bool:
        known = self._vector.array if self._vector is not None else Array()
        return (
            array.dtype == known.dtype
            and array.shape == known.shape
            and array.is_fortran == known.is_fortran
        )

    def _push(self, vector: Vector, pos: int) -> int:
        state = self._state
        least = len(vector.head.content) + vector.size + len(vector.tail.content)
        walk = self._pace.walk(pos, vector.head.content, least)
        if walk is None:
            return pos
        walk.expect(vector.head)
        numbers = walk.vector(vector)
        walk.expect(vector.tail)
        ends = walk.at
        walk.skip_between()
        count = walk.count(state.data, pos)
        self._pace.found(count, int(ends[count - 1]) if count else 0)
        if not count:
            return pos
        if not state.has_root:  # else their row is where they can be read again
            _, size, begin = state.marks[-1]
            state.memo.mark(begin, size)
            state.memo.mark(pos, state.size)
            sizes = state.size + vector.entries * np.arange(count)
            state.note_run(pos + walk.begins[:count], sizes)
        offsets = pos + numbers.begins[:count]
        together = count - _MAX_TAKEN if count >= WORTH_IT else 0
        if together:
            state.stack.append(_run(vector, offsets[:together]))
            state.has_array_runs = True
            state.size += together * vector.entries
            state.skipped += int(ends[together - 1])
        for offset in offsets[together:].tolist():
            array = _array(vector, offset)
            if vector.own >= 0:
                state.live[state.size + vector.own] = array
            state.stack.append(array)
            state.size += vector.entries
            state.skipped += vector.size
        return pos + int(ends[count - 1])


def _run(vector: Vector, offsets: np.ndarray[Any, np.dtype[np.int64]]) -> ArrayRun:
    (length,) = vector.array.shape
    counts, sizes = np.full(len(offsets), length), np.full(len(offsets), vector.size)
    return ArrayRun(vector.array.dtype, offsets, counts, sizes, as_text=False)


def _array(vector: Vector, offset: int) -> Array:
    like = vector.array
    return Array(like.shape, like.dtype, Raw(offset, vector.size), is_fortran=like.is_fortran)

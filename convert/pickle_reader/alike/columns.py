"""The columns of rows that were read side by side."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.alike.pattern import Floats, Vector
from convert.pickle_reader.alike.walk import (
    GET,
    LONG_GET,
    LONG_TEXT,
    SHORT_TEXT,
    Atoms,
    Numbers,
    low,
)
from convert.pickle_reader.floats import FLOAT_BYTES, FRAME_BYTES
from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.spans import LONG_BYTES, Raw, Run, Text
from convert.pickle_reader.vectors import DOUBLE, FloatLists

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convert.pickle_reader.alike.pattern import Column
    from convert.pickle_reader.alike.references import References
    from convert.pickle_reader.alike.walk import Walk
    from convert.pickle_reader.state import State

_BYTE, _SHORT, _INT, _FLOAT = b"KMJG"
_TEXTS, _REFERENCES = (SHORT_TEXT, LONG_TEXT), (GET, LONG_GET)
_CONSTANTS = dict(zip(b"N\x88\x89", (None, True, False), strict=True))


class Columns:
    """Makes columns of the first rows of `walk`, whose window begins at `offset`.

    `firsts` is, for each of these rows, how many entries the memo had before it.
    """

    def __init__(
        self, state: State, references: References, walk: Walk, offset: int,
        firsts: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self._state = state
        self._references = references
        self._window = walk.window
        self._offset = offset
        self._firsts = firsts
        self._count = len(firsts)
        # What rows put into the memo, by column: which entry each row did, -1 for none, and
        # what it is.
        self._entries: dict[int, tuple[NDArray[np.int64], Callable[[int], Any]]] = {}

    def made(
        self, columns: list[Column], found: list[Atoms | Numbers]
    ) -> dict[str, list[Any] | FloatLists]:
        """Return the values of each column, as the machine would make them."""
        made: dict[str, list[Any] | FloatLists] = {}
        for number, (column, values) in enumerate(zip(columns, found, strict=True)):
            if isinstance(values, Atoms):
                made[column.name] = self._atoms(number, values)
            else:
                made[column.name] = self._numbers(number, column.value, values)
        # Once all texts are there, that they may refer to.
        for number, (column, values) in enumerate(zip(columns, found, strict=True)):
            if isinstance(values, Atoms):
                self._refer(number, values, made[column.name])
        return made

    def _atoms(self, number: int, atoms: Atoms) -> list[Any]:
        """Return the atoms of column `number`, None in place of references."""
        codes = atoms.codes[: self._count]
        values: list[Any] = [None] * self._count
        own = np.full(self._count, -1)
        for code in np.flatnonzero(np.bincount(codes)).tolist():
            if code in _REFERENCES:
                continue
            rows = np.flatnonzero(codes == code)
            if code in _TEXTS:
                made: list[Any] = self._texts(code, atoms.begins[rows], atoms.sizes[rows])
                own[rows] = entries = self._firsts[rows] + atoms.entries[rows]
                self._references.remember(self._state, number, entries, made)
            elif code in _CONSTANTS:
                made = [_CONSTANTS[code]] * len(rows)
            else:
                made = _numbers(code, atoms.arguments[rows])
            if len(rows) == self._count:
                values = made
            else:
                for row, value in zip(rows.tolist(), made, strict=True):
                    values[row] = value
        self._entries[number] = own, values.__getitem__
        return values

    def _texts(
        self, code: int, begins: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> list[str | Text]:
        """Return texts; long ones stay where they are."""
        window = self._window
        head = 2 if code == SHORT_TEXT else 5
        places = zip((begins + head).tolist(), (begins + sizes - 1).tolist(), strict=True)
        if code == LONG_TEXT:
            spans = [Text(self._offset + begin, end - begin) for begin, end in places]
            data = self._state.data
            return [span if span.size > LONG_BYTES else span.read(data) for span in spans]
        return [str(window[begin:end], "utf-8", "surrogatepass") for begin, end in places]

    def _numbers(self, number: int, kind: Any, numbers: Numbers) -> FloatLists:  # noqa: ANN401
        offsets = self._offset + numbers.begins[: self._count]
        data, split = self._state.data, {}
        if isinstance(kind, Vector):
            dtype, step, length = kind.array.dtype, kind.array.dtype.itemsize, kind.array.shape[0]
        else:
            dtype, step, length = DOUBLE, FLOAT_BYTES, kind.length
            offsets += 1  # behind the opcode
            for row, frame in numbers.frames.items():
                if row < self._count:
                    before = (frame - int(numbers.begins[row])) // FLOAT_BYTES
                    behind = self._offset + frame + FRAME_BYTES + 1
                    parts = (int(offsets[row]), before), (behind, length - before)
                    split[row] = [(begin, count) for begin, count in parts if count]
        made = FloatLists(
            data, dtype, step, offsets=offsets, counts=np.full(self._count, length),
            split=split, others={},
        )  # fmt: skip
        if numbers.entries is not None:
            own = self._firsts + numbers.entries[: self._count]
            self._entries[number] = own, functools.partial(_vector, kind, made)
        return made

    def _refer(self, number: int, atoms: Atoms, values: Any) -> None:  # noqa: ANN401
        """Put what column `number` refers to into `values`."""
        rows = np.flatnonzero(atoms.references[: self._count] >= 0)
        entries = atoms.references[rows].tolist()
        found = list(map(self._references.recalled.get, entries, itertools.repeat(self)))
        places = rows.tolist()
        if self in found:  # what isn't known yet
            for at, value in enumerate(found):
                if value is self:
                    found[at] = self._referred(number, atoms, places[at], entries[at])
        if len(found) == self._count:
            values[:] = found
        else:
            for row, value in zip(places, found, strict=True):
                values[row] = value

    def _referred(self, number: int, atoms: Atoms, row: int, entry: int) -> Any:  # noqa: ANN401
        if entry >= self._firsts[0]:
            among = int(np.searchsorted(self._firsts, entry, "right")) - 1
            for other, (entries, value) in self._entries.items():
                if entries[among] == entry:
                    self._references.share(other)
                    return value(among)
        size = int(self._firsts[row] + atoms.entries[row])
        offset = self._offset + int(atoms.begins[row])
        return self._references.recall(self._state, number, entry, size, offset)


def _numbers(code: int, arguments: NDArray[np.uint64]) -> list[int] | list[float]:
    """Return the numbers that opcodes `code` push whose arguments these are."""
    if code == _FLOAT:
        doubles: list[float] = arguments.astype("<u8").view(">f8").tolist()
        return doubles
    if code == _INT:
        numbers: list[int] = low(arguments, 32).astype(np.int32).tolist()
    else:
        numbers = low(arguments, 8 if code == _BYTE else 16).tolist()
    return numbers


def _vector(kind: Floats | Vector, vectors: FloatLists, row: int) -> Any:  # noqa: ANN401
    """Return a row's list or array as the machine makes it."""
    if isinstance(kind, Floats):
        return [Run(offset - 1, count) for offset, count in vectors.parts(row)]
    ((offset, _),) = vectors.parts(row)
    like = kind.array
    return Array(like.shape, like.dtype, Raw(offset, kind.size), is_fortran=like.is_fortran)

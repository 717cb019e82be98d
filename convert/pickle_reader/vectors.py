"""A column of rows of numbers, which stay where they are in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.arrays import is_vector
from convert.pickle_reader.floats import FLOAT_BYTES
from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.spans import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convert.pickle_reader.spans import Buffer

_SEQUENCES = frozenset({list, tuple, Array})
_DOUBLE = np.dtype(">f8")


class FloatLists:
    """Rows of numbers: lists of floats, or one-dimensional arrays.

    `dtype` is that of the numbers in the file, `others` holds the rows that are anything
    else (None, an empty list, a list of other things), by row, as plain values.
    """

    def __init__(
        self, data: Buffer, dtype: np.dtype[Any], step: int, segments: list[list[tuple[int, int]]],
        others: dict[int, Any],
    ) -> None:  # fmt: skip
        """`segments` are the (offset, count) of each row's numbers, `step` bytes apart."""
        self.dtype = dtype
        self.others = others
        self._step = step
        self._segments = segments
        self._counts = np.array(
            [row[0][1] if len(row) == 1 else sum(n for _, n in row) for row in segments],
            np.int64,
        )
        # Views of the whole file, for each place at which a number may begin.
        self._views: list[NDArray[Any]] = [
            np.ndarray(((len(data) - at - dtype.itemsize) // step + 1,), dtype, data, at, (step,))
            for at in range(min(step, len(data) - dtype.itemsize + 1))
        ]

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def nbytes(self) -> int:
        """The bytes of the file that the numbers take."""
        return self._step * int(self._counts.sum())

    def lengths(self) -> NDArray[np.int64]:
        """Return how many numbers each row has: int64, -1 in the rows of `others`."""
        lengths = self._counts.copy()
        lengths[list(self.others)] = -1
        return lengths

    def row(self, row: int) -> Any:  # noqa: ANN401
        """Return a row: its numbers as an array of `dtype`, or what there is else."""
        return self.others[row] if row in self.others else np.concatenate(self._parts(row))

    def fill(self, out: NDArray[np.float32], begin: int = 0) -> None:
        """Convert the rows from `begin` on into `out`, float32 (rows, length).

        Each of these rows must have that length. Numbers beyond float32 become infinite.
        """
        step, views = self._step, self._views
        with np.errstate(over="ignore", invalid="ignore"):
            for place, row in enumerate(self._segments[begin : begin + len(out)]):
                if len(row) == 1:
                    offset, count = row[0]
                    first = offset // step
                    out[place] = views[offset % step][first : first + count]
                else:
                    out[place] = np.concatenate(self._parts(begin + place))

    def _parts(self, row: int) -> list[NDArray[Any]]:
        step = self._step
        return [
            self._views[offset % step][offset // step : offset // step + count]
            for offset, count in self._segments[row]
        ]


def float_lists(values: list[Any], data: Buffer, plain: Callable[[Any], Any]) -> FloatLists | None:
    """Return `values` as rows of numbers; None if none of them lies in the file like that.

    `plain` converts what is something else.
    """
    if _SEQUENCES.isdisjoint(map(type, values)):
        return None
    dtype = None
    segments: list[list[tuple[int, int]]] = []
    others: dict[int, Any] = {}
    for row, value in enumerate(values):
        kind = type(value)
        found: list[tuple[int, int]] = []
        if kind is list or kind is tuple:
            if dtype is None or dtype is _DOUBLE:
                found = [(run.offset + 1, run.count) for run in value if type(run) is Run]
                if found and len(found) == len(value):
                    dtype = _DOUBLE
                else:
                    found = []
        elif (
            is_vector(value)
            and not value.content.as_text
            and (dtype is None or (value.dtype == dtype and dtype is not _DOUBLE))
        ):
            dtype = value.dtype
            found = [(value.content.offset, value.shape[0])]
        if not found:
            others[row] = value
        segments.append(found)
    if dtype is None:
        return None
    others = {row: plain(value) for row, value in others.items()}
    step = FLOAT_BYTES if dtype is _DOUBLE else dtype.itemsize
    return FloatLists(data, dtype, step, segments, others)

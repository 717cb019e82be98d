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

    from convert.pickle_reader.spans import ArrayRun, Buffer

_SEQUENCES = frozenset({list, tuple, Array})
DOUBLE = np.dtype(">f8")  # as pickles have floats
# Bytes of the file that are converted at once: what the cache holds.
_BLOCK_BYTES = 1 << 19


class FloatLists:
    """Rows of numbers: lists of floats, or one-dimensional arrays.

    `dtype` is that of the numbers in the file, `others` holds the rows that are anything
    else (None, an empty list, a list of other things), by row, as plain values.
    """

    def __init__(
        self, data: Buffer, dtype: np.dtype[Any], step: int, *, offsets: NDArray[np.int64],
        counts: NDArray[np.int64], split: dict[int, list[tuple[int, int]]], others: dict[int, Any],
    ) -> None:  # fmt: skip
        """Row by row, `counts` numbers begin at `offsets` in `data`, `step` bytes apart.

        `split` has the (offset, count) of each part of the rows that are in several.
        """
        self.dtype = dtype
        self.others = others
        self.data = data
        self.step = step
        self.offsets = offsets
        self.counts = counts
        self.split = split

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice) -> FloatLists:
        begin, end, _ = rows.indices(len(self))
        split, others = (
            {row - begin: value for row, value in of.items() if begin <= row < end}
            for of in (self.split, self.others)
        )
        offsets, counts = self.offsets[begin:end], self.counts[begin:end]
        return FloatLists(
            self.data, self.dtype, self.step,
            offsets=offsets, counts=counts, split=split, others=others,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """The bytes of the file that the numbers take."""
        return self.step * int(self.counts.sum())

    def lengths(self) -> NDArray[np.int64]:
        """Return how many numbers each row has: int64, -1 in the rows of `others`."""
        lengths = self.counts.copy()
        lengths[list(self.others)] = -1
        return lengths

    def row(self, row: int) -> Any:  # noqa: ANN401
        """Return a row: its numbers as an array of `dtype`, or what there is else."""
        if row in self.others:
            return self.others[row]
        return np.concatenate([self._view(offset, count) for offset, count in self.parts(row)])

    def parts(self, row: int) -> list[tuple[int, int]]:
        """Return the (offset, count) of each part of a row of numbers."""
        return self.split.get(row) or [(int(self.offsets[row]), int(self.counts[row]))]

    def plain_row(self, row: int) -> Any:  # noqa: ANN401
        """Return a row as it is written: an array, a list of floats, or what there is else."""
        is_list = self.step != self.dtype.itemsize and row not in self.others
        return self.row(row).tolist() if is_list else self.row(row)

    @staticmethod
    def joined(
        count: int, parts: list[tuple[NDArray[np.int64], list[Any] | FloatLists]]
    ) -> FloatLists:
        """Return a column of `count` rows, of parts that say which rows they are.

        At least one of them is FloatLists. Numbers of another kind than those of the first
        one, and what lists hold, are among the `others`.
        """
        like = next(column for _, column in parts if isinstance(column, FloatLists))
        kind = like.dtype, like.step
        offsets, counts = np.zeros(count, np.int64), np.zeros(count, np.int64)
        split: dict[int, list[tuple[int, int]]] = {}
        others: dict[int, Any] = {}
        for rows, column in parts:
            if isinstance(column, list):
                others.update(zip(rows.tolist(), column, strict=True))
            elif (column.dtype, column.step) == kind:
                offsets[rows], counts[rows] = column.offsets, column.counts
                split.update((int(rows[row]), found) for row, found in column.split.items())
                others.update((int(rows[row]), value) for row, value in column.others.items())
            else:
                values = [column.row(row) for row in range(len(column))]
                others.update(zip(rows.tolist(), values, strict=True))
        return FloatLists(
            like.data, *kind, offsets=offsets, counts=counts, split=split, others=others
        )

    def fill(self, out: NDArray[np.float32], begin: int = 0) -> None:
        """Convert the rows from `begin` on into `out`, float32 (rows, length).

        Each of these rows must have that length, which isn't 0. Numbers beyond float32
        become infinite.
        """
        size = self.step * (out.shape[1] - 1) + self.dtype.itemsize
        # Every stretch of the file of a row's size; of these, those where the rows are.
        anywhere = np.ndarray((len(self.data) - size + 1, size), np.uint8, self.data, 0, (1, 1))
        last = len(anywhere) - 1  # a row of several segments may begin behind it
        with np.errstate(over="ignore", invalid="ignore"):
            rows_at_once = max(_BLOCK_BYTES // size, 1)
            for first in range(0, len(out), rows_at_once):
                block = out[first : first + rows_at_once]
                offsets = self.offsets[begin + first : begin + first + len(block)]
                rows = anywhere[np.minimum(offsets, last)]
                shape, steps = block.shape, (size, self.step)
                block[:] = np.ndarray(shape, self.dtype, rows.data, 0, steps)
            for row in self.split:
                if begin <= row < begin + len(out):
                    out[row - begin] = self.row(row)

    def _view(self, offset: int, count: int) -> NDArray[Any]:
        return np.ndarray((count,), self.dtype, self.data, offset, (self.step,))


def floats_of_run(run: ArrayRun, data: Buffer) -> FloatLists:
    """Return the arrays that a run stands for, whose bytes are in the file as they are."""
    return FloatLists(
        data, run.dtype, run.dtype.itemsize,
        offsets=run.offsets, counts=run.counts, split={}, others={},
    )  # fmt: skip


def float_lists(
    values: list[Any], data: Buffer, plain: Callable[[list[Any]], list[Any]]
) -> FloatLists | None:
    """Return `values` as rows of numbers; None if none of them lies in the file like that.

    `plain` converts what is something else.
    """
    if _SEQUENCES.isdisjoint(map(type, values)):
        return None
    dtype = None
    segments: list[list[tuple[int, int]]] = []
    others: dict[int, Any] = {}
    # The ids of lists that hold something else. One that rows share is looked at once: 60,000
    # numbers in 2,400 rows took three seconds.
    passed: set[int] = set()
    for row, value in enumerate(values):
        kind = type(value)
        found: list[tuple[int, int]] = []
        if kind is list or kind is tuple:
            if (dtype is None or dtype is DOUBLE) and id(value) not in passed:
                found = _floats_of(value)
                if found:
                    dtype = DOUBLE
                else:
                    passed.add(id(value))
        elif (
            is_vector(value)
            and not value.content.as_text
            and (dtype is None or (value.dtype == dtype and dtype is not DOUBLE))
        ):
            dtype = value.dtype
            found = [(value.content.offset, value.shape[0])]
        if not found:
            others[row] = value
        segments.append(found)
    if dtype is None:
        return None
    # Together, so that what is in several rows is converted once.
    others = dict(zip(others, plain(list(others.values())), strict=True))
    step = FLOAT_BYTES if dtype is DOUBLE else dtype.itemsize
    firsts = [parts[0] if parts else (0, 0) for parts in segments]
    offsets, counts = np.array(firsts, np.int64).reshape(-1, 2).T
    split = {row: parts for row, parts in enumerate(segments) if len(parts) > 1}  # nearly none
    for row, parts in split.items():
        counts[row] = sum(count for _, count in parts)
    return FloatLists(data, dtype, step, offsets=offsets, counts=counts, split=split, others=others)


def _floats_of(items: list[Any] | tuple[Any, ...]) -> list[tuple[int, int]]:
    """Return the (offset, count) of each part of what is floats alone; none if it isn't."""
    found = [(run.offset + 1, run.count) for run in items if type(run) is Run]
    return found if len(found) == len(items) else []

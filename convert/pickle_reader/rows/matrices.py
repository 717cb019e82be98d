"""The rows of a matrix that lies in the file, as vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convert.pickle_reader.arrays import NUMBER_KINDS
from convert.pickle_reader.spans import Raw
from convert.pickle_reader.vectors import FloatLists

if TYPE_CHECKING:
    from convert.pickle_reader.numpy_values import Array
    from convert.pickle_reader.spans import Buffer


class MatrixRows:
    """Rows of numbers one after another; a slice of them is a column."""

    def __init__(self, array: Array, data: Buffer) -> None:
        self._array = array
        self._data = data

    @staticmethod
    def fits(array: Array) -> bool:
        """Whether the rows of an array lie in the file, each in one piece."""
        return (
            len(array.shape) == 2
            and type(array.content) is Raw
            and not array.content.as_text
            and not array.is_fortran
            and array.dtype.kind in NUMBER_KINDS
        )

    def __len__(self) -> int:
        return self._array.shape[0]

    def __getitem__(self, rows: slice) -> FloatLists:
        begin, end, _ = rows.indices(len(self))
        width, dtype, content = self._array.shape[1], self._array.dtype, self._array.content
        offset = content.offset  # type: ignore[union-attr]
        return FloatLists(
            self._data, dtype, dtype.itemsize,
            offsets=offset + np.arange(begin, end, dtype=np.int64) * (width * dtype.itemsize),
            counts=np.full(end - begin, width, np.int64), split={}, others={},
        )  # fmt: skip

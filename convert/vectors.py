"""Vector columns as float32 matrices."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.columns.numbered import ColumnPerDimension
from convert.columns.vector_text import NotNumbers
from convert.pickle_reader import FloatLists
from convert.validation import is_null, python_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.pickle_reader import Values

    Vectors: TypeAlias = Values | ColumnPerDimension

# Rows: the float64 intermediate of a block is 3 MB at 384 floats and stays in the cache;
# blocks of 8,192 rows took 1.3 times as long.
_BLOCK_ROWS = 1024
# NumPy's kinds of real numbers; bool is one, as it is to Python.
_NUMBER_KINDS = "fiub"


class Matrices:
    """Float32 matrices of up to `rows` rows of `dimension` floats, which share their memory.

    Each is overwritten by the `count`th after it. Fresh memory would take more time than what
    is written into it, and comes and goes in an order that the allocator makes holes of.
    """

    def __init__(self, count: int, rows: int, dimension: int) -> None:
        self._matrices = itertools.cycle(np.empty((count, rows, dimension), np.float32))

    def next(self, rows: int) -> NDArray[np.float32]:
        """Return a matrix of `rows` rows; they hold anything."""
        return next(self._matrices)[:rows]


def vector_lengths(values: Vectors) -> NDArray[np.int64]:
    """Return how many items each row has: int64 (rows,), 0 where it can't be a vector."""
    if isinstance(values, ColumnPerDimension):
        return np.full(len(values), values.dimension, np.int64)
    if isinstance(values, FloatLists):
        lengths = values.lengths()
        for row, value in values.others.items():
            lengths[row] = _length(value) or 0
        return lengths
    if isinstance(values, pa.Array) and _is_list(values.type):
        lengths = pc.fill_null(pc.list_value_length(values), 0).cast(pa.int64())
        return np.frombuffer(lengths.buffers()[1], np.int64, len(values), 8 * lengths.offset)
    return np.array([_length(value) or 0 for value in python_values(values)], np.int64)


def fill_matrix(
    matrix: NDArray[np.float32], values: Vectors, lengths: NDArray[np.int64]
) -> dict[int, str]:
    """Convert a column of float sequences into `matrix`, (rows, dimension); return the problems.

    `lengths` is what `vector_lengths` returned. Rows that have problems hold nothing useful.
    Whatever isn't `dimension` finite numbers is a problem: a missing vector, another
    length, NaN, infinity (also what becomes infinite as float32), anything that is no
    number.
    """
    dimension = matrix.shape[1]
    problems: dict[int, str] = {}
    rows = _rows_of(values, lengths)
    for begin in range(0, len(lengths), _BLOCK_ROWS):
        end = min(begin + _BLOCK_ROWS, len(lengths))
        is_regular = dimension and (lengths[begin:end] == dimension).all()
        if is_regular and rows.fill(matrix[begin:end], begin):
            continue
        for row in range(begin, end):
            if lengths[row] > 0 and lengths[row] != dimension:
                reason: str | None = f"{lengths[row]} values, not {dimension} as most rows have"
            else:
                reason = _fill_one(matrix[row], rows.row(row))
            if reason is not None:
                problems[row] = reason
    return problems


class _Rows(Protocol):
    def fill(self, out: NDArray[np.float32], begin: int) -> bool:
        """Convert the rows from `begin` on into `out` at once; False if one has a problem."""

    def row(self, row: int) -> Any:  # noqa: ANN401
        """Return one row as it is."""


class _ListRows(NamedTuple):
    """Rows that are Python's lists, NumPy's arrays, or anything."""

    values: list[Any]

    def fill(self, out: NDArray[np.float32], begin: int) -> bool:
        try:
            # Without a dtype, so that text doesn't become numbers.
            numbers = np.array(self.values[begin : begin + len(out)])
        except (ValueError, TypeError, OverflowError):
            return False
        if numbers.ndim == 3 and numbers.shape[1] == 1:  # matrices of one row
            numbers = numbers[:, 0]
        return numbers.shape == out.shape and _fill(out, numbers)

    def row(self, row: int) -> Any:  # noqa: ANN401
        return self.values[row]


class _ColumnRows(NamedTuple):
    """Rows whose numbers lie in a column a dimension."""

    values: ColumnPerDimension

    def fill(self, out: NDArray[np.float32], begin: int) -> bool:
        numbers = self.values.numbers(begin, begin + len(out))
        return numbers is not None and _fill(out, numbers)

    def row(self, row: int) -> Any:  # noqa: ANN401
        return self.values.row(row)


class _FileRows(NamedTuple):
    """Rows whose numbers lie in a pickle."""

    values: FloatLists

    def fill(self, out: NDArray[np.float32], begin: int) -> bool:
        if self.values.dtype.kind not in _NUMBER_KINDS:
            return False
        if any(begin <= row < begin + len(out) for row in self.values.others):
            return False
        self.values.fill(out, begin)
        return bool(np.isfinite(out).all())

    def row(self, row: int) -> Any:  # noqa: ANN401
        return self.values.row(row)


class _ArrowRows(NamedTuple):
    """Rows of an Arrow list column; `items` are those of all rows, which begin at `starts`."""

    values: pa.Array
    items: NDArray[Any]
    starts: NDArray[np.int64]

    def fill(self, out: NDArray[np.float32], begin: int) -> bool:
        first = self.starts[begin]
        return _fill(out, self.items[first : first + out.size].reshape(out.shape))

    def row(self, row: int) -> Any:  # noqa: ANN401
        return self.values[row].as_py()


def _rows_of(values: Vectors, lengths: NDArray[np.int64]) -> _Rows:
    if isinstance(values, ColumnPerDimension):
        return _ColumnRows(values)
    if isinstance(values, FloatLists):
        return _FileRows(values)
    if isinstance(values, pa.Array) and _is_list(values.type):
        items, kind = values.flatten(), values.type.value_type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if is_number and not items.null_count:
            starts = np.cumsum(lengths) - lengths
            return _ArrowRows(values, items.to_numpy(), starts)
    return _ListRows(python_values(values))


def _is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of anything but lists."""
    is_list = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return bool(is_list and not pa.types.is_nested(kind.value_type))


def _length(vector: Any) -> int | None:  # noqa: ANN401
    """Return the length of what may be a vector, else None."""
    vector = _only_row(vector)
    is_vector = isinstance(vector, np.ndarray) and vector.ndim == 1
    return len(vector) if is_vector or isinstance(vector, list | tuple) else None


def _only_row(value: Any) -> Any:  # noqa: ANN401
    """Return the row of a matrix that has one, (1, D); anything else as it is."""
    is_array = isinstance(value, np.ndarray) and value.ndim > 0
    if (is_array or isinstance(value, list | tuple)) and len(value) == 1:
        (row,) = value
        return row if isinstance(row, list | tuple | np.ndarray) else value
    return value


def _fill(out: NDArray[np.float32], numbers: NDArray[Any]) -> bool:
    """Convert `numbers`, which have the shape of `out`; False if that makes no sense."""
    if numbers.dtype.kind not in _NUMBER_KINDS:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        out[:] = numbers
    return bool(np.isfinite(out).all())


def _fill_one(out: NDArray[np.float32], vector: Any) -> str | None:  # noqa: ANN401
    """Convert `vector` into `out`, or return what is wrong with it."""
    if is_null(vector):
        return "missing vector"
    if isinstance(vector, NotNumbers):
        return vector.reason
    length, vector = _length(vector), _only_row(vector)
    if length is None:
        if isinstance(vector, np.ndarray) and vector.ndim > 1:
            shape = " x ".join(map(str, vector.shape))
            advice = "; v.ravel() makes one of it" if max(vector.shape) == vector.size else ""
            return f"a matrix of {shape} instead of a vector{advice}"
        return f"{type(vector).__name__} instead of a vector"
    if length == 0:
        return "missing vector"
    try:
        numbers = np.array(list(vector))
    except (ValueError, TypeError, OverflowError):
        return "a value is not a number"
    if numbers.dtype.kind not in _NUMBER_KINDS or numbers.ndim != 1:
        has_null = any(is_null(value) for value in vector)
        return "a value is missing" if has_null else "a value is not a number"
    if np.isnan(numbers).any():
        return "NaN"
    if np.isinf(numbers).any():
        return "infinity"
    with np.errstate(over="ignore"):
        out[:] = numbers
    return None if np.isfinite(out).all() else "a value is too large for float32"

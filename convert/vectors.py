"""The vector column of a source as one float32 matrix.

One float32 copy of the vectors is made, nothing larger: lists and arrays are taken in
blocks of _BLOCK_ROWS rows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convert.validation import is_null, python_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from convert.source import Values

# Rows: the float64 intermediate of a block is 3 MB at 384 floats and stays in the cache;
# blocks of 8,192 rows took 1.3 times as long.
_BLOCK_ROWS = 1024
# NumPy's kinds of real numbers; bool is one, as it is to Python.
_NUMBER_KINDS = "fiub"


class Vectors(NamedTuple):
    """`matrix` is float32 (rows, dimension); rows named in `problems` hold nothing useful."""

    matrix: NDArray[np.float32]
    problems: dict[int, str]


def vector_matrix(values: Values, advance: Callable[[int], None]) -> Vectors:
    """Convert a column of float sequences; `advance` is told how many more rows are done.

    The dimension is the length that most rows have. Whatever isn't that many finite
    numbers is a problem: a missing vector, another length, NaN, infinity (also what
    becomes infinite as float32), anything that is no number.
    """
    rows: Sequence[Any] = python_values(values)
    lengths = Counter(length for length in map(_length, rows) if length)
    dimension = lengths.most_common(1)[0][0] if lengths else 0
    matrix = np.zeros((len(rows), dimension), np.float32)
    problems: dict[int, str] = {}
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        if not _fill(matrix[start : start + len(block)], block):
            for row, vector in enumerate(block, start):
                reason = _fill_one(matrix[row], vector)
                if reason is not None:
                    problems[row] = reason
        advance(len(block))
    return Vectors(matrix, problems)


def _length(vector: Any) -> int | None:  # noqa: ANN401
    """Return the length of what may be a vector, else None."""
    if isinstance(vector, list | tuple) or (isinstance(vector, np.ndarray) and vector.ndim == 1):
        return len(vector)
    return None


def _fill(out: NDArray[np.float32], block: Sequence[Any]) -> bool:
    """Convert all of `block` into `out` at once; False if a row of it has a problem."""
    if not out.shape[1] or any(_length(vector) != out.shape[1] for vector in block):
        return False
    try:
        numbers = np.array(block)  # without a dtype, so that text doesn't become numbers
    except (ValueError, TypeError, OverflowError):
        return False
    if numbers.dtype.kind not in _NUMBER_KINDS or numbers.shape != out.shape:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        out[:] = numbers
    return bool(np.isfinite(out).all())


def _fill_one(out: NDArray[np.float32], vector: Any) -> str | None:  # noqa: ANN401
    """Convert `vector` into `out`, or return what is wrong with it."""
    if is_null(vector):
        return "missing vector"
    length = _length(vector)
    if length is None:
        return f"{type(vector).__name__} instead of a vector"
    if length == 0:
        return "missing vector"
    if length != len(out):
        return f"{length} values, not {len(out)} as most rows have"
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

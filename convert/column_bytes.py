"""How much memory a column of a source takes, or would take, as Python's objects."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from convert.pickle_reader import FloatLists

if TYPE_CHECKING:
    from convert.pickle_reader import Values

# Rows looked at to estimate what a column of Python objects takes.
_SAMPLED_ROWS = 100
_POINTER_BYTES = 8


def source_bytes(values: Values) -> int:
    """Return the bytes that a source column takes, estimated from its first rows."""
    if isinstance(values, np.ndarray | pa.Array | FloatLists):
        return int(values.nbytes)
    sample = values[:_SAMPLED_ROWS]
    if not sample:
        return 0
    size = sum(_object_bytes(value) for value in sample) / len(sample)
    return int(len(values) * (_POINTER_BYTES + size))


def _object_bytes(value: Any) -> int:  # noqa: ANN401
    size = sys.getsizeof(value)
    if isinstance(value, list | tuple):
        size += sum(map(sys.getsizeof, value))
    elif isinstance(value, np.ndarray) and value.base is not None:
        size += value.nbytes
    return size

"""Many arrays as a few arrays of offsets, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.spans import ArrayRun, Raw

NUMBER_KINDS = "fiub"


def is_vector(value: object) -> bool:
    """Whether `value` is a one-dimensional array of numbers whose bytes are in the file."""
    return (
        type(value) is Array
        and type(value.content) is Raw
        and len(value.shape) == 1
        and value.dtype.kind in NUMBER_KINDS
    )


def pack_arrays(items: list[Any]) -> ArrayRun | None:
    """Return what stands for `items`, if all are vectors of one dtype."""
    if not all(map(is_vector, items)):
        return None
    dtype, as_text = items[0].dtype, items[0].content.as_text
    if any(item.dtype != dtype or item.content.as_text is not as_text for item in items):
        return None
    offsets = np.array([item.content.offset for item in items])
    counts = np.array([item.shape[0] for item in items])
    sizes = np.array([item.content.size for item in items])
    return ArrayRun(dtype, offsets, counts, sizes, as_text=as_text)


def unpack_arrays(run: ArrayRun, begin: int, end: int) -> list[Array]:
    return [
        Array((count,), run.dtype, Raw(offset, size, as_text=run.as_text))
        for offset, count, size in zip(
            run.offsets[begin:end].tolist(),
            run.counts[begin:end].tolist(),
            run.sizes[begin:end].tolist(),
            strict=True,
        )
    ]

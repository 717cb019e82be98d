"""Many arrays as a few arrays of offsets, and back."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from convert.pickle_reader.numpy_values import Array, item_count
from convert.pickle_reader.spans import ArrayRun, Raw

NUMBER_KINDS = "fiub"
# Items that a span stands for on average, at least: it takes 500 bytes, an array 200.
_LEAST_TOGETHER = 4


def is_vector(value: object) -> bool:
    """Whether `value` is a one-dimensional array of numbers whose bytes are in the file."""
    return (
        type(value) is Array
        and type(value.content) is Raw
        and len(value.shape) == 1
        and value.dtype.kind in NUMBER_KINDS
    )


def pack_arrays(items: list[Any]) -> list[Any] | None:
    """Return `items`, vectors and perhaps None, with spans for the vectors.

    None if there is something else, or if spans would take no less memory.
    """
    packed: list[Any] = []
    for kind, found in itertools.groupby(items, _kind_of):
        if kind is not None:
            packed.append(_packed(*kind, list(found)))
        else:
            packed += found
            if packed[-1] is not None:
                return None
    return packed if _LEAST_TOGETHER * len(packed) <= item_count(packed) else None


def _kind_of(item: Any) -> tuple[np.dtype[Any], bool] | None:  # noqa: ANN401
    """Return what vectors have in common that a span can stand for; None of other values."""
    if type(item) is ArrayRun:
        return item.dtype, item.as_text
    return (item.dtype, item.content.as_text) if is_vector(item) else None


def _packed(dtype: np.dtype[Any], as_text: bool, items: list[Any]) -> ArrayRun:  # noqa: FBT001
    runs: list[ArrayRun] = []
    for is_run, found in itertools.groupby(items, lambda item: type(item) is ArrayRun):
        if is_run:
            runs += found
        else:
            alone = [(item.content.offset, item.shape[0], item.content.size) for item in found]
            runs.append(ArrayRun(dtype, *np.array(alone, np.int64).T, as_text=as_text))
    offsets, counts, sizes = (
        np.concatenate([getattr(run, name) for run in runs])
        for name in ("offsets", "counts", "sizes")
    )
    return ArrayRun(dtype, offsets, counts, sizes, as_text=as_text)


def unpack_arrays(run: ArrayRun) -> list[Array]:
    return [
        Array((count,), run.dtype, Raw(offset, size, as_text=run.as_text))
        for offset, count, size in zip(
            run.offsets.tolist(), run.counts.tolist(), run.sizes.tolist(), strict=True
        )
    ]

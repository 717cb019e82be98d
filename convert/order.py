"""The order of the dataset: ascending ids, compared as 16 unsigned bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convert.id_text import halves

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INT32_ROWS = 2**31 - 1
# Ids that are compared at once: a megabyte.
_BLOCK_ROWS = 1 << 16


def is_ascending(ids: NDArray[np.uint8]) -> bool:
    """Whether the rows of `ids`, uint8 (n, 16), ascend strictly."""
    high = _high_halves(ids)
    if (high[1:] < high[:-1]).any():
        return False
    equal = np.flatnonzero(high[1:] == high[:-1])
    low = halves(ids[equal])[1], halves(ids[equal + 1])[1]
    return bool((low[0] < low[1]).all())


def sorted_order(ids: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Return the rows of `ids`, uint8 (n, 16), in ascending order. Stable.

    (n,), int32 if that can say it: the order of a large source is much of what it holds.
    """
    high = _high_halves(ids)
    order = np.argsort(high)
    high.sort()  # in place, which takes no more memory
    if (high[1:] == high[:-1]).any():
        high, low = halves(ids)
        order = np.lexsort((low, high))
    del high
    return order.astype(np.int32) if len(order) <= _INT32_ROWS else order


def repeated_rows(ids: NDArray[np.uint8], order: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the places in `order` whose id equals that of the place before.

    NumPy takes no account of zeros at the end of S16, which changes nothing among equals.
    """
    places = []
    for begin in range(0, len(order) - 1, _BLOCK_ROWS):
        block = ids[order[begin : begin + _BLOCK_ROWS + 1]].view("S16")[:, 0]
        places.append(np.flatnonzero(block[1:] == block[:-1]) + begin + 1)
    return np.concatenate(places) if places else np.empty(0, np.int64)


def _high_halves(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first 64 bits of each id, which nearly always decide: uint64 (n,)."""
    return np.ascontiguousarray(ids).view(">u8")[:, 0].astype(np.uint64)

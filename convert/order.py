"""The order of the dataset: ascending ids, compared as 16 unsigned bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convert.id_text import halves

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_ascending(ids: NDArray[np.uint8]) -> bool:
    """Whether the rows of `ids`, uint8 (n, 16), ascend strictly."""
    high, low = halves(ids)
    above = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    return bool(above.all())


def sorted_order(ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rows of `ids`, uint8 (n, 16), in ascending order: int64 (n,). Stable."""
    high, low = halves(ids)
    return np.lexsort((low, high))


def repeated_rows(ids: NDArray[np.uint8], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places in `order` whose id equals that of the place before."""
    high, low = (half[order] for half in halves(ids))
    same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    return np.flatnonzero(same) + 1

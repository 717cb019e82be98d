"""The texts of a dictionary in the order in which the dataset file has them.

A server reads a dataset from its first row to its last. Where a dictionary is large, its
texts must lie in the order of the rows, or every row's text would be another place on the
disk: 200,000 texts of 1.5 KB, read from a cold disk, were as many seeks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from convert.dataset.large_text import offsets_of, text_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# A dictionary up to this size is kept as it came: its texts lie close together anyhow.
SMALL_TEXTS = 65_536
SMALL_BYTES = 16 << 20
# What is copied at once: texts, and bytes of them.
_BLOCK_TEXTS = 1 << 16
_BLOCK_BYTES = 4 << 20


def is_small(texts: pa.LargeStringArray) -> bool:
    """Whether a dictionary may have its texts in any order."""
    return len(texts) <= SMALL_TEXTS and text_bytes(texts) <= SMALL_BYTES


def number_by_first_use(batches: Sequence[NDArray[np.int32]], texts: int) -> NDArray[np.integer]:
    """Give texts new numbers, in the order in which rows first use them.

    `batches` are the places of the rows' texts, of which there are `texts`; they are changed
    in place. Returns the old place of each text that is used, in the new order.
    """
    number_of = np.full(texts, -1, np.int32)
    used = 0
    orders = []
    for places in batches:
        found, first = np.unique(places, return_index=True)
        is_new = number_of[found] < 0
        found, first = found[is_new], first[is_new]
        order = found[np.argsort(first)]
        number_of[order] = np.arange(used, used + len(order), dtype=np.int32)
        used += len(order)
        orders.append(order)
        places[:] = number_of[places]
    return np.concatenate(orders)


class OrderedTexts(NamedTuple):
    """The texts `texts[order]`; without an order all of them."""

    texts: pa.LargeStringArray
    order: NDArray[np.integer] | None

    def __len__(self) -> int:
        return len(self.texts if self.order is None else self.order)

    @property
    def nbytes(self) -> int:
        """Bytes of UTF-8 in all of them."""
        if self.order is None:
            return text_bytes(self.texts)
        return sum(int(self._sizes(begin).sum()) for begin in self._begins())

    def blocks(self) -> Iterator[pa.LargeStringArray]:
        """Yield them, some megabytes at a time."""
        for begin in self._begins():
            ends = np.cumsum(self._sizes(begin))
            first, taken = 0, 0
            while first < len(ends):
                stop = int(ends.searchsorted(taken + _BLOCK_BYTES, side="right"))
                stop = max(stop, first + 1)
                yield self._taken(begin + first, begin + stop)
                first, taken = stop, int(ends[stop - 1])

    def _begins(self) -> range:
        return range(0, len(self), _BLOCK_TEXTS)

    def _sizes(self, begin: int) -> NDArray[np.int64]:
        """Return the bytes of the texts of a block."""
        offsets = offsets_of(self.texts)
        if self.order is None:
            return np.diff(offsets[begin : begin + _BLOCK_TEXTS + 1])
        places = self.order[begin : begin + _BLOCK_TEXTS]
        sizes: NDArray[np.int64] = offsets[places + 1] - offsets[places]
        return sizes

    def _taken(self, begin: int, end: int) -> pa.LargeStringArray:
        if self.order is None:
            return self.texts.slice(begin, end - begin)
        return self.texts.take(pa.array(self.order[begin:end]))

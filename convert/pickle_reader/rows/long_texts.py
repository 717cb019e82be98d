"""How many rows can be made together where their texts are long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.spans import Raw, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

# Bytes of long texts that are made at the same time. As Python's they take up to four times
# as many: one emoji makes every letter of a text four bytes.
_TEXT_BYTES = 8 << 20
_SPANS = frozenset({Text, Raw})


def rows_at_once(columns: Iterable[list[Any]], rows: int) -> int:
    """Return how many of the first `rows` may be made together, one at least.

    `columns` are their values as the machine made them; a long text that rows share counts
    once.
    """
    sizes = np.zeros(rows, np.int64)
    counted: set[int] = set()
    for values in columns:
        if _SPANS.isdisjoint(map(type, values)):
            continue
        for row, value in enumerate(values):
            if type(value) in _SPANS and id(value) not in counted:
                counted.add(id(value))
                sizes[row] += value.size
    return max(int(np.cumsum(sizes).searchsorted(_TEXT_BYTES, side="right")), 1)

"""Text columns as places in dictionaries that grow as the source is read."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.dataset.growing_column import GrowingColumn
from convert.dataset.hash_table import HashTable
from convert.dataset.large_text import content_of, offsets_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.validation import TextColumn


class Dictionary:
    """The distinct texts of a column, numbered in the order in which they appear.

    They lie on disk, in files of `folder` that have no name. Memory is taken by the texts of
    one batch alone.
    """

    def __init__(self, folder: Path) -> None:
        self._texts = GrowingColumn(folder)
        self._known = HashTable(folder)

    def places(self, texts: TextColumn) -> NDArray[np.int32]:
        """Return the place of each of `texts`: int32 (rows,)."""
        return self._places(texts.distinct)[texts.indices]

    @property
    def nbytes(self) -> int:
        """Bytes of UTF-8 in the texts so far."""
        return self._texts.text_bytes

    def column(self) -> pa.LargeStringArray:
        """Return the texts so far, each at its place, as a view on the disk."""
        return self._texts.column()

    def _places(self, texts: pa.LargeStringArray) -> NDArray[np.int32]:
        hashes = _hashes(texts)
        places = self._known.find(hashes)
        known = np.flatnonzero(places >= 0)
        is_same = _are_equal(self.column(), places[known], texts, known)
        places[known[~is_same]] = -1  # another text has that hash
        new = np.flatnonzero(places < 0)
        # Of equal ones the first is new, and the others are it.
        _, first, number = np.unique(hashes[new], return_index=True, return_inverse=True)
        first_of = new[first][number]
        again = np.flatnonzero(new != first_of)
        again = again[_are_equal(texts, first_of[again], texts, new[again])]
        again, first_of, new = new[again], first_of[again], np.delete(new, again)
        if len(new):
            places[new] = np.arange(len(self._texts), len(self._texts) + len(new))
            places[again] = places[first_of]
            self._known.add(hashes[new], places[new])
            self._texts.append(texts if len(new) == len(texts) else texts.take(pa.array(new)))
        return places


def _hashes(texts: pa.LargeStringArray) -> NDArray[np.int64]:
    content, offsets = content_of(texts), offsets_of(texts)
    ends = (offsets - offsets[0]).tolist()
    found = (hash(content[a:b].tobytes()) for a, b in pairwise(ends))
    return np.fromiter(found, np.int64, len(texts))


def _are_equal(
    some: pa.LargeStringArray, at: NDArray[np.integer],
    others: pa.LargeStringArray, others_at: NDArray[np.integer],
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which of the texts some[at] are those of others[others_at]."""
    if not len(at):
        return np.zeros(0, np.bool_)
    pair = some.take(pa.array(at)), others.take(pa.array(others_at))
    found: NDArray[np.bool_] = pc.equal(*pair).to_numpy(zero_copy_only=False)
    return found

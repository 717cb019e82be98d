"""Text columns as places in dictionaries that grow as the source is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.dataset.growing_column import GrowingColumn
from convert.dataset.hash_table import HashTable

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
        numbers: dict[str, int] = {}
        number_of = [numbers.setdefault(text, len(numbers)) for text in texts.distinct]
        return self._places(list(numbers))[number_of][texts.indices]

    @property
    def nbytes(self) -> int:
        """Bytes of UTF-8 in the texts so far."""
        return self._texts.text_bytes

    def column(self) -> pa.LargeStringArray:
        """Return the texts so far, each at its place, as a view on the disk."""
        return self._texts.column()

    def _places(self, distinct: list[str]) -> NDArray[np.int32]:
        texts = pa.array(distinct, pa.large_string())
        hashes = np.fromiter(map(hash, distinct), np.int64, len(distinct))
        places = self._known.find(hashes)
        found = np.flatnonzero(places >= 0)
        if len(found):
            known = self.column().take(pa.array(places[found]))
            is_same = pc.equal(known, texts.take(pa.array(found))).to_numpy(zero_copy_only=False)
            places[found[~is_same]] = -1  # another text has that hash
        new = np.flatnonzero(places < 0)
        if len(new):
            places[new] = np.arange(len(self._texts), len(self._texts) + len(new))
            self._known.add(hashes[new], places[new])
            self._texts.append(texts.take(pa.array(new)) if len(found) else texts)
        return places

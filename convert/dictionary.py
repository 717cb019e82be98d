"""Text columns as places in dictionaries that grow as the source is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from convert.errors import UnreadableSourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.validation import TextColumn


class Dictionary:
    """The distinct texts of a column, numbered in the order in which they appear."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def places(self, texts: TextColumn) -> NDArray[np.int32]:
        """Return the place of each of `texts`: int32 (rows,)."""
        known = self._places
        distinct = [known.setdefault(text, len(known)) for text in texts.distinct]
        return np.array(distinct, np.int32)[texts.indices]

    def texts(self) -> pa.StringArray:
        """Return the texts, each at its place. UnreadableSourceError: more than 2 GiB."""
        array = pa.array(list(self._places), pa.string())
        if not isinstance(array, pa.Array):  # Arrow splits what exceeds 2 GiB
            message = "more than 2 GiB of different texts in one column"
            raise UnreadableSourceError(message)
        return array

"""Text columns as places in dictionaries that grow as the source is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from convert.errors import UnreadableSourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Dictionary:
    """The distinct texts of a column, numbered in the order in which they appear."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def places(self, texts: pa.StringArray) -> NDArray[np.int32]:
        """Return the place of each of `texts`, which has no nulls: int32 (rows,)."""
        encoded = texts.dictionary_encode()
        known = self._places
        distinct = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
        indices = np.frombuffer(encoded.indices.buffers()[1], np.int32, len(texts))
        return np.array(distinct, np.int32)[indices]

    def texts(self) -> pa.StringArray:
        """Return the texts, each at its place. UnreadableSourceError: more than 2 GiB."""
        array = pa.array(list(self._places), pa.string())
        if not isinstance(array, pa.Array):  # Arrow splits what exceeds 2 GiB
            message = "more than 2 GiB of different texts in one column"
            raise UnreadableSourceError(message)
        return array

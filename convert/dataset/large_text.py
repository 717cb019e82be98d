"""Columns of Arrow's large_string without nulls, taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def offsets_of(texts: pa.LargeStringArray) -> NDArray[np.int64]:
    """View where each text begins in the column's buffer, and where the last ends: (n + 1,)."""
    return np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)


def text_bytes(texts: pa.LargeStringArray) -> int:
    """Return how many bytes of UTF-8 the texts take."""
    offsets = offsets_of(texts)
    return int(offsets[-1] - offsets[0])


def content_of(texts: pa.LargeStringArray) -> memoryview:
    """View the texts one behind another, as UTF-8."""
    offsets, content = offsets_of(texts), texts.buffers()[2]
    return memoryview(content if content is not None else b"")[offsets[0] : offsets[-1]]

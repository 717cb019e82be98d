"""Batches cut so that their texts don't fill the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from convert.pickle_reader import Batch, Values

# Bytes of texts that are made Python's at the same time, which takes up to five times as many.
_MOST_BYTES = 8 << 20


def pieces_of(batch: Batch, rows: int, texts: Collection[Any]) -> Iterator[Batch]:
    """Yield the rows of a batch, `rows` at a time, or fewer where the columns `texts` are long."""
    for piece in batch.pieces(rows):
        size = sum(_text_bytes(piece.columns[name]) for name in texts)
        if size > _MOST_BYTES and piece.rows > 1:
            yield from pieces_of(piece, -(-piece.rows // 2), texts)
        else:
            yield piece


def _text_bytes(values: Values) -> int:
    """Return the bytes of a column's texts in Arrow; one that rows share counts once.

    Python's, as a pickle has them, are there already.
    """
    if not isinstance(values, pa.Array):
        return 0
    kind = values.type
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        used = np.unique(values.indices.drop_null())
        return int(pc.sum(pc.binary_length(values.dictionary).take(pa.array(used))).as_py() or 0)
    if pa.types.is_string_view(kind):
        # Of 16 bytes each, the first four of which are the length.
        views = np.frombuffer(values.buffers()[1] or b"", np.int32).reshape(-1, 4)
        views = views[values.offset : values.offset + len(values)]
        return int(np.unique(views, axis=0)[:, 0].sum(dtype=np.int64))
    return int(values.nbytes) if _is_text(kind) else 0


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

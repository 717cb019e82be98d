"""The full check of a dataset file: what `open` proves, and that every float is finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convert.id_text import format_ids
from streamer.dataset_file import id_matrix
from streamer.errors import InvalidDatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.store import EmbeddingStore

# Rows looked at a time: 6 MB of vectors at 384 floats, so that progress can be shown.
_STEP_ROWS = 4096


def verify_vectors(store: EmbeddingStore, advance: Callable[[int], None]) -> None:
    """Raise InvalidDatasetError for the first row with a NaN or an infinity in its vector.

    `advance` is told how many more rows were looked at.
    """
    for batch in store.rows_after(None).slices:
        for start in range(0, batch.num_rows, _STEP_ROWS):
            rows = batch.slice(start, _STEP_ROWS)
            values = rows.column("vector").flatten().to_numpy()
            finite = np.isfinite(values)
            if not finite.all():
                row = int(finite.argmin()) // store.info.dimension
                ids = format_ids(store.info.id_kind, id_matrix(rows.slice(row, 1)))
                message = f"the vector of row {ids.tobytes().decode()} is not finite"
                raise InvalidDatasetError(message)
            advance(rows.num_rows)

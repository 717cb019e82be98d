"""A dataset that is open: what it is, and its rows after a checkpoint, where they lie."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Self

from convert.schema import BATCH_ROWS
from streamer.checkpoint import Position, first_row_after
from streamer.dataset_file import MappedDataset, id_matrix, map_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa


class BatchRows(NamedTuple):
    """The rows of a record batch, the `number`th of the file, from `first_row` on."""

    number: int
    batch: pa.RecordBatch
    first_row: int


class RowsAfter(NamedTuple):
    """The rows after a checkpoint: how many, and the record batches that hold them.

    `checkpoint_found`: the checkpoint is a row, or none was given. The batches are views
    on the mapped file, in order, each with at least one row that is asked for.
    """

    rows: int
    checkpoint_found: bool
    parts: Iterator[BatchRows]

    @property
    def slices(self) -> Iterator[pa.RecordBatch]:
        """Only the rows that are asked for; of `parts`, this consumes them."""
        return (part.batch.slice(part.first_row) for part in self.parts)


class EmbeddingStore:
    """A sound, mapped dataset file. Never changes, may be shared between threads.

    The map lasts as long as the store or any slice from it is alive: a file that was
    replaced meanwhile is still read to its end.
    """

    def __init__(self, dataset: MappedDataset) -> None:
        self.info = dataset.info
        self.schema = dataset.schema
        # What a stream knows of a batch's rows at a time is bounded, whoever wrote the file.
        self._batches = [
            batch.slice(start, BATCH_ROWS)
            for batch in dataset.batches
            for start in range(0, batch.num_rows, BATCH_ROWS)
        ]
        self._ids = [id_matrix(batch).data.cast("B") for batch in self._batches]
        self._first_rows = [0, *accumulate(batch.num_rows for batch in self._batches)]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map the file at `path`; DatasetNotFoundError, InvalidDatasetError."""
        return cls(map_dataset(path))

    def rows_after(self, checkpoint: bytes | None) -> RowsAfter:
        """Return the rows whose id is strictly greater than `checkpoint`; None: all rows."""
        if checkpoint is None:
            position = Position(0, 0, found=True)
        else:
            position = first_row_after(checkpoint, self._ids)
        skipped = self._first_rows[position.batch] + position.row
        return RowsAfter(self.info.rows - skipped, position.found, self._parts_from(position))

    def _parts_from(self, position: Position) -> Iterator[BatchRows]:
        for number in range(position.batch, len(self._batches)):
            first_row = position.row if number == position.batch else 0
            yield BatchRows(number, self._batches[number], first_row)

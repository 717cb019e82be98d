"""Record batches to blocks of messages, a bounded number of bytes at a time.

A stream holds one block in memory. Joined, that is what goes over the wire; gathered, the
vectors stay in the mapped file, and a block of as many bytes has eight times the rows.
RowTooLargeError for a row that no message may carry, after all rows before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamer.chunking import chunk_starts, pieces, regrouped
from streamer.codec.frames import PREFIX_BYTES
from streamer.errors import RowTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from streamer.codec.frames import Frames, GatheredFrames
    from streamer.dataset import OpenDataset
    from streamer.store import BatchRows, RowsAfter

# Bytes encoded at a time, which is what a stream holds in memory: 650 rows of 1.6 KB.
# 4 MiB streamed no faster (within noise) and took 30 MB more at four streams; 512 KiB
# was slower.
BLOCK_BYTES = 1 << 20
# What a row of a gathered block takes beside its head, once it is on its way: addresses and
# lengths of both its parts, and where they end in the block, twice (whole, and as frames).
_GATHERED_ROW_BYTES = 96


class Blocks:
    """Cuts the rows of a dataset into blocks.

    `gathered`: blocks are GatheredFrames where the dataset allows it, else JoinedFrames.
    """

    def __init__(self, dataset: OpenDataset, *, max_message_bytes: int, gathered: bool) -> None:
        self._dataset = dataset
        self._max_message_bytes = max_message_bytes
        self._tail_bytes = dataset.rows.tail_bytes
        self._gathered = gathered and self._tail_bytes > 0

    def of_rows(self, rows: RowsAfter) -> Iterator[Frames]:
        """Yield blocks in which each row is a message."""
        for part in rows.parts:
            sizes = self._dataset.rows.sizes(part.batch)
            stop = part.first_row + self._fitting_rows(sizes[part.first_row :])
            yield from self._row_blocks(part, stop, sizes + PREFIX_BYTES)
            self._refuse_row(part.batch, stop, sizes)

    def of_chunks(self, rows: RowsAfter, chunk_rows: int) -> Iterator[Frames]:
        """Yield blocks in which `chunk_rows` rows are a message, fewer if it got too large."""
        encoder = self._dataset.chunks
        encode = encoder.gather if self._gathered else encoder.encode
        for batch in regrouped(rows.slices, chunk_rows):
            sizes = encoder.sizes(batch)
            fitting = self._fitting_rows(sizes)
            starts = chunk_starts(sizes[:fitting], chunk_rows, self._max_message_bytes)
            ends = np.append(starts[1:], fitting)
            chunk_bytes = np.add.reduceat(self._held(sizes), starts) if fitting else starts
            for first, last in pieces(chunk_bytes, BLOCK_BYTES):
                start, stop = int(starts[first]), int(ends[last - 1])
                yield encode(batch.slice(start, stop - start), starts[first:last] - start)
            self._refuse_row(batch, fitting, sizes)

    def _row_blocks(self, part: BatchRows, stop: int, sizes: NDArray[np.int64]) -> Iterator[Frames]:
        if not self._tail_bytes:
            for first, end in pieces(sizes[part.first_row : stop], BLOCK_BYTES):
                begin = part.first_row + first
                yield self._dataset.rows.encode(part.batch.slice(begin, end - first))
            return
        # Cut from the batch's first row, wherever the stream begins: blocks are kept, and
        # serve every stream.
        held = sizes[:stop] + (_GATHERED_ROW_BYTES - self._tail_bytes)
        for begin, end in pieces(held, BLOCK_BYTES):
            if end <= part.first_row:
                continue
            block = self._kept(part, begin, end)
            first = max(part.first_row - begin, 0)
            if self._gathered:
                yield block.rows_between(first, block.rows) if first else block
                continue
            for start, last in pieces(sizes[begin + first : end], BLOCK_BYTES):
                yield block.rows_between(first + start, first + last).joined()

    def _kept(self, part: BatchRows, begin: int, end: int) -> GatheredFrames:
        def encode() -> GatheredFrames:
            return self._dataset.rows.gather(part.batch.slice(begin, end - begin))

        return self._dataset.heads.get(part.number, begin, encode)

    def _held(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bytes that rows of `sizes` bytes take while their block is sent."""
        return sizes + (_GATHERED_ROW_BYTES - self._tail_bytes) if self._gathered else sizes

    def _fitting_rows(self, sizes: NDArray[np.int64]) -> int:
        """Return how many rows come before the first that is too large for a message."""
        too_large = sizes > self._max_message_bytes
        return int(too_large.argmax()) if too_large.any() else len(sizes)

    def _refuse_row(self, batch: pa.RecordBatch, row: int, sizes: NDArray[np.int64]) -> None:
        if row < batch.num_rows:
            message = (
                f"row {batch.column('id')[row]} takes {sizes[row]} bytes, more than this "
                f"server's MAX_MESSAGE_SIZE of {self._max_message_bytes}"
            )
            raise RowTooLargeError(message)

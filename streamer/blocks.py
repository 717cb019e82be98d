"""Record batches to blocks of messages, a bounded number of bytes at a time.

A stream holds one block in memory. Joined, that is what goes over the wire; gathered, the
vectors stay in the mapped file, and a block of as many bytes has eight times the rows.
RowTooLargeError for a row that no message may carry, after all rows before it.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from streamer.chunking import chunk_starts, pieces, regrouped
from streamer.codec.frames import PREFIX_BYTES, prefixes
from streamer.errors import RowTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from streamer.codec.encode import ChunkEncoder, RowEncoder
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
    `parts`: blocks may begin and end within a message; gathered ones always may.
    """

    def __init__(
        self, dataset: OpenDataset, *, max_message_bytes: int, gathered: bool, parts: bool = False
    ) -> None:
        self._dataset = dataset
        self._max_message_bytes = max_message_bytes
        self._gathered = gathered and dataset.rows.tail_bytes > 0
        self._parts = parts and dataset.rows.tail_bytes > 0

    def of_rows(self, rows: RowsAfter) -> Iterator[Frames]:
        """Yield blocks in which each row is a message."""
        encoder = self._dataset.rows
        for part in rows.parts:
            sizes = encoder.sizes(part.batch) + PREFIX_BYTES
            stop = self._fitting_rows(sizes - PREFIX_BYTES, part.first_row)
            if self._gathered:
                yield from self._kept(part, stop, sizes, encoder)
            elif encoder.tail_bytes:
                for block in self._kept(part, stop, sizes, encoder):
                    yield from _joined_parts(block)
            else:
                for first, last in pieces(sizes[part.first_row : stop], BLOCK_BYTES):
                    yield encoder.encode(part.batch.slice(part.first_row + first, last - first))
            self._refuse_row(part.batch, stop, sizes - PREFIX_BYTES)

    def of_chunks(self, rows: RowsAfter, chunk_rows: int) -> Iterator[Frames]:
        """Yield blocks in which `chunk_rows` rows are a message, fewer if it got too large."""
        if self._gathered:
            yield from self._gathered_chunks(rows, chunk_rows)
        elif self._parts:
            for block in self._gathered_chunks(rows, chunk_rows):
                yield from _joined_parts(block)
        else:
            yield from self._joined_chunks(rows, chunk_rows)

    def _joined_chunks(self, rows: RowsAfter, chunk_rows: int) -> Iterator[Frames]:
        encoder = self._dataset.chunks
        for batch in regrouped(rows.slices, chunk_rows):
            sizes = encoder.sizes(batch)
            fitting = self._fitting_rows(sizes)
            starts = chunk_starts(sizes[:fitting], chunk_rows, self._max_message_bytes)
            ends = np.append(starts[1:], fitting)
            chunk_bytes = np.add.reduceat(sizes, starts) if fitting else starts
            for first, last in pieces(chunk_bytes, BLOCK_BYTES):
                start, stop = int(starts[first]), int(ends[last - 1])
                yield encoder.encode(batch.slice(start, stop - start), starts[first:last] - start)
            self._refuse_row(batch, fitting, sizes)

    def _gathered_chunks(self, rows: RowsAfter, chunk_rows: int) -> Iterator[GatheredFrames]:
        encoder = self._dataset.chunks
        left = rows.rows
        # Rows of a chunk that goes on in the next record batch: its prefix says how long it
        # is, so they wait for that.
        waiting: list[GatheredFrames] = []
        waiting_sizes = np.zeros(0, np.int64)
        for part in rows.parts:
            sizes = encoder.sizes(part.batch)
            stop = self._fitting_rows(sizes, part.first_row)
            blocks = chain(waiting, self._kept(part, stop, sizes, encoder))
            known = np.append(waiting_sizes, sizes[part.first_row : stop])
            left -= part.batch.num_rows - part.first_row
            is_end = not left or stop < part.batch.num_rows
            whole = len(known) - (0 if is_end else len(known) % chunk_rows)
            starts = chunk_starts(known[:whole], chunk_rows, self._max_message_bytes)
            chunk_prefixes = prefixes(np.add.reduceat(known[:whole], starts) if whole else starts)
            waiting, waiting_sizes = [], known[whole:]
            row = 0
            for block in blocks:
                fitting = min(max(whole - row, 0), block.rows)
                first, last = starts.searchsorted((row, row + fitting))
                if fitting:
                    ready = block.rows_between(0, fitting)
                    yield ready.begun_at(starts[first:last] - row, chunk_prefixes[first:last])
                if fitting < block.rows:
                    waiting.append(block.rows_between(fitting, block.rows))
                row += block.rows
            self._refuse_row(part.batch, stop, sizes)

    def _kept(
        self,
        part: BatchRows,
        stop: int,
        sizes: NDArray[np.int64],
        encoder: RowEncoder | ChunkEncoder,
    ) -> Iterator[GatheredFrames]:
        """Yield the rows of `part` up to `stop` as gathered blocks, kept or made now.

        Blocks are cut from the batch's first row, wherever the stream begins, so that they
        are the same for every stream.
        """
        held = sizes[:stop] + (_GATHERED_ROW_BYTES - encoder.tail_bytes)
        for begin, end in pieces(held, BLOCK_BYTES):
            if end > part.first_row:
                key = (encoder, part.number, begin, end)
                batch = part.batch.slice(begin, end - begin)
                block = self._dataset.heads.get(key, partial(encoder.gather, batch))
                first = max(part.first_row - begin, 0)
                yield block.rows_between(first, block.rows) if first else block

    def _fitting_rows(self, sizes: NDArray[np.int64], first_row: int = 0) -> int:
        """Return the first row from `first_row` on that is too large, else their end."""
        too_large = sizes[first_row:] > self._max_message_bytes
        return first_row + int(too_large.argmax()) if too_large.any() else len(sizes)

    def _refuse_row(self, batch: pa.RecordBatch, row: int, sizes: NDArray[np.int64]) -> None:
        if row < batch.num_rows:
            message = (
                f"row {batch.column('id')[row]} takes {sizes[row]} bytes, more than this "
                f"server's MAX_MESSAGE_SIZE of {self._max_message_bytes}"
            )
            raise RowTooLargeError(message)


def _joined_parts(block: GatheredFrames) -> Iterator[Frames]:
    """Join a block part by part: it has more rows than a joined one may have."""
    for first, last in pieces(block.row_sizes(), BLOCK_BYTES):
        yield block.rows_between(first, last).joined()

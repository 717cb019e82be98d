"""What UploadEmbeddings answers, whatever carries it: rows into a sink, failures named.

Rows are stored a block at a time, as they come, and stay stored whatever happens to the
rest of the call: a sender that calls again changes nothing that is there already. While a
block is being stored the next one is taken and checked, and no more. StreamerError: what
the sender is told instead of a result.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from proto import embedding_stream_pb2 as pb
from streamer.codec.message_run import MessageRun
from streamer.errors import Status, StreamerError
from streamer.memory_room import MemoryRoom
from streamer.row_check import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from streamer.row_check import CheckedRows, RejectedRow
    from streamer.service import Caller

_log = logging.getLogger(__name__)

# The counters of UploadResult are int32.
_MAX_ROWS = 2**31 - 1
# A block of messages becomes columns, and is checked: what that takes for each byte of it.
_WORK_PER_BYTE = 3
# gRPC clients take answers of 4 MiB unless told otherwise.
_MAX_FAILED_ID_BYTES = 3 << 20


class TooManyRowsError(StreamerError):
    """One call sent more rows than its result could count."""

    status = Status.OUT_OF_RANGE


class RowSink(Protocol):
    """Where the rows of one call go. `dimension` is floats per vector, None while unknown."""

    dimension: int | None

    def write(self, rows: CheckedRows) -> list[RejectedRow]:
        """Store sound rows, and keep the others; return those that it refuses itself."""


class UploadService:
    """EmbeddingUploadService over a sink that is opened for each call.

    `block_bytes` of messages are stored at a time. May be shared between threads.
    """

    # How often health looks: a connection to the database each time.
    check_seconds = 5.0

    def __init__(
        self,
        open_sink: Callable[[], AbstractContextManager[RowSink]],
        *,
        block_bytes: int,
        max_rows: int = _MAX_ROWS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_sink = open_sink
        self._block_bytes = block_bytes
        self._max_rows = max_rows
        self._clock = clock
        self._room = MemoryRoom()

    def check(self) -> None:
        """Raise what calls would be answered now for want of somewhere to store rows."""
        with self._open_sink():
            pass

    def upload_embeddings(self, runs: Iterable[MessageRun], caller: Caller) -> pb.UploadResult:
        """Store every message that is a sound row; name those that aren't."""
        begin = self._clock()
        result = pb.UploadResult()
        ahead = ThreadPoolExecutor(1, "upload")
        try:
            with self._open_sink() as sink:
                blocks = self._checked(runs, sink.dimension)
                checked = next(blocks, None)
                while checked is not None:
                    coming = ahead.submit(next, blocks, None)
                    refused = sink.write(checked)
                    _add(result, checked.accepted - len(refused), [*checked.rejected, *refused])
                    checked = coming.result()
        finally:
            # It may be waiting for the sender, who is to hear of a failure first; with the
            # end of the call it ends.
            ahead.shutdown(wait=False)
        seconds = max(self._clock() - begin, 1e-9)
        _log.info(
            "UploadEmbeddings from %s: %s rows in %.2f s (%s rows/s), %s failed",
            caller.peer, f"{result.total_count:,}", seconds,
            f"{result.total_count / seconds:,.0f}", f"{result.failed_count:,}",
        )  # fmt: skip
        return result

    def _checked(self, runs: Iterable[MessageRun], dimension: int | None) -> Iterator[CheckedRows]:
        rows = 0
        for block in blocks_of(runs, self._block_bytes):
            rows += len(block)
            if rows > self._max_rows:
                message = f"a call takes {self._max_rows:,} rows; send the rest in another"
                raise TooManyRowsError(message)
            with self._room.promised(_WORK_PER_BYTE * block.held_bytes):
                checked = check_rows(block, dimension)
            if checked.batch is not None:
                dimension = checked.batch.schema.field("vector").type.list_size
            yield checked


def blocks_of(runs: Iterable[MessageRun], block_bytes: int) -> Iterator[MessageRun]:
    """Put runs together to blocks of at least `block_bytes`, but for the last."""
    held: list[MessageRun] = []
    size = 0
    for run in runs:
        held.append(run)
        size += run.held_bytes
        if size >= block_bytes:
            yield MessageRun.joined(held)
            held, size = [], 0
    if held:
        yield MessageRun.joined(held)


def _add(result: pb.UploadResult, stored: int, rejected: list[RejectedRow]) -> None:
    result.total_count += stored + len(rejected)
    result.success_count += stored
    result.failed_count += len(rejected)
    room = _MAX_FAILED_ID_BYTES - result.ByteSize()
    for row in rejected:
        room -= len(row.id.encode()) + 3
        if room < 0:
            break  # the counters tell, and the sink has kept all of them
        result.failed_ids.append(row.id)

"""One read as both clients make it: what to call, and how long each call may take."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from proto import embedding_stream_pb2 as pb
from streamer.client.chunk_rows import ChunkRows
from streamer.client.decoding import (
    DEFAULT_BATCH_ROWS,
    ChunkMessages,
    RowMessages,
    largest_row_bytes,
)
from streamer.client.failures import DeadlineError
from streamer.client.progress import DatasetHeaders, Progress
from streamer.errors import InvalidRequestError
from streamer.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from streamer.client.decoding import MessageDecoder
    from streamer.client.failures import Failure

_SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingStreamService"]


class Rpc(StrEnum):
    """Which method a read calls."""

    CHUNKS = "StreamEmbedding"
    ROWS = "GetEmbeddings"


@dataclass(frozen=True)
class ReadPolicy:
    """How patient a read is; times in seconds.

    A read ends after `max_tries` calls in a row without a new row. A single call may take
    `call_seconds`; one that brought rows before that is simply continued by the next.
    `on_retry` is told, as a text, why there is a pause.
    """

    max_tries: int = 10
    backoff: Backoff = field(default_factory=Backoff)
    call_seconds: float = 300.0
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic
    on_retry: Callable[[str], None] = lambda _: None


class Reading:
    """The calls of one read, one after another."""

    def __init__(
        self,
        policy: ReadPolicy,
        *,
        after: str,
        chunk_size: int,
        max_chunk_bytes: int,
        rpc: Rpc,
        must_exist: bool,
        fingerprint: str | None,
        deadline_seconds: float | None,
    ) -> None:
        self.progress = Progress(
            after,
            max_tries=policy.max_tries,
            backoff=policy.backoff,
            jitter=policy.jitter,
            fingerprint=fingerprint,
            on_retry=policy.on_retry,
        )
        if not 0 <= chunk_size < 1 << 31:  # what the request can say; the server knows its limit
            message = f"chunk_size {chunk_size} is no number of rows"
            raise InvalidRequestError(message)
        self.method = f"/{_SERVICE.full_name}/{rpc}"
        self.metadata: tuple[tuple[str, str], ...] = (
            (("checkpoint-policy", "must-exist"),) if must_exist else ()
        )
        self._policy = policy
        self._chunk_rows = ChunkRows(chunk_size, max_chunk_bytes)
        self._adapts = rpc is Rpc.CHUNKS
        self._seconds = deadline_seconds
        self._ends_at = None if deadline_seconds is None else policy.clock() + deadline_seconds
        self._decoder: MessageDecoder = (
            ChunkMessages()
            if rpc is Rpc.CHUNKS
            else RowMessages(chunk_size or DEFAULT_BATCH_ROWS, max_chunk_bytes)
        )
        self.headers = DatasetHeaders()
        self.wants_other_chunks = False

    def request(self) -> pb.RequestParams:
        """Return the request for the rows that are still to come."""
        return pb.RequestParams(
            last_processed_uuid=self.progress.after, chunk_size=self._chunk_rows.rows
        )

    def call_seconds(self) -> float:
        """Return how long the next call may take; DeadlineError if there is no time left."""
        if self._ends_at is None:
            return self._policy.call_seconds
        left = self._ends_at - self._policy.clock()
        if left <= 0:
            message = f"not finished within {self._seconds:g} s"
            raise DeadlineError(message)
        return min(left, self._policy.call_seconds)

    def begin(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Take note of a call's headers; DatasetChangedError, RowOrderError."""
        self.wants_other_chunks = False
        headers = DatasetHeaders.from_metadata(dict(metadata))
        self.progress.begin(headers)
        if self.headers == DatasetHeaders():  # those after it tell of what is left then
            self.headers = headers

    def add(self, message: bytes) -> pa.RecordBatch | None:
        """Take a message; return the rows that are to be delivered now, if any.

        Afterwards `wants_other_chunks` says whether the rest is to be asked for anew.
        """
        batch = self._deliver(self._decoder.add(message))
        if batch and self._adapts and not self.progress.is_complete:
            self.wants_other_chunks = self._chunk_rows.adapt(
                batch.num_rows, len(message), lambda: largest_row_bytes(batch)
            )
        return batch

    def rest(self) -> pa.RecordBatch | None:
        """Return the rows to be delivered when a call is over, however it ended."""
        return self._deliver(self._decoder.rest())

    def end(self) -> float | None:
        """As `fail`, for a call that ended with OK, or was left as `wants_other_chunks` says."""
        return 0.0 if self.wants_other_chunks else self._pause(self.progress.end())

    def fail(self, failure: Failure) -> float | None:
        """Return the seconds to wait before the next call; None if the read is over."""
        return self._pause(self.progress.fail(failure))

    def _pause(self, seconds: float | None) -> float | None:
        if seconds is None or self._ends_at is None:
            return seconds
        return min(seconds, max(0.0, self._ends_at - self._policy.clock()))

    def _deliver(self, batch: pa.RecordBatch | None) -> pa.RecordBatch | None:
        return None if batch is None else self.progress.deliver(batch)

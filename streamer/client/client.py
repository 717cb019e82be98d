"""Reads a dataset from a server as record batches, blocking; `aio` is the same for asyncio.

    with EmbeddingClient("host:50051") as client:
        for batch in client.batches(after=last_id):
            ...

A read goes on by itself over lost connections, resets and deadlines of single calls, each
time after the last row that the caller was given; see `ReadPolicy` for how long, and
`failures` for what ends it.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import grpc

from proto import embedding_stream_pb2 as pb
from streamer.client.advice import Advice
from streamer.client.channel import DEFAULT_MAX_MESSAGE_BYTES, failure_of, open_channel
from streamer.client.failures import CLOSED, ClosedError, failure_to_repeat
from streamer.client.reading import Reading, ReadPolicy, Rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import pyarrow as pa

    from streamer.client.progress import DatasetHeaders


class BatchStream:
    """The record batches of one read, in order; iterate, then close.

    Their schema is `streamer.batch_schema.batch_schema`. Iteration raises ReadError,
    DecodeError. May be shared between threads, which then take turns.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        reading: Reading,
        advice: Advice,
        sleep: Callable[[float], object] | None,
    ) -> None:
        self._reading = reading
        self._advice = advice
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait  # a close ends every pause
        self._method: grpc.UnaryStreamMultiCallable[pb.RequestParams, bytes] = channel.unary_stream(
            reading.method, pb.RequestParams.SerializeToString, response_deserializer=None
        )
        self._call: grpc.Call | None = None
        self._turn = threading.Lock()  # whose it is reads
        self._batches = self._read()
        self._ahead: list[pa.RecordBatch] = []
        self._has_begun = False
        self._has_ended = False
        self._failure: Exception | None = None

    @property
    def dataset(self) -> DatasetHeaders:
        """What the server says of its dataset; waits for the first rows."""
        if not self._has_begun:
            with self._turn, contextlib.suppress(StopIteration):
                if not self._has_begun:  # nor by somebody who had the turn
                    self._ahead.append(self._next())
        if self._failure is not None:
            raise self._failure
        return self._reading.headers

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        with self._turn:
            return self._ahead.pop() if self._ahead else self._next()

    def close(self) -> None:
        """End the read; harmless if it has ended.

        Who waits for rows, or asks for more of them, gets ClosedError.
        """
        self.break_off()
        if self._turn.acquire(blocking=False):  # else its owner ends what is broken off
            try:
                self._batches.close()
                self._ahead.clear()
                if not self._has_ended:
                    self._failure = self._failure or ClosedError(CLOSED)
            finally:
                self._turn.release()

    def break_off(self) -> None:
        """End the call or the pause that the read is in."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def _next(self) -> pa.RecordBatch:
        """Return the next batch; a read that has failed fails again, and never just ends."""
        if self._failure is not None:
            raise self._failure
        try:
            batch = next(self._batches)
        except StopIteration:
            self._has_begun = self._has_ended = True
            raise
        except BaseException as error:
            self._failure = failure_to_repeat(error)
            raise
        self._has_begun = True
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Generator[pa.RecordBatch, None, None]:
        reading = self._reading
        pause: float | None = 0.0
        while pause is not None:
            if pause:
                self._sleep(pause)
            call = self._begin_call()
            failure = None
            try:
                reading.begin(call.initial_metadata())
                for message in call:
                    if batch := reading.add(message):
                        del message  # large, and not needed while the caller is at work
                        yield batch
                    del batch  # nor while the next one comes
                    if reading.wants_other_chunks:
                        break
            except grpc.RpcError as error:
                if self._closed.is_set():
                    raise ClosedError(CLOSED) from None
                failure = self._advice.added_to(failure_of(error))
            finally:
                call.cancel()
            if batch := reading.rest():
                yield batch
            pause = reading.end() if failure is None else reading.fail(failure)

    def _begin_call(self) -> Any:  # noqa: ANN401 - a call and an iterator: gRPC has no name for it
        self._check_open()
        request, seconds = self._reading.request(), self._reading.call_seconds()
        try:
            self._call = call = self._method(
                request, timeout=seconds, metadata=self._reading.metadata
            )
        except ValueError:  # so says a channel that is closed
            raise ClosedError(CLOSED) from None
        self._check_open()  # a close that came before `_call` was set
        return call

    def _check_open(self) -> None:
        if self._closed.is_set():
            self.break_off()
            raise ClosedError(CLOSED)


class EmbeddingClient:
    """A connection to a server's EmbeddingStreamService; may be shared between threads.

    `target` is HOST:PORT; `credentials` (see `channel.tls_credentials`) make it TLS.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        policy: ReadPolicy = ReadPolicy(),  # noqa: B008 - immutable
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._channel = open_channel(target, credentials, max_message_bytes)
        self._advice = Advice(target, credentials)
        self._policy = policy
        self._sleep = sleep
        self._lock = threading.RLock()
        self._streams: WeakSet[BatchStream] = WeakSet()

    def batches(
        self,
        after: str = "",
        chunk_size: int = 0,
        *,
        max_chunk_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        rpc: Rpc = Rpc.CHUNKS,
        must_exist: bool = False,
        fingerprint: str | None = None,
        deadline_seconds: float | None = None,
    ) -> BatchStream:
        """Return the rows whose id comes after `after`, or all of them.

        `chunk_size`: rows a record batch, 0 for the server's default. `max_chunk_bytes`: once
        the server has sent a larger chunk, make another call for the rest, with fewer rows a
        chunk; of single rows, how many bytes make a batch. `must_exist`: refuse an `after` that
        is not a row. `fingerprint`: refuse any other dataset. Raises InvalidRequestError for
        an `after` that is no id.
        """
        reading = Reading(
            self._policy,
            after=after,
            chunk_size=chunk_size,
            max_chunk_bytes=max_chunk_bytes,
            rpc=rpc,
            must_exist=must_exist,
            fingerprint=fingerprint,
            deadline_seconds=deadline_seconds,
        )
        stream = BatchStream(self._channel, reading, self._advice, self._sleep)
        with self._lock:
            self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Close the connection; reads under way end."""
        with self._lock:
            for stream in self._streams:
                stream.break_off()
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

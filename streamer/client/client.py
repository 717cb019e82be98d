"""Reads a dataset from a server as record batches, blocking; `aio` is the same for asyncio.

    with EmbeddingClient("host:50051") as client:
        for batch in client.batches(after=last_id):
            ...

A read goes on by itself over lost connections, resets and deadlines of single calls, each
time after the last row that the caller was given; see `ReadPolicy` for how long, and
`failures` for what ends it.
"""

from __future__ import annotations

import threading
from itertools import chain, islice
from typing import TYPE_CHECKING, Self

import grpc

from proto import embedding_stream_pb2 as pb
from streamer.client.channel import DEFAULT_MAX_MESSAGE_BYTES, channel_options, failure_of
from streamer.client.failures import CLOSED, ClosedError
from streamer.client.reading import Reading, ReadPolicy, Rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import pyarrow as pa

    from streamer.client.progress import DatasetHeaders


class BatchStream:
    """The record batches of one read, in order; iterate, then close.

    Their schema is `streamer.client.decoding.batch_schema`. Iteration raises ReadError,
    DecodeError.
    """

    def __init__(
        self, channel: grpc.Channel, reading: Reading, sleep: Callable[[float], object]
    ) -> None:
        self._reading = reading
        self._sleep = sleep
        self._method: grpc.UnaryStreamMultiCallable[pb.RequestParams, bytes] = channel.unary_stream(
            reading.method, pb.RequestParams.SerializeToString, response_deserializer=None
        )
        self._read_on = self._read()
        self._batches: Iterator[pa.RecordBatch] = self._read_on
        self._has_begun = False

    @property
    def dataset(self) -> DatasetHeaders:
        """What the server says of its dataset; waits for the first rows."""
        if not self._has_begun:
            self._has_begun = True
            first = list(islice(self._read_on, 1))
            self._batches = chain(first, self._read_on)
        return self._reading.headers

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        self._has_begun = True
        return next(self._batches)

    def close(self) -> None:
        """End the read; harmless if it has ended."""
        self._read_on.close()
        self._batches = self._read_on  # without what was read ahead

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
            request, seconds = reading.request(), reading.call_seconds()
            try:
                call = self._method(request, timeout=seconds, metadata=reading.metadata)
            except ValueError:  # so says a channel that is closed
                raise ClosedError(CLOSED) from None
            try:
                reading.begin(call.initial_metadata())
                for message in call:
                    if batch := reading.add(message):
                        yield batch
                if batch := reading.rest():
                    yield batch
                pause = reading.end()
            except grpc.RpcError as error:
                if batch := reading.rest():
                    yield batch
                pause = reading.fail(failure_of(error))
            finally:
                call.cancel()


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
        options = channel_options(max_message_bytes)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._policy = policy
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait  # a close ends every pause

    def batches(
        self,
        after: str = "",
        chunk_size: int = 0,
        *,
        rpc: Rpc = Rpc.CHUNKS,
        must_exist: bool = False,
        fingerprint: str | None = None,
        deadline_seconds: float | None = None,
    ) -> BatchStream:
        """Return the rows whose id comes after `after`, or all of them.

        `chunk_size`: rows a record batch, 0 for the server's default. `must_exist`: refuse
        an `after` that is not a row. `fingerprint`: refuse any other dataset. Raises
        InvalidRequestError for an `after` that is no id.
        """
        reading = Reading(
            self._policy,
            after=after,
            chunk_size=chunk_size,
            rpc=rpc,
            must_exist=must_exist,
            fingerprint=fingerprint,
            deadline_seconds=deadline_seconds,
        )
        return BatchStream(self._channel, reading, self._sleep)

    def close(self) -> None:
        """Close the connection; reads under way end."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The asyncio client: as `client`, with `async with` and `async for`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import grpc
import grpc.aio

from proto import embedding_stream_pb2 as pb
from streamer.client.advice import Advice
from streamer.client.channel import DEFAULT_MAX_MESSAGE_BYTES, channel_options, failure_of
from streamer.client.failures import CLOSED, ClosedError, failure_to_repeat
from streamer.client.reading import Reading, ReadPolicy, Rpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    import pyarrow as pa

    from streamer.client.progress import DatasetHeaders


class AsyncBatchStream:
    """The record batches of one read, in order; see `client.BatchStream`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        reading: Reading,
        advice: Advice,
        sleep: Callable[[float], Awaitable[object]] | None,
    ) -> None:
        self._reading = reading
        self._advice = advice
        self._closed = asyncio.Event()
        self._sleep = sleep or self._pause
        self._method: grpc.aio.UnaryStreamMultiCallable[pb.RequestParams, bytes] = (
            channel.unary_stream(
                reading.method, pb.RequestParams.SerializeToString, response_deserializer=None
            )
        )
        self._call: grpc.aio.Call | None = None
        self._turn = asyncio.Lock()  # whose it is reads
        self._batches = self._read()
        self._ahead: list[pa.RecordBatch] = []
        self._has_begun = False
        self._has_ended = False
        self._failure: Exception | None = None

    async def dataset(self) -> DatasetHeaders:
        """Return what the server says of its dataset; waits for the first rows."""
        if not self._has_begun:
            async with self._turn:
                if not self._has_begun:  # nor by somebody who had the turn
                    with contextlib.suppress(StopAsyncIteration):
                        self._ahead.append(await self._next())
        if self._failure is not None:
            raise self._failure
        return self._reading.headers

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        async with self._turn:
            return self._ahead.pop() if self._ahead else await self._next()

    async def close(self) -> None:
        """End the read; harmless if it has ended.

        Who waits for rows, or asks for more of them, gets ClosedError.
        """
        self.break_off()
        if not self._turn.locked():  # else its owner ends what is broken off
            async with self._turn:
                await self._batches.aclose()
                self._ahead.clear()
                if not self._has_ended:
                    self._failure = self._failure or ClosedError(CLOSED)

    def break_off(self) -> None:
        """End the call or the pause that the read is in."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    async def _next(self) -> pa.RecordBatch:
        """Return the next batch; a read that has failed, or whose task was cancelled, is over."""
        if self._failure is not None:
            raise self._failure
        try:
            batch = await anext(self._batches)
        except StopAsyncIteration:
            self._has_begun = self._has_ended = True
            raise
        except BaseException as error:
            self._failure = failure_to_repeat(error)
            raise
        self._has_begun = True
        return batch

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until a close."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self) -> AsyncGenerator[pa.RecordBatch, None]:
        reading = self._reading
        pause: float | None = 0.0
        while pause is not None:
            if pause:
                await self._sleep(pause)
            if self._closed.is_set():
                raise ClosedError(CLOSED)
            with _closed_client():
                self._call = call = self._method(
                    reading.request(), timeout=reading.call_seconds(), metadata=reading.metadata
                )
            failure = None
            try:
                with _closed_client():
                    reading.begin(await call.initial_metadata())
                    async for message in call:
                        if batch := reading.add(message):
                            del message  # large, and not needed while the caller is at work
                            yield batch
                        del batch  # nor while the next one comes
                        if reading.wants_other_chunks:
                            break
            except grpc.RpcError as error:
                failure = await asyncio.to_thread(self._advice.added_to, failure_of(error))
            finally:
                call.cancel()
                # The frame of a failed read is kept by its error, and a call keeps the channel:
                # it would go on connecting after its close.
                self._call = None
                del call
            if batch := reading.rest():
                yield batch
            pause = reading.end() if failure is None else reading.fail(failure)


@contextlib.contextmanager
def _closed_client() -> Iterator[None]:
    """Tell the end of the call from the end of the task, which is cancelled in either case."""
    try:
        yield
    except grpc.aio.UsageError:  # no calls on a channel that is closed
        raise ClosedError(CLOSED) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ClosedError(CLOSED) from None


class AsyncEmbeddingClient:
    """As `client.EmbeddingClient`, for one event loop."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        policy: ReadPolicy = ReadPolicy(),  # noqa: B008 - immutable
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        options = channel_options(max_message_bytes)
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._advice = Advice(target, credentials)
        self._policy = policy
        self._sleep = sleep
        self._streams: WeakSet[AsyncBatchStream] = WeakSet()

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
    ) -> AsyncBatchStream:
        """Return the rows whose id comes after `after`; as `EmbeddingClient.batches`."""
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
        stream = AsyncBatchStream(self._channel, reading, self._advice, self._sleep)
        self._streams.add(stream)
        return stream

    async def close(self) -> None:
        """Close the connection; reads under way end."""
        for stream in self._streams:
            stream.break_off()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

"""Both clients behind one blocking face, with a clock and a sleep of the test's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from streamer.client import AsyncEmbeddingClient, EmbeddingClient, ReadPolicy
from streamer.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pyarrow as pa

    from streamer.client import AsyncBatchStream
    from streamer.client.progress import DatasetHeaders

CLIENTS = ["sync", "async"]

_T = TypeVar("_T")


class Clock:
    """Time that passes only in `sleep`; `waits` are the seconds of each."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class BlockingStream:
    """An AsyncBatchStream, whose loop runs while somebody waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: AsyncBatchStream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def dataset(self) -> DatasetHeaders:
        return self._loop.run_until_complete(self._stream.dataset())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        async def step() -> pa.RecordBatch | None:
            return await anext(self._stream, None)

        batch = self._loop.run_until_complete(step())
        if batch is None:
            raise StopIteration
        return batch

    def close(self) -> None:
        async def close() -> None:
            await self._stream.close()
            await asyncio.sleep(0.05)  # a cancelled call says so when the loop goes on

        self._loop.run_until_complete(close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlockingClient:
    """An AsyncEmbeddingClient, to be used like an EmbeddingClient."""

    def __init__(self, target: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._run(self._connect(target, **options))

    @staticmethod
    async def _connect(target: str, **options: Any) -> AsyncEmbeddingClient:
        sleep: Callable[[float], object] | None = options.pop("sleep", None)
        if sleep is None:
            return AsyncEmbeddingClient(target, **options)

        async def pause(seconds: float) -> None:
            sleep(seconds)

        return AsyncEmbeddingClient(target, sleep=pause, **options)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(work)

    def batches(self, *arguments: Any, **options: Any) -> BlockingStream:
        async def begin() -> AsyncBatchStream:
            return self._client.batches(*arguments, **options)

        return BlockingStream(self._loop, self._run(begin()))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Client = EmbeddingClient | BlockingClient


def connect(
    kind: str,
    target: str,
    *,
    clock: Clock | None = None,
    max_tries: int = 3,
    backoff: Backoff | None = None,
    jitter: Callable[[], float] = lambda: 0.0,
    call_seconds: float = 120.0,
    on_retry: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Client:
    """Return a client of either kind which sleeps by `clock`, or not at all."""
    clock = clock or Clock()
    policy = ReadPolicy(
        max_tries=max_tries,
        backoff=backoff or Backoff(),
        call_seconds=call_seconds,
        jitter=jitter,
        clock=clock,
        on_retry=on_retry,
    )
    make = EmbeddingClient if kind == "sync" else BlockingClient
    return make(target, **{"policy": policy, "sleep": clock.sleep, **options})

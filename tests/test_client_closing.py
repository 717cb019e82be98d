"""How reads end before their end: somebody closes them, or stops taking rows."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from proto import embedding_stream_pb2 as pb
from streamer.client import AsyncEmbeddingClient, EmbeddingClient
from streamer.client.failures import ReadError, RowOrderError
from tests.clients import CLIENTS, connect
from tests.scripted_server import (
    Action,
    Fail,
    Headers,
    Raw,
    Rows,
    ScriptedServer,
    Sound,
    Wait,
    embeddings,
)
from tests.wire_peer import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.client import AsyncBatchStream, BatchStream

_QUICK_SECONDS = 3.0


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer(embeddings(8)) as server:
        yield server


def _endless() -> list[Action]:
    return [Headers(8), Rows(0, 2), Rows(2, 4), Wait(threading.Event()), Rows(4, 8)]


def test_close_in_mid_iteration_cancels_the_call(scripted: ScriptedServer, kind: str) -> None:
    """Closing the stream, or leaving its `with`; the server is told."""
    with connect(kind, scripted.target) as client:
        scripted.play(_endless(), _endless())
        stream = client.batches()
        next(stream)
        assert not scripted.calls[0].over.is_set()
        stream.close()
        assert scripted.calls[0].is_broken_off()
        with client.batches() as stream:
            next(stream)
        assert scripted.calls[1].is_broken_off()
    assert 2 == len(scripted.calls)


def test_read_that_fails_cancels_its_call(scripted: ScriptedServer, kind: str) -> None:
    """Also while somebody keeps the error, and with it all that the read had."""
    scripted.play([Rows(2, 4), Rows(0, 2), Wait(threading.Event())])
    with connect(kind, scripted.target) as client:
        stream = client.batches()
        with pytest.raises(RowOrderError) as failure:
            list(stream)
        stream.close()
        assert scripted.calls[0].is_broken_off()
    del failure


def test_close_after_a_look_at_the_dataset_cancels_the_call(
    scripted: ScriptedServer, kind: str
) -> None:
    """Nothing comes from a stream that was closed, nor what it had taken by then."""
    scripted.play(_endless())
    with connect(kind, scripted.target) as client:
        stream = client.batches()
        assert 8 == stream.dataset.rows_remaining
        stream.close()
        assert scripted.calls[0].is_broken_off()
        assert [] == list(stream)


def test_slow_consumer_holds_the_server_back(kind: str) -> None:
    """What nobody takes stays where it is: not the dataset is buffered, but windows."""
    row = embeddings(1, dimension=1)[0]
    messages = 300
    with ScriptedServer([]) as server:
        chunks: list[Action] = []
        for number in range(messages):
            row.id = str(UUID(int=number + 1))
            row.company_name = "x" * 250_000
            chunks.append(Raw(pb.RowChunk(rows=[row]).SerializeToString()))
        server.play(chunks)
        with connect(kind, server.target) as client:
            stream = client.batches()
            for _ in range(3):
                next(stream)
            call = server.calls[0]
            seen = -1

            def has_stopped() -> bool:
                nonlocal seen
                seen, before = call.messages, seen
                time.sleep(0.1)
                return seen == before

            assert eventually(has_stopped)
            assert call.messages < messages / 2
            assert messages == 3 + sum(1 for _ in stream)


_UNDER_WAY: dict[str, list[Action]] = {
    "in a call": _endless(),
    "before headers": [Wait(threading.Event())],
    "in a pause": [Headers(8), Rows(0, 2), Fail(retry_seconds=60)],
}


def _close_soon(client: EmbeddingClient, server: ScriptedServer) -> threading.Thread:
    """Close the client from another thread, when the read waits."""

    def close() -> None:
        eventually(lambda: server.calls)
        time.sleep(0.2)
        client.close()

    thread = threading.Thread(target=close)
    thread.start()
    return thread


@pytest.mark.parametrize("script", _UNDER_WAY.values(), ids=list(_UNDER_WAY))
def test_closing_the_client_ends_reads_of_other_threads(
    scripted: ScriptedServer, script: list[Action]
) -> None:
    """At once, also in a pause, and with an error of the client's own: rows are missing."""
    scripted.play(script, [Sound()])
    client = EmbeddingClient(scripted.target)
    stream = client.batches()
    begin = time.monotonic()
    thread = _close_soon(client, scripted)
    with pytest.raises(ReadError):
        list(stream)
    thread.join()

    assert time.monotonic() - begin < _QUICK_SECONDS
    assert 1 == len(scripted.calls)
    assert scripted.calls[0].over.wait(_QUICK_SECONDS)


@pytest.mark.parametrize("script", _UNDER_WAY.values(), ids=list(_UNDER_WAY))
def test_closing_the_async_client_ends_reads_of_other_tasks(
    scripted: ScriptedServer, script: list[Action]
) -> None:
    """As with threads; a task that reads isn't cancelled by it."""
    scripted.play(script, [Sound()])

    async def read_on(stream: AsyncBatchStream) -> None:
        async for _ in stream:
            pass

    async def close_soon() -> None:
        client = AsyncEmbeddingClient(scripted.target)
        task = asyncio.create_task(read_on(client.batches()))
        assert await asyncio.to_thread(eventually, lambda: scripted.calls)
        await asyncio.sleep(0.2)
        await client.close()
        await asyncio.wait([task], timeout=_QUICK_SECONDS)
        is_done, is_cancelled = task.done(), task.cancelled()
        task.cancel()
        assert is_done
        assert not is_cancelled
        with pytest.raises(ReadError):
            await task

    asyncio.run(close_soon())
    assert 1 == len(scripted.calls)
    assert scripted.calls[0].over.wait(_QUICK_SECONDS)


def test_client_that_was_closed_reads_nothing(scripted: ScriptedServer, kind: str) -> None:
    """Closing it twice is harmless; reading is an error of the client's own."""
    scripted.play([Sound()])
    client = connect(kind, scripted.target)

    async def read() -> None:
        closed = AsyncEmbeddingClient(scripted.target)
        stream = closed.batches()
        await closed.close()
        await closed.close()
        with pytest.raises(ReadError):
            await anext(stream)

    if isinstance(client, EmbeddingClient):
        stream: BatchStream = client.batches()
        client.close()
        client.close()
        with pytest.raises(ReadError):
            next(stream)
    else:
        client.close()
        asyncio.run(read())
    assert [] == scripted.calls


def test_cancelled_task_cancels_its_call(scripted: ScriptedServer) -> None:
    """A task that waits for rows can be cancelled, as by a timeout; the server is told."""
    scripted.play(_endless())

    async def read() -> None:
        async with AsyncEmbeddingClient(scripted.target) as client, client.batches() as stream:
            async with asyncio.timeout(0.3):
                async for _ in stream:
                    pass

    with pytest.raises(TimeoutError):
        asyncio.run(read())
    assert scripted.calls[0].is_broken_off()


def test_pause_of_the_clients_own_is_real(scripted: ScriptedServer) -> None:
    """Without a sleep from outside, both clients wait for as long as was asked."""
    script: list[list[Action]] = [[Sound(limit=3), Fail(retry_seconds=0.3)], [Sound()]]
    scripted.play(*script)
    begin = time.monotonic()
    with EmbeddingClient(scripted.target) as client:
        assert 8 == sum(batch.num_rows for batch in client.batches())
    assert time.monotonic() - begin >= 0.3
    scripted.play(*script)

    async def read() -> int:
        async with AsyncEmbeddingClient(scripted.target) as client:
            return sum([batch.num_rows async for batch in client.batches()])

    begin = time.monotonic()
    assert 8 == asyncio.run(read())
    assert time.monotonic() - begin >= 0.3

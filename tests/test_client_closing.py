"""How reads end before their end: somebody closes them, or stops taking rows."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from proto import embedding_stream_pb2 as pb
from streamer.client import AsyncEmbeddingClient, EmbeddingClient, ReadPolicy
from streamer.client.failures import ClosedError, ReadError, RowOrderError
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
from tests.wire_peer import PATIENCE_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.client import AsyncBatchStream, BatchStream


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
    """No row comes from a stream that was closed, nor what it had taken by then; nor its end."""
    scripted.play(_endless())
    with connect(kind, scripted.target) as client:
        stream = client.batches()
        assert 8 == stream.dataset.rows_remaining
        stream.close()
        assert scripted.calls[0].is_broken_off()
        for _ in range(2):
            with pytest.raises(ClosedError):
                next(stream)


def test_close_after_the_end_leaves_it_the_end(scripted: ScriptedServer, kind: str) -> None:
    """No row is missing."""
    scripted.play([Sound()])
    with connect(kind, scripted.target) as client:
        stream = client.batches()
        assert 8 == sum(batch.num_rows for batch in stream)
        stream.close()
        stream.close()
        assert [] == list(stream)
        assert 8 == stream.dataset.rows_remaining


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
    "in a pause": [Headers(8), Rows(0, 2), Fail(retry_seconds=300)],  # much longer than patience
}


def _close_soon(what: EmbeddingClient | BatchStream, server: ScriptedServer) -> threading.Thread:
    """Close the client, or a read of it, from another thread, when the read waits."""

    def close() -> None:
        eventually(lambda: server.calls)
        time.sleep(0.2)
        what.close()

    thread = threading.Thread(target=close)
    thread.start()
    return thread


@pytest.mark.parametrize("what", ["client", "stream"])
@pytest.mark.parametrize("script", _UNDER_WAY.values(), ids=list(_UNDER_WAY))
def test_closing_ends_reads_of_other_threads(
    scripted: ScriptedServer, script: list[Action], what: str
) -> None:
    """At once, also in a pause, and with an error of the client's own: rows are missing."""
    scripted.play(script, [Sound()])
    client = EmbeddingClient(scripted.target)
    stream = client.batches()
    begin = time.monotonic()
    thread = _close_soon(client if what == "client" else stream, scripted)
    with pytest.raises(ClosedError):
        list(stream)
    thread.join()

    assert time.monotonic() - begin < PATIENCE_SECONDS
    assert 1 == len(scripted.calls)
    assert scripted.calls[0].over.wait(PATIENCE_SECONDS)
    stream.close()
    with pytest.raises(ClosedError):
        next(stream)
    if what == "stream":
        assert 8 == sum(batch.num_rows for batch in client.batches())
    client.close()


def test_stream_may_be_closed_by_who_reads_it(scripted: ScriptedServer) -> None:
    """As by the handler of a signal, or by what is told of a pause."""
    scripted.play([Sound(limit=2), Fail(retry_seconds=60)])
    streams: list[BatchStream] = []
    policy = ReadPolicy(on_retry=lambda _: streams[0].close())
    with EmbeddingClient(scripted.target, policy=policy) as client:
        streams.append(client.batches())
        with pytest.raises(ClosedError):
            list(streams[0])


def test_threads_take_turns(scripted: ScriptedServer) -> None:
    """One that asks for the dataset, or for rows, while another waits, waits as well."""
    release = threading.Event()
    scripted.play([Wait(release), Sound()])
    with EmbeddingClient(scripted.target) as client, ThreadPoolExecutor(3) as pool:
        stream = client.batches()
        rows = [pool.submit(lambda: sum(batch.num_rows for batch in stream)) for _ in range(2)]
        assert eventually(lambda: scripted.calls)
        dataset = pool.submit(lambda: stream.dataset)
        with pytest.raises(TimeoutError):
            dataset.result(0.2)
        release.set()
        assert 8 == dataset.result(PATIENCE_SECONDS).rows_remaining
        assert 8 == sum(some.result(PATIENCE_SECONDS) for some in rows)


def test_tasks_take_turns(scripted: ScriptedServer) -> None:
    """As threads do."""
    release = threading.Event()
    scripted.play([Wait(release), Sound()])

    async def read() -> None:
        async with AsyncEmbeddingClient(scripted.target) as client:
            stream = client.batches()
            looks = [asyncio.create_task(stream.dataset()) for _ in range(2)]
            done, _ = await asyncio.wait(looks, timeout=0.3)
            assert not done
            release.set()
            assert [8, 8] == [look.rows_remaining for look in await asyncio.gather(*looks)]
            assert 8 == sum([batch.num_rows async for batch in stream])

    asyncio.run(read())


@pytest.mark.parametrize("what", ["client", "stream"])
@pytest.mark.parametrize("script", _UNDER_WAY.values(), ids=list(_UNDER_WAY))
def test_closing_ends_reads_of_other_tasks(
    scripted: ScriptedServer, script: list[Action], what: str
) -> None:
    """As with threads; a task that reads isn't cancelled by it."""
    scripted.play(script, [Sound()])

    async def read_on(stream: AsyncBatchStream) -> None:
        async for _ in stream:
            pass

    async def close_soon() -> None:
        client = AsyncEmbeddingClient(scripted.target)
        stream = client.batches()
        task = asyncio.create_task(read_on(stream))
        assert await asyncio.to_thread(eventually, lambda: scripted.calls)
        await asyncio.sleep(0.2)
        await (client if what == "client" else stream).close()
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        is_done, is_cancelled = task.done(), task.cancelled()
        task.cancel()
        assert is_done
        assert not is_cancelled
        with pytest.raises(ClosedError):
            await task
        await stream.close()
        with pytest.raises(ClosedError):
            await anext(stream)
        assert await asyncio.to_thread(scripted.calls[0].over.wait, PATIENCE_SECONDS)
        if what == "stream":
            assert 8 == sum([batch.num_rows async for batch in client.batches()])
        await client.close()

    asyncio.run(close_soon())
    assert (1 if what == "client" else 2) == len(scripted.calls)


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
            await anext(stream)
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

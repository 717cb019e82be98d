"""A read that has failed: it fails again, and never looks like one that has ended."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from streamer.client import AsyncEmbeddingClient
from streamer.client.failures import ClosedError, ServerFailedError
from streamer.errors import InvalidRequestError, Status
from tests.clients import CLIENTS, Clock, connect
from tests.scripted_server import Fail, Rows, ScriptedServer, Sound, Wait, embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(embeddings(8)) as server:
        yield server


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_read_that_failed_fails_again(server: ScriptedServer, kind: str) -> None:
    """Whoever asks once more is not told that there are no more rows."""
    server.play([Sound(limit=2), Fail(Status.NOT_FOUND)])
    with connect(kind, server.target) as client, client.batches() as stream:
        next(stream)
        for _ in range(3):
            with pytest.raises(ServerFailedError, match="NOT_FOUND"):
                next(stream)
        with pytest.raises(ServerFailedError, match="NOT_FOUND"):
            _ = stream.dataset


@pytest.mark.parametrize("kind", CLIENTS)
def test_headers_that_never_came_are_an_error_each_time(server: ScriptedServer, kind: str) -> None:
    """A failed `dataset` is not an empty one the next time."""
    server.play([Fail(Status.NOT_FOUND)])
    with connect(kind, server.target) as client, client.batches() as stream:
        for _ in range(2):
            with pytest.raises(ServerFailedError, match="NOT_FOUND"):
                _ = stream.dataset
        with pytest.raises(ServerFailedError, match="NOT_FOUND"):
            next(stream)


def test_a_read_whose_task_was_cancelled_is_no_whole_one(server: ScriptedServer) -> None:
    """After a timeout of the caller's own the rest is not missing in silence."""
    release = threading.Event()
    server.play([Rows(0, 2), Wait(release), Rows(2, 8)])

    async def read() -> None:
        async with AsyncEmbeddingClient(server.target) as client:
            stream = client.batches()
            assert 2 == (await anext(stream)).num_rows
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.2)
            with pytest.raises(ClosedError, match="broken off"):
                await anext(stream)

    try:
        asyncio.run(read())
    finally:
        release.set()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_servers_text_is_one_line_that_a_terminal_can_show(
    server: ScriptedServer, kind: str
) -> None:
    """What a server sends doesn't reach the terminal as it is."""
    server.play([Fail(Status.NOT_FOUND, "\x1b[31mred\n" + "x" * 10_000)])
    with connect(kind, server.target) as client, pytest.raises(ServerFailedError) as failed:
        list(client.batches())

    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 400


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_pause_is_told(server: ScriptedServer, kind: str) -> None:
    """A reader that waits says why, and for how long."""
    told: list[str] = []
    server.play([Sound(limit=2), Fail()], [Fail()], [Sound()])
    with connect(kind, server.target, clock=Clock(), on_retry=told.append) as client:
        assert 8 == sum(batch.num_rows for batch in client.batches())

    assert ["UNAVAILABLE: scripted; going on in 0.2 s"] * 2 == told


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("chunk_size", [-1, 1 << 31, 1 << 40])
def test_a_chunk_size_that_no_request_can_say_is_refused_at_once(
    server: ScriptedServer, kind: str, chunk_size: int
) -> None:
    """Before anything is sent."""
    with connect(kind, server.target) as client, pytest.raises(InvalidRequestError):
        client.batches(chunk_size=chunk_size)

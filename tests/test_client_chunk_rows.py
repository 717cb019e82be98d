"""Rows that a read asks for in a message, as messages turn out to be large or small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.client import Rpc
from streamer.client.chunk_rows import ChunkRows
from streamer.errors import Status
from tests.clients import CLIENTS, Clock, connect
from tests.scripted_server import Fail, Headers, Rows, ScriptedServer, Sound, embeddings, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proto import embedding_stream_pb2 as pb

_ROWS = 400
_MAX_BYTES = 2000


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """Serve rows of 60 bytes, in whose middle there are thirty of 1,000."""
    rows = embeddings(_ROWS)
    for row in rows[200:230]:
        row.company_name = "x" * 1000
    with ScriptedServer(rows) as server:
        yield server


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _half_of(server: ScriptedServer, rows: int) -> int:
    """Return how many of the first rows make a message of half the size allowed."""
    return rows * _MAX_BYTES // 2 // len(server.message(Rpc.CHUNKS, 0, rows)[0])


def _read(server: ScriptedServer, kind: str, **options: Any) -> Sequence[pb.Embedding]:
    with connect(kind, server.target) as client:
        return rows_of(list(client.batches(max_chunk_bytes=_MAX_BYTES, **options)))


def test_rows_asked_for_follow_the_size_of_messages(server: ScriptedServer, kind: str) -> None:
    """Every row comes once, whatever its neighbours take; a message stays small, or is a row."""
    server.play(*[[Sound()]] * 30)

    assert server.rows == _read(server, kind, chunk_size=32)
    asked = [call.chunk_size for call in server.calls]
    assert 32 == asked[0]
    assert asked[1] in range(10, 20)  # 32 rows of 60 bytes and one above: half of what is allowed
    assert 1 in asked[2:]
    assert asked[-1] > 1  # rows of 60 bytes again


def test_dataset_is_what_the_first_call_said(server: ScriptedServer, kind: str) -> None:
    """Those after it say what is left then, or nothing."""
    server.play([Sound()], [Sound(has_headers=False)], *[[Sound()]] * 30)
    with connect(kind, server.target) as client:
        stream = client.batches(chunk_size=100, max_chunk_bytes=_MAX_BYTES)
        assert server.rows == rows_of(list(stream))
        assert 1 < len(server.calls)
        assert (_ROWS, _ROWS) == (stream.dataset.rows, stream.dataset.rows_remaining)


def test_call_that_is_left_continues_after_the_last_row(server: ScriptedServer, kind: str) -> None:
    """What it would have sent besides comes again, and to the caller once."""
    server.play([Headers(_ROWS), Rows(0, 100), Rows(100, 200)], *[[Sound()]] * 30)

    assert server.rows == _read(server, kind, chunk_size=100)
    assert [0, 100] == server.asked_after()[:2]
    assert [100, _half_of(server, 100)] == [call.chunk_size for call in server.calls[:2]]


def test_default_of_the_server_is_where_it_begins(server: ScriptedServer, kind: str) -> None:
    """0 is asked for until a message is large, and again when they are small."""
    server.play(*[[Sound(chunk_rows=32)]] * 30)

    assert server.rows == _read(server, kind)
    asked = [call.chunk_size for call in server.calls]
    assert 0 == asked[0]
    assert max(asked) <= 32


def test_server_that_sends_what_it_likes_is_not_asked_again_and_again(
    server: ScriptedServer, kind: str
) -> None:
    """Twice the same number of rows: another call would bring them, too."""
    server.play(
        [Headers(_ROWS), Rows(0, 100)],
        [Headers(_ROWS - 100), Rows(100, 200), Rows(200, 300), Rows(300, _ROWS)],
    )

    assert server.rows == _read(server, kind, chunk_size=200)
    assert [200, _half_of(server, 100)] == [call.chunk_size for call in server.calls]


def test_large_message_of_the_last_rows_is_the_end(server: ScriptedServer, kind: str) -> None:
    """Nothing is left that could be asked for; the call's end doesn't count."""
    server.play([Headers(_ROWS), Rows(0, _ROWS), Fail(Status.INTERNAL)])

    assert server.rows == _read(server, kind, chunk_size=_ROWS)
    assert 1 == len(server.calls)


def test_other_chunks_are_no_failed_try(server: ScriptedServer, kind: str) -> None:
    """They cost no pause, are told to nobody, and leave all tries to calls that do fail."""
    clock = Clock()
    told: list[str] = []
    server.play([Headers(_ROWS), Rows(0, 100)], [Fail()], [Fail()], *[[Sound()]] * 30)
    with connect(kind, server.target, clock=clock, max_tries=2, on_retry=told.append) as client:
        rows = rows_of(list(client.batches(chunk_size=100, max_chunk_bytes=_MAX_BYTES)))

    assert server.rows == rows
    assert (2, 2) == (len(clock.waits), len(told))


def test_large_rows_among_small_ones_are_borne_with() -> None:
    """Every thousandth row is too large for any message, and would be in a shorter one."""
    chunk_rows = ChunkRows(64, _MAX_BYTES)
    sizes = np.where(np.arange(200_000) % 1000 == 0, 10 * _MAX_BYTES, 1)
    position = calls = 0
    while position < len(sizes):
        message = sizes[position : position + chunk_rows.rows]
        position += len(message)
        calls += chunk_rows.adapt(len(message), int(message.sum()), message.max)

    assert 0 == calls


def test_default_of_the_server_is_asked_for_again() -> None:
    """It isn't what the server has cut a message to."""
    chunk_rows = ChunkRows(0, _MAX_BYTES)
    assert chunk_rows.adapt(2, 4 * _MAX_BYTES, lambda: 2 * _MAX_BYTES)
    assert 1 == chunk_rows.rows

    assert [False] * 15 + [True] == [chunk_rows.adapt(1, 1, lambda: 1) for _ in range(16)]
    assert 0 == chunk_rows.rows


@pytest.mark.parametrize("rows", [0, 1, 64])
def test_a_single_large_row_says_nothing_of_others(rows: int) -> None:
    """Those after it may be small."""
    chunk_rows = ChunkRows(rows, _MAX_BYTES)

    assert not chunk_rows.adapt(1, 10 * _MAX_BYTES, lambda: 10 * _MAX_BYTES)
    assert rows == chunk_rows.rows


def test_rows_one_by_one_are_as_large_as_they_are(server: ScriptedServer, kind: str) -> None:
    """A message of GetEmbeddings is a row, whatever is asked for."""
    server.play([Sound()])

    assert server.rows == _read(server, kind, chunk_size=100, rpc=Rpc.ROWS)
    assert 1 == len(server.calls)


@given(
    st.integers(1, 5000),
    st.integers(1, 10_000),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=400),
)
def test_numbers_that_are_asked_for(most: int, max_bytes: int, row_bytes: list[int]) -> None:
    """Of a server that sends what it is asked for, rows of these sizes again and again."""
    chunk_rows = ChunkRows(most, max_bytes)
    sizes = np.resize(row_bytes, 100_000)
    position = messages_since = 0
    for _ in range(400):
        before = chunk_rows.rows
        message = sizes[position : position + before]
        position = (position + before) % (len(sizes) - 5000)
        others = int(message.sum() - message.max())
        changed = chunk_rows.adapt(len(message), int(message.sum()), message.max)
        messages_since += 1

        assert changed == (before != chunk_rows.rows)
        assert 1 <= chunk_rows.rows <= most
        if message.sum() > max_bytes and others >= max_bytes:
            assert chunk_rows.rows <= before / 2
        elif chunk_rows.rows > before:
            assert message.sum() <= max_bytes / 4
            assert messages_since >= 16
            assert chunk_rows.rows <= before * 2
        elif changed:
            assert message.sum() > max_bytes
            assert chunk_rows.rows <= before / 2
        if changed:
            messages_since = 0

"""How a read goes on over calls that break; the servers misbehave as their script says.

The cases with the names of cloud-bigtable-clients-test (tests/readrows_test.go) are its own,
told of this service.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.client import Rpc
from streamer.client.failures import (
    NoProgressError,
    ReadError,
    RowOrderError,
    ServerFailedError,
)
from streamer.errors import Status
from tests.clients import CLIENTS, Clock, connect
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
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_ROWS = 8
_TRANSIENT = (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.ABORTED)
_STATUSES = [status for status in Status if status is not Status.OK]
_NEVER = Wait(threading.Event())
_PATIENT = 50  # tries, where their number isn't the subject


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(embeddings(_ROWS)) as server:
        yield server


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(Rpc))
def rpc(request: pytest.FixtureRequest) -> Rpc:
    return Rpc(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_no_retry_out_of_order_error(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """Rows that go back end the read; nobody is asked again."""
    server.play([Headers(_ROWS), Rows(3, 5), Rows(0, 3)], [Sound()])
    taken: list[pa.RecordBatch] = []
    with connect(kind, server.target) as client, pytest.raises(RowOrderError, match="must ascend"):
        taken.extend(client.batches(rpc=rpc, chunk_size=2))

    assert server.rows[3:5] == rows_of(taken)
    assert 1 == len(server.calls)


@pytest.mark.parametrize("status", _STATUSES)
def test_no_retry_error_after_last_row(
    server: ScriptedServer, kind: str, clock: Clock, status: Status
) -> None:
    """When all announced rows are there, no error of whatever kind counts."""
    for rpc in Rpc:
        server.play([Sound(), Fail(status)])
        with connect(kind, server.target, clock=clock) as client:
            assert server.rows == rows_of(list(client.batches(rpc=rpc)))
        assert (1, []) == (len(server.calls), clock.waits)


@pytest.mark.parametrize("status", _STATUSES)
def test_error_after_last_row_of_a_resumed_read(
    server: ScriptedServer, kind: str, status: Status
) -> None:
    """The rows of all calls together are what was announced."""
    server.play([Sound(limit=3), Fail()], [Sound(), Fail(status)])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [0, 3] == server.asked_after()


def test_error_after_last_row_of_a_server_that_announces_none(
    server: ScriptedServer, kind: str
) -> None:
    """Only another call can tell: it brings no row, and OK."""
    server.play([Sound(has_headers=False), Fail()], [Sound(has_headers=False)])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [0, _ROWS] == server.asked_after()


def test_retry_paused_scan(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """A stream that is aborted is resumed after its last row."""
    server.play([Sound(limit=1), Fail(Status.ABORTED)], [Sound()])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches(rpc=rpc)))
    assert [0, 1] == server.asked_after()
    assert [rpc, rpc] == [call.rpc for call in server.calls]


@pytest.mark.parametrize("status", _TRANSIENT)
def test_retry_last_scanned_row(
    server: ScriptedServer, kind: str, rpc: Rpc, status: Status
) -> None:
    """Each call asks for what comes after the last row of all calls before."""
    server.play([Sound(3), Fail(status)], [Fail(status)], [Sound(4), Fail(status)], [Sound()])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches(rpc=rpc, chunk_size=2)))
    assert [0, 3, 3, 7] == server.asked_after()
    assert [2] * 4 == [call.chunk_size for call in server.calls]


@pytest.mark.parametrize("status", [s for s in _STATUSES if s not in _TRANSIENT])
def test_no_retry_of_other_statuses(server: ScriptedServer, kind: str, status: Status) -> None:
    """What another try wouldn't change is told at once, after the rows that came."""
    for rpc in Rpc:
        server.play([Sound(limit=3), Fail(status, "no way")], [Sound()])
        taken: list[pa.RecordBatch] = []
        with (
            connect(kind, server.target) as client,
            pytest.raises(ServerFailedError, match=f"{status.name}: no way") as failure,
        ):
            taken.extend(client.batches(rpc=rpc))
        assert server.rows[:3] == rows_of(taken)
        assert (1, status) == (len(server.calls), failure.value.status)


def test_no_retry_empty_table(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """No rows is a result; also with an error behind, if the server said that there are none."""
    scripts: list[list[Action]] = [
        [Headers(0)], [], [Headers(0), Fail()], [Headers(0), Fail(Status.INTERNAL)]
    ]  # fmt: skip
    for script in scripts:
        server.play(script)
        with connect(kind, server.target) as client:
            assert [] == list(client.batches(rpc=rpc))
        assert 1 == len(server.calls)


def test_stream_that_ends_early_is_resumed(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """OK with rows missing is no end, and a server that stays so is given up."""
    server.play([Sound(limit=3)], [Sound(limit=2)], [Sound()])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches(rpc=rpc)))
    assert [0, 3, 5] == server.asked_after()
    server.play([Sound(limit=3)], *[[Sound(limit=0)]] * 9)
    with (
        connect(kind, server.target) as client,
        pytest.raises(NoProgressError, match="5 rows early"),
    ):
        list(client.batches(rpc=rpc))


def test_checkpoint_is_what_the_consumer_was_given(
    server: ScriptedServer, kind: str, rpc: Rpc
) -> None:
    """Not what was received: a call never asks for rows after one that nobody has got."""
    cut: list[Action] = [Sound(limit=3, chunk_rows=1), Fail()]
    server.play(cut, cut, [Sound()])
    taken: list[pa.RecordBatch] = []
    had: list[int] = [0]

    with connect(
        kind, server.target, sleep=lambda _: had.append(len(rows_of(taken)))
    ) as client:  # fmt: skip
        for batch in client.batches(rpc=rpc, chunk_size=2):
            time.sleep(0.05)  # the rest of the call arrives meanwhile
            taken.append(batch)

    assert server.rows == rows_of(taken)
    assert had == server.asked_after()


@pytest.mark.parametrize("must_exist", [False, True])
def test_metadata_go_with_every_call(server: ScriptedServer, kind: str, must_exist: bool) -> None:  # noqa: FBT001
    """`must_exist` is asked of a resumed call, too: its checkpoint is a row."""
    server.play([Sound(limit=3), Fail()], [Sound()])
    with connect(kind, server.target) as client:
        list(client.batches(after=server.ids[0], must_exist=must_exist))

    expected = "must-exist" if must_exist else None
    assert [expected] * 2 == [call.metadata.get("checkpoint-policy") for call in server.calls]
    assert [1, 4] == server.asked_after()


@st.composite
def _scripts(draw: st.DrawFn) -> tuple[list[list[Action]], bool]:
    """Return calls that are cut anywhere in any way, and whether the last one is sound."""
    has_headers = draw(st.booleans())
    calls: list[list[Action]] = []
    for _ in range(draw(st.integers(0, 5))):
        sound = Sound(draw(st.integers(1, 4)), draw(st.integers(1, 3)), has_headers)
        ways: list[Action] = [Fail(status) for status in _TRANSIENT]
        ways.append(Fail(Status.INTERNAL, retry_seconds=0.5))
        if has_headers:
            ways.append(Raw(b""))  # it ends early, with OK
        calls.append([sound, draw(st.sampled_from(ways))])
        if draw(st.booleans()):
            calls.append([Fail()])
    is_sound = draw(st.booleans())
    last = Sound(None if is_sound else draw(st.integers(0, 4)), has_headers=has_headers)
    calls.append([last] if is_sound else [last, Fail(Status.DATA_LOSS)])
    return calls, is_sound


@pytest.mark.parametrize("kind", CLIENTS)
@settings(max_examples=40)
@given(_scripts(), st.integers(0, _ROWS), st.sampled_from(list(Rpc)), st.integers(0, 3))
def test_rows_come_once_and_in_order(  # noqa: PLR0917
    server: ScriptedServer,
    kind: str,
    plan: tuple[list[list[Action]], bool],
    skip: int,
    rpc: Rpc,
    chunk_size: int,
) -> None:
    """However calls end, the caller gets the rows, or the first of them and the error."""
    calls, is_sound = plan
    if rpc is Rpc.ROWS:  # an empty message is no row
        calls = [[action for action in call if not isinstance(action, Raw)] for call in calls]
    server.play(*calls)
    rows = server.rows[skip:]
    after = server.ids[skip - 1] if skip else ""
    taken: list[pa.RecordBatch] = []
    error: ReadError | None = None
    with connect(kind, server.target, max_tries=_PATIENT) as client:
        try:
            for batch in client.batches(after, chunk_size, rpc=rpc):
                taken.append(batch)  # noqa: PERF402 - an error keeps what came before
        except ReadError as read_error:
            error = read_error

    got = rows_of(taken)
    assert rows[: len(got)] == got
    if error is None:
        assert rows == got
    else:
        assert not is_sound
        assert isinstance(error, ServerFailedError)
        assert len(server.calls) == len(calls)
    asked = server.asked_after()
    assert skip == asked[0]
    assert sorted(asked) == asked

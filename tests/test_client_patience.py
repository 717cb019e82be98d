"""How long a read tries: pauses, RetryInfo, deadlines, and calls without a row.

Tests with the names of cloud-bigtable-clients-test tell its cases of this service.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from streamer.client import ReadPolicy, Rpc
from streamer.client.failures import (
    DeadlineError,
    NoProgressError,
)
from streamer.errors import Status
from streamer.retry import Backoff
from tests.clients import CLIENTS, Clock, connect
from tests.scripted_server import (
    Action,
    Fail,
    Headers,
    Rows,
    ScriptedServer,
    Sound,
    Wait,
    embeddings,
    rows_of,
)
from tests.wire_peer import DEADLINES_SECONDS

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


def test_retry_with_retry_info(server: ScriptedServer, kind: str, clock: Clock) -> None:
    """A server's RetryInfo is waited for where it is longer than the backoff."""
    more = Fail(retry_seconds=0.01)
    server.play([Sound(limit=3), Fail(retry_seconds=2.5)], [Sound(limit=2), more], [Sound()])
    with connect(kind, server.target, clock=clock, backoff=Backoff(0.2, 20), max_tries=9) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [2.5, 0.2] == clock.waits
    assert [0, 3, 5] == server.asked_after()


def test_retry_with_retry_info_multiple_error_response(
    server: ScriptedServer, kind: str, clock: Clock
) -> None:
    """RetryInfo holds for one pause; without it the backoff counts again."""
    server.play([Fail(retry_seconds=2)], [Fail()], [Sound(limit=3), Fail()], [Sound()])
    with connect(kind, server.target, clock=clock, backoff=Backoff(0.2, 20), max_tries=9) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [2.0, 0.4, 0.2] == clock.waits


@pytest.mark.parametrize("status", [s for s in _STATUSES if s not in _TRANSIENT])
def test_retry_info_makes_any_status_worth_a_try(
    server: ScriptedServer, kind: str, clock: Clock, status: Status
) -> None:
    """The server says that it may be tried again, so it is."""
    server.play([Sound(limit=3), Fail(status, retry_seconds=1)], [Sound()])
    with connect(kind, server.target, clock=clock) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [1.0] == clock.waits


def test_retry_info_is_capped(server: ScriptedServer, kind: str, clock: Clock) -> None:
    """Nobody is told to wait for a week."""
    server.play([Sound(limit=3), Fail(retry_seconds=7 * 86_400)], [Sound()])
    with connect(kind, server.target, clock=clock) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [300.0] == clock.waits


def test_retry_with_retry_info_overall_deadline(
    server: ScriptedServer, kind: str, clock: Clock
) -> None:
    """RetryInfo doesn't outlast the time of the whole read."""
    server.play([Sound(limit=3), Fail(retry_seconds=60)], [Sound()])
    taken: list[pa.RecordBatch] = []
    with connect(kind, server.target, clock=clock) as client, pytest.raises(DeadlineError):
        taken.extend(client.batches(deadline_seconds=10))

    assert server.rows[:3] == rows_of(taken)
    assert [10.0] == clock.waits
    assert 1 == len(server.calls)


def test_generic_deadline_exceeded(server: ScriptedServer, kind: str) -> None:
    """The time for a read is up in the middle of a call: what came is there, then an error."""
    for seconds in DEADLINES_SECONDS:
        server.play([Headers(_ROWS), Rows(0, 3), _NEVER], *[[_NEVER]] * 9)
        taken: list[pa.RecordBatch] = []
        begin = time.monotonic()
        with (
            connect(kind, server.target, policy=ReadPolicy()) as client,
            pytest.raises(DeadlineError, match=rf"not finished within {seconds:g} s") as failure,
        ):
            taken.extend(client.batches(deadline_seconds=seconds))
        assert time.monotonic() - begin >= seconds
        if taken:
            break

    assert server.rows[:3] == rows_of(taken)
    assert Status.DEADLINE_EXCEEDED is failure.value.status
    assert server.calls[0].is_broken_off()


def test_deadline_bounds_calls_and_pauses(server: ScriptedServer, kind: str, clock: Clock) -> None:
    """Each call gets what is left of the time, at most `call_seconds`; so does each pause."""
    server.play(*[[Fail()]] * 9)
    with (
        connect(
            kind, server.target, clock=clock, max_tries=9, backoff=Backoff(8, 100), call_seconds=20
        ) as client,
        pytest.raises(DeadlineError),
    ):
        list(client.batches(deadline_seconds=30))

    assert [8.0, 16.0, 6.0] == clock.waits
    assert [20, 20, 6] == [round(call.seconds or 0) for call in server.calls]


def test_deadline_counts_from_the_begin_of_the_read(
    server: ScriptedServer, kind: str, clock: Clock
) -> None:
    """A consumer that takes its time may be late; rows that came are not taken from it."""
    server.play([Sound()], [Sound()])
    with connect(kind, server.target, clock=clock) as client:
        stream = client.batches(deadline_seconds=10)
        clock.now += 11
        with pytest.raises(DeadlineError):
            next(stream)
        stream = client.batches(deadline_seconds=10)
        taken = [next(stream)]
        clock.now += 11
        taken.extend(stream)

    assert server.rows == rows_of(taken)
    assert 1 == len(server.calls)


def test_call_that_takes_too_long_is_continued(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """`call_seconds` bounds a call, not the read; with rows received it goes on after them."""
    for seconds in DEADLINES_SECONDS:
        server.play([Headers(_ROWS), Rows(0, 3), _NEVER], [_NEVER], *[[Sound()]] * 9)
        with connect(kind, server.target, call_seconds=seconds, max_tries=_PATIENT) as client:
            assert server.rows == rows_of(list(client.batches(rpc=rpc)))
        if len(server.calls) == 3:  # else a call was late before it had begun
            break
    assert [0, 3, 3] == server.asked_after()


@pytest.mark.parametrize("max_tries", [1, 2, 5])
@pytest.mark.parametrize(
    "useless", [Fail(), Sound(limit=0), Fail(Status.INTERNAL, retry_seconds=0)]
)
def test_server_that_makes_no_progress_is_given_up(
    server: ScriptedServer, kind: str, clock: Clock, max_tries: int, useless: Action
) -> None:
    """`max_tries` calls without a row, not one more; between them the waits of the backoff."""
    server.play(*[[useless]] * 9)
    with (
        connect(
            kind, server.target, clock=clock, max_tries=max_tries,
            backoff=Backoff(0.5, 3), jitter=lambda: 0.5,
        ) as client,
        pytest.raises(NoProgressError, match=f"no further row in {max_tries} tries") as failure,
    ):  # fmt: skip
        list(client.batches())

    assert max_tries == len(server.calls)
    assert [0.625, 1.25, 2.5, 3.75][: max_tries - 1] == clock.waits
    assert Status.UNAVAILABLE is failure.value.status


@pytest.mark.parametrize("max_tries", [1, 2, 3])
def test_tries_are_counted_from_the_last_row(
    server: ScriptedServer, kind: str, max_tries: int
) -> None:
    """A call that brought rows is none of the `max_tries` calls without a new row."""
    fruitless: list[list[Action]] = [[Fail()]] * (max_tries - 1)
    brings: list[Action] = [Sound(limit=2), Fail()]
    server.play(brings, *fruitless, brings, *fruitless, brings, *fruitless, [Sound()])
    with connect(kind, server.target, max_tries=max_tries) as client:
        assert server.rows == rows_of(list(client.batches()))
    server.play(brings, *fruitless, [Fail()], [Sound()])
    with (
        connect(kind, server.target, max_tries=max_tries) as client,
        pytest.raises(NoProgressError),
    ):
        list(client.batches())
    assert 1 + max_tries == len(server.calls)


def test_backoff_begins_anew_after_progress(
    server: ScriptedServer, kind: str, clock: Clock
) -> None:
    """Waits grow over fruitless calls, and are short again after a row."""
    server.play([Fail()], [Fail()], [Sound(limit=1), Fail()], [Sound()])
    with connect(kind, server.target, clock=clock, backoff=Backoff(1, 100)) as client:
        assert server.rows == rows_of(list(client.batches()))
    assert [1.0, 2.0, 1.0] == clock.waits

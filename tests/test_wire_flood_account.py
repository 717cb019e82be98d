"""What work without progress costs a call, its connection and the server, and what pays for it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.faults import CalmDownError
from streamer.engines.wire.flood import EARNINGS, PRICES, Bucket, FloodAccount, Progress, Work

if TYPE_CHECKING:
    from streamer.engines.wire.flood import ConnectionAccount

_RELAYED = [work for work in Work if not PRICES[work].hop_by_hop]
_HOP_BY_HOP = [work for work in Work if PRICES[work].hop_by_hop]


def _account(tolerance: float = 1.0) -> ConnectionAccount:
    return FloodAccount(tolerance, 0.0).connection(0.0)


def test_everything_has_a_price_and_a_reason() -> None:
    """The tables are whole, and say why."""
    assert set(Work) == set(PRICES)
    assert set(Progress) == set(EARNINGS)
    assert all(entry.microseconds > 0 and entry.why for entry in PRICES.values())
    assert all(entry.microseconds > 0 and entry.why for entry in EARNINGS.values())


_amounts = st.lists(st.tuples(st.sampled_from(["spend", "earn", "wait"]), st.floats(0, 1e5)))


@given(_amounts)
def test_a_bucket_neither_makes_work_nor_loses_it(steps: list[tuple[str, float]]) -> None:
    """What was spent is what is lacking, but for what it had no room for and what time gave."""
    bucket = Bucket(1_000.0, 50.0, 0.0, savings=500.0)
    balance, now = 1_000.0, 0.0
    for action, amount in steps:
        before = bucket.left
        if action == "spend":
            debt = bucket.spend(amount)
            balance -= amount
            assert pytest.approx(max(-bucket.left, 0) - max(-before, 0), abs=1e-6) == debt
        elif action == "earn":
            surplus = bucket.earn(amount)
            balance = min(balance + amount, 1_500.0)
            assert pytest.approx(before + amount - bucket.left, abs=1e-6) == surplus
        else:
            now += amount / 1_000
            bucket.refill(now)
            balance = max(balance, min(balance + amount / 20, 1_000.0))
        assert pytest.approx(balance, abs=1e-3) == bucket.left


@pytest.mark.parametrize("work", _RELAYED)
def test_what_a_proxy_may_pass_on_makes_wait_and_nothing_else(work: Work) -> None:
    """Four seconds' worth of it: the connection goes on, and isn't read before that is paid."""
    account = _account()
    work_done = 0.0
    while work_done < 1_000_000:
        work_done += account.charge(work, 1_000 / PRICES[work].microseconds)

    assert account.wait_seconds > 0
    for tenth in range(36):
        assert account.wait_seconds > 0
        account.refill(tenth / 10)
    for tenth in range(36, 46):
        account.refill(tenth / 10)
    assert 0 == account.wait_seconds


@pytest.mark.parametrize("work", _HOP_BY_HOP)
def test_what_only_the_peer_itself_can_have_made_ends_the_connection(work: Work) -> None:
    """It is borne for a while, and time forgives it: 500 a second go on for ever."""
    account = _account()
    for second in range(100):
        account.refill(1.0 * second)
        work_done = 0.0
        while work_done < 5_000:
            work_done += account.charge(work)

    def flood() -> None:
        for _ in range(100_000):
            account.charge(work)

    with pytest.raises(CalmDownError):
        flood()


def test_a_call_that_is_answered_is_forgiven() -> None:
    """Whatever it cost, more than its allowance too, its connection is as it was."""
    account = _account()
    before = account._bucket.left
    account.open_call(1)
    account.charge(Work.FIELD_BYTE, 20_000, 1)
    during = account._bucket.left
    account.end_call(1, is_answered=True)

    assert during < before <= account._bucket.left


@given(st.integers(1, 30))
def test_a_call_that_is_cancelled_is_paid_for(calls: int) -> None:
    """What it took of its allowance is its connection's burden when it ends, and no sooner."""
    account = _account()
    before = account._bucket.left
    for stream_id in range(calls):
        account.open_call(stream_id)
        account.charge(Work.HEADERS, 1, stream_id)
    assert before == account._bucket.left
    for stream_id in range(calls):
        account.end_call(stream_id, is_answered=False)

    assert before - calls * PRICES[Work.HEADERS].microseconds == account._bucket.left


@pytest.mark.parametrize("piece_bytes", [400, 1_448, 8_192, 16_384, 1 << 20])
def test_bytes_that_are_accepted_pay_for_windows_however_they_are_opened(piece_bytes: int) -> None:
    """Both windows for each 400 bytes, as small as proxies do it and smaller."""
    account = _account()
    account.open_call(1)
    for _ in range((4 << 20) // piece_bytes):
        account.accepted(1, piece_bytes)
        for _ in range(max(piece_bytes // 400, 1)):
            account.charge(Work.WINDOW_UPDATE, stream_id=1)
            account.charge(Work.WINDOW_UPDATE)

    assert 0 == account.wait_seconds
    assert account.is_in_good_standing


def test_a_byte_at_a_time_is_no_progress() -> None:
    """It makes a frame and a system call each: such a peer is made to wait."""
    account = _account()
    account.open_call(1)
    for _ in range(3_000):
        account.accepted(1, 1)

    assert account.wait_seconds > 0


def test_work_without_progress_is_half_of_the_loop_however_many_make_it() -> None:
    """Time's gift is shared: 100 connections that take all they can get in ten seconds."""
    server = FloodAccount(1.0, 0.0)
    accounts = [server.connection(0.0) for _ in range(100)]
    work = 0.0
    for step in range(1_000):
        for account in accounts:
            account.refill(step / 100)
            while not account.wait_seconds:
                work += account.charge(Work.WINDOW_UPDATE, 10)

    assert 4.0e6 < work < 10 * 500_000 + 250_000 + 100 * 3_100
    assert not any(account.is_in_good_standing for account in accounts)


def test_newcomers_get_little_when_the_server_has_nothing_left() -> None:
    """Enough for a handshake and some calls, however many came and went before them."""
    server = FloodAccount(1.0, 0.0)
    work = 0.0
    for number in range(1_000):
        account = server.connection(number / 1_000)
        for stream_id in range(1, 513, 2):
            if account.wait_seconds:
                break
            account.open_call(stream_id)
            for each in (Work.HEADERS, Work.STREAM):
                work += account.charge(each, stream_id=stream_id)
        account.let_go()
    late = server.connection(1.0)

    assert 0 == late.wait_seconds
    assert not late.is_in_good_standing
    late.charge(Work.HEADERS, 10)
    assert 0 == late.wait_seconds
    assert server.connection(4.0).is_in_good_standing  # soon after it is over


def test_progress_is_made_beside_a_server_that_has_nothing_left() -> None:
    """Who earns what it costs needs no gift."""
    server = FloodAccount(1.0, 0.0)
    for _ in range(100):
        server.connection(0.0).spend(100_000)
    honest = server.connection(0.0)
    for number in range(1_000):
        honest.open_call(number)
        honest.charge(Work.HEADERS, stream_id=number)
        honest.charge(Work.METHOD, stream_id=number)
        honest.end_call(number, is_answered=True)

    assert 0 == honest.wait_seconds
    assert honest.is_in_good_standing


@pytest.mark.parametrize("tolerance", [0.5, 2.0, 10.0])
def test_tolerance_scales_what_is_borne(tolerance: float) -> None:
    """Twice the tolerance, half the wait."""
    most = {}
    for each in (1.0, tolerance):
        account = _account(each)
        most[each] = 0
        while not account.wait_seconds:
            account.charge(Work.PING)
            most[each] += 1

    assert pytest.approx(most[1.0] * tolerance, rel=0.01) == most[tolerance]


def test_processes_share_what_a_server_bears() -> None:
    """Half of it each, for two; a connection's own part is the same."""
    whole, half = FloodAccount(1.0, 0.0), FloodAccount(1.0, 0.0, share=0.5)

    assert whole.bucket.capacity == 2 * half.bucket.capacity
    assert whole.bucket.per_second == 2 * half.bucket.per_second
    assert whole.connection(0.0)._bucket.capacity == half.connection(0.0)._bucket.capacity


def test_debtors_ask_seldom_while_the_server_has_nothing() -> None:
    """300 connections that always have work to do: each looks some ten times a second."""
    server = FloodAccount(1.0, 0.0)
    turns = [(0.0, number, server.connection(0.0)) for number in range(300)]
    heapq.heapify(turns)
    looks = 0
    while (turn := heapq.heappop(turns))[0] < 5.0:
        now, number, account = turn
        account.refill(now)
        if not account.wait_seconds:
            account.charge(Work.RST_STREAM, 10)
        looks += 1
        heapq.heappush(turns, (now + max(account.wait_seconds, 0.001), number, account))

    assert 300 * 10 < looks < 300 * 5 * 20

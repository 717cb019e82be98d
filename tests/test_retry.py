"""The arithmetic of waiting."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.retry import Backoff

_tries = st.integers(1, 10_000)
_jitters = st.floats(0, 1, exclude_max=True)
_backoffs = st.builds(
    Backoff, base_seconds=st.floats(0.001, 100), cap_seconds=st.floats(0.001, 1000)
)


def test_waits_double_up_to_the_cap() -> None:
    """Without jitter: base, twice the base, ..., the cap."""
    backoff = Backoff(base_seconds=0.5, cap_seconds=3)

    assert [0.5, 1.0, 2.0, 3.0, 3.0] == [backoff.seconds(n, 0) for n in range(1, 6)]


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 1.0), (0.5, 1.25), (0.999, 1.4995)])
def test_jitter_adds_up_to_half(jitter: float, factor: float) -> None:
    """Of the wait after the cap: clients that all wait the cap don't come back at once."""
    backoff = Backoff(base_seconds=2, cap_seconds=8)

    assert [2 * factor, 8 * factor] == pytest.approx([
        backoff.seconds(1, jitter), backoff.seconds(9, jitter)
    ])  # fmt: skip


@given(_backoffs, _tries, _jitters)
def test_waits_are_bounded_and_never_shrink(
    backoff: Backoff, failed_tries: int, jitter: float
) -> None:
    """Between the base (or the cap, if that is less) and one and a half times the cap."""
    wait = backoff.seconds(failed_tries, jitter)

    assert min(backoff.base_seconds, backoff.cap_seconds) <= wait
    assert wait <= 1.5 * backoff.cap_seconds
    assert wait <= backoff.seconds(failed_tries + 1, jitter)


@pytest.mark.parametrize("failed_tries", [1, 64, 65, 66, 1025, 10**9])
def test_any_number_of_tries_has_a_wait(failed_tries: int) -> None:
    """A client that has tried for a month doesn't fail of arithmetic."""
    wait = Backoff(base_seconds=0.2, cap_seconds=math.inf).seconds(failed_tries, 0.9)

    assert math.isfinite(wait)

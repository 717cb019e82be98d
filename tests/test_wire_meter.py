"""What frames cost: told from their headers, however they are cut."""

from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.faults import CalmDownError, FrameSizeError, PeerFaultError
from streamer.engines.wire.limits import Limits, Patience
from streamer.engines.wire.meter import FrameMeter
from tests.memory_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    frame,
    handshake,
)

frames = st.lists(
    st.builds(
        lambda kind, flags, stream_id, payload: frame(
            kind, payload, flags=flags, stream_id=stream_id
        ),
        st.integers(0, 12).filter(lambda kind: kind != SETTINGS),
        st.sampled_from([0, 1, 4, 5, 8]),
        st.integers(0, 5),
        st.binary(max_size=30),
    ),
    max_size=20,
)


class Costs(Patience):
    """Adds up instead of losing patience."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.total = 0.0

    def spend(self, cost: float, now: float) -> None:
        assert 0.0 == now
        self.total += cost


_BEGIN = handshake()


def cost_of(*pieces: bytes, limits: Limits = Limits()) -> float:  # noqa: B008
    """Return what bytes cost that follow a handshake."""
    costs = Costs()
    meter = FrameMeter(limits, costs, lambda _: False)
    meter.feed(_BEGIN, 0.0)
    costs.total = 0.0
    for piece in pieces:
        meter.feed(piece, 0.0)
    return costs.total


@given(frames, st.lists(st.integers(0, 800)))
def test_costs_dont_depend_on_how_bytes_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    """Pieces cost what the whole costs."""
    data = b"".join(parts)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:stop] for start, stop in pairwise(bounds)]

    assert cost_of(data) == pytest.approx(cost_of(*pieces))


def test_a_frame_costs_when_its_header_is_complete() -> None:
    """Neither its first 8 bytes nor its payload cost anything."""
    data = frame(HEADERS, bytes(100), stream_id=1)

    assert 0 == cost_of(data[:-101])
    assert 0 < cost_of(data[:-100]) == cost_of(data)


@pytest.mark.parametrize("kind", [*range(11), 255])
def test_frames_without_use_cost(kind: int) -> None:
    """Nothing that a peer can repeat without end is free."""
    assert 0 < cost_of(frame(kind))


_frame_limits = st.sampled_from([Limits(), Limits(max_frame_bytes=65_536)])


@given(st.integers(0, 255), _frame_limits, st.data())
def test_the_longest_frame_is_taken(kind: int, limits: Limits, data: st.DataObject) -> None:
    """As many bytes as the limit says are permitted for every kind of frame."""
    size = data.draw(st.integers(0, limits.max_frame_bytes))
    cost_of(frame(kind, size=size), limits=limits)


@given(st.integers(0, 255), _frame_limits, st.data())
def test_a_longer_frame_is_refused_by_its_header(
    kind: int, limits: Limits, data: st.DataObject
) -> None:
    """Also if bytes of other frames came before it in the same piece."""
    size = data.draw(st.integers(limits.max_frame_bytes + 1, 2**24 - 1))
    with pytest.raises(FrameSizeError):
        cost_of(frame(DATA, b"x", flags=END_STREAM) + frame(kind, size=size), limits=limits)


@given(frames, st.data())
def test_awaited_bytes_are_those_that_a_frame_lacks(
    parts: list[bytes], data: st.DataObject
) -> None:
    """None between frames, and none while it isn't known how long one is."""
    come = data.draw(st.integers(0, sum(map(len, parts))))
    meter = FrameMeter(Limits(), Costs(), lambda _: False)
    meter.feed(_BEGIN, 0.0)
    meter.feed(b"".join(parts)[:come], 0.0)
    ends = list(itertools.accumulate(map(len, parts), initial=0))
    begun = sum(end <= come for end in ends) - 1
    has_header = begun < len(parts) and come - ends[begun] >= 9

    assert meter.awaited_bytes == (ends[begun + 1] - come if has_header else 0)


@pytest.mark.parametrize(
    "first",
    [frame(PING, bytes(8)), frame(HEADERS, stream_id=1), frame(SETTINGS, flags=ACK)],
    ids=["PING", "HEADERS", "an answer to SETTINGS"],
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    """Whatever else it is, is a fault (RFC 9113 section 3.4)."""
    meter = FrameMeter(Limits(), Patience(0.0), lambda _: False)
    with pytest.raises(PeerFaultError, match="first frame"):
        meter.feed(PREFACE + first, 0.0)


def test_an_answer_to_settings_has_no_payload() -> None:
    """FRAME_SIZE_ERROR (RFC 9113 section 6.5)."""
    with pytest.raises(FrameSizeError):
        cost_of(frame(SETTINGS, bytes(6), flags=ACK))


def test_headers_that_open_no_call_cost_by_their_length() -> None:
    """What belongs to a call already, or to one that is over, is nothing gRPC has a use for."""
    call = frame(HEADERS, bytes(10_000), stream_id=3)
    extra = [
        cost_of(call, frame(HEADERS, bytes(10_000), stream_id=i)) - cost_of(call) for i in (1, 3)
    ]

    assert min(extra) > 100 * cost_of(call)


def test_continuations_are_cheap_up_to_the_size_that_is_advertised() -> None:
    """A server that takes 64 KiB of fields takes them in four frames."""
    block = frame(HEADERS, stream_id=1) + frame(CONTINUATION, bytes(16_384), stream_id=1) * 3
    roomy = Limits(max_header_list_bytes=64 << 10)
    more = frame(CONTINUATION, stream_id=1)

    assert cost_of(block, limits=roomy) < 10 < cost_of(block)
    assert cost_of(block + more, limits=roomy) > 100


@pytest.mark.parametrize("opens_call", [True, False])
@given(size=st.integers(0, 65_536), first=st.sampled_from([HEADERS, CONTINUATION]))
def test_header_blocks_cost_by_their_length_however_long_frames_are(
    *, opens_call: bool, size: int, first: int
) -> None:
    """A long frame costs what its bytes would in frames of 16 KiB."""
    limits = Limits(max_frame_bytes=65_536)
    stream_id = 3 if opens_call else 1
    before = frame(HEADERS, stream_id=2) + frame(HEADERS, stream_id=stream_id)
    before = before if first == CONTINUATION else before[:9]
    sizes = [min(size - start, 16_384) for start in range(0, size, 16_384)] or [0]
    cut = [
        frame(CONTINUATION if place else first, bytes(length), stream_id=stream_id)
        for place, length in enumerate(sizes)
    ]

    assert cost_of(before, frame(first, bytes(size), stream_id=stream_id), limits=limits) == (
        pytest.approx(cost_of(before, *cut, limits=limits))
    )


def test_patience_ends_when_more_is_spent_than_there_is() -> None:
    """Time and work give it back, though never more than there was at first."""
    waiting, working = Patience(0.0), Patience(0.0)
    working.earn(1e6)
    most = _affordable(Patience(0.0))
    for now in (0.0, 1e6, 2e6):
        waiting.spend(most, now)
        working.spend(most, 0.0)
        working.earn(most)

    with pytest.raises(CalmDownError):
        waiting.spend(1.0, 2e6)
    with pytest.raises(CalmDownError):
        working.spend(most + 1.0, 0.0)


def _affordable(patience: Patience) -> float:
    for spent in range(1_000_000):
        try:
            patience.spend(1.0, 0.0)
        except CalmDownError:
            return spent
    pytest.fail("patience has no end")


@pytest.mark.parametrize("window_bytes", [65_535, 4 << 20])
@pytest.mark.parametrize("size", [5, 16, 60, 300, 1023])
def test_a_window_of_small_data_is_less_than_there_is(size: int, window_bytes: int) -> None:
    """However small the frames are that fill a window, whoever takes them may be slow."""
    limits = Limits(receive_window_bytes=window_bytes)
    frames_of_a_window = window_bytes // size
    cost = cost_of(frame(DATA, bytes(size), stream_id=1), limits=limits)

    assert 0 < cost * frames_of_a_window <= 1400


def test_small_data_is_stopped_before_it_fills_the_loop() -> None:
    """16 bytes a frame, 15 us of work each: 50,000 of them a second aren't borne."""
    patience = Patience(0.0)
    meter = FrameMeter(Limits(), patience, lambda _: False)
    meter.feed(_BEGIN, 0.0)
    data = frame(DATA, bytes(16), stream_id=1) * 500

    def flood() -> None:
        for step in range(100):
            meter.feed(data, step / 100)

    with pytest.raises(CalmDownError):
        flood()

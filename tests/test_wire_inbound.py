"""A peer's bytes in pieces: cut between frames, paid for, none too much for one turn."""

from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.faults import CalmDownError, FrameSizeError, PeerFaultError
from streamer.engines.wire.flood import ConnectionAccount, FloodAccount, Work
from streamer.engines.wire.inbound import Inbound
from streamer.engines.wire.limits import Limits
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
        st.integers(1, 5),
        st.binary(max_size=30),
    ),
    max_size=20,
)
_BEGIN = handshake()


class Costs(ConnectionAccount):
    """Adds up, and never has enough."""

    def __init__(self) -> None:
        super().__init__(FloodAccount(1.0, 0.0), 0.0)
        self.total = 0.0

    def charge(self, work: Work, amount: float = 1.0, stream_id: int = 0) -> float:
        price = super().charge(work, amount, stream_id)
        self.total += price
        return price


class Read:
    """What comes of bytes that follow a handshake, read in pieces."""

    def __init__(self, *reads: bytes, limits: Limits = Limits()) -> None:  # noqa: B008
        self.costs = Costs()
        self.inbound = Inbound(limits, self.costs)
        self.pieces: list[bytes] = []
        self.feed(_BEGIN)
        self.pieces.clear()
        self.costs.total = 0.0
        for data in reads:
            self.feed(data)

    def feed(self, data: bytes) -> None:
        self.inbound.feed(data)
        self.pieces.append(self.inbound.next_piece())
        while self.inbound.is_behind:
            self.pieces.append(self.inbound.next_piece())

    @property
    def cost(self) -> float:
        return self.costs.total


@given(frames, st.lists(st.integers(0, 800)))
def test_nothing_depends_on_how_bytes_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    """Reads cost what the whole costs, and pieces are what was read, in order."""
    data = b"".join(parts)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole, cut = Read(data), Read(*(data[start:stop] for start, stop in pairwise(bounds)))

    assert whole.cost == pytest.approx(cut.cost)
    assert data == b"".join(whole.pieces) == b"".join(cut.pieces)


def test_a_frame_is_paid_for_when_its_header_is_complete() -> None:
    """Neither its first 8 bytes nor its payload cost anything."""
    data = frame(HEADERS, bytes(100), stream_id=1)

    assert 0 == Read(data[:-101]).cost
    assert 0 < Read(data[:-100]).cost == Read(data).cost


@pytest.mark.parametrize("kind", [*range(11), 255])
def test_every_frame_costs(kind: int) -> None:
    """Nothing that a peer can repeat without end is free."""
    assert 0 < Read(frame(kind)).cost


@given(st.lists(st.sampled_from([0, 10, 1_000, 16_000]), min_size=1, max_size=400))
def test_a_piece_is_a_turns_work_and_ends_between_frames(sizes: list[int]) -> None:
    """About a millisecond by its prices, however much was read; a dear frame stands last."""
    kinds = itertools.cycle([PING, DATA, HEADERS])
    parts = [
        frame(kind, bytes(size), stream_id=2 * number + 1)
        for number, (kind, size) in enumerate(zip(kinds, sizes, strict=False))
    ]
    read = Read()
    ends = set(itertools.accumulate(map(len, parts), initial=0))
    read.inbound.feed(b"".join(parts))
    place = 0
    while read.inbound.is_behind:
        before = read.cost
        place += len(read.inbound.next_piece())

        assert place in ends
        assert read.cost - before <= 1_000 + 0.3 * 16_000 + 60
    assert sum(map(len, parts)) == place


_frame_limits = st.sampled_from([Limits(), Limits(max_frame_bytes=65_536)])


@given(st.integers(0, 255), _frame_limits, st.data())
def test_the_longest_frame_is_taken(kind: int, limits: Limits, data: st.DataObject) -> None:
    """As many bytes as the limit says are permitted for every kind of frame."""
    size = data.draw(st.integers(0, limits.max_frame_bytes))
    Read(frame(kind, size=size), limits=limits)


@given(st.integers(0, 255), _frame_limits, st.data())
def test_a_longer_frame_is_refused_by_its_header(
    kind: int, limits: Limits, data: st.DataObject
) -> None:
    """Also if bytes of other frames came before it in the same read."""
    size = data.draw(st.integers(limits.max_frame_bytes + 1, 2**24 - 1))
    with pytest.raises(FrameSizeError):
        Read(frame(DATA, b"x", flags=END_STREAM) + frame(kind, size=size), limits=limits)


@given(frames, st.data())
def test_awaited_bytes_are_those_that_a_frame_lacks(
    parts: list[bytes], data: st.DataObject
) -> None:
    """None between frames, and none while it isn't known how long one is."""
    come = data.draw(st.integers(0, sum(map(len, parts))))
    read = Read(b"".join(parts)[:come])
    ends = list(itertools.accumulate(map(len, parts), initial=0))
    begun = sum(end <= come for end in ends) - 1
    has_header = begun < len(parts) and come - ends[begun] >= 9

    assert read.inbound.awaited_bytes == (ends[begun + 1] - come if has_header else 0)


@pytest.mark.parametrize(
    "first",
    [frame(PING, bytes(8)), frame(HEADERS, stream_id=1), frame(SETTINGS, flags=ACK)],
    ids=["PING", "HEADERS", "an answer to SETTINGS"],
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    """Whatever else it is, is a fault (RFC 9113 section 3.4)."""
    inbound = Inbound(Limits(), Costs())
    inbound.feed(PREFACE + first)
    with pytest.raises(PeerFaultError, match="first frame"):
        inbound.next_piece()


def test_an_answer_to_settings_has_no_payload() -> None:
    """FRAME_SIZE_ERROR (RFC 9113 section 6.5)."""
    with pytest.raises(FrameSizeError):
        Read(frame(SETTINGS, bytes(6), flags=ACK))


@pytest.mark.parametrize("max_header_list_bytes", [16 << 10, 64 << 10])
def test_a_header_block_is_as_long_as_six_times_what_is_advertised(
    max_header_list_bytes: int,
) -> None:
    """Longer ones end the connection before they are decoded; the next block starts anew."""
    limits = Limits(max_header_list_bytes=max_header_list_bytes)
    part = bytes(16_384)
    parts = 6 * max_header_list_bytes // len(part)
    block = frame(HEADERS, part, stream_id=1) + frame(CONTINUATION, part, stream_id=1) * (parts - 1)
    Read(block, block.replace(b"\0\0\0\1", b"\0\0\0\3"), limits=limits)

    with pytest.raises(CalmDownError, match="header block"):
        Read(block + frame(CONTINUATION, b"x", stream_id=1), limits=limits)

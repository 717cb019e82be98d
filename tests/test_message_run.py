"""Many messages in one buffer: put together, put together again, and taken apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.codec.frames import PREFIX_BYTES
from streamer.codec.message_run import MessageRun
from streamer.engines.wire.messages import MessageReader
from tests.wire_peer import framed

_messages: st.SearchStrategy[list[bytes]] = st.lists(st.binary(max_size=9), max_size=6)


@st.composite
def _runs(draw: st.DrawFn) -> tuple[list[bytes], MessageRun]:
    """Draw messages and a run of them with anything before, in between and behind."""
    messages = draw(_messages)
    starts, ends, data = [], [], b""
    for message in messages:
        data += draw(st.binary(max_size=PREFIX_BYTES))
        starts.append(len(data))
        data += message
        ends.append(len(data))
    return messages, MessageRun(data + draw(st.binary(max_size=3)), starts, ends)


_some_runs = st.lists(_runs(), max_size=5)


@given(messages=_messages)
def test_single_messages_put_together_come_out_again(messages: list[bytes]) -> None:
    """In order, empty ones included."""
    run = MessageRun.of(messages)

    assert messages == list(run)
    assert len(messages) == len(run)
    assert b"".join(messages) == run.data


@given(drawn=_some_runs)
def test_joined_runs_have_the_messages_of_each(
    drawn: list[tuple[list[bytes], MessageRun]],
) -> None:
    """One after another, whatever lies between them; no run, no message."""
    joined = MessageRun.joined([run for _, run in drawn])

    assert [message for messages, _ in drawn for message in messages] == list(joined)


@given(drawn=_some_runs, cut=st.integers(0, 5))
def test_joining_is_associative(drawn: list[tuple[list[bytes], MessageRun]], cut: int) -> None:
    """Runs joined in two steps are those joined in one, to the last byte."""
    runs = [run for _, run in drawn]
    at_once = MessageRun.joined(runs)
    in_steps = MessageRun.joined([MessageRun.joined(runs[:cut]), MessageRun.joined(runs[cut:])])

    assert at_once == in_steps
    assert (at_once.data, list(at_once.starts), list(at_once.ends)) == (
        in_steps.data, list(in_steps.starts), list(in_steps.ends),
    )  # fmt: skip


@given(drawn=_runs(), other=_messages)
def test_runs_are_equal_if_their_messages_are(
    drawn: tuple[list[bytes], MessageRun], other: list[bytes]
) -> None:
    """What is in between doesn't count; where a message ends does."""
    messages, run = drawn

    assert MessageRun.of(messages) == run
    assert (messages == other) == (run == MessageRun.of(other))
    assert run != messages


def test_equal_bytes_cut_elsewhere_are_other_messages() -> None:
    """The same data, one byte later."""
    assert MessageRun(b"abc", [0, 1], [1, 3]) != MessageRun(b"abc", [0, 2], [2, 3])


def test_a_run_has_no_hash() -> None:
    """It isn't a key, for it is compared by what may be megabytes."""
    with pytest.raises(TypeError):
        hash(MessageRun.of([b"x"]))


@given(drawn=_runs())
def test_spans_are_where_the_messages_lie(drawn: tuple[list[bytes], MessageRun]) -> None:
    """As NumPy's 64-bit numbers, also of no message."""
    messages, run = drawn
    starts, ends = run.spans

    assert np.int64 == starts.dtype == ends.dtype
    assert messages == [
        run.data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


@given(drawn=_some_runs)
def test_a_join_takes_the_memory_of_its_parts(
    drawn: list[tuple[list[bytes], MessageRun]],
) -> None:
    """No message and no byte is counted twice or not at all; empty messages count, too."""
    runs = [run for _, run in drawn]

    assert sum(run.held_bytes for run in runs) == MessageRun.joined(runs).held_bytes
    assert MessageRun.of([b""] * 1000).held_bytes >= 8 * 1000


@given(messages=_messages, cuts=st.lists(st.integers(0, 100), max_size=8))
def test_what_the_wire_reads_joined_is_what_was_sent(
    messages: list[bytes], cuts: list[int]
) -> None:
    """Frames cut anywhere: the runs that come out of them have each message once."""
    data = b"".join(map(framed, messages))
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = MessageReader(b"identity", max_bytes=9)
    runs = [reader.feed(data[start:end]) for start, end in pairwise(places)]

    assert MessageRun.of(messages) == MessageRun.joined(runs)
    assert 0 == reader.unfinished_bytes

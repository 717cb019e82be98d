"""Length-prefixed messages in one buffer, against `struct` and plain slices."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamer.codec.frames import PREFIX_BYTES, JoinedFrames, prefixes

messages_of_some_rows = st.lists(st.binary(max_size=300))


def joined(messages: list[bytes], before: bytes = b"", after: bytes = b"") -> JoinedFrames:
    """Put messages with prefixes between other bytes of one buffer."""
    framed = [b"\0" + len(message).to_bytes(4, "big") + message for message in messages]
    ends = np.cumsum([len(before), *map(len, framed)])
    return JoinedFrames(pa.py_buffer(before + b"".join(framed) + after), ends, 7)


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_a_prefix_is_a_zero_byte_and_the_big_endian_length(sizes: list[int]) -> None:
    """Prefixes are what gRPC over HTTP/2 puts before an uncompressed message."""
    matrix = prefixes(np.array(sizes, np.int64))

    assert (len(sizes), PREFIX_BYTES) == matrix.shape
    assert [struct.pack(">BI", 0, size) for size in sizes] == [row.tobytes() for row in matrix]


@given(messages_of_some_rows)
def test_messages_come_without_their_prefixes(messages: list[bytes]) -> None:
    """Iterating gives the messages that were framed, in order."""
    assert messages == list(joined(messages).messages())


@given(messages_of_some_rows, st.binary(), st.binary())
def test_frames_may_be_a_part_of_a_buffer(
    messages: list[bytes], before: bytes, after: bytes
) -> None:
    """Bytes in front of the first message and behind the last one belong to neither."""
    frames = joined(messages, before, after)

    assert messages == list(frames.messages())
    assert sum(PREFIX_BYTES + len(message) for message in messages) == frames.nbytes


@given(messages_of_some_rows)
def test_frames_count_messages_and_rows(messages: list[bytes]) -> None:
    """The length is that in messages; rows are what the encoder said they are."""
    frames = joined(messages)

    assert len(messages) == len(frames)
    assert 7 == frames.rows

"""DATA frames around bytes that stay where they are, read back from their addresses."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np
from hyperframe.frame import DataFrame
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.data_frames import (
    Segments,
    frame_headers,
    framed_pieces,
    framed_segments,
)
from tests.memory_peer import frames_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

stream_ids = st.integers(1, 2**31 - 1)
# Frames shorter than a segment, longer than one, and as long as everything.
frame_sizes = st.one_of(st.integers(1, 8), st.integers(1, 100), st.just(16_384))
segment_lists = st.lists(
    st.one_of(st.binary(max_size=12), st.just(b""), st.binary(min_size=50, max_size=80)),
    min_size=1,
    max_size=12,
).filter(any)


class Run:
    """Segments that lie apart in memory, as a table of addresses."""

    def __init__(self, parts: list[bytes]) -> None:
        self._buffers = [np.frombuffer(part, np.uint8) for part in parts]
        self.bytes = b"".join(parts)
        table = [(buffer.ctypes.data, len(buffer)) for buffer in self._buffers]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self.segments = Segments(np.array(table, np.int64).reshape(-1, 2), ends)


def bytes_at(table: NDArray[np.int64]) -> list[bytes]:
    """Read what a table points at."""
    return [ctypes.string_at(int(address), int(size)) for address, size in table]


@given(segment_lists, st.data(), frame_sizes, stream_ids)
def test_segments_are_framed_as_joined_bytes_are(
    parts: list[bytes], data: st.DataObject, frame_bytes: int, stream_id: int
) -> None:
    """Any part of any segments makes the frames that the same bytes in one piece make."""
    run = Run(parts)
    start = data.draw(st.integers(0, len(run.bytes) - 1), "start")
    stop = data.draw(st.integers(start + 1, len(run.bytes)), "stop")
    block = memoryview(run.bytes)[start:stop]
    table, headers = framed_segments(run.segments, start, stop, frame_bytes, stream_id)
    framed = b"".join(bytes_at(table))

    assert b"".join(framed_pieces(block, frame_bytes, stream_id)) == framed
    assert len(headers) == -(-len(block) // frame_bytes)
    assert len(framed) == int(table[:, 1].sum())


@given(segment_lists, frame_sizes)
def test_bytes_are_sent_from_where_they_lie(parts: list[bytes], frame_bytes: int) -> None:
    """Every entry that isn't a header points into a segment; none of them was copied."""
    run = Run(parts)
    table, headers = framed_segments(run.segments, 0, len(run.bytes), frame_bytes, 1)
    of_headers = range(headers.ctypes.data, headers.ctypes.data + headers.nbytes)
    places = [range(address, address + size + 1) for address, size in run.segments.table.tolist()]

    for address, size in table.tolist():
        if address not in of_headers or size != 9:
            assert any(address in place and address + size in place for place in places)


@given(st.binary(max_size=300), frame_sizes, stream_ids)
def test_pieces_are_data_frames(block: bytes, frame_bytes: int, stream_id: int) -> None:
    """They parse as DATA of one stream, as long as permitted but for the last."""
    frames = frames_in(b"".join(framed_pieces(memoryview(block), frame_bytes, stream_id)))
    sizes = [len(frame.data) for frame in frames if isinstance(frame, DataFrame)]

    assert block == b"".join(frame.data for frame in frames if isinstance(frame, DataFrame))
    assert {stream_id} >= {frame.stream_id for frame in frames}
    assert [frame_bytes] * (len(sizes) - 1) == sizes[:-1]
    assert not any(frame.flags for frame in frames)


@given(st.lists(st.integers(0, 2**24 - 1)), stream_ids)
def test_headers_are_those_of_data_frames(lengths: list[int], stream_id: int) -> None:
    """Three bytes of length, type and flags 0, four bytes of stream."""
    headers = frame_headers(np.array(lengths, np.int64), stream_id)

    assert [
        length.to_bytes(3, "big") + b"\0\0" + stream_id.to_bytes(4, "big") for length in lengths
    ] == [header.tobytes() for header in headers]

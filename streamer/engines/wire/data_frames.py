"""DATA frames around bytes that stay where they are (RFC 9113 sections 4.1 and 6.1).

A frame is a header of 9 bytes and its share of a block. Length-prefixed messages may lie
across frames as they like, so a block is cut wherever the peer's frame size and windows
say; nothing of it is copied. Pure arithmetic: addresses are numbers here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

HEADER_BYTES = 9


def frame_headers(lengths: NDArray[np.int64], stream_id: int) -> NDArray[np.uint8]:
    """Return headers of DATA frames of `lengths` bytes, no flags set: uint8 (n, 9)."""
    headers = np.zeros((len(lengths), HEADER_BYTES), np.uint8)
    headers[:, :3] = lengths.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    headers[:, 5:] = np.frombuffer(stream_id.to_bytes(4, "big"), np.uint8)
    return headers


def framed_pieces(
    block: memoryview, frame_bytes: int, stream_id: int
) -> Iterator[bytes | memoryview]:
    """Yield the headers and views on `block` that make it DATA frames."""
    starts = np.arange(0, len(block), frame_bytes)
    lengths = np.minimum(len(block) - starts, frame_bytes)
    for start, header in zip(starts.tolist(), frame_headers(lengths, stream_id), strict=True):
        yield header.tobytes()
        yield block[start : start + frame_bytes]


class Segments(NamedTuple):
    """Bytes in several places that make one run: `ends` is where each segment ends in it.

    `table` is int64 (n, 2): address and length of each segment, as `struct iovec` has
    them; `ends` is int64 (n,).
    """

    table: NDArray[np.int64]
    ends: NDArray[np.int64]


def framed_segments(
    segments: Segments, start: int, stop: int, frame_bytes: int, stream_id: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Cut bytes start..stop of a run into DATA frames; return a table, and their headers.

    The table, int64 (m, 2) like that of Segments, holds the segments cut at frame
    boundaries, and in front of each frame the address of its header. The headers are
    uint8 (frames, 9); whoever uses the table keeps them. A length of 0 may occur.
    """
    bounds = np.arange(start, stop, frame_bytes)
    next_bounds = np.append(bounds[1:], stop)
    headers = frame_headers(next_bounds - bounds, stream_id)
    first = int(segments.ends.searchsorted(start, "right"))
    last = int(segments.ends.searchsorted(stop, "left"))
    table = segments.table[first : last + 1]
    ends = segments.ends[first : last + 1]
    # Frame f begins within segment holder[f]; two more rows, of its header and of what is left
    # of that segment, come before the next segment.
    holder = ends.searchsorted(bounds, "right")
    header_rows = holder + 2 * np.arange(len(bounds))
    is_next = np.ones(len(table) - 1 + 2 * len(bounds), np.int64)
    is_next[header_rows] = 0
    is_next[header_rows + 1] = 0
    framed = table.take(is_next.cumsum(), axis=0)  # 20 times faster than by a mask
    held = table[holder]
    held_ends = ends[holder]
    into = bounds - (held_ends - held[:, 1])
    framed[header_rows, 0] = headers.ctypes.data + HEADER_BYTES * np.arange(len(bounds))
    framed[header_rows, 1] = HEADER_BYTES
    framed[header_rows + 1, 0] = held[:, 0] + into
    framed[header_rows + 1, 1] = np.minimum(held_ends, next_bounds) - bounds
    # What was in front of a boundary within the same segment ends there.
    splits = np.flatnonzero(holder[1:] != holder[:-1]) + 1
    framed[header_rows[splits] - 1, 1] = into[splits]
    if holder[-1] != len(table) - 1:
        framed[-1, 1] = stop - (ends[-1] - table[-1, 1])
    return framed, headers

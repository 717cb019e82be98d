"""Frames: a run of gRPC length-prefixed messages, ready for the wire.

A length-prefixed message is one byte 0 (not compressed), four bytes of
big-endian length, then the protobuf message ("gRPC over HTTP/2", section
"Length-Prefixed-Message"). Frames says where each of them begins and ends; how
the bytes are held is the matter of the class behind it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streamer.codec.wire_format import (
    binary_column,
    data_and_offsets,
    fixed_width_column,
    join,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

PREFIX_BYTES = 5


class Frames(Protocol):
    """What an engine may ask of a run of length-prefixed messages."""

    @property
    def rows(self) -> int:
        """Rows in all messages together."""

    @property
    def nbytes(self) -> int:
        """Bytes on the wire, prefixes included."""

    def __len__(self) -> int:
        """Messages."""

    def messages(self) -> Iterator[bytes]:
        """Yield each protobuf message without its prefix, copied."""


class JoinedFrames:
    """Messages one after another in one contiguous buffer.

    `data` is an Arrow buffer, owned; `offsets` is an integer array of
    (messages + 1): message i, prefix included, is data[offsets[i]:offsets[i + 1]].
    """

    __slots__ = ("data", "offsets", "rows")

    def __init__(self, data: pa.Buffer, offsets: NDArray[np.integer], rows: int) -> None:
        self.data = data
        self.offsets = offsets
        self.rows = rows

    @property
    def nbytes(self) -> int:
        return int(self.offsets[-1] - self.offsets[0])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def messages(self) -> Iterator[bytes]:
        data = memoryview(self.data)
        starts = self.offsets[:-1] + PREFIX_BYTES
        for start, end in zip(starts.tolist(), self.offsets[1:].tolist(), strict=True):
            yield bytes(data[start:end])


class GatheredFrames:
    """Messages whose vectors stay where they are: each row is a head, then a tail.

    `heads` and `tails` are Arrow buffers, owned; head i is
    heads[head_offsets[i]:head_offsets[i + 1]] (int32, (rows + 1,)), tail i the
    `tail_bytes` bytes at i * tail_bytes of `tails`, which is a view on the batch that was
    encoded. Message j consists of the rows first_rows[j] to first_rows[j + 1].
    """

    __slots__ = ("first_rows", "head_offsets", "heads", "rows", "tail_bytes", "tails")

    def __init__(
        self,
        heads: pa.Buffer,
        head_offsets: NDArray[np.int32],
        tails: pa.Buffer,
        tail_bytes: int,
        first_rows: NDArray[np.integer],
    ) -> None:
        self.heads = heads
        self.head_offsets = head_offsets
        self.tails = tails
        self.tail_bytes = tail_bytes
        self.rows = len(head_offsets) - 1
        self.first_rows = first_rows

    @property
    def nbytes(self) -> int:
        heads = int(self.head_offsets[-1] - self.head_offsets[0])
        return heads + self.rows * self.tail_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes that are this object's own: all but the tails."""
        return int(self.heads.size) + self.head_offsets.nbytes + self.first_rows.nbytes

    def __len__(self) -> int:
        return len(self.first_rows) - 1

    def rows_between(self, first: int, stop: int) -> GatheredFrames:
        """Return rows first..stop, views on the same memory; each must be a message."""
        offsets = self.head_offsets[first : stop + 1]
        begin, end = first * self.tail_bytes, stop * self.tail_bytes
        first_rows = np.arange(stop - first + 1)
        tails = self.tails.slice(begin, end - begin)
        return GatheredFrames(self.heads, offsets, tails, self.tail_bytes, first_rows)

    def joined(self) -> JoinedFrames:
        """Return the same messages in one buffer; this copies the vectors."""
        heads = binary_column(self.heads, self.head_offsets)
        tails = fixed_width_column(self.tails, self.rows, self.tail_bytes)
        data, offsets = data_and_offsets(join([heads, tails]))
        return JoinedFrames(data, offsets[self.first_rows], self.rows)

    def messages(self) -> Iterator[bytes]:
        heads, tails = memoryview(self.heads), memoryview(self.tails)
        offsets = self.head_offsets.tolist()
        for first, stop in pairwise(self.first_rows.tolist()):
            parts: list[memoryview] = []
            for row in range(first, stop):
                parts.append(heads[offsets[row] : offsets[row + 1]])
                parts.append(tails[row * self.tail_bytes : (row + 1) * self.tail_bytes])
            yield b"".join(parts)[PREFIX_BYTES:]


def prefixes(sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the prefixes of messages of `sizes` bytes as uint8 (n, PREFIX_BYTES)."""
    out = np.zeros((len(sizes), PREFIX_BYTES), np.uint8)
    out[:, 1:] = sizes.astype(">u4").view(np.uint8).reshape(len(sizes), 4)
    return out

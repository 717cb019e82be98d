"""Frames: a run of gRPC length-prefixed messages, ready for the wire.

A length-prefixed message is one byte 0 (not compressed), four bytes of
big-endian length, then the protobuf message ("gRPC over HTTP/2", section
"Length-Prefixed-Message"). Frames says where each of them begins and ends; how
the bytes are held is the matter of the class behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from streamer.codec.wire_format import (
    binary_column,
    data_and_offsets,
    fixed_width_column,
    join,
    offsets_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PREFIX_BYTES = 5


class Frames(Protocol):
    """What may be asked of a run of length-prefixed messages, however it is held."""

    rows: int

    @property
    def nbytes(self) -> int:
        """Bytes on the wire, prefixes included."""

    def __len__(self) -> int:
        """Messages that begin here."""


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
        """Yield each protobuf message without its prefix, copied."""
        data = memoryview(self.data)
        starts = self.offsets[:-1] + PREFIX_BYTES
        for start, end in zip(starts.tolist(), self.offsets[1:].tolist(), strict=True):
            yield bytes(data[start:end])


class GatheredFrames:
    """Rows of messages whose vectors stay where they are: each row is a head, then a tail.

    `heads` and `tails` are Arrow buffers, owned; head i is
    heads[head_offsets[i]:head_offsets[i + 1]] (int32, (rows + 1,)), tail i the `tail_bytes`
    bytes at i * tail_bytes of `tails`, which is a view on the batch that was encoded.

    Either each row is a message, with its prefix in its head; or messages begin at the rows
    `starts`, int64 (messages,), with `start_prefixes`, uint8 (messages, PREFIX_BYTES), in
    front of their heads. Those may begin and end outside of these rows.
    """

    __slots__ = (
        "head_offsets", "heads", "rows", "start_prefixes", "starts", "tail_bytes", "tails",
    )  # fmt: skip

    def __init__(
        self,
        heads: pa.Buffer,
        head_offsets: NDArray[np.int32],
        tails: pa.Buffer,
        tail_bytes: int,
        *,
        starts: NDArray[np.int64] | None = None,
        start_prefixes: NDArray[np.uint8] | None = None,
    ) -> None:
        self.heads = heads
        self.head_offsets = head_offsets
        self.tails = tails
        self.tail_bytes = tail_bytes
        self.rows = len(head_offsets) - 1
        self.starts = starts
        self.start_prefixes = start_prefixes

    @property
    def nbytes(self) -> int:
        heads = int(self.head_offsets[-1] - self.head_offsets[0])
        begun = 0 if self.start_prefixes is None else self.start_prefixes.size
        return begun + heads + self.rows * self.tail_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes that are this object's own: all but the tails."""
        return int(self.heads.size) + self.head_offsets.nbytes

    def __len__(self) -> int:
        return self.rows if self.starts is None else len(self.starts)

    def row_sizes(self) -> NDArray[np.int64]:
        """Return the bytes of each row, message prefixes left out: int64 (rows,)."""
        return np.diff(self.head_offsets).astype(np.int64) + self.tail_bytes

    def rows_between(self, first: int, stop: int) -> GatheredFrames:
        """Return rows first..stop, views on the same memory."""
        begin, end = first * self.tail_bytes, stop * self.tail_bytes
        rows = GatheredFrames(
            self.heads, self.head_offsets[first : stop + 1],
            self.tails.slice(begin, end - begin), self.tail_bytes,
        )  # fmt: skip
        if self.starts is None or self.start_prefixes is None:
            return rows
        low, high = self.starts.searchsorted((first, stop))
        return rows.begun_at(self.starts[low:high] - first, self.start_prefixes[low:high])

    def begun_at(
        self, starts: NDArray[np.int64], start_prefixes: NDArray[np.uint8]
    ) -> GatheredFrames:
        """Return the same rows with messages that begin at `starts`."""
        return GatheredFrames(
            self.heads, self.head_offsets, self.tails, self.tail_bytes,
            starts=starts, start_prefixes=start_prefixes,
        )  # fmt: skip

    def joined(self) -> JoinedFrames:
        """Return the same bytes in one buffer; this copies the vectors.

        Where messages begin at `starts` it is one run of bytes, whatever messages it cuts.
        """
        columns = [
            binary_column(self.heads, self.head_offsets),
            fixed_width_column(self.tails, self.rows, self.tail_bytes),
        ]
        if self.starts is None or self.start_prefixes is None:
            data, offsets = data_and_offsets(join(columns))
            return JoinedFrames(data, offsets, self.rows)
        sizes = np.zeros(self.rows, np.int64)
        sizes[self.starts] = PREFIX_BYTES
        begun = binary_column(
            pa.py_buffer(np.ascontiguousarray(self.start_prefixes)), offsets_of(sizes)
        )
        data, offsets = data_and_offsets(join([begun, *columns]))
        return JoinedFrames(data, offsets[[0, -1]], self.rows)


def prefixes(sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the prefixes of messages of `sizes` bytes as uint8 (n, PREFIX_BYTES)."""
    out = np.zeros((len(sizes), PREFIX_BYTES), np.uint8)
    out[:, 1:] = sizes.astype(">u4").view(np.uint8).reshape(len(sizes), 4)
    return out

"""Frames: a run of gRPC length-prefixed messages, ready for the wire.

A length-prefixed message is one byte 0 (not compressed), four bytes of
big-endian length, then the protobuf message ("gRPC over HTTP/2", section
"Length-Prefixed-Message"). Frames says where each of them begins and ends; how
the bytes are held is the matter of the class behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

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


def prefixes(sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the prefixes of messages of `sizes` bytes as uint8 (n, PREFIX_BYTES)."""
    out = np.zeros((len(sizes), PREFIX_BYTES), np.uint8)
    out[:, 1:] = sizes.astype(">u4").view(np.uint8).reshape(len(sizes), 4)
    return out

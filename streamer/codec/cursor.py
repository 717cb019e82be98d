"""Reads canonical protobuf messages a field of all rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from streamer.codec.wire_format import (
    MAX_LENGTH_BYTES,
    MAX_VARINT_BYTES,
    WireType,
    binary_column,
    int64_column,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Spans(NamedTuple):
    """Where byte strings lie in a buffer: begins and ends, ascending, int64 (n,) each."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Cursor:
    """One reading position a row, all of them moved forward together.

    Never raises: `failed` says that a row's bytes are not in canonical form.
    """

    def __init__(self, data: bytes, rows: Spans) -> None:
        self._data = np.frombuffer(data, np.uint8)
        self._last = len(data) - 1
        self._position = rows.starts
        self._ends = rows.ends
        self.failed = False

    def at_end(self) -> bool:
        return bool((self._position == self._ends).all())

    def skip_tag(self, field_tag: bytes) -> NDArray[np.bool_]:
        """Step over `field_tag` in the rows that have it; return the mask of those rows."""
        present = self._position + len(field_tag) <= self._ends
        for offset, byte in enumerate(field_tag):
            present &= self._bytes_at(offset) == byte
        self._position = self._position + present * np.int64(len(field_tag))
        return present

    def read(self, wire_type: WireType, present: NDArray[np.bool_]) -> NDArray[np.generic] | Spans:
        """Read a value in the rows of `present`: uint64 (n,), or Spans, or uint8 (n, w)."""
        if wire_type is WireType.VARINT:
            return self._read_varints(present, MAX_VARINT_BYTES)
        if wire_type is WireType.LEN:
            return self._read_spans(present)
        return self._read_fixed(present, 4 if wire_type is WireType.I32 else 8)

    def _read_varints(self, present: NDArray[np.bool_], max_bytes: int) -> NDArray[np.uint64]:
        values = np.zeros(len(present), np.uint64)
        unfinished = present
        for shift in range(0, 7 * max_bytes, 7):
            byte = self._bytes_at(0)
            groups = (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            values |= np.where(unfinished, groups, np.uint64(0))
            self._position = self._position + unfinished
            unfinished = unfinished & (byte >= 0x80)
            if not unfinished.any():
                break
        self.failed |= bool(unfinished.any() or (self._position > self._ends).any())
        return values

    def _read_spans(self, present: NDArray[np.bool_]) -> Spans:
        lengths = self._read_varints(present, MAX_LENGTH_BYTES)
        room = (self._ends - self._position).clip(0).astype(np.uint64)
        self.failed |= bool((lengths > room).any())
        starts = self._position
        self._position = starts + np.minimum(lengths, room).astype(np.int64)
        return Spans(starts, self._position)

    def _read_fixed(self, present: NDArray[np.bool_], width: int) -> NDArray[np.uint8]:
        raw = np.stack([self._bytes_at(offset) for offset in range(width)], axis=1)
        raw[~present] = 0
        self._position = self._position + present * np.int64(width)
        self.failed |= bool((self._position > self._ends).any())
        return raw

    def _bytes_at(self, offset: int) -> NDArray[np.uint8]:
        if self._last < 0:
            return np.zeros(len(self._position), np.uint8)
        return self._data.take(self._position + offset, mode="clip")


def gather(data: bytes, spans: Spans) -> pa.Array:
    """Copy the bytes at `spans` into a binary column of their own.

    The spans and the gaps between them are viewed as one binary column, of which
    every other value is taken: memcpy in C++ instead of an index a byte.
    """
    rows = len(spans.starts)
    if rows == 0:
        return binary_column(pa.py_buffer(b""), np.zeros(1, np.int32))
    offsets = np.empty(2 * rows, np.int32)
    offsets[0::2] = spans.starts
    offsets[1::2] = spans.ends
    column = binary_column(pa.py_buffer(data), offsets)
    return column.take(int64_column(np.arange(0, 2 * rows, 2)))

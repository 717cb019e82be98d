"""Runs of floats, found by looking at every ninth byte."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.spans import Run

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer
    from convert.pickle_reader.state import State

FLOAT_BYTES = 9  # G and a big-endian double
_FRAME, _BINFLOAT = b"\x95G"
FRAME_BYTES = 9
# What makes lists and tuples of whatever is on the stack: APPENDS, TUPLE, LIST.
_TAKERS = b"etl"
_DOUBLE = struct.Struct(">d")
# Floats among other values, which become Python's: 32 bytes each.
_MAX_LOOSE = 1 << 20


def view_floats(data: Buffer, offset: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """View `count` floats from `offset` on, in place."""
    return np.ndarray((count,), ">f8", data, offset + 1, (FLOAT_BYTES,))


class Floats:
    """Reads the floats of one machine."""

    def __init__(self, machine: State) -> None:
        self._machine = machine
        self._data = machine.data
        # The last run: most have the same length.
        self._count = 1
        self._codes = b"G"

    def push(self, stack: list[Any], pos: int) -> int:
        """Push the floats from `pos` on; return where they end.

        They are pushed as a Run if a list or tuple takes them at once.
        """
        data, count = self._data, self._count
        after = pos + FLOAT_BYTES * count
        if (
            count > 1
            and data[pos:after:FLOAT_BYTES] == self._codes
            and after < self._machine.end
            and data[after] in _TAKERS
        ):
            stack.append(Run(pos, count))
            self._machine.skipped += after - pos
            return after
        return self._push_other(stack, pos)

    def _push_other(self, stack: list[Any], pos: int) -> int:
        data, end = self._data, self._machine.end
        if data[pos + FLOAT_BYTES] not in b"G\x95":
            stack.append(_DOUBLE.unpack_from(data, pos + 1)[0])
            return pos + FLOAT_BYTES
        runs = []
        while True:
            count = self._count_from(pos)
            runs.append(Run(pos, count))
            pos += FLOAT_BYTES * count
            # Frames begin anywhere between two opcodes.
            behind = pos + FRAME_BYTES
            if data[pos] != _FRAME or data[behind] != _BINFLOAT:
                break
            check_frame(data, pos, end)
            pos = behind
        following = data[behind] if data[pos] == _FRAME else data[pos]
        floats = sum(run.count for run in runs)
        if floats > 1 and following in _TAKERS:
            stack.extend(runs)
            self._machine.skipped += FLOAT_BYTES * floats
            if len(runs) == 1:
                self._count, self._codes = floats, b"G" * floats
        elif floats > _MAX_LOOSE:
            message = f"{floats:,} floats that are no list of floats"
            raise UnsupportedPickle(message, runs[0].offset)
        else:
            for run in runs:
                stack.extend(view_floats(data, run.offset, run.count).tolist())
        return pos

    def _count_from(self, pos: int) -> int:
        """Return how many floats lie one behind another from `pos` on, looking at few more."""
        data, end = self._data, self._machine.end
        count, look = 0, 16
        while True:
            begin = pos + FLOAT_BYTES * count
            codes = bytes(data[begin : begin + FLOAT_BYTES * look : FLOAT_BYTES])
            found = len(codes) - len(codes.lstrip(b"G"))
            count += found
            if found < look:
                break
            look = min(2 * look, 1 << 16)
        if pos + FLOAT_BYTES * count > end:
            raise IndexError
        return count


def check_frame(data: Buffer, pos: int, end: int) -> None:
    """Raise DamagedPickle if the FRAME at `pos` claims more bytes than there are."""
    (size,) = struct.unpack_from("<Q", data, pos + 1)
    if size > end - pos - FRAME_BYTES:
        message = f"a frame of {size:,} bytes, of which {end - pos - FRAME_BYTES:,} are there"
        raise DamagedPickle(message, pos)

"""Items of a list, read side by side: each step reads the same opcode of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convert.pickle_reader.errors import DamagedPickle
from convert.pickle_reader.floats import FLOAT_BYTES, FRAME_BYTES, check_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.pickle_reader.alike.pattern import Constant, Floats, Vector
    from convert.pickle_reader.spans import Buffer

_WORD = 8
_FRAME, _BINFLOAT, _MEMOIZE, _APPENDS, _MARK = b"\x95G\x94e("
SHORT_TEXT, LONG_TEXT, GET, LONG_GET = b"\x8cXhj"
# Bytes of each opcode that an atom may be, its argument included; of texts also the MEMOIZE
# behind them, without the text itself; 0 of any other.
_ATOM_BYTES = np.zeros(256, np.int64)
for _codes, _size in (b"\x8c", 3), (b"X", 6), (b"h", 2), (b"j", 5), (b"K", 2), (b"M", 3):
    _ATOM_BYTES[list(_codes)] = _size
_ATOM_BYTES[list(b"N\x88\x89")] = 1
_ATOM_BYTES[ord("J")], _ATOM_BYTES[ord("G")] = 5, FLOAT_BYTES


class Atoms(NamedTuple):
    """An atom of each item: its opcode, where that is, and its bytes.

    `arguments` are the eight bytes behind the opcode, little-endian, `references` the entry
    of the memo that it refers to, -1 if it is something else. `entries` says how many entries
    the item had set before.
    """

    codes: NDArray[np.uint8]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    arguments: NDArray[np.uint64]
    references: NDArray[np.int64]
    entries: NDArray[np.int64]


class Numbers(NamedTuple):
    """Numbers of each item begin at `begins`; in those of `frames` a frame does, there.

    `entries` is that of the list or array that they are, among those of the item.
    """

    begins: NDArray[np.int64]
    frames: dict[int, int]
    entries: NDArray[np.int64] | None


class Walk:
    """Items that seem to begin at `begins` in `window`.

    `at` says how far each was read, `entries` how many entries of the memo it has set, and
    `is_like` whether all was as expected up to there.
    """

    def __init__(self, window: bytes, begins: list[int]) -> None:
        self.window = window
        self.begins = np.array(begins, np.int64)
        self.at = self.begins
        self.entries = np.zeros(len(begins), np.int64)
        self.is_like = np.ones(len(begins), np.bool_)
        self._bytes = np.frombuffer(window, np.uint8)
        # Every eight bytes of the window as a number.
        self._words = np.ndarray((max(len(window) - _WORD + 1, 0),), "<u8", window, 0, (1,))
        self._frames: list[tuple[int, int]] = []

    def codes(self, ahead: int = 0) -> NDArray[np.uint8]:
        """Return the byte that each item has `ahead` of where it was read to."""
        return self._bytes.take(self.at + ahead, mode="clip")

    def words(self, begins: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the eight bytes from `begins` on, as little-endian numbers."""
        return self._words[np.minimum(begins, len(self._words) - 1)]

    def expect(self, constant: Constant) -> None:
        """Step over what all items should have here; a frame may begin before any opcode of it."""
        written = constant.content
        is_here = self.is_like.copy()
        for first in range(0, len(written), _WORD):
            word = written[first : first + _WORD]
            found = self.words(self.at + first)
            if len(word) < _WORD:
                found &= np.uint64((1 << (8 * len(word))) - 1)
            is_here &= found == np.uint64(int.from_bytes(word, "little"))
        rest = np.flatnonzero(self.is_like & ~is_here).tolist()
        self.at = self.at + len(written)
        for row in rest:
            if not self._has_frame_in(row, constant):
                self.is_like[row:] = False  # those behind it don't matter
                break

    def _has_frame_in(self, row: int, constant: Constant) -> bool:
        """Step over the frame that begins in a constant; return whether there is one."""
        written = constant.content
        begin = int(self.at[row]) - len(written)
        found = self.window[begin : begin + len(written) + FRAME_BYTES]
        for place in constant.opcodes:
            without = found[:place] + found[place + FRAME_BYTES :]
            if found[place : place + 1] == b"\x95" and without == written:
                self.at[row] += FRAME_BYTES
                self._frames.append((row, begin + place))
                return True
        return False

    def memoize(self, entries: int) -> None:
        """Count `entries` of the memo that each item sets here."""
        self.entries = self.entries + entries

    def skip_frame(self) -> None:
        """Step over a frame's head in those that have one here."""
        is_frame = self.codes() == _FRAME
        if is_frame.any():
            rows = np.flatnonzero(is_frame)
            self._frames += zip(rows.tolist(), self.at[rows].tolist(), strict=True)
            self.at = self.at + FRAME_BYTES * is_frame

    def skip_between(self) -> None:
        """Step over what may be between two items of a list: an end of a batch, frames."""
        self.skip_frame()
        is_end = (self.codes() == _APPENDS) & (self.codes(1) == _MARK)
        if is_end.any():
            self.at = self.at + 2 * is_end
            self.skip_frame()

    def atom(self) -> Atoms:
        codes, begins, entries = self.codes(), self.at, self.entries
        sizes = _ATOM_BYTES[codes]
        self.is_like &= sizes > 0
        arguments = self.words(begins + 1)
        is_short, is_long = codes == SHORT_TEXT, codes == LONG_TEXT
        if is_short.any():
            sizes = sizes + is_short * low(arguments, 8)
        if is_long.any():
            sizes = sizes + is_long * low(arguments, 32)
        self.at = begins + sizes
        is_text = is_short | is_long
        self.is_like &= ~is_text | (self.codes(-1) == _MEMOIZE)
        self.entries = entries + is_text
        references = np.where(codes == GET, low(arguments, 8), -1)
        references = np.where(codes == LONG_GET, low(arguments, 32), references)
        return Atoms(codes, begins, sizes, arguments, references, entries)

    def floats(self, floats: Floats) -> Numbers:
        begins, entries = self.at, self.entries
        self.entries = entries + 1
        self.at = begins + floats.size
        is_split = self.codes() != _APPENDS
        frames = self._check_floats(begins, floats.length, is_split)
        self.at = self.at + FRAME_BYTES * is_split
        return Numbers(begins, frames, entries)

    def _check_floats(
        self, begins: NDArray[np.int64], count: int, is_split: NDArray[np.bool_]
    ) -> dict[int, int]:
        """See that there are floats alone; return where there is a frame among them or behind.

        A frame's head is as long as a float.
        """
        shape = max(len(self.window) - FLOAT_BYTES * count, 0), count + 1
        every = np.ndarray(shape, np.uint8, self.window, 0, (1, FLOAT_BYTES))
        self.is_like &= begins < len(every)
        if not self.is_like.any():
            return {}
        codes = every[np.minimum(begins, len(every) - 1)]
        is_float = codes == _BINFLOAT
        self.is_like &= is_split | is_float[:, :count].all(axis=1)
        frames = {}
        for row in np.flatnonzero(is_split & self.is_like).tolist():
            others = np.flatnonzero(~is_float[row])
            if len(others) != 1 or codes[row, others[0]] != _FRAME:
                self.is_like[row:] = False
                break
            frames[row] = int(begins[row] + FLOAT_BYTES * others[0])
        self._frames += frames.items()
        return frames

    def vector(self, vector: Vector) -> Numbers:
        begins = self.at
        self.at = begins + vector.size
        own = self.entries + vector.own if vector.own >= 0 else None
        self.entries = self.entries + vector.entries
        return Numbers(begins, {}, own)

    def count(self, data: Buffer, offset: int) -> int:
        """Return how many items, from the first on, follow each other and were as expected.

        The window begins at `offset` in `data`. An item with a frame that is longer than the
        file isn't as expected.
        """
        is_next = np.ones(len(self.at), np.bool_)
        is_next[1:] = self.at[:-1] == self.begins[1:]
        is_like = self.is_like & is_next & (self.at <= len(self.window))
        count = len(is_like) if is_like.all() else int(is_like.argmin())
        for row, place in self._frames:
            if row < count:
                try:
                    check_frame(data, offset + place, len(data))
                except DamagedPickle:
                    count = row
        return count


def low(words: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """Return the lowest bits of each of `words`."""
    return (words & np.uint64((1 << bits) - 1)).astype(np.int64)

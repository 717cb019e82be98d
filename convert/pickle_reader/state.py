"""What the loop over the opcodes works on, and what it does between rows."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.alike.vectors import VectorsAlike
from convert.pickle_reader.arrays import pack_arrays
from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.memo import is_kept
from convert.pickle_reader.numpy_values import item_count
from convert.pickle_reader.spans import ArrayRun, Lump

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convert.pickle_reader.memo import Memo
    from convert.pickle_reader.spans import Buffer

# Bytes between checkpoints at least: 16 bytes of memory each. The further on, the fewer:
# 2.5 MB at 500 MB, 4 MB at 5 GB.
_CHECKPOINT_BYTES = 4096
# Rows on the stack that are yielded before their list is complete. Python's own picklers
# write batches of 1000, others all rows at once.
_PIECE_ROWS = 1024
# Of these, when rows on the stack are yielded before their list is complete.
_PIECE_BYTES = 1 << 20
# Bytes of opcodes whose values may be held at the same time, spans not counted: whatever
# they make, up to 200 bytes of memory each; and if few of them make containers (72 bytes for
# a list, 216 for a set) or are put into the memo (100). A row of the documented shape has 300.
_HELD_ALWAYS = 4 << 20
_MOST_HELD = 32 << 20
_MOST_CONTAINERS = 2 << 20
_MOST_ENTRIES = 4 << 20


def _checkpoint_bytes(pos: int) -> int:
    """Return how far it is to the next checkpoint."""
    return max(_CHECKPOINT_BYTES, pos >> 16)


class State:
    """Reads `data` from `pos` on, where the memo has `size` entries.

    `find_global(module, name, offset)` returns what a name stands for, `read_lump(lump)`
    the items of a Lump. `is_again` is set
    where items of a list are read a second time, from a checkpoint: then nothing is let
    go, and it is yielded at the end of each item. After `run`, `stack` holds the result.
    """

    def __init__(
        self, data: Buffer, memo: Memo, find_global: Callable[[str, str, int], Any],
        read_lump: Callable[[Lump], list[Any]],
        *, pos: int = 0, size: int = 0, is_again: bool = False,
    ) -> None:  # fmt: skip
        self.data = data
        self.end = len(data)
        self.memo = memo
        self.live: dict[int, Any] = {} if is_again else memo.live
        self.find_global = find_global
        self.read_lump = read_lump
        self.pos = pos
        self.size = size
        self.is_again = is_again
        # The list of rows. On top of a mark it stands for rows that were yielded.
        self.root: list[Any] = []
        self.has_root = is_again
        self.stack: list[Any] = []
        # For each mark: the stack below, the memo's size, and where the values begin.
        self.marks: list[tuple[list[Any], int, int]] = []
        if is_again:
            self.stack = [self.root]
            self.marks = [([self.root], size, pos)]
        self.irregular = -1  # the next entry of the memo that was set out of turn
        # Values read again, by their identity, with the offset of what asked for them.
        self.copies: dict[int, tuple[object, int]] = {}
        self.vectors = VectorsAlike(self)
        self.has_array_runs = False  # on the stack
        self.skipped = 0  # bytes in spans
        self.next_checkpoint = 0  # where it is due
        self._held_from = pos
        self._is_root_pinned = False
        self._has_rows = is_again
        self._rows_on_stack = 0
        self._rows_entries = 0  # of the memo, which were let go with the last rows

    def recall(self, index: int, size: int, offset: int) -> Any:  # noqa: ANN401
        """Return an entry of the memo that was let go; it can't be changed any more."""
        value = self.memo.recall(index, size, offset)
        if value is self.root:
            message = "the list of rows refers to itself"
            raise UnsupportedPickle(message, offset)
        if is_kept(value):
            self.live[index] = value
        else:
            self.copies.setdefault(id(value), (value, offset))
        return value

    def is_between_rows(self, stack: list[Any]) -> bool:
        """Whether what follows is a row, or a batch of rows."""
        marks = self.marks
        below = marks[0][0] if marks else stack
        if len(marks) > 1 or len(below) != 1 or below[0] is not self.root:
            return False
        # With a key on the stack it is inside a row. What is below was looked at before.
        first = self._rows_on_stack if 0 < self._rows_on_stack <= len(stack) else 0
        self._rows_on_stack = len(stack)
        places = range(first, len(stack))  # a slice would copy what may be a million values
        if all(type(stack[at]) is dict or stack[at] is self.root for at in places):
            return True
        self._rows_on_stack = first
        return False

    def are_rows(self, items: list[Any]) -> bool:
        """Whether `items`, which are appended to the list of rows, are rows.

        If the first is no dict, the list isn't one of rows, but a value like any other.
        """
        first = items[0] if items else self.root
        if self._has_rows or type(first) is dict or first is self.root:
            self._has_rows = True
        else:
            self.root, self.has_root = [], False
        return self._has_rows

    def has_piece(self, stack: list[Any]) -> bool:
        """Whether so many rows lie on the stack that they are better yielded now."""
        is_much = len(stack) > _PIECE_ROWS or self.held_bytes(self.pos) > _PIECE_BYTES
        return is_much and len(stack) > 1 and bool(self.marks) and not self.is_again

    def held_bytes(self, pos: int) -> int:
        return pos - self._held_from - self.skipped

    def holds_too_much(self, pos: int) -> bool:
        """Whether what is held now takes more memory than a conversion may."""
        held = self.held_bytes(pos)
        return held > _HELD_ALWAYS and (
            held > _MOST_HELD
            or gc.get_count()[0] > _MOST_CONTAINERS  # made since a collection; there is none
            or len(self.live) > _MOST_ENTRIES
        )

    def note_rows(self, pos: int, size: int) -> None:
        """Note a checkpoint: what follows can be read without what came before."""
        if not self._is_root_pinned:
            self._is_root_pinned = True
            for index in [index for index, value in self.live.items() if value is self.root]:
                self.memo.pin(index, self.root)
        self.memo.mark(pos, size)
        self.next_checkpoint = pos + _checkpoint_bytes(pos)

    def note_run(self, begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Note checkpoints among items of a list that were read together; the first is noted."""
        least = _checkpoint_bytes(int(begins[0]))
        marked = 1 + np.flatnonzero(np.diff((begins - begins[0]) // least))
        self.memo.mark_all(begins[marked].tolist(), sizes[marked].tolist())
        self.next_checkpoint = int(begins[-1]) + least

    def let_go(self, first: int, begin: int = 0) -> None:
        """Let go of the memo's entries from `first` on, and of copies made from `begin` on."""
        if self.is_again:
            return
        self.memo.let_go(first, self.size)
        self._rows_on_stack = 0
        copies = self.copies
        while copies and copies[key := next(reversed(copies))][1] >= begin:
            del copies[key]
        self.skipped = 0
        self._held_from = self.pos

    def let_go_rows(self, first: int, size: int | None = None) -> None:
        """Let go of rows, whose batch began with entry `first`.

        Rows that were read together held no entries, but `size` says how many there are then.
        """
        self.let_go(max(first, self._rows_entries))
        self.size = self._rows_entries = self.size if size is None else size

    def has_run(self, items: list[Any]) -> bool:
        """Whether one of `items` stands for many arrays."""
        return self.has_array_runs and any(type(item) is ArrayRun for item in items)

    def lump(self, items: list[Any], first: int, begin: int, size: int) -> list[Any]:
        """Let go of a batch of items of a long list; return what stands for them."""
        packed = pack_arrays(items) or [Lump(begin, first, item_count(items))]
        self.has_array_runs = False
        self.size = size
        if not self.has_root:  # else their row is where they can be read again
            if type(packed[0]) is Lump:
                self.memo.mark_batch(begin, first)
            else:
                self.memo.mark(begin, first)
        self.let_go(first, begin)
        return packed

    def check_stop(self, stack: list[Any], pos: int) -> None:
        if self.marks or len(stack) != 1 or self.is_again:
            message = "STOP comes too early"
            raise DamagedPickle(message, pos)
        if pos + 1 != self.end:
            message = "something follows the end of the pickle"
            raise DamagedPickle(message, pos + 1)

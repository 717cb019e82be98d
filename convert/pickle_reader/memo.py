"""The memo: what the opcodes PUT and GET, without holding the file.

Entries are numbered in the order of the file. Those of the rows that are being read are
held. When rows are let go, short text and other atoms are kept a while; everything else
is read again when it is asked for, from the last checkpoint before it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.numpy_values import Array, Dtype
from convert.pickle_reader.spans import Raw, Text
from convert.pickle_reader.stand_ins import Known

if TYPE_CHECKING:
    from collections.abc import Callable

# Atoms held that were asked for, and those in each of two generations that weren't yet:
# up to 300 bytes each, 150 if they are names. 12,000 company names, shared by 141,897 rows,
# fit in.
_ASKED = 40_000
_GENERATION = 30_000
# Those held at most, in a file that keeps asking for atoms that were let go: when a quarter of
# what may be read again was, holding more is cheaper.
_MOST_KEPT = 640_000
# Entries numbered out of turn; picklers make none.
_MAX_IRREGULAR = 1000
# Readings within readings: a value that refers to a row, which refers to another row ...
_MAX_DEPTH = 20
# Parts read again that are held: what lies beside an entry is often asked for next.
_RECENT = 8
# Bytes of file read again, in sizes of the file, before it is too much.
_MAX_REREAD = 8
_REREAD_ALWAYS = 64 << 20

# Small, and unable to change.
_ATOMS = frozenset({str, bytes, float, bool, type(None), complex, Known, Dtype, Text, Raw})


class Memo:
    """Entries of the memo; `read_again(offset, size, index)` reads some from a checkpoint.

    It returns the entries read, up to entry `index` at least, and the offset it came to.
    `live` are the entries of what is being read, `young` atoms that were let go lately;
    `times_reread` is how often something was read again.
    """

    def __init__(
        self, file_bytes: int, read_again: Callable[[int, int, int], tuple[dict[int, Any], int]]
    ) -> None:
        self.live: dict[int, Any] = {}
        self._irregular: dict[int, int] = {}
        self._pinned: dict[int, Any] = {}
        self.young: dict[int, Any] = {}
        self._old: dict[int, Any] = {}
        self._asked: dict[int, Any] = {}
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._read_again = read_again
        self._recent: dict[int, dict[int, Any]] = {}
        self._budget = _REREAD_ALWAYS + _MAX_REREAD * file_bytes
        self._plenty = self._budget // 4 * 3
        self._depth = 0
        self.times_reread = 0
        self._generation = _GENERATION

    def put(self, index: int, size: int, value: object, offset: int) -> None:
        """Set entry `index` of a memo that has `size` entries."""
        # What is read again must find what was there, so that no entry may change.
        taken = index < size and index not in self._irregular.values()
        if taken or index in self._irregular:
            message = f"memo entry {index} is set twice"
            raise UnsupportedPickle(message, offset)
        if index != size:
            if len(self._irregular) == _MAX_IRREGULAR:
                message = f"memo entry {index} is set where {size} is due"
                raise UnsupportedPickle(message, offset)
            self._irregular[index] = size
        self.live[index] = value

    def next_irregular(self, size: int) -> int:
        """Return the first entry from `size` on that is set already, -1 if there is none."""
        return min((index for index in self._irregular if index >= size), default=-1)

    def pin(self, index: int, value: object) -> None:
        """Hold an entry forever."""
        self._pinned[index] = value
        self.live.pop(index, None)

    def mark(self, offset: int, size: int) -> None:
        """Note a checkpoint: an item of a list begins at `offset`."""
        if not self._offsets or offset > self._offsets[-1]:
            self._offsets.append(offset)
            self._sizes.append(size)

    def mark_all(self, offsets: list[int], sizes: list[int]) -> None:
        """Note checkpoints, which ascend, behind those that there are."""
        self._offsets.extend(offsets)
        self._sizes.extend(sizes)

    def mark_batch(self, offset: int, size: int) -> None:
        """Note a checkpoint for all that was read from `offset` on, instead of those in it."""
        while self._offsets and self._offsets[-1] >= offset:
            self._offsets.pop()
            self._sizes.pop()
        self.mark(offset, size)

    def let_go(self, first: int, size: int) -> None:
        """Let go of the entries from `first` on, of `size`."""
        for index, since in list(self._irregular.items()):
            if since >= first and index in self.live:
                self.pin(index, self.live[index])
        live = self.live
        if len(live) <= 2 * (size - first):
            gone = {index: value for index, value in live.items() if index >= first}
        else:
            gone = {index: live[index] for index in range(first, size) if index in live}
        if len(gone) == len(live):
            live.clear()
        else:
            for index in gone:
                del live[index]
        asked = self._asked
        for index, value in gone.items():
            if is_kept(value) and index not in asked:
                self.young[index] = value
        if len(self.young) > self._generation:
            self._old, self.young = self.young, {}

    def recall(self, index: int, size: int, offset: int) -> Any:  # noqa: ANN401
        """Return entry `index` of a memo that has `size` entries."""
        for held in (self.live, self._asked, self._pinned):
            if index in held:
                return held[index]
        for held in (self.young, self._old):
            if index in held:
                return self._keep(index, held[index])
        if not 0 <= index < size or index in self._irregular.values():
            message = f"memo entry {index} was never set"
            raise DamagedPickle(message, offset)
        value = self._reread(index, offset)
        if not is_kept(value):
            return value
        if self._budget < self._plenty:
            self._generation = min(self._generation + _GENERATION // 100, _MOST_KEPT)
        return self._keep(index, value)

    def _keep(self, index: int, value: Any) -> Any:  # noqa: ANN401
        """Hold what was asked for longer than what never was."""
        if len(self._asked) >= max(_ASKED, self._generation):
            self._asked.clear()
        self._asked[index] = value
        return value

    def _reread(self, index: int, offset: int) -> Any:  # noqa: ANN401
        place = bisect_right(self._sizes, index) - 1
        if place < 0:
            message = f"memo entry {index} is out of reach"
            raise UnsupportedPickle(message, offset)
        if index in self._recent.get(place, ()):
            return self._recent[place][index]
        if self._depth == _MAX_DEPTH:
            message = "references to references to ... too many rows"
            raise UnsupportedPickle(message, offset)
        self._depth += 1
        self.times_reread += 1
        begin = self._offsets[place]
        try:
            entries, end = self._read_again(begin, self._sizes[place], index)
        finally:
            self._depth -= 1
        self.spend(end - begin, offset)
        if index not in entries:
            message = f"memo entry {index} is out of reach"
            raise UnsupportedPickle(message, offset)
        self._recent[place] = entries
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return entries[index]

    def spend(self, count: int, offset: int) -> None:
        """Count bytes that are read again; their number is limited by the file's size."""
        self._budget -= count
        if self._budget < 0:
            message = "it refers to so much of what is far back that reading would not end"
            raise UnsupportedPickle(message, offset)


def is_kept(value: object) -> bool:
    """Whether `value` is small and can't change, as an array whose numbers are in the file."""
    return type(value) in _ATOMS or (type(value) is Array and type(value.content) is Raw)

"""A hash table on disk."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# A free slot is all zeros, so that a new file is a table: `number` is the place plus one.
_SLOT = np.dtype([("hash", np.int64), ("number", np.int32)])
_FIRST_SLOTS = 4096
# Slots that move at once when the table grows.
_MOVED_SLOTS = 1 << 16


class HashTable:
    """The place of each hash that was added, for whole columns of hashes.

    Open addressing with linear probing, half of the slots free at least. It lies in a file of
    `folder` that has no name, so that ten million texts take disk and not memory: 24 to 48
    bytes each. OSError: the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._slots = _free_slots(folder, _FIRST_SLOTS)

    def find(self, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the place of each of `hashes`, -1 where it isn't known."""
        places = np.full(len(hashes), -1, np.int32)
        left, at = np.arange(len(hashes)), self._first_slots(hashes)
        while len(left):
            slots = self._slots[at]
            is_used = slots["number"] > 0
            is_same = is_used & (slots["hash"] == hashes[left])
            places[left[is_same]] = slots["number"][is_same] - 1
            goes_on = is_used & ~is_same
            left, at = left[goes_on], self._next(at[goes_on])
        return places

    def add(self, hashes: NDArray[np.int64], places: NDArray[np.int32]) -> None:
        """Note places, each of them once; of equal hashes any one is found."""
        while 2 * (self._count + len(hashes)) > len(self._slots):
            self._grow()
        self._count += len(hashes)
        left, at = np.arange(len(hashes)), self._first_slots(hashes)
        numbers = places + np.int32(1)
        while len(left):
            is_free = self._slots["number"][at] == 0
            # Several may want the same slot. One of them gets it; the others go on.
            self._slots["number"][at[is_free]] = numbers[left[is_free]]
            has_it = self._slots["number"][at] == numbers[left]
            self._slots["hash"][at[has_it]] = hashes[left[has_it]]
            left, at = left[~has_it], self._next(at[~has_it])

    def _grow(self) -> None:
        old = self._slots
        self._slots, self._count = _free_slots(self._folder, 2 * len(old)), 0
        for begin in range(0, len(old), _MOVED_SLOTS):
            slots = old[begin : begin + _MOVED_SLOTS]
            used = slots[slots["number"] > 0]
            self.add(used["hash"], used["number"] - np.int32(1))

    def _first_slots(self, hashes: NDArray[np.int64]) -> NDArray[np.int64]:
        return hashes & (len(self._slots) - 1)

    def _next(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        return (at + 1) & (len(self._slots) - 1)


def _free_slots(folder: Path, count: int) -> NDArray[np.void]:
    size = count * _SLOT.itemsize
    with tempfile.TemporaryFile(dir=folder) as file:
        # A full disk is seen here; where a mapped page is written, it would end the process.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), _SLOT)

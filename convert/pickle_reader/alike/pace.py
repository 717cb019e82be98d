"""How much of the file is looked at for items that are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.pickle_reader.alike.walk import Walk

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

# Bytes of a window: at first, and at most. Items that fill one make the next one larger.
_LEAST_BYTES = 1 << 16
_MOST_BYTES = 4 << 20
# Items that are read at once, as many as a batch has rows.
_MOST_ITEMS = 4096
# Items below which the opcodes would have taken no longer.
WORTH_IT = 16
_LONGEST_WAIT = 1000


class Pace:
    """Cuts windows out of `data`; `found` is told what was in them."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._bytes = _LEAST_BYTES
        self._wait = 0
        self._waited = 0

    def is_due(self) -> bool:
        """Whether to look at all: seldom, after windows with few items."""
        self._waited += 1
        return self._waited > self._wait

    def restart(self) -> None:
        """Look at once: it is something else that is looked for."""
        self._waited = self._wait = 0

    def walk(self, pos: int, head: bytes, least: int) -> Walk | None:
        """Return a walk over the items that may begin from `pos` on.

        Each begins with `head` and has at least `least` bytes; None if the first doesn't.
        """
        window = bytes(self._data[pos : pos + self._bytes])
        if len(window) < max(least, 8) or not window.startswith(head):
            self.found(0, 0)
            return None
        begins: list[int] = []
        at, find, append = 0, window.find, begins.append
        while at >= 0 and len(begins) < _MOST_ITEMS:
            append(at)
            at = find(head, at + least)
        return Walk(window, begins)

    def found(self, count: int, size: int) -> None:
        """Take note of `count` items of `size` bytes."""
        self._waited = 0
        self._wait = 0 if count >= WORTH_IT else min(2 * self._wait + 1, _LONGEST_WAIT)
        if 2 * size > self._bytes:
            self._bytes = min(4 * self._bytes, _MOST_BYTES)
        elif 16 * size < self._bytes:
            self._bytes = max(self._bytes // 4, _LEAST_BYTES)

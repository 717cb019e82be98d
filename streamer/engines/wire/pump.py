"""Fairness between connections: each has a short turn, then the next one.

One pump lets them write, a system call each; another one lets them handle what they have read.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Turn = Callable[[], None]

# How long turns are given before the loop looks at everything else.
_TURN_SECONDS = 0.002


class Pump:
    """Gives turns, one after another, and lets the loop do other things between."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Turn] = deque()
        self._last: deque[Turn] = deque()
        self._is_scheduled = False

    def add(self, turn: Turn, *, is_last: bool = False) -> None:
        """Call `turn` when the others have had theirs; `is_last`: when nobody else waits.

        Of those that are last one has its turn each time the loop comes by.
        """
        (self._last if is_last else self._waiting).append(turn)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        end = time.perf_counter() + _TURN_SECONDS
        try:
            if self._last:
                self._last.popleft()()
            while (turns := self._waiting or self._last) and time.perf_counter() < end:
                turns.popleft()()
        finally:
            if self._waiting or self._last:
                self._schedule()

"""Fairness between connections: each link writes a little, then the next one."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

# How long links write before the loop looks at everything else.
_TURN_SECONDS = 0.002


class Writer(Protocol):
    """A link, as a pump sees it."""

    def write(self) -> None: ...


class Pump:
    """Lets links write in turn, a system call each, and the loop do other things between."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Writer] = deque()
        self._is_scheduled = False

    def add(self, link: Writer) -> None:
        self._waiting.append(link)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        end = time.perf_counter() + _TURN_SECONDS
        try:
            while self._waiting and time.perf_counter() < end:
                self._waiting.popleft().write()
        finally:
            if self._waiting and not self._is_scheduled:
                self._is_scheduled = True
                self._loop.call_soon(self._run)

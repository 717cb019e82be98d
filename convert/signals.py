"""The signals that end a command: it cleans up, and its exit code says which one came.

By default they end a process at once, and its half-written files stay.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(KeyboardInterrupt):
    """A signal came that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Endings:
    """From when it is made, a signal that ends a command is Interrupted in the main thread.

    One that was ignored from the start, as by nohup, stays so. `interruption` is what was raised.
    """

    def __init__(self) -> None:
        self.interruption: Interrupted | None = None
        for number in ENDINGS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, _frame: object) -> None:
        # A terminal that is closed may say so twice, and cleaning up is not to be broken off ...
        for again in ENDINGS:
            signal.signal(again, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ... but by a person who insists
        self.interruption = Interrupted(number)
        raise self.interruption


@contextlib.contextmanager
def endings_deferred() -> Iterator[None]:
    """Let the signals that end a command wait while something is made that is to be cleaned up."""
    came: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = ((number, signal.getsignal(number)) for number in ENDINGS)
        handlers = {number: handler for number, handler in found if handler is not None}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number_that_came in came:
            signal.raise_signal(number_that_came)

"""What an operator's signals do to a running server.

SIGTERM and SIGINT stop it: it drains, and the same signal again ends it at once. SIGHUP makes
it look again at the files that it uses. But a server that was started from a terminal gets
SIGHUP when that is closed, often twice, and then stops, too. Where SIGHUP was ignored from the
start, as by nohup, it stays so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


class OperatorSignals:
    """Takes the signals from when it is made, in the main thread."""

    def __init__(self) -> None:
        # Each signal is a byte in a pipe from the moment it comes. A lock or a queue may be
        # waited for just after Python has looked for signals, and then it isn't woken by one.
        self._came, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        # A terminal that is being closed is nobody's any more: it can't be asked for later.
        self._hangup_stops = has_terminal()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._take)

    def wait_for_stop(self, look_again: Callable[[], None]) -> None:
        """Return when the server is to stop; call `look_again` for every other SIGHUP."""
        while not self._stops(number := os.read(self._came, 1)[0]):
            if number == signal.SIGHUP:
                _look_again(look_again)
        _log.info("%s: draining", signal.Signals(number).name)

    def _stops(self, number: int) -> bool:
        return number in {signal.SIGTERM, signal.SIGINT} or (
            number == signal.SIGHUP and self._hangup_stops
        )

    def _take(self, number: int, _frame: object) -> None:
        if self._stops(number):
            for again in (signal.SIGTERM, signal.SIGINT):
                signal.signal(again, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _look_again(look_again: Callable[[], None]) -> None:
    _log.info("SIGHUP: looking again at the files in use")
    try:
        look_again()
    except Exception:  # nobody has foreseen it, and the server must not end of it
        _log.exception("looking again failed")


def outlive_hangups() -> None:
    """Let no SIGHUP end a server that is still starting, unless its terminal is closed."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and not has_terminal():
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal, whatever its files are."""
    with contextlib.suppress(OSError):
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
        return True
    return False

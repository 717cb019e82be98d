"""What a process says of itself when it is asked, or when it is ended by a fatal error."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import signal
import sys
import threading
import traceback

from streamer.logs import LINES

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # who asks is answered, whatever LOG_LEVEL is


def be_diagnosable() -> None:
    """Let SIGUSR1 log the stacks of all threads; a fatal error writes them to standard error.

    SIGUSR2, which would end the process, does nothing.
    """
    with contextlib.suppress(RuntimeError, OSError):  # standard error may be closed
        faulthandler.enable()
    signal.signal(signal.SIGUSR1, _log_stacks)
    # Python gives up its handlers when it ends, and SIGUSR1 would end it otherwise.
    atexit.register(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _log_stacks(_number: int, _frame: object) -> None:
    """Run in the main thread between two of its steps, also while it waits."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until these are written
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = [
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - documented so
    ]
    text = "".join(stacks).rstrip()
    _log.warning("SIGUSR1: the stacks of %d threads\n%s", len(stacks), text, extra=LINES)
    signal.signal(signal.SIGUSR1, _log_stacks)

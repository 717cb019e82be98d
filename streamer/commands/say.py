"""What commands tell whoever called them, which LOG_FILE is to have, too."""

from __future__ import annotations

import logging

from convert import terminal
from streamer.logs import SHOWN

_log = logging.getLogger("streamer.commands")


def say(line: str) -> None:
    """Print a result on standard output."""
    terminal.say(line)
    record(line)


def warn(line: str) -> None:
    """Print what isn't as it should be on standard error."""
    terminal.complain(line)
    record(line, logging.WARNING)


def record(line: str, level: int = logging.INFO) -> None:
    """Put what is shown elsewhere into LOG_FILE."""
    if _log.hasHandlers():  # settings that are wrong don't say where
        _log.log(level, "%s", line, extra=SHOWN)

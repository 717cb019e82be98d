"""Log lines on standard error and, if wanted, in a file.

LOG_LEVEL is for this project's own loggers; of other libraries only warnings show. At their
DEBUG they write what they are sent: hpack each header, callers' `authorization` included.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from convert.foreign_text import fit_lines, fit_to_show
from streamer.log_file import LogFile

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = "[%(asctime)s] %(levelname)s [%(module_name)s] - %(message)s"
_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
_PACKAGE = "streamer"
# For a record whose text stands on the terminal already: it goes to LOG_FILE alone.
SHOWN = {"is_shown": True}
# For a record whose text has several lines, all of them ours.
LINES = {"has_lines": True}


class _Console(logging.StreamHandler[Any]):
    """Standard error as it is at the time: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.addFilter(lambda record: not getattr(record, "is_shown", False))

    @property
    def stream(self) -> Any:  # noqa: ANN401
        return sys.stderr


class _ModuleName(logging.Filter):
    """Adds `module_name`: the logger's name without the package."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.module_name = record.name.removeprefix(f"{_PACKAGE}.")
        return True


class _Formatter(logging.Formatter):
    """Makes what a record quotes fit to show, and a line of it, unless it says that it has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fit = fit_lines if getattr(record, "has_lines", False) else fit_to_show
        record.message = fit(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's name and type
        return fit_lines(super().formatException(ei))


def configure_logging(level: str, file: Path | None, *, is_server: bool = True) -> None:
    """Set up the loggers; OSError if `file` can't be written.

    A command that `is_server` has its log on standard error. Others talk to people there, and
    show only warnings, or, at DEBUG, all.
    """
    console = _Console()
    if not is_server and level != "DEBUG":
        console.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [console]
    if file is not None:
        handlers.append(LogFile(file, console))
    for handler in handlers:
        handler.addFilter(_ModuleName())
        handler.setFormatter(_Formatter(_FORMAT, _DATE_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logging.getLogger(_PACKAGE).setLevel(level)


def log_file() -> LogFile | None:
    """Return what `configure_logging` made for `file`."""
    handlers = logging.getLogger().handlers
    return next((handler for handler in handlers if isinstance(handler, LogFile)), None)

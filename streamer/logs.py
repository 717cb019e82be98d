"""Log lines on standard error and, if wanted, in a file that rotates."""

from __future__ import annotations

import logging
import logging.handlers
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = "[%(asctime)s] %(levelname)s [%(module_name)s] - %(message)s"
_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
# A day of a busy server is about 1 MB; six files are kept.
_MAX_FILE_BYTES = 10 << 20
_KEPT_FILES = 5


class _ModuleName(logging.Filter):
    """Adds `module_name`: the logger's name without the package."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.module_name = record.name.removeprefix("streamer.")
        return True


def configure_logging(level: str, file: Path | None) -> None:
    """Set up the root logger; OSError if `file` can't be written."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                file, maxBytes=_MAX_FILE_BYTES, backupCount=_KEPT_FILES, encoding="utf-8"
            )
        )
    for handler in handlers:
        handler.addFilter(_ModuleName())
        handler.setFormatter(logging.Formatter(_FORMAT, _DATE_FORMAT))
    logging.basicConfig(level=level, handlers=handlers, force=True)

"""Log lines: their form, their level, and the file that rotates."""

from __future__ import annotations

import logging
import logging.handlers
import re
from typing import TYPE_CHECKING

import pytest

from streamer.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the root logger back its handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_have_time_level_and_module(capsys: pytest.CaptureFixture[str]) -> None:
    """A line is `[2025-12-11 15:30:00] INFO [store] - text`, on standard error."""
    configure_logging("INFO", None)
    logging.getLogger("streamer.store").info("opened")

    line = capsys.readouterr().err

    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] INFO \[store\] - opened\n", line)


def test_level_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """DEBUG lines show at DEBUG only."""
    configure_logging("INFO", None)
    logging.getLogger("streamer.x").debug("hidden")
    configure_logging("DEBUG", None)
    logging.getLogger("streamer.x").debug("shown")

    err = capsys.readouterr().err

    assert "hidden" not in err
    assert "DEBUG [x] - shown" in err


def test_file_gets_the_same_lines_and_rotates(tmp_path: Path) -> None:
    """The file's folder is made, and the file can't grow without end."""
    file = tmp_path / "logs" / "streamer.log"
    configure_logging("INFO", file)
    logging.getLogger("streamer.x").info("한빛")

    handler = next(
        h for h in logging.getLogger().handlers
        if isinstance(h, logging.handlers.RotatingFileHandler)
    )  # fmt: skip

    assert file.read_text("utf-8").endswith("INFO [x] - 한빛\n")
    assert (handler.maxBytes, handler.backupCount) == (10 << 20, 5)

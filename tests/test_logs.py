"""Log lines: their form, their level, and the file that rotates."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import select
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streamer.log_file import LogFile
from streamer.logs import SHOWN, configure_logging
from tests.serving import environment

if TYPE_CHECKING:
    from pathlib import Path


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


def test_other_libraries_keep_to_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """DEBUG is for our own loggers: hpack's would write each header that callers send."""
    configure_logging("DEBUG", None)
    logging.getLogger("hpack.hpack").debug("authorization: secret")
    logging.getLogger("grpc").info("chatter")
    logging.getLogger("asyncio").warning("slow")

    assert "WARNING [asyncio] - slow" in capsys.readouterr().err.splitlines()[-1]
    assert not logging.getLogger("hpack.hpack").isEnabledFor(logging.INFO)


def test_a_command_that_is_no_server_shows_warnings_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What it says to people isn't said twice; the file has all of it."""
    configure_logging("INFO", tmp_path / "x.log", is_server=False)
    log = logging.getLogger("streamer.x")
    log.info("known")
    log.warning("seen already", extra=SHOWN)
    log.warning("new")

    assert re.fullmatch(r"\S+ \S+ WARNING \[x\] - new\n", capsys.readouterr().err)
    levels = re.findall(r"\] (\w+) \[x\] - (.+)", (tmp_path / "x.log").read_text())
    assert [("INFO", "known"), ("WARNING", "seen already"), ("WARNING", "new")] == levels


def test_file_gets_the_same_lines(tmp_path: Path) -> None:
    """The file's folder is made."""
    file = tmp_path / "logs" / "streamer.log"
    configure_logging("INFO", file)
    logging.getLogger("streamer.x").info("한빛 %s", "\udcff")

    assert file.read_text("utf-8").endswith("INFO [x] - 한빛 \\udcff\n")


class _Told(logging.Handler):
    """The handler beside the file's."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _say(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.LogRecord("x", logging.INFO, __file__, 0, text, (), None))


@pytest.fixture
def told() -> _Told:
    return _Told()


def test_a_full_file_is_moved_and_five_are_kept(tmp_path: Path, told: _Told) -> None:
    """The oldest lines go: the files together can't grow without end."""
    with contextlib.closing(LogFile(tmp_path / "x.log", told, max_bytes=10)) as handler:
        for number in range(20):
            _say(handler, f"line{number:02}")

    names = sorted(path.name for path in tmp_path.iterdir())
    assert ["x.log", *(f"x.log.{n}" for n in range(1, 6))] == names
    assert [f"line{n}\n" for n in range(19, 13, -1)] == [
        (tmp_path / name).read_text() for name in names
    ]
    assert [] == told.lines


def test_a_pipe_is_written_as_long_as_it_has_room(tmp_path: Path, told: _Told) -> None:
    """Nobody waits for its reader, neither at the start nor later; what is left out is said."""
    path = tmp_path / "x.log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    clock = _Clock()
    with contextlib.closing(LogFile(path, told, clock=clock)) as handler:
        _say(handler, "first")
        assert b"first\n" == os.read(reader, 100)
        for _ in range(100):
            _say(handler, "x" * 4000)
        [line] = told.lines
        assert f"can't be written: {os.strerror(errno.EAGAIN)}; until it can, lines are" in line
        while select.select([reader], [], [], 0)[0]:
            os.read(reader, 1 << 16)
        clock.now += 60
        _say(handler, "last")
        assert os.read(reader, 1 << 16).startswith(b"last\n")

        os.close(reader)
        with pytest.raises(OSError, match="it is a pipe that nobody reads"):
            handler.look_again()


def test_other_files_are_waited_for(tmp_path: Path, told: _Told) -> None:
    """As a disk's may have to be."""
    with contextlib.closing(LogFile(tmp_path / "x.log", told)) as handler:
        assert os.get_blocking(handler._descriptor)


@pytest.mark.parametrize("how", ["rename", "copytruncate", "remove the folder"])
def test_logrotate_is_followed(tmp_path: Path, told: _Told, how: str) -> None:
    """Whatever becomes of the file, the next line is in the one at its path."""
    path = tmp_path / "logs" / "x.log"
    with contextlib.closing(LogFile(path, told)) as handler:
        _say(handler, "before")
        if how == "rename":
            path.rename(tmp_path / "old")
        elif how == "copytruncate":
            shutil.copy(path, tmp_path / "old")
            os.truncate(path, 0)
        else:
            shutil.rmtree(path.parent)
        _say(handler, "after")

    assert "after\n" == path.read_text()
    assert [] == told.lines


_WRITER = """
import logging, sys
from pathlib import Path
from streamer.log_file import LogFile
name, path, lines, max_bytes = sys.argv[1:]
handler = LogFile(Path(path), logging.StreamHandler(), max_bytes=int(max_bytes))
logging.basicConfig(level="INFO", handlers=[handler])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(lines)):
    logging.getLogger(name).info("%s %d %s", name, number, "x" * (number % 50))
"""


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    """20,000 lines each, with three to five rotations meanwhile: each is there, whole, once."""
    lines = 20_000
    command = [sys.executable, "-c", _WRITER]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, name, str(tmp_path / "x.log"), str(lines), str(500_000)],
                    env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True,
                )
            )
            for name in "ab"
        ]  # fmt: skip
        for writer in writers:
            assert writer.stdout
            assert "ready\n" == writer.stdout.readline()
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [("", ""), ("", "")] == [writer.communicate(timeout=100) for writer in writers]

    files = list(tmp_path.iterdir())
    found = [line for file in files for line in file.read_text().splitlines()]
    expected = [f"INFO:{name}:{name} {n} {'x' * (n % 50)}" for name in "ab" for n in range(lines)]
    assert 4 <= len(files) <= 6
    assert sorted(expected) == sorted(found)


def test_a_full_disk_is_said_once(told: _Told, tmp_path: Path) -> None:
    """Lines are left out, and counted, until there is room: tried again once a minute."""
    clock = _Clock()
    path = tmp_path / "x.log"
    path.symlink_to("/dev/full")
    with contextlib.closing(LogFile(path, told, clock=clock)) as handler:
        for second in range(0, 130, 10):
            clock.now = second
            _say(handler, f"line {second}")
        (line,) = told.lines
        path.unlink()
        clock.now = 300
        _say(handler, "room")
        _say(handler, "again")

    full = "can't be written: No space left on device; until it can, lines are left out there"
    assert f"LOG_FILE {path} {full}" == line
    again = f"LOG_FILE {path} can be written again; 13 lines are not in it"
    assert again == told.lines[-1]
    assert ["room", again, "again"] == path.read_text().splitlines()


def test_a_line_that_was_cut_off_is_ended(tmp_path: Path) -> None:
    """A disk that becomes full in mid-line: what comes later begins a line."""
    out = subprocess.run(
        [sys.executable, "-c", _CUT_OFF, str(tmp_path / "x.log")],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "File too large" in out.stderr
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert ["x" * 80, "y" * 19, "z"] == [lines[0], lines[1], lines[2]]


_CUT_OFF = """
import logging, resource, sys
from pathlib import Path
from streamer.log_file import LogFile
clock = iter(range(0, 900, 90)).__next__
handler = LogFile(Path(sys.argv[1]), logging.StreamHandler(), clock=clock)
say = lambda text: handler.handle(logging.LogRecord("x", 20, "", 0, text, (), None))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
say("x" * 80)
say("y" * 80)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
say("z")
"""


def test_a_file_that_cannot_be_moved_grows(told: _Told, tmp_path: Path) -> None:
    """No line is lost for it, and it is said once."""
    (tmp_path / "x.log.4").touch()
    (tmp_path / "x.log.5").mkdir()
    with contextlib.closing(LogFile(tmp_path / "x.log", told, max_bytes=10)) as handler:
        for number in range(5):
            _say(handler, f"line{number}")

    assert [f"line{n}" for n in range(5)] == (tmp_path / "x.log").read_text().splitlines()
    (line,) = told.lines
    assert "can't be rotated" in line

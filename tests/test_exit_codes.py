"""How every command ends: exit codes, signals, and output that can't be written."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import convert.__main__
import streamer.__main__
from convert.signals import ENDINGS
from tests import pickles as p
from tests.datasets import make_batch, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_SECONDS = 120.0
_SERVER = ["--from", "localhost:1"]
# Each command, and the file that is to be missing.
_MISSING = {
    "convert": ["convert", "none.pkl"],
    "convert, a dry run": ["convert", "none.pkl", "--dry-run"],
    "convert inspect": ["convert", "inspect", "none.pkl"],
    "info": ["streamer", "info", "none.arrow"],
    "verify": ["streamer", "verify", "none.arrow"],
    "upload": ["streamer", "upload", "--data", "none.arrow"],
    "upload by TLS": ["streamer", "upload", "--tls-ca", "none.pem"],
    "peek by TLS": ["streamer", "peek", *_SERVER, "--tls-ca", "none.pem"],
    "pull by TLS": ["streamer", "pull", *_SERVER, "--tls-ca", "none.pem"],
}
_WRONG = {
    "convert": ["convert", "jobs.pkl", "--ids", "uuid5"],
    "convert inspect": ["convert", "inspect", "jobs.pkl", "--unknown"],
    "streamer": ["streamer", "unknown"],
    "info": ["streamer", "info"],
    "verify": ["streamer", "verify", "--unknown"],
    "peek": ["streamer", "peek", "--from", "nowhere"],
    "pull": ["streamer", "pull", *_SERVER, "--into", "nonsense"],
    "upload": ["streamer", "upload", "--after", "x"],
    "serve": ["streamer", "serve", "--port", "65536"],
    "receive": ["streamer", "receive", "--into", "nonsense", "--port", "0"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pickle and a dataset."""
    folder = tmp_path_factory.mktemp("commands")
    p.write_pickle(folder / "jobs.pkl", p.make_records())
    write_file(folder / "jobs.arrow", make_batch(50))
    return folder


@pytest.fixture
def _own_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `run` change what a process has one of."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    handlers = {number: signal.getsignal(number) for number in ENDINGS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _run_here(command: list[str], **variables: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it said."""
    package, *arguments = command
    module: Any = {"convert": convert.__main__, "streamer": streamer.__main__}[package]
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [package, *arguments]),
        mock.patch.dict(os.environ, variables),
        contextlib.redirect_stdout(said), contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as end,
    ):  # fmt: skip
        module.run()
    return int(end.value.code or 0), said.getvalue()


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("command", _MISSING)
def test_a_missing_file_has_one_exit_code(command: str) -> None:
    """1 in all commands, and one line that names the file."""
    code, said = _run_here(_MISSING[command])

    assert 1 == code
    assert 1 == said.lower().count("error: ")
    assert "none." in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("serve", {"TLS_CERT": "none.pem", "TLS_KEY": "none.pem"}),
        ("serve", {"LOG_FILE": "/dev/null/log"}),
        ("receive", {"LOG_FILE": "/dev/null/log", "DATABASE_URL": "postgresql://x"}),
        ("peek", {"LOG_FILE": "/dev/null/log"}),
    ],
)
def test_a_missing_file_of_a_setting_has_the_same(command: str, variables: dict[str, str]) -> None:
    """The setting is named with it."""
    options = _SERVER if command == "peek" else ["--port", "0"]
    code, said = _run_here(["streamer", command, *options], **variables)

    assert 1 == code
    assert next(iter(variables)) in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("command", _WRONG)
def test_a_wrong_option_has_one_exit_code(command: str) -> None:
    """2 in all commands."""
    code, said = _run_here(_WRONG[command])

    assert 2 == code, said
    assert 1 == said.lower().count("error: ")
    assert "Traceback" not in said


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("command", ["serve", "peek", "pull", "upload", "receive"])
def test_a_wrong_setting_is_a_wrong_option(command: str) -> None:
    """2, and the variable is named."""
    options = _SERVER if command in {"peek", "pull"} else []
    code, said = _run_here(["streamer", command, *options], CHUNK_SIZE="x")

    assert 2 == code
    assert "CHUNK_SIZE is 'x'" in said


# Signals.


def _start(folder: Path, *command: str, **streams: Any) -> subprocess.Popen[str]:
    """Start a command that no signal is ignored by, whoever runs the tests."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(
        ["/usr/bin/env", "--default-signal", sys.executable, "-m", *command],
        cwd=folder, env=p.environment(), text=True, **streams,
    )  # fmt: skip


def _wait_for_handler(process: subprocess.Popen[str]) -> None:
    """Return when a handler of SIGTERM has been installed."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
    pytest.fail("no handler of SIGTERM")


_ANY = {
    "convert": ["convert", "jobs.pkl", "-o", "out.arrow", "--force"],
    "convert inspect": ["convert", "inspect", "jobs.pkl"],
    "info": ["streamer", "info", "jobs.arrow"],
    "verify": ["streamer", "verify", "jobs.arrow"],
    "peek": ["streamer", "peek", *_SERVER],
    "pull": ["streamer", "pull", *_SERVER, "--into", "postgresql://localhost:1/x"],
    "upload": ["streamer", "upload", "--to", "localhost:1"],
}


@pytest.mark.parametrize("command", _ANY)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_exit_code(command: str, number: int, folder: Path) -> None:
    """130 or 143, at whatever moment it comes; one line says so."""
    with _start(folder, *_ANY[command]) as process:
        _wait_for_handler(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)

    assert 128 + number == process.returncode, said
    assert said.endswith(f"ended by {signal.Signals(number).name}\n")
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_conversion_that_is_ended_leaves_nothing_behind(number: int, tmp_path: Path) -> None:
    """No half-written dataset, no rejected rows, nothing unpacked; the old dataset stays."""
    rows = 200_000
    vector = pa.FixedSizeListArray.from_arrays(pa.nulls(0, pa.float32()), 64)
    vector = pa.array([[0.5] * 64], vector.type).take(pa.nulls(rows, pa.int32()).fill_null(0))
    text = pa.array(["x"]).take(pa.nulls(rows, pa.int32()).fill_null(0))
    years = pa.nulls(rows, pa.int32()).fill_null(0)
    table = {"company_name": text, "english_level": text, "primary_keyword": text}
    pq.write_table(
        pa.table({**table, "exp_years": years, "vector": vector}), tmp_path / "jobs.parquet"
    )
    (tmp_path / "jobs.arrow").write_text("the old one")
    with _start(tmp_path, "convert", "jobs.parquet", "--skip-invalid") as process:
        end = time.monotonic() + _PATIENCE_SECONDS
        while not list(tmp_path.glob(".*.partial")) and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(number)
        time.sleep(0.01)
        process.send_signal(signal.SIGTERM)  # cleaning up is not broken off
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)

    assert 128 + number == process.returncode, said
    assert ["jobs.arrow", "jobs.parquet"] == sorted(path.name for path in tmp_path.iterdir())
    assert "the old one" == (tmp_path / "jobs.arrow").read_text()


# Output that can't be written.

_SAYING = {
    "convert": ["convert", "jobs.pkl", "-o", "out.arrow", "--force"],
    "convert --help": ["convert", "--help"],
    "convert inspect": ["convert", "inspect", "jobs.pkl"],
    "--version": ["streamer", "--version"],
    "info": ["streamer", "info", "jobs.arrow"],
    "verify": ["streamer", "verify", "jobs.arrow"],
    "serve": ["streamer", "serve", "--host", "127.0.0.1", "--port", "0", "--data", "jobs.arrow"],
}


@pytest.mark.parametrize("command", _SAYING)
def test_output_to_a_full_disk_is_one_line(command: str, folder: Path) -> None:
    """Exit code 1, no traceback, and no complaint of Python's at the end."""
    with (
        Path("/dev/full").open("w", encoding="ascii") as full,
        _start(folder, *_SAYING[command], stdout=full) as process,
    ):
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)

    assert 1 == process.returncode
    assert "error: standard output can't be written: No space left on device\n" in said
    assert "Traceback" not in said
    assert "Exception" not in said


@pytest.mark.parametrize("command", _SAYING)
def test_output_that_nobody_reads_is_no_error_to_show(command: str, folder: Path) -> None:
    """As of `| head`: it ends, quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    with _start(folder, *_SAYING[command], stdout=writing) as process:
        os.close(writing)
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)

    assert 1 == process.returncode
    assert "Traceback" not in said
    assert "Exception" not in said
    assert "Broken pipe" not in said


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["convert", "jobs.pkl", "-o", "out.arrow", "--force"], 0),
        (["convert", "none.pkl"], 1),
        (["streamer", "verify", "none.arrow"], 1),
        (["streamer", "verify", "--unknown"], 2),
    ],
    ids=["done", "convert", "verify", "wrong"],
)
def test_errors_that_cant_be_written_change_no_exit_code(
    command: list[str], code: int, folder: Path
) -> None:
    """Nobody sees bars and messages; the exit code says what they would."""
    with (
        Path("/dev/full").open("w", encoding="ascii") as full,
        _start(folder, *command, stderr=full) as process,
    ):
        process.communicate(timeout=_PATIENCE_SECONDS)

    assert code == process.returncode

"""`python -m streamer pull` as a process: exit codes, two at once, memory, embedded, indexes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest

from streamer.sinks.checkpoints import TABLE as CHECKPOINTS
from streamer.sinks.database import DatabaseError, TargetError
from tests.datasets import make_batch, write_file
from tests.postgres import (
    TABLE,
    assert_table_is_file,
    configure,
    new_database,
    new_role,
    open_folder,
    run,
    session_url,
)
from tests.pulling import environment, position, pull, run_pull, serving, start_pull
from tests.scripted_server import Action, Headers, Rows, ScriptedServer, Sound, Wait, embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ROWS = make_batch(1000, seed=3)
_WAIT_SECONDS = 120.0
_PASSWORD = "hunter2-is-secret"  # noqa: S105


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a dataset file, in a folder where no .env is, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write_file(tmp_path / "jobs.arrow", _ROWS, batch_rows=350)


def _with_password(url: str) -> str:
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    if ":" in user:  # the server of TEST_DATABASE_URL asks for its own
        return url
    return parts._replace(netloc=f"{user}:{_PASSWORD}@{place}").geturl()


def test_command_ends_with_a_code_and_no_password(url: str, file: Path) -> None:
    """0 and two lines for a pull that worked, 1 and one line for one that didn't.

    LOG_FILE gets the same.
    """
    (file.parent / ".env").write_text("LOG_FILE=pull.log\n")
    with serving(file) as source:
        done = run_pull(file.parent, source, _with_password(url))
        run(url, "ALTER TABLE recruit_embedding RENAME company_name TO company")
        failed = run_pull(file.parent, source, _with_password(url))
    wrong = run_pull(file.parent, source, f"mysql://me:{_PASSWORD}@db/jobs")

    outcomes = (done, failed, wrong)
    assert [0, 1, 2] == [getattr(outcome.error, "code", 0) for outcome in outcomes]
    assert [2, 2, 1] == [outcome.output.count("\n") for outcome in outcomes]
    assert "error: table public.recruit_embedding has no column company_name" in failed.output
    assert not any("Traceback" in outcome.output for outcome in outcomes)
    assert not any(_PASSWORD in outcome.output for outcome in outcomes)
    log = (file.parent / "pull.log").read_text()
    assert "INFO [commands] - pulling 1,000 of 1,000 rows, from the first\n" in log
    assert "INFO [commands] - 1,000 rows written" in log
    assert "ERROR [commands] - error: table public.recruit_embedding has no column" in log
    assert _PASSWORD not in log


def test_address_may_come_from_the_environment_file(url: str, file: Path) -> None:
    """DATABASE_URL in .env is the way for a password to stay out of the process list."""
    (file.parent / ".env").write_text(f"DATABASE_URL={_with_password(url)}\n")
    with serving(file) as source:
        done = pull(source, None)

    assert done.error is None
    assert_table_is_file(url, file)


def test_progress_is_shown_on_a_terminal(url: str, file: Path) -> None:
    """Rows done of rows there are, rows a second, time left."""
    with serving(file) as source:
        controller, terminal = pty.openpty()
        arguments = ["pull", "--from", source, "--into", url]
        with subprocess.Popen(
            [sys.executable, "-m", "streamer", *arguments], cwd=file.parent, stderr=terminal,
            stdout=subprocess.DEVNULL, env=environment(
                TERM="xterm", COLUMNS="100", PULL_COMMIT_SIZE="1", PULL_CHUNK_SIZE="10"
            ),
        ) as process:  # fmt: skip
            os.close(terminal)
            shown = b""
            while data := _read(controller):
                shown += data
        os.close(controller)

    assert 0 == process.returncode
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"pull .*1000/1000 [\d,]+ rows/s \d+:\d\d:\d\d", text)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_two_commands_at_once_end_well(url: str, file: Path) -> None:
    """Whichever comes second waits, and then finds nothing to do."""
    small = {"PULL_COMMIT_SIZE": "1", "PULL_CHUNK_SIZE": "10"}
    with (
        serving(file) as source,
        start_pull(file.parent, source, url, **small) as one,
        start_pull(file.parent, source, url, **small) as two,
    ):
        outputs = sorted((one.communicate()[0], two.communicate()[0]), key=len)

    assert (0, 0) == (one.returncode, two.returncode), outputs
    assert_table_is_file(url, file)
    assert (1000, 1000) == position(url)
    assert sorted("\n1,000 rows written" in output for output in outputs) == [False, True]
    assert sum("nothing new" in output for output in outputs) == 1


def test_two_commands_for_two_tables_of_a_new_database_end_well(url: str, file: Path) -> None:
    """They make extension and checkpoints for both, at the same moment, and don't wait."""
    with (
        serving(file) as source,
        start_pull(file.parent, source, url, "--table", "one") as one,
        start_pull(file.parent, source, url, "--table", "two") as two,
    ):
        outputs = (one.communicate()[0], two.communicate()[0])

    assert (0, 0) == (one.returncode, two.returncode), outputs
    assert_table_is_file(url, file, table="one")
    assert_table_is_file(url, file, table="two")


def test_memory_does_not_grow_with_the_dataset(url: str, tmp_path: Path) -> None:
    """Of rows of many times PULL_COMMIT_SIZE only some such loads are held."""
    sizes = []
    peaks = []
    for table, rows in ("small", 12_000), ("large", 36_000):
        path = tmp_path / f"{table}.arrow"
        write_file(path, make_batch(rows, dimension=768), batch_rows=4096)
        sizes.append(path.stat().st_size)
        options = ("--table", table)
        with (
            serving(path) as source,
            start_pull(
                tmp_path, source, url, *options, PULL_COMMIT_SIZE="2MB", PULL_CHUNK_SIZE="300"
            ) as process,
        ):
            peaks.append(_peak_of(process))
        assert 0 == process.returncode
        assert [(rows,)] == run(url, f"SELECT count(*) FROM {table}")

    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 2, peaks


@pytest.mark.parametrize(
    ("rows", "letters", "dimension"),
    [(300, 200_000, 384), (20, 5_000_000, 4), (1500, 10, 16_000)],
    ids=["texts", "texts that fill a message", "vectors"],
)
def test_memory_is_small_however_long_rows_are(
    url: str, tmp_path: Path, rows: int, letters: int, dimension: int
) -> None:
    """Of a server that cuts messages at 16 MiB, as 2,048 of those rows would be."""
    text = [f"{number}" * letters for number in range(10)]  # of three columns
    batch = make_batch(rows, text=text, dimension=dimension)
    path = write_file(tmp_path / "long.arrow", batch, batch_rows=max(rows // 10, 1))
    with (
        serving(path, max_message_bytes=16 << 20) as source,
        start_pull(tmp_path, source, url) as process,
    ):
        peak = _peak_of(process)

    assert 0 == process.returncode
    assert_table_is_file(url, path)
    assert 50e6 < peak < 200e6


def _peak_of(process: subprocess.Popen[str]) -> int:
    """Return the most memory, in bytes, of no file, that a command had until its end."""
    peak = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:  # noqa: PTH123
                for line in status:
                    if line.startswith("RssAnon"):
                        peak = max(peak, int(line.split()[1]) << 10)
            process.wait(0.01)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            continue
    return peak


def test_embedded_server_runs_while_it_is_needed(file: Path) -> None:
    """The first pull makes it, the second finds all rows in it, and none leaves it running."""
    folder = open_folder()
    try:
        with serving(file) as source:
            first = run_pull(file.parent, source, f"embedded:{folder}/new/jobs")
            second = run_pull(file.parent, source, f"embedded:{folder}/new/jobs", "--index", "hnsw")
        left = _left_in(folder)
    finally:
        shutil.rmtree(folder)

    assert (None, None) == (first.error, second.error)
    assert re.search(r"^1,000 rows written, .* has 1,000 rows$", first.output, re.MULTILINE)
    assert "nothing new: every row of the dataset was pulled before\n" in second.output
    assert "building the hnsw index" in second.output
    assert [] == left
    assert "Warning" not in first.output + second.output


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with an embedded PostgreSQL that was started once: that takes longest."""
    folder = open_folder()
    cwd = tmp_path_factory.mktemp("first start")
    run_pull(cwd, "127.0.0.1:1", f"embedded:{folder}/jobs", PULL_TRIES="1")
    assert (folder / "jobs/PG_VERSION").exists()
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def _waiting_pull(cwd: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a pull into an embedded PostgreSQL in `folder`; its server has sent no row yet."""
    with (
        ScriptedServer(embeddings(8)) as server,
        start_pull(cwd, server.target, f"embedded:{folder}/jobs") as process,
    ):
        server.play([Headers(8), Wait(threading.Event())])
        end = time.monotonic() + _WAIT_SECONDS
        while not server.calls and time.monotonic() < end:
            time.sleep(0.02)
        yield process


def _left_in(folder: Path) -> list[int]:
    """Return the processes of a PostgreSQL in `folder`."""
    return [p.pid for p in psutil.process_iter(["cmdline"]) if _runs_in(p, str(folder))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_embedded_server_ends_with_the_command(file: Path, embedded: Path, number: int) -> None:
    """Be it told to end, or its terminal closed, which may be said twice."""
    with _waiting_pull(file.parent, embedded) as process:
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(number)
        output, _ = process.communicate(timeout=_WAIT_SECONDS)

    assert (128 + number, []) == (process.returncode, _left_in(embedded))
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_embedded_server_ends_with_a_command_that_ends_while_it_starts(
    file: Path, embedded: Path, number: int
) -> None:
    """A signal waits until there is something to stop."""
    with (
        serving(file) as source,
        start_pull(file.parent, source, f"embedded:{embedded}/jobs") as process,
    ):
        end = time.monotonic() + _WAIT_SECONDS
        while not (embedded / "jobs/postmaster.pid").exists() and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.01)
        process.send_signal(number)
        output, _ = process.communicate(timeout=_WAIT_SECONDS)

    assert (128 + number, []) == (process.returncode, _left_in(embedded))
    assert "Traceback" not in output


def test_closed_standard_error_is_no_reason_to_end(url: str, file: Path) -> None:
    """Nobody sees a bar, and every row arrives."""
    with serving(file) as source:
        code = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "streamer", "pull",
             "--from", source, "--into", url],
            cwd=file.parent, env=environment(), check=False, stdout=subprocess.DEVNULL,
        ).returncode  # fmt: skip

    assert 0 == code
    assert_table_is_file(url, file)


def test_embedded_server_does_not_run_on_for_a_process_that_was_killed(file: Path) -> None:
    """SIGKILL leaves it running; whoever uses it next ends it after use."""
    folder = open_folder()
    try:
        with _waiting_pull(file.parent, folder) as process:
            process.kill()
            process.communicate(timeout=_WAIT_SECONDS)
        after_kill = _left_in(folder)
        with serving(file) as source:
            done = run_pull(file.parent, source, f"embedded:{folder}/jobs")
        left = _left_in(folder)
    finally:
        shutil.rmtree(folder)

    assert after_kill
    assert (None, []) == (done.error, left)


def test_command_that_nohup_started_outlives_its_terminal(file: Path) -> None:
    """What was ignored stays so."""
    folder = open_folder()
    try:
        with serving(file) as source:
            script = "trap '' HUP; (while sleep 0.2; do kill -HUP $$ || exit; done) & exec \"$@\""
            arguments = ["--from", source, "--into", f"embedded:{folder}/jobs"]
            code = subprocess.run(
                ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "streamer", "pull",
                 *arguments],
                cwd=file.parent, env=environment(), check=False, stdout=subprocess.DEVNULL,
            ).returncode  # fmt: skip
    finally:
        shutil.rmtree(folder)
    assert 0 == code


def test_first_start_that_was_broken_off_is_one_line(tmp_path: Path) -> None:
    """It names the folder to remove; no log of somebody else's is shown."""
    folder = open_folder()
    outcomes = []
    try:
        for left, content in (("PG_VERSION", "18\n"), ("postgresql.conf", "")):
            (folder / left).mkdir()
            (folder / left / left).write_text(content)
            outcomes.append(run_pull(tmp_path, "127.0.0.1:1", f"embedded:{folder / left}"))
    finally:
        shutil.rmtree(folder)

    for outcome in outcomes:
        assert 1 == getattr(outcome.error, "code", 0)
        assert re.fullmatch(rf"error: .*{folder}.* broken off.*remove.*\n", outcome.output), outcome


def test_ctrl_c_says_that_nothing_is_lost(url: str, file: Path) -> None:
    """The next pull goes on behind the rows that were committed."""
    rows = embeddings(8)
    release = threading.Event()
    with ScriptedServer(rows) as server:
        script: list[Action] = [Headers(8, rows=8), Rows(0, 4), Rows(4, 6), Wait(release)]
        server.play(script, [Sound()])
        small = {"PULL_COMMIT_SIZE": "1"}
        with start_pull(file.parent, server.target, url, **small) as process:
            end = time.monotonic() + _WAIT_SECONDS
            while position(url)[0] < 6:
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=_WAIT_SECONDS)
        again = pull(server.target, url)

    assert 130 == process.returncode
    assert output.endswith(
        "not finished: `pull` without --restart goes on from its checkpoint\n\nAborted!\n"
        "ended by SIGINT\n"
    ), output
    assert again.error is None
    assert f"after {rows[5].id}" in again.output


def _runs_in(process: psutil.Process, folder: str) -> bool:
    return any(folder in part for part in process.info["cmdline"] or ())


_INDEXES = (
    "SELECT m.amname, pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam"
    " WHERE i.indrelid = 'recruit_embedding'::regclass AND NOT i.indisprimary"
)


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
def test_index_is_built_once_and_used(url: str, file: Path, kind: str) -> None:
    """When all rows are there, by cosine distance; a second pull finds it."""
    with serving(file) as source:
        first = pull(source, url, "--index", kind, INDEX_MEMORY="64MB")
        second = pull(source, url, "--index", kind)
    ((method, definition, is_valid),) = run(url, _INDEXES)
    configure(url, "enable_seqscan = off")  # as a thousand rows hardly need an index
    plan = run(
        url, "EXPLAIN SELECT id FROM recruit_embedding ORDER BY vector <=> '[1,2,3,4]' LIMIT 5"
    )  # fmt: skip

    assert (None, None) == (first.error, second.error)
    assert (kind, True) == (method, is_valid)
    assert "vector_cosine_ops" in definition
    assert (kind == "ivfflat") == ("lists='1'" in definition)
    assert re.search(rf"building the {kind} index \.\.\.\nbuilt in [\d.]+ s\n", first.output)
    assert "the table has one already" in second.output
    assert "recruit_embedding_vector_idx" in str(plan)


def test_index_is_built_where_pgvector_is_elsewhere(url: str, file: Path) -> None:
    """Its operators are those of the schema that the extension is in."""
    run(url, "CREATE SCHEMA extensions")
    run(url, "CREATE EXTENSION vector SCHEMA extensions")
    with serving(file) as source:
        done = pull(source, url, "--index", "hnsw")

    assert done.error is None
    assert ["hnsw"] == [row[0] for row in run(url, _INDEXES)]


def test_index_that_is_not_valid_is_no_index(url: str, file: Path) -> None:
    """What a broken off CREATE INDEX CONCURRENTLY left behind answers no query."""
    with serving(file) as source:
        pull(source, url, "--index", "hnsw")
        run(
            url, "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'recruit_embedding_vector_idx'::regclass",
        )  # fmt: skip
        done = pull(source, url, "--index", "hnsw")

    assert done.error is None
    assert any(is_valid for _, _, is_valid in run(url, _INDEXES))


@pytest.mark.parametrize(("floats", "error"), [(2000, None), (2001, TargetError)])
def test_index_limit_is_told_before_rows_are_loaded(
    url: str, file: Path, floats: int, error: type[Exception] | None
) -> None:
    """Pgvector indexes 2,000 floats at most; nobody waits for a load to be told so."""
    write_file(file, make_batch(20, dimension=floats))
    with serving(file) as source:
        done = pull(source, url, "--index", "hnsw")

    assert isinstance(done.error, error or type(None))
    if error is None:
        assert ["hnsw"] == [row[0] for row in run(url, _INDEXES)]
        return
    assert "2,000 floats, these have 2,001" in str(done.error)
    assert [] == run(url, f"SELECT FROM pg_tables WHERE tablename = '{TABLE}'")


def test_index_that_fails_leaves_the_rows(url: str, file: Path) -> None:
    """The rows were committed before; another pull builds the index only."""
    with serving(file) as source:
        assert pull(source, url).error is None
        run(url, f"TRUNCATE {TABLE}, {CHECKPOINTS}")
        grant = f"GRANT SELECT, INSERT, UPDATE ON {TABLE}, {CHECKPOINTS} TO ROLE"
        with new_role(url, grant) as as_role:
            failed = pull(source, as_role, "--index", "hnsw")
        done = pull(source, url, "--index", "hnsw")

    assert isinstance(failed.error, DatabaseError)
    assert "must be owner of table" in str(failed.error)
    assert_table_is_file(url, file)
    assert done.error is None
    assert "nothing new" in done.output
    assert ["hnsw"] == [row[0] for row in run(url, _INDEXES)]

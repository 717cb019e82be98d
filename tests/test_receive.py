"""`streamer receive` with a real database: what is in the table, whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self
from urllib.parse import urlsplit

import grpc
import psutil
import psycopg
import pytest
import trustme

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits
from streamer.sinks.database import database
from streamer.sinks.upload_sink import UploadSinks
from streamer.upload_service import UploadService
from tests.certificates import Files
from tests.datasets import make_batch, messages_of, write_dataset
from tests.engines import ENGINES, start_grpcio
from tests.health import Watch, checked
from tests.postgres import (
    TABLE,
    Postgres,
    assert_table_holds,
    assert_table_is_file,
    new_database,
    open_folder,
    run,
    session_url,
)
from tests.serving import terminal
from tests.wire_peer import DEADLINES_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa

_ROOT = Path(__file__).parent.parent
_MIB = 1 << 20
_SECONDS = 120.0
_ROWS = 1500
_COMMIT_BYTES = 8 * _MIB  # RECEIVE_COMMIT_SIZE, unless told otherwise
_LETTERS = "embedding_streamer_dead_letter"
_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'embedding-streamer'"
    " AND datname = current_database()"
)


class Receiver(NamedTuple):
    """What `receive` runs, in this process: block by block of 32 KiB."""

    target: str
    channel: grpc.Channel
    url: str

    def send(self, rows: Iterable[pb.Embedding], **options: Any) -> pb.UploadResult:
        return _send(self.channel, rows, **options)


def _send(channel: grpc.Channel, rows: Iterable[pb.Embedding], **options: Any) -> pb.UploadResult:
    stub = pb_grpc.EmbeddingUploadServiceStub(channel)
    return stub.UploadEmbeddings(iter(rows), **{"timeout": _SECONDS, **options})


@contextlib.contextmanager
def _receiving(
    engine: str, url: str, *, dimension: int | None = None, table: str = TABLE,
    check_seconds: float = 3600.0,
) -> Iterator[Receiver]:  # fmt: skip
    with database(url) as dsn:
        service = UploadService(UploadSinks(dsn, table, dimension).open, block_bytes=32 << 10)
        service.check_seconds = check_seconds
        limits = Limits().for_uploads(max_message_bytes=16 * _MIB, window_bytes=_MIB)
        server = (
            start_grpcio(service)
            if engine == "grpcio"
            else WireEngine(service, host="127.0.0.1", port=0, max_workers=4, limits=limits)
        )
        try:
            with grpc.insecure_channel(server.address) as channel:
                yield Receiver(server.address, channel, url)
        finally:
            server.stop(0)


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def receiver(engine: str, url: str) -> Iterator[Receiver]:
    with _receiving(engine, url) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def batch() -> pa.RecordBatch:
    return make_batch(_ROWS, dimension=24)


@pytest.fixture(scope="module")
def rows(batch: pa.RecordBatch) -> list[pb.Embedding]:
    return _messages(batch)


def _messages(batch: pa.RecordBatch) -> list[pb.Embedding]:
    return [pb.Embedding(**row) for row in messages_of(batch)]


def _counters(result: pb.UploadResult) -> tuple[int, int, int]:
    return result.total_count, result.success_count, result.failed_count


def _failure(action: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        action()
    error: Any = raised.value
    return error.code().name, error.details()


def _wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def _count(url: str) -> int:
    """Return the rows of the table, 0 if there is none."""
    if run(url, "SELECT to_regclass(%s)", TABLE) == [(None,)]:
        return 0
    return int(run(url, "SELECT count(*) FROM recruit_embedding")[0][0])


def _wait_for_no_session(url: str) -> None:
    _wait_until(lambda: run(url, _SESSIONS) == [(0,)])


# What is stored


def test_the_table_is_what_was_sent_in_any_order(
    receiver: Receiver, batch: pa.RecordBatch, rows: list[pb.Embedding]
) -> None:
    """Bit for bit; afterwards no connection to the database is left."""
    result = receiver.send([*rows[1::2], *rows[::2][::-1]])

    assert pb.UploadResult(total_count=_ROWS, success_count=_ROWS) == result
    assert_table_holds(receiver.url, batch)
    _wait_for_no_session(receiver.url)


def test_sent_again_nothing_changes(receiver: Receiver, rows: list[pb.Embedding]) -> None:
    """No row version is written, be it by this call or the next; dead letters aren't doubled."""
    bad = [pb.Embedding(id=f"bad {n}") for n in range(20)]
    where = "SELECT id, xmin::text, ctid::text FROM recruit_embedding ORDER BY id"
    letters = (
        "SELECT digest, id, reason, message FROM embedding_streamer_dead_letter ORDER BY digest"
    )
    first = receiver.send([*rows, *bad])
    before, letters_before = run(receiver.url, where), run(receiver.url, letters)
    again = receiver.send([*bad, *rows[::-1], *rows])

    assert (_ROWS + 20, _ROWS, 20) == _counters(first)
    assert (2 * _ROWS + 20, 2 * _ROWS, 20) == _counters(again)
    assert before == run(receiver.url, where)
    assert letters_before == run(receiver.url, letters)
    assert (_ROWS, 20) == (len(before), len(letters_before))


def test_of_duplicates_the_last_one_stays(
    receiver: Receiver, batch: pa.RecordBatch, rows: list[pb.Embedding]
) -> None:
    """Within a block, in another block, in another call; all of them count."""
    old = [pb.Embedding(id=row.id.upper(), vector=[0.0] * 24) for row in rows]
    pairs = [row for pair in zip(old, rows, strict=True) for row in pair]

    assert (2 * _ROWS, 2 * _ROWS, 0) == _counters(receiver.send(pairs))
    assert_table_holds(receiver.url, batch)
    assert (2 * _ROWS, 2 * _ROWS, 0) == _counters(receiver.send([*old, *rows]))
    assert_table_holds(receiver.url, batch)
    assert 10 == receiver.send(old[:10]).success_count
    assert 10 == receiver.send(rows[:10]).success_count
    assert_table_holds(receiver.url, batch)


def test_bad_rows_are_named_whatever_carries_them(
    receiver: Receiver, batch: pa.RecordBatch, rows: list[pb.Embedding]
) -> None:
    """Some fail; then all fail, which changes nothing."""
    bad = [pb.Embedding(id=row.id, company_name="\0", vector=row.vector) for row in rows]
    some = receiver.send([*rows, *bad[:50]])
    every = receiver.send(bad)

    assert [row.id for row in bad[:50]] == list(some.failed_ids)
    assert (_ROWS, 0, _ROWS) == _counters(every)
    assert [row.id for row in bad] == list(every.failed_ids)
    assert [(_ROWS,)] == run(receiver.url, "SELECT count(*) FROM embedding_streamer_dead_letter")
    assert_table_holds(receiver.url, batch)


@pytest.mark.parametrize(("dimension", "stored"), [(None, 3), (5, 2)])
def test_a_new_table_has_the_usual_dimension_or_that_which_was_asked_for(
    engine: str, url: str, dimension: int | None, stored: int
) -> None:
    """Rows of another one fail."""
    three, five = (_messages(make_batch(n, dimension=d)) for n, d in ((3, 3), (2, 5)))
    with _receiving(engine, url, dimension=dimension) as receiver:
        assert (5, stored, 5 - stored) == _counters(receiver.send([*five, *three]))

    assert [(f"vector({dimension or 3})",)] == run(
        url, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attname = 'vector'", TABLE,
    )  # fmt: skip


def test_a_table_that_can_not_take_the_rows_is_a_failed_precondition(
    engine: str, url: str, rows: list[pb.Embedding]
) -> None:
    """The sender is told what is wrong with it."""
    run(url, f"CREATE TABLE {TABLE} (id integer)")
    with _receiving(engine, url) as receiver:
        code, text = _failure(lambda: receiver.send(rows))
    assert ("FAILED_PRECONDITION", True) == (code, "column id is of type integer" in text)


def test_the_longest_vectors_and_messages_of_a_megabyte(receiver: Receiver) -> None:
    """16,000 floats are pgvector's limit; texts may take more than that. One more float is none."""
    wide = make_batch(20, dimension=16_000, text=["x" * _MIB, "y", "z"])

    assert (20, 20, 0) == _counters(receiver.send(_messages(wide)))
    assert_table_holds(receiver.url, wide)
    with psycopg.connect(receiver.url) as connection:
        connection.execute(f"DROP TABLE {TABLE}")
    too_wide = _messages(make_batch(2, dimension=16_001))
    code, text = _failure(lambda: receiver.send(too_wide))
    assert ("FAILED_PRECONDITION", True) == (code, "1 to 16,000 floats" in text)


# Several at once


def test_two_uploads_make_one_table(engine: str, url: str, batch: pa.RecordBatch) -> None:
    """Both begin before there is any; neither is told of the other."""
    rows = _messages(batch)
    ready = threading.Barrier(4)

    def sent(part: int) -> Iterator[pb.Embedding]:
        ready.wait(_SECONDS)
        yield from rows[part::4]

    with _receiving(engine, url) as receiver, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda part: receiver.send(sent(part)), range(4)))

    assert _ROWS == sum(result.success_count for result in results)
    assert_table_holds(url, batch)


def test_overlapping_uploads_end_well(engine: str, url: str, batch: pa.RecordBatch) -> None:
    """The same ids and dead letters at once, in any order; if one is broken off, sent again."""
    rows = _messages(batch)
    bad = [pb.Embedding(id=f"bad {n}") for n in range(200)]
    orders = ([*rows, *bad], [*bad[::-1], *rows[::-1]], [*rows[700:], *bad, *rows[:700]])
    refused: list[str] = []

    def send(to: Receiver, order: list[pb.Embedding]) -> pb.UploadResult:
        while True:
            try:
                return to.send(order)
            except grpc.RpcError as error:
                refused.append(error.code().name)

    with _receiving(engine, url) as receiver, ThreadPoolExecutor(3) as pool:
        results = list(pool.map(partial(send, receiver), orders * 2))

    assert {(_ROWS + 200, _ROWS, 200)} == set(map(_counters, results))
    assert set(refused) <= {"UNAVAILABLE"}
    assert_table_holds(url, batch)
    assert [(200,)] == run(url, "SELECT count(*) FROM embedding_streamer_dead_letter")


# Health


def test_the_service_is_serving_while_its_database_answers(engine: str, url: str) -> None:
    """Away at the start, there, away again; the process is SERVING all the while."""
    admit = f"ALTER DATABASE {urlsplit(url).path[1:]} ALLOW_CONNECTIONS"
    server = urlsplit(url)._replace(path="/postgres").geturl()
    run(server, f"{admit} false")
    with _receiving(engine, url, check_seconds=0.1) as receiver:
        name = "EmbeddingUploadService"
        watch = Watch(receiver.channel, name)

        assert "NOT_SERVING" == watch.next()
        run(server, f"{admit} true")
        assert "SERVING" == watch.next()
        assert "SERVING" == checked(receiver.channel, name)
        run(server, f"{admit} false")
        assert "NOT_SERVING" == watch.next()
        assert "NOT_SERVING" == checked(receiver.channel, name)
        assert "SERVING" == checked(receiver.channel, "")
        watch.cancel()


# Calls that end early


class _Sender:
    """An upload that stays open until the test ends it; `made` are the rows it has sent."""

    def __init__(self, channel: grpc.Channel, *, timeout: float = _SECONDS) -> None:
        self.made = 0
        self._rows: queue.SimpleQueue[pb.Embedding | None] = queue.SimpleQueue()
        stub = pb_grpc.EmbeddingUploadServiceStub(channel)
        self.call: Any = stub.UploadEmbeddings.future(self._sent(), timeout=timeout)

    def _sent(self) -> Iterator[pb.Embedding]:
        while (row := self._rows.get()) is not None:
            self.made += 1
            yield row

    def put(self, rows: Iterable[pb.Embedding]) -> None:
        for row in rows:
            self._rows.put(row)

    def half_close(self) -> None:
        self._rows.put(None)

    def end(self) -> pb.UploadResult:
        self.half_close()
        result: pb.UploadResult = self.call.result()
        return result


@pytest.mark.parametrize("ending", ["cancel", "deadline", "disconnect"])
def test_what_was_committed_stays(
    engine: str, url: str, batch: pa.RecordBatch, rows: list[pb.Embedding], ending: str
) -> None:
    """The connection to the database is closed; the next call completes the table."""
    with _receiving(engine, url) as receiver:
        for seconds in DEADLINES_SECONDS if ending == "deadline" else (_SECONDS,):
            sender = _Sender(receiver.channel, timeout=seconds)
            sender.put(rows[:1000])
            _wait_until(lambda: _count(url) > 200 or sender.call.done())  # noqa: B023 - called here
            if _count(url) > 200:
                break
            sender.half_close()  # it was late before anything was committed
        if ending == "cancel":
            sender.call.cancel()
        if ending == "disconnect":
            receiver.channel.close()
        _wait_for_no_session(url)
        assert sender.call.done()
        sender.half_close()
        committed = _count(url)
    assert 200 < committed <= 1000
    with _receiving(engine, url) as receiver:
        assert _ROWS == receiver.send(rows).success_count
    assert_table_holds(url, batch)


def test_a_session_that_the_database_ends_is_unavailable(
    receiver: Receiver, batch: pa.RecordBatch, rows: list[pb.Embedding]
) -> None:
    """In mid-call, or while nobody expects it; the same channel works again afterwards."""
    sender = _Sender(receiver.channel)
    sender.put(rows[:1000])
    _wait_until(lambda: _count(receiver.url) > 200)
    run(receiver.url, _SESSIONS.replace("count(*)", "pg_terminate_backend(pid)"))
    sender.put(rows)
    code, text = _failure(sender.end)

    assert ("UNAVAILABLE", True) == (code, text.startswith("the database is not there"))
    assert _ROWS == receiver.send(rows).success_count
    assert_table_holds(receiver.url, batch)


# The command, in a process of its own


class _Process:
    """The real `streamer receive`, which GRPC_HOST doesn't concern."""

    popen: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, folder: Path, url: str, *options: str, **settings: str) -> None:
        self.log = folder / "receive.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "streamer", "receive", "--into", url,
                    "--port", "0", *options,  # the last --port counts
                ],
                cwd=folder, env=_environment(**settings), stdout=subprocess.PIPE, stderr=log,
                text=True, **self.popen,
            )  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        listening = re.fullmatch(r"listening on (127\.0\.0\.1:\d+)\n", line)
        assert listening, self.log.read_text()
        self.target = listening[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def _environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), "GRPC_HOST": "192.0.2.1", **settings}


def _start_upload(
    folder: Path, target: str, *options: str, **settings: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "streamer", "upload", "--data", "jobs.arrow", "--to", target,
            *options,
        ],
        cwd=folder, env=_environment(**settings), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_a_whole_dataset_by_the_commands_and_tls(tmp_path: Path, url: str) -> None:
    """`upload` to `receive`: the table is the file; without TLS nothing goes in."""
    ca = trustme.CA()
    files = Files.made(tmp_path, ca)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    write_dataset(tmp_path / "jobs.arrow", rows=5000, dimension=32, batch_rows=1700)
    settings = {"TLS_CERT": str(files.certificate), "TLS_KEY": str(files.key)}
    tries = {"UPLOAD_TRIES": "1", "UPLOAD_SEGMENT_ROWS": "1800"}
    with _Process(tmp_path, url, **settings) as receiver:
        plain = _start_upload(tmp_path, receiver.target, **tries)
        by_tls = _start_upload(
            tmp_path, receiver.target, "--tls-ca", "ca.pem", "--state", "tls.json",
            "--failed-ids", "tls.txt", **tries,
        )  # fmt: skip
        assert "UNAVAILABLE" in plain.communicate(timeout=_SECONDS)[0]
        output, _ = by_tls.communicate(timeout=_SECONDS)
        assert (1, 0) == (plain.returncode, by_tls.returncode), output
        assert 0 == receiver.stop()

    assert_table_is_file(url, tmp_path / "jobs.arrow")
    assert " ERROR " not in receiver.log.read_text()


def test_three_failures_then_success(tmp_path: Path, url: str, engine: str) -> None:
    """A database that lets nobody in for a while: `upload` waits for it, and all is stored."""
    write_dataset(tmp_path / "jobs.arrow", rows=500)
    name = urlsplit(url).path[1:]
    server = urlsplit(url)._replace(path="/postgres").geturl()
    allow = f"UPDATE pg_database SET datallowconn = %s WHERE datname = '{name}'"
    run(server, allow, False)  # noqa: FBT003
    with _receiving(engine, url) as receiver:
        settings = {"UPLOAD_TRIES": "10", "UPLOAD_RETRY_SECONDS": "0.1"}
        with _start_upload(tmp_path, receiver.target, **settings) as sender:
            assert sender.stdout
            failures = list(itertools.islice(sender.stdout, 3))
            run(server, allow, True)  # noqa: FBT003
            output, _ = sender.communicate(timeout=_SECONDS)

    assert all("is sent again" in line and "UNAVAILABLE" in line for line in failures), failures
    assert 0 == sender.returncode, output
    assert_table_is_file(url, tmp_path / "jobs.arrow")


def test_a_receiver_killed_in_mid_segment_has_every_row_in_the_end(
    tmp_path: Path, url: str, engine: str
) -> None:
    """SIGKILL while rows come in, a new one on its port: the sender goes on by itself."""
    write_dataset(tmp_path / "jobs.arrow", rows=6000, dimension=32, batch_rows=2500)
    settings = {"RECEIVE_COMMIT_SIZE": "64KB"}
    with _Process(tmp_path, url, "--engine", engine, **settings) as first:
        port = first.target.rpartition(":")[2]
        sender = _start_upload(
            tmp_path, first.target,
            UPLOAD_SEGMENT_ROWS="6000", UPLOAD_TRIES="50", UPLOAD_RETRY_SECONDS="0.1",
        )  # fmt: skip
        _wait_until(lambda: _count(url) > 500)
        first.process.kill()
        first.process.wait()
        _wait_for_no_session(url)
        found = _count(url)
        with _Process(tmp_path, url, "--engine", engine, "--port", port, **settings):
            output, _ = sender.communicate(timeout=_SECONDS)

    assert 500 < found < 6000
    assert 0 == sender.returncode, output
    assert "is sent again in" in output
    assert_table_is_file(url, tmp_path / "jobs.arrow")


def test_a_drain_lets_an_upload_end(
    tmp_path: Path, url: str, engine: str, batch: pa.RecordBatch, rows: list[pb.Embedding]
) -> None:
    """SIGTERM in mid-upload: it is finished, and then the process ends with 0."""
    with (
        _Process(tmp_path, url, "--engine", engine, RECEIVE_COMMIT_SIZE="16KB") as receiver,
        grpc.insecure_channel(receiver.target) as channel,
    ):
        sender = _Sender(channel)
        sender.put(rows[:1000])
        _wait_until(lambda: _count(url) > 200)
        receiver.process.send_signal(signal.SIGTERM)
        _wait_until(lambda: "draining" in receiver.log.read_text())
        sender.put(rows[1000:])
        assert (_ROWS, _ROWS, 0) == _counters(sender.end())
        assert 0 == receiver.process.wait(_SECONDS)

    assert_table_holds(url, batch)


def test_a_closed_terminal_ends_it_and_its_embedded_server(tmp_path: Path) -> None:
    """SIGHUP, also twice, is as SIGTERM: PostgreSQL isn't left running."""
    folder = open_folder()
    try:
        with terminal() as (close, options):

            class InTerminal(_Process):
                popen = options

            with InTerminal(tmp_path, f"embedded:{folder}/jobs") as receiver:
                close()
                time.sleep(0.05)
                receiver.process.send_signal(signal.SIGHUP)
                assert 0 == receiver.process.wait(_SECONDS)
        commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    finally:
        shutil.rmtree(folder)
    assert not any(str(folder) in part for command in commands for part in command)


def test_a_stop_does_not_wait_for_a_database_that_does_not_answer(
    tmp_path: Path, url: str, engine: str, rows: list[pb.Embedding]
) -> None:
    """When the grace is over the process ends, whoever holds the table's lock."""
    with (
        _Process(tmp_path, url, "--engine", engine, SHUTDOWN_GRACE_SECONDS="0.5") as receiver,
        grpc.insecure_channel(receiver.target) as channel,
    ):
        _send(channel, rows[:1])
        with psycopg.connect(url) as connection:
            connection.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            call: Any = pb_grpc.EmbeddingUploadServiceStub(channel).UploadEmbeddings.future(
                iter(rows), timeout=_SECONDS
            )
            _wait_until(
                lambda: run(url, "SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)]
            )
            receiver.process.send_signal(signal.SIGTERM)
            assert _failure(call.result)[0] in {"UNAVAILABLE", "CANCELLED"}
            receiver.process.wait(_SECONDS)


def test_a_slow_database_holds_the_sender_back_and_fills_no_memory(
    tmp_path: Path, url: str, engine: str
) -> None:
    """150 MiB for a table that is locked: a block and the windows are taken ahead, and no more."""
    with (
        _Process(tmp_path, url, "--engine", engine, "--dimension", "4") as receiver,
        grpc.insecure_channel(receiver.target) as channel,
    ):
        [row] = _messages(make_batch(1))
        _send(channel, [row])
        process = psutil.Process(receiver.process.pid)
        row.company_name = "x" * (200 << 10)
        with psycopg.connect(url) as connection:
            connection.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            before = process.memory_info().rss
            sender = _Sender(channel)
            made = -1
            sender.put([row] * 768)
            while made < sender.made:  # until it makes no more
                made = sender.made
                time.sleep(0.5)
            grown = process.memory_info().rss - before
        assert 768 == sender.end().success_count
        grown_in_the_end = process.memory_info().rss - before

    assert _COMMIT_BYTES < made * (200 << 10) < _COMMIT_BYTES + 20 * _MIB
    assert grown < 90 * _MIB
    assert grown_in_the_end < 120 * _MIB


def test_a_database_that_goes_and_comes_back(
    tmp_path: Path, batch: pa.RecordBatch, rows: list[pb.Embedding], engine: str
) -> None:
    """Down at the start, down in mid-call: UNAVAILABLE; up again: the next call works."""
    postgres = Postgres()
    url = postgres.url()
    try:
        postgres.kill()
        with (
            _Process(tmp_path, url, "--engine", engine, RECEIVE_COMMIT_SIZE="16KB") as receiver,
            grpc.insecure_channel(receiver.target) as channel,
        ):
            assert "NOT_SERVING: calls get UNAVAILABLE" in receiver.log.read_text()
            code, text = _failure(lambda: _send(channel, rows))
            assert ("UNAVAILABLE", True) == (code, text.startswith("the database is not there"))
            postgres.start()
            sender = _Sender(channel)
            sender.put(rows[:1000])
            _wait_until(lambda: _count(url) > 200)
            postgres.kill()
            sender.put(rows)
            # A session lives on for a moment after its server was killed.
            with contextlib.suppress(psycopg.OperationalError):
                _wait_for_no_session(url)
            assert "UNAVAILABLE" == _failure(sender.end)[0]
            postgres.start()
            assert _ROWS == _send(channel, rows).success_count
            assert_table_holds(url, batch)
            assert 0 == receiver.stop()
    finally:
        postgres.stop()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--port", "0"], 2, "no database: give --into or DATABASE_URL"),
        (["--into", "nonsense", "--port", "0"], 2, "this is no postgresql://"),
        (["--into", "postgresql://x", "--port", "65536"], 2, "65536 is not in the range"),
        (["--into", "postgresql://x", "--dimension", "0"], 2, "0 is not in the range"),
        (["--into", "postgresql://x", "--engine", "other"], 2, "'other' is not one of"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, text: str
) -> None:
    """Nothing listens."""
    environment = {k: v for k, v in _environment().items() if k != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "receive", *arguments],
        cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert code == done.returncode
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert "" == done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--table", "no such schema.t"), "is no name of a table"),
        (("--table", "nowhere.t"), 'schema "nowhere" does not exist'),
    ],
)
def test_a_wrong_table_is_said_at_the_start(
    tmp_path: Path, url: str, options: tuple[str, str], text: str
) -> None:
    """Not to the first sender."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "receive", "--into", url, "--port", "0", *options],
        cwd=tmp_path, env=_environment(), check=False, capture_output=True, text=True,
        timeout=_SECONDS,
    )  # fmt: skip

    assert 1 == done.returncode
    assert text in done.stderr
    assert "Traceback" not in done.stderr

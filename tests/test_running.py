"""Running servers: their settings' bounds, and what an operator does to them."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
import trustme

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.commands.exposure import exposure
from streamer.commands.running import limits_of
from streamer.config import MAX_SECONDS, Settings, load_settings
from streamer.engines.addresses import is_local
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.wire.engine import WireEngine
from streamer.upload_service import UploadService
from tests.certificates import Files, read_all, secure_channel
from tests.datasets import write_dataset
from tests.engines import ENGINES
from tests.serving import Serving, environment, terminal
from tests.test_upload_service import MemorySink
from tests.wire_peer import HEALTH, ROWS, STREAM, Peer

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_SECONDS = 60
_LONGEST = {name: MAX_SECONDS for name in Settings.model_fields if name.endswith("_seconds")}


@pytest.mark.parametrize("name", ENGINES)
def test_the_longest_durations_work(name: str) -> None:
    """With every duration at its bound an upload is taken, and the server stops at once."""
    settings = load_settings(engine=name, **_LONGEST)
    service = UploadService(MemorySink().open, block_bytes=1)
    engine: RunningEngine
    if name == "wire":
        engine = WireEngine(
            service, host="127.0.0.1", port=0, max_workers=1, limits=limits_of(settings)
        )
    else:
        engine = GrpcioEngine(
            service, host="127.0.0.1", port=0, max_workers=1, max_message_bytes=1 << 20
        )
    with grpc.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
        stub = pb_grpc.EmbeddingUploadServiceStub(channel)
        rows = [pb.Embedding(id=f"00000000-0000-7000-8000-{n:012}", vector=[1.0]) for n in range(2)]
        result = stub.UploadEmbeddings(iter(rows), timeout=settings.upload_timeout_seconds)
    engine.stop(settings.shutdown_grace_seconds)

    assert 2 == result.success_count


_WORD = "Bearer-of-a-secret"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_secret_of_a_caller_is_logged(tmp_path: Path, engine: str) -> None:
    """At DEBUG, neither of calls that go well nor of refused ones nor of malformed ones."""
    write_dataset(tmp_path / "jobs.arrow")
    settings = {"LOG_LEVEL": "DEBUG", "LOG_FILE": "x.log"}
    arguments = ("--data", "jobs.arrow", "--engine", engine)
    with Serving(tmp_path, *arguments, settings=settings) as server:
        _call_with_secrets(server.target)
        for name, value in (
            ("authorization", f"{_WORD} "), ("authorization", f"{_WORD}'\""),
            ("authorization", f"{_WORD}\0"), ("te", _WORD), ("Authorization", _WORD),
            ("key-bin", f"{_WORD}!"), ("grpc-timeout", _WORD), ("content-length", _WORD),
        ):  # fmt: skip
            with Peer(int(server.target.rpartition(":")[2])) as peer:
                frame = peer.headers(STREAM, "END_STREAM", **{name: value})
                peer.try_to_send([frame])
                peer.until(lambda p=peer: p.goaways or p.trailers or p.resets)  # type: ignore[misc]
        assert 0 == server.stop()

    log = server.log.read_text()
    assert set((tmp_path / "x.log").read_text().splitlines()) <= set(log.splitlines())
    assert "DEBUG" in log
    assert "INVALID_ARGUMENT" in log
    assert _WORD not in log
    assert "\0" not in log
    assert base64.b64encode(_WORD.encode()).decode().rstrip("=") not in log


def _call_with_secrets(target: str) -> None:
    metadata = (
        ("authorization", f"{_WORD} 1"), ("cookie", f"{_WORD}=2"), ("x-api-token", _WORD),
        ("key-bin", _WORD.encode()), ("checkpoint-policy", "must-exist"),
    )  # fmt: skip
    with grpc.insecure_channel(target) as channel:
        for rpc, after in (("GetEmbeddings", ""), ("StreamEmbedding", "no id"), ("None", "")):
            method: Any = channel.unary_stream(f"/embedding.EmbeddingStreamService/{rpc}")
            request = pb.RequestParams(last_processed_uuid=after).SerializeToString()
            with contextlib.suppress(grpc.RpcError):
                list(method(request, metadata=metadata, timeout=_SECONDS))


def test_a_full_disk_of_the_log_does_not_stop_the_server(tmp_path: Path) -> None:
    """It is said once, on standard error, where all lines are."""
    write_dataset(tmp_path / "jobs.arrow")
    (tmp_path / "x.log").symlink_to("/dev/full")
    arguments = ("--data", "jobs.arrow")
    with Serving(tmp_path, *arguments, settings={"LOG_FILE": "x.log"}) as server:
        with grpc.insecure_channel(server.target) as channel:
            for _ in range(3):
                read_all(channel, ROWS)
        assert 0 == server.stop()

    log = server.log.read_text()
    assert 1 == log.count("LOG_FILE x.log can't be written: No space left on device")
    assert 3 == log.count(": sent 10 rows")


_NO_TERMINAL = {"start_new_session": True}


@pytest.mark.parametrize("engine", ENGINES)
def test_hangup_looks_again_at_files_and_never_stops(tmp_path: Path, engine: str) -> None:
    """Dataset, certificates and log file: what each has become is in the log."""
    ca = trustme.CA()
    files = Files.made(tmp_path, ca)
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=5)
    settings = {
        "TLS_CERT": str(files.certificate), "TLS_KEY": str(files.key), "LOG_FILE": "x.log",
        "SHUTDOWN_GRACE_SECONDS": str(_LONGEST["shutdown_grace_seconds"]),
    }  # fmt: skip
    with Serving(
        tmp_path, "--data", "jobs.arrow", "--engine", engine,
        settings=settings, popen=_NO_TERMINAL,
    ) as server:  # fmt: skip
        port = int(server.target.rpartition(":")[2])

        def hang_up(*outcomes: str) -> None:
            before = len(server.log.read_text())
            server.process.send_signal(signal.SIGHUP)
            for outcome in outcomes:
                server.wait_for(outcome, before)

        same = "the certificates in use are those of the files"
        hang_up("LOG_FILE x.log is open", same, "jobs.arrow is open: 5 rows")
        (tmp_path / "x.log").rename(tmp_path / "x.log.old")
        files.write(ca)
        write_dataset(tmp_path / "new.arrow", rows=7)
        (tmp_path / "new.arrow").rename(path)
        hang_up("LOG_FILE x.log is open", "certificates read again", "jobs.arrow is open: 7 rows")
        files.key.write_text("no key")
        path.unlink()
        for _ in range(2):
            hang_up("the certificates in use stay", "no dataset: there is no dataset file")
        with secure_channel(port, ca) as channel, pytest.raises(grpc.RpcError) as raised:
            read_all(channel, STREAM)
        assert grpc.StatusCode.NOT_FOUND == raised.value.code()
        assert 0 == server.stop()
    assert "jobs.arrow is open: 7 rows" in (tmp_path / "x.log").read_text()


def test_hangup_does_not_stop_a_server_that_starts(tmp_path: Path) -> None:
    """One that waits for an answer of its database, for example."""
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(_SECONDS)
        address = f"postgresql://127.0.0.1:{database.getsockname()[1]}/none?sslmode=disable"

        def hang_up() -> None:
            connection, _ = database.accept()
            with connection, database:
                process = psutil.Process(os.getpid()).children()[-1]
                process.send_signal(signal.SIGHUP)

        with ThreadPoolExecutor(1) as pool:
            hung_up = pool.submit(hang_up)
            options = ("--into", address)
            with Serving(tmp_path, *options, command="receive", popen=_NO_TERMINAL) as server:
                hung_up.result()
                assert 0 == server.stop()


_STOPS_BY_A_SIGNAL = """
import os, signal, threading
from streamer.commands.signals import OperatorSignals
signals = OperatorSignals()
other = threading.Thread(target=threading.Event().wait, daemon=True)
other.start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGHUP)).start()
signals.wait_for_stop(lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


def test_signals_that_do_not_interrupt_the_main_thread_are_noticed() -> None:
    """They come to another thread, or just before the main one begins to wait."""
    command = [sys.executable, "-c", _STOPS_BY_A_SIGNAL]
    subprocess.run(command, check=True, timeout=_SECONDS, env=environment(), start_new_session=True)


def test_a_closed_terminal_stops_the_server(tmp_path: Path) -> None:
    """As it always did: whoever closes the terminal that it runs in is done with it."""
    with terminal() as (close, options), Serving(tmp_path, popen=options) as server:
        close()
        assert 0 == server.process.wait(_SECONDS)
    assert "SIGHUP: draining" in server.log.read_text()


@pytest.mark.parametrize("has_terminal", [False, True], ids=["no terminal", "terminal"])
def test_nohup_is_obeyed(tmp_path: Path, *, has_terminal: bool) -> None:
    """A server that was started with SIGHUP ignored goes on ignoring it."""
    with contextlib.ExitStack() as stack:
        close, options = stack.enter_context(terminal())
        become = options["preexec_fn"] if has_terminal else lambda: None

        def prepare() -> None:
            become()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        options = {**options, "preexec_fn": prepare}
        server = stack.enter_context(Serving(tmp_path, popen=options))
        close()
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGUSR1)  # which is handled later
        server.wait_for("SIGUSR1: the stacks of")
        assert 0 == server.stop()
    assert "SIGHUP" not in server.log.read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_stacks_are_logged_on_demand(tmp_path: Path, engine: str) -> None:
    """SIGUSR1 at LOG_LEVEL=ERROR, idle and while rows are streamed; SIGUSR2 does nothing."""
    write_dataset(tmp_path / "jobs.arrow", rows=1000)
    settings = {"LOG_LEVEL": "ERROR", "LOG_FILE": "x.log"}
    arguments = ("--data", "jobs.arrow", "--engine", engine)
    with Serving(tmp_path, *arguments, settings=settings) as server:
        for number in (signal.SIGUSR2, signal.SIGUSR1):
            server.process.send_signal(number)
        server.wait_for("SIGUSR1: the stacks of")
        with grpc.insecure_channel(server.target) as channel:
            while server.log.read_text().count("SIGUSR1") < 5:
                server.process.send_signal(signal.SIGUSR1)
                read_all(channel, ROWS)
        assert 0 == server.stop()

    log = (tmp_path / "x.log").read_text()
    assert log == server.log.read_text()
    assert "thread MainThread\n" in log
    assert "in wait_for_stop\n" in log
    assert {"wire": "thread wire\n", "grpcio": " (_serve)\n"}[engine] in log


def test_a_fatal_error_leaves_the_stacks_behind(tmp_path: Path) -> None:
    """As of a file that shrinks while it is mapped: SIGBUS."""
    with Serving(tmp_path) as server:
        server.process.send_signal(signal.SIGBUS)
        assert -signal.SIGBUS == server.process.wait(_SECONDS)

    assert "Fatal Python error: Bus error" in server.log.read_text()
    assert "most recent call first" in server.log.read_text()


def test_a_low_limit_of_open_files_lowers_the_number_of_connections(tmp_path: Path) -> None:
    """It is said at start; then all that fit are served, and the next is refused, not an error."""
    with contextlib.ExitStack() as stack:
        limit = ("RLIMIT_NOFILE", 64, 64)
        server = stack.enter_context(Serving(tmp_path, "--engine", "wire", limit=limit))
        said = re.search(
            r"WARNING \[commands.open_files\] - only (\d+) connections fit, not the 512 of"
            r" MAX_CONNECTIONS: the limit of open files \(ulimit -n\) is 64, and (\d+) may",
            server.log.read_text(),
        )
        assert said
        fitting = int(said[1])
        assert 64 == fitting + int(said[2])
        port = int(server.target.rpartition(":")[2])
        for _ in range(fitting):
            stack.enter_context(Peer(port)).unary(HEALTH)
        refused = stack.enter_context(Peer(port))
        assert refused.until_closed()
        server.wait_for(f"refused connections: 1 more than the {fitting} that MAX_CONNECTIONS")
        assert 0 == server.stop()
    assert "can't accept" not in server.log.read_text()


def test_the_soft_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    """As far as the hard one permits, and no further than needed."""
    limit = ("RLIMIT_NOFILE", 64, 4096)
    with Serving(tmp_path, limit=limit, settings={"MAX_CONNECTIONS": "100"}) as server:
        soft, hard = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        log = server.log.read_text()

    assert 100 < soft < 200
    assert 4096 == hard
    assert f"the limit of open files (ulimit -n) is raised from 64 to {soft}" in log
    assert "connections fit" not in log


def test_grpcio_says_how_many_connections_fit(tmp_path: Path) -> None:
    """Its engine knows no bound of connections; that they don't fit is said all the same."""
    with Serving(tmp_path, "--engine", "grpcio", limit=("RLIMIT_NOFILE", 64, 64)) as server:
        assert "connections fit, not the 512" in server.log.read_text()


_ANYWHERE = "0.0.0.0"  # noqa: S104 - the subject


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True),
        ("127.8.8.8", True), ("unix:/tmp/x", True), ("::ffff:127.0.0.1", True),
        (_ANYWHERE, False), ("::", False), ("[::]", False), ("", False), ("192.0.2.1", False),
        ("no.such.name.invalid", False),
    ],
)  # fmt: skip
def test_what_is_local_is_known(host: str, *, expected: bool) -> None:
    """Loopback addresses, in any spelling, and sockets in the file system."""
    assert expected == is_local(host)


@pytest.mark.parametrize(
    ("host", "given", "words"),
    [
        (_ANYWHERE, [], ["TLS_CLIENT_CA", "TLS_CERT"]),
        (_ANYWHERE, ["tls_cert", "tls_key"], ["TLS_CLIENT_CA"]),
        (_ANYWHERE, ["tls_cert", "tls_key", "tls_client_ca"], []),
        ("localhost", [], []),
    ],
)
def test_what_lets_others_in_is_named(host: str, given: list[str], words: list[str]) -> None:
    """The settings that are missing, if others can come in for lack of them."""
    warning = exposure(host, load_settings(**dict.fromkeys(given, "x")), "do it")

    assert words == re.findall(r"TLS_\w+", warning or "")
    assert bool(words) == ("whoever reaches this address can do it" in (warning or ""))


@pytest.mark.parametrize(
    ("command", "arguments", "can"),
    [
        ("serve", (), "read all rows"),
        # Its database is down, which will do.
        (
            "receive", ("--into", "postgresql://127.0.0.1:1/none", "--table", "mine"),
            "overwrite rows of mine, and add some",
        ),
    ],
)  # fmt: skip
def test_an_address_that_others_reach_is_warned_about(
    tmp_path: Path, command: str, arguments: tuple[str, ...], can: str
) -> None:
    """One line says who can read, or what they can overwrite."""
    with Serving(tmp_path, "--host", _ANYWHERE, *arguments, command=command) as server:
        log = server.log.read_text()

    (line,) = [line for line in log.splitlines() if "whoever reaches this address" in line]
    assert f"] WARNING [commands.running] - {_ANYWHERE}:" in line
    assert f"whoever reaches this address can {can}: clients need no certificate" in line

"""Running servers: their settings' bounds, and what an operator does to them."""

from __future__ import annotations

import base64
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.commands.running import limits_of
from streamer.config import Settings, load_settings
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.wire.engine import WireEngine
from streamer.upload_service import UploadService
from tests.certificates import Files, read_all, secure_channel
from tests.datasets import write_dataset
from tests.engines import ENGINES
from tests.serving import Serving, terminal
from tests.test_upload_service import MemorySink
from tests.wire_peer import ROWS, STREAM, Peer

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_SECONDS = 60
_LONGEST = {
    name: metadata.le
    for name, field in Settings.model_fields.items()
    if field.annotation is float
    for metadata in field.metadata
    if hasattr(metadata, "le")
}


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

"""What comes to a TLS port, and a server with TLS in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import grpc
import pytest
import trustme

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.engines.keepalive import Keepalive
from streamer.engines.tls import Certificates
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits
from streamer.service import EmbeddingService
from tests.certificates import Files, client_context, read_all, secure_channel
from tests.datasets import write_dataset
from tests.engines import ENGINES, STARTERS
from tests.wire_peer import (
    HEALTH,
    MAX_WINDOW,
    PATIENCE_SECONDS,
    ROWS,
    STREAM,
    WINDOW,
    EndlessService,
    Peer,
    answer_bytes,
    eventually,
    framed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.engines.hosting import RunningEngine

_MIB = 1 << 20
_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, ca: trustme.CA) -> Files:
    return Files.made(tmp_path, ca)


@pytest.fixture
def endless() -> EndlessService:
    return EndlessService(256 << 10)


@pytest.fixture(params=ENGINES)
def server(
    request: pytest.FixtureRequest, endless: EndlessService, files: Files
) -> Iterator[RunningEngine]:
    start = cast("Any", STARTERS[request.param])
    server: RunningEngine = start(endless, certificates=Certificates(*files))
    yield server
    server.stop(0)


@pytest.fixture
def wire(endless: EndlessService, files: Files) -> Iterator[Callable[..., WireEngine]]:
    """Start wire engines with TLS and these limits, which are stopped afterwards."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("streamer.engines.wire.server._CHECK_SECONDS", 0.05))

        def start(**limits: Any) -> WireEngine:
            server = WireEngine(
                cast("Any", endless),
                host="127.0.0.1",
                port=0,
                max_workers=4,
                limits=Limits(**limits),
                certificates=Certificates(*files),
            )
            stack.callback(server.stop, 0)
            return server

        yield start


_GARBAGE = [
    b"",
    b"x",
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(1000),
    b"\x16\x03\x01\x02\x00" + bytes(600),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
]


@pytest.mark.parametrize("garbage", _GARBAGE, ids=range(len(_GARBAGE)))
def test_garbage_instead_of_tls_does_no_harm(
    server: RunningEngine, ca: trustme.CA, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no internal error, and others are served."""
    with Peer(server.port, preface=False) as peer:
        peer.try_to_send([garbage])
        peer.socket.shutdown(socket.SHUT_WR)
        while peer.socket.recv(4096):
            pass
    with Peer(server.port, tls=client_context(ca, "h2")) as good:
        good.unary(HEALTH)
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


def test_plain_text_client_of_a_tls_port_gets_an_error(
    server: RunningEngine, ca: trustme.CA
) -> None:
    """And the next one with TLS is served."""
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        read_all(channel, ROWS)
    with Peer(server.port, tls=client_context(ca, "h2")) as good:
        good.unary(HEALTH)

    assert "UNAVAILABLE" == refusal.value.code().name


def test_tls_client_of_a_plain_text_port_gets_an_error(ca: trustme.CA) -> None:
    """Whoever has forgotten TLS_CERT learns of it at once."""
    for name in ENGINES:
        server: RunningEngine = cast("Any", STARTERS[name])(EndlessService())
        with secure_channel(server.port, ca) as channel, pytest.raises(grpc.RpcError) as refusal:
            read_all(channel, ROWS)
        server.stop(0)

        assert "UNAVAILABLE" == refusal.value.code().name


def test_slow_client_over_tls_holds_few_blocks(
    server: RunningEngine, endless: EndlessService, ca: trustme.CA
) -> None:
    """Who doesn't read stops the encoder, however wide its windows are."""
    context = client_context(ca, "h2")
    with Peer(server.port, settings={4: MAX_WINDOW}, receive_bytes=65_536, tls=context) as peer:
        peer.open_window(MAX_WINDOW - WINDOW, 0)
        peer.call(STREAM)
        assert eventually(lambda: endless.blocks)
        time.sleep(0.6)
        blocks = endless.blocks
        peer.opens_windows = False
        assert peer.until_received(1, 32 * _MIB)

    assert blocks * (256 << 10) < 16 * _MIB  # socket buffers, most of it
    assert eventually(lambda: not endless.open)


def test_reader_of_a_byte_at_a_time_gets_the_bytes_in_order(
    server: RunningEngine, endless: EndlessService, ca: trustme.CA
) -> None:
    """Two streams at once, windows as small as they can be."""
    with Peer(server.port, settings={4: 0}, tls=client_context(ca, "h2")) as peer:
        peer.opens_windows = False
        first, second = peer.call(STREAM), peer.call(STREAM)
        for size in range(1, 100):
            peer.open_window(1, first, second)
            assert peer.until_received(first, size)
            assert peer.until_received(second, size)

        assert endless.message[:99] == bytes(peer.data[first]) == bytes(peer.data[second])


def test_records_that_are_no_records_end_a_connection_in_use(
    wire: Callable[..., WireEngine], endless: EndlessService, ca: trustme.CA
) -> None:
    """With its call, and without an internal error; others are served."""
    server = wire()
    with Peer(server.port, tls=client_context(ca, "h2")) as peer:
        peer.call(STREAM)
        assert peer.until_received(1, 1)
        with socket.socket(fileno=os.dup(peer.socket.fileno())) as plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # nobody has encrypted it so
        assert peer.until_closed()
    assert eventually(lambda: not endless.open)
    with Peer(server.port, tls=client_context(ca, "h2")) as good:
        good.unary(HEALTH)


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_handshake_that_does_not_end_is_given_up(
    wire: Callable[..., WireEngine], ca: trustme.CA, sent: bytes
) -> None:
    """It takes a place among the connections for no longer than handshake_seconds."""
    server = wire(handshake_seconds=2, max_connections=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as peer:
        peer.sendall(sent)

        assert b"" == peer.recv(100)
    with Peer(server.port, tls=client_context(ca, "h2")) as good:
        good.unary(HEALTH)


def test_handshake_without_a_preface_after_it_is_given_up(
    wire: Callable[..., WireEngine], ca: trustme.CA
) -> None:
    """As without TLS."""
    server = wire(handshake_seconds=2)
    with Peer(server.port, preface=False, tls=client_context(ca, "h2")) as peer:
        assert peer.until_closed()


def test_connections_without_h2_leave_their_places(
    wire: Callable[..., WireEngine], ca: trustme.CA
) -> None:
    """Those that were hung up on don't count as connections for ever."""
    server = wire(max_connections=4)
    for _ in range(10):
        with Peer(server.port, tls=client_context(ca, "http/1.1")) as peer:
            assert peer.until_closed()
    with Peer(server.port, tls=client_context(ca, "h2")) as good:
        good.unary(HEALTH)


def test_tls_peer_that_reads_nothing_loses_its_connection(
    wire: Callable[..., WireEngine], endless: EndlessService, ca: trustme.CA
) -> None:
    """After stall_seconds, with its calls."""
    server = wire(stall_seconds=0.3, keepalive=Keepalive(1000, 1000))
    context = client_context(ca, "h2")
    with Peer(server.port, settings={4: MAX_WINDOW}, receive_bytes=4096, tls=context) as peer:
        peer.open_window(MAX_WINDOW - WINDOW, 0)
        peer.call(STREAM)

        assert eventually(lambda: endless.blocks)
        assert eventually(lambda: not endless.open)
        peer.replies = False
        assert peer.until_closed()


def test_idle_tls_connection_is_left_in_good_order(
    wire: Callable[..., WireEngine], ca: trustme.CA
) -> None:
    """GOAWAY with NO_ERROR, then TLS's own end."""
    server = wire(idle_seconds=2)
    with Peer(server.port, tls=client_context(ca, "h2")) as peer:
        peer.unary(HEALTH)

        assert peer.until_closed()
        assert [0, 0] == [goaway.error_code for goaway in peer.goaways]


@pytest.mark.parametrize("name", ENGINES)
def test_stop_lets_streams_over_tls_end(
    files: Files, tmp_path: Path, ca: trustme.CA, name: str
) -> None:
    """Draining: what was asked for is sent to its last byte."""
    write_dataset(tmp_path / "jobs.arrow", rows=20_000, dimension=100)
    service = EmbeddingService(
        Dataset(tmp_path / "jobs.arrow"), chunk_rows=lambda _: 100, max_message_bytes=_MIB
    )
    expected = answer_bytes(service, STREAM, pb.RequestParams())
    server = cast("Any", STARTERS[name])(service, certificates=Certificates(*files))
    with secure_channel(server.port, ca) as channel:
        method: Any = channel.unary_stream(STREAM)
        call = method(b"", timeout=PATIENCE_SECONDS)
        received = framed(next(call))
        stopping = threading.Thread(target=server.stop, args=(PATIENCE_SECONDS,))
        stopping.start()
        time.sleep(0.2)
        received += b"".join(map(framed, call))
        stopping.join()

    assert expected == received


def _environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), **extra}


@pytest.mark.parametrize("engine", ENGINES)
def test_serve_takes_certificates_from_the_environment(
    files: Files, tmp_path: Path, ca: trustme.CA, engine: str
) -> None:
    """A real process with TLS_CERT and TLS_KEY: served to clients that trust it, and drained."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=500)
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=_MIB)
    environment = _environment(
        TLS_CERT=str(files.certificate), TLS_KEY=str(files.key), ENGINE=engine
    )
    with subprocess.Popen(
        [sys.executable, "-m", "streamer", "serve", "--port", "0", "--data", str(path)],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process, contextlib.ExitStack() as stack:  # fmt: skip
        stack.callback(process.kill)
        assert process.stdout
        match = re.fullmatch(rb"listening on .+:(\d+)\n", process.stdout.readline())
        assert match
        with secure_channel(int(match[1]), ca) as channel:
            received = read_all(channel, STREAM)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)

        assert answer_bytes(service, STREAM, pb.RequestParams()) == received
        assert 0 == process.returncode
        assert b"Traceback" not in log


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TLS_CERT", "nowhere.pem"), ("TLS_KEY", "server.pem"), ("TLS_CLIENT_CA", "server.key")],
)
def test_serve_names_the_variable_whose_file_will_not_do(
    files: Files, tmp_path: Path, variable: str, value: str
) -> None:
    """Exit code 1 and one line, no traceback."""
    environment = _environment(TLS_CERT=str(files.certificate), TLS_KEY=str(files.key))
    write_dataset(tmp_path / "jobs.arrow")
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "serve", "--port", "0", "--data", "jobs.arrow"],
        cwd=tmp_path, env={**environment, variable: value}, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip

    assert 1 == done.returncode
    assert variable in done.stderr
    assert "Traceback" not in done.stderr

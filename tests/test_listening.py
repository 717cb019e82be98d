"""Where servers listen: both engines on the same addresses, and at socket files."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.dataset import Dataset
from streamer.engines.addresses import AddressError
from streamer.service import EmbeddingService
from tests.datasets import write_dataset
from tests.engines import ENGINES, HAS_IPV6, STARTERS
from tests.health import checked
from tests.serving import Serving

if TYPE_CHECKING:
    from streamer.engines.hosting import RunningEngine

_SECONDS = 60.0
_ROWS = 20
_ROOT = Path(__file__).parent.parent


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "jobs.arrow"
    write_dataset(path, rows=_ROWS)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder whose name fits into the 107 bytes that a socket file's may have."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _start(engine: str, path: Path, **options: Any) -> RunningEngine:
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 8, max_message_bytes=1 << 20)
    return STARTERS[engine](service, **options)


def _rows(target: str) -> int:
    with grpc.insecure_channel(target) as channel:
        method: Any = channel.unary_stream("/embedding.EmbeddingStreamService/GetEmbeddings")
        return len(list(method(b"", timeout=_SECONDS)))


def _connects(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as peer:
        try:
            peer.connect((address, port))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "shown", "reached"),
    [
        ("localhost", "localhost", ["127.0.0.1", "::1"]),
        ("[::]", "[::]", ["127.0.0.1", "127.0.0.2", "::1"]),
        ("::", "[::]", ["127.0.0.1", "127.0.0.2", "::1"]),
        ("[::1]", "[::1]", ["::1"]),
        ("::1", "[::1]", ["::1"]),
        ("127.0.0.1", "127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_both_engines_listen_on_the_same_addresses(
    engine: str, path: Path, host: str, shown: str, reached: list[str]
) -> None:
    """A name means all of its addresses, on one port, and IPv6 goes with or without brackets."""
    server = _start(engine, path, host=host)
    try:
        addresses = [a for a in ("127.0.0.1", "127.0.0.2", "::1") if _connects(a, server.port)]
        assert _ROWS == _rows(server.address)
    finally:
        server.stop(0)

    assert reached == addresses
    assert f"{shown}:{server.port}" == server.address


def test_a_socket_file_is_there_while_the_server_is(
    engine: str, path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever characters are in its name; its peers have a name in the log."""
    caplog.set_level(logging.INFO)
    host = "unix:a b%41.sock"
    server = _start(engine, path, host=host, port=50051)
    try:
        assert host == server.address
        assert ["a b%41.sock"] == [file.name for file in folder.iterdir()]
        assert _ROWS == _rows(f"unix:{folder}/a%20b%2541.sock")
    finally:
        server.stop(0)

    assert [] == list(folder.iterdir())
    peers = {word for r in caplog.records for word in r.getMessage().split() if "unix:" in word}
    assert peers
    if engine == "wire":
        assert {f"unix:pid={os.getpid()},uid={os.getuid()}:"} == peers


def test_a_socket_file_is_replaced_only_if_nobody_listens(
    engine: str, path: Path, folder: Path
) -> None:
    """What a killed server has left is no obstacle; a running server and other files are."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind("stale.sock")
    server = _start(engine, path, host="unix:stale.sock")
    try:
        assert _ROWS == _rows("unix:stale.sock")
        with pytest.raises(AddressError, match=r"unix:stale\.sock: another server listens there"):
            _start(engine, path, host="unix:stale.sock")
        assert _ROWS == _rows("unix:stale.sock")
        Path("file").write_text("precious")
        with pytest.raises(AddressError, match="no socket"):
            _start(engine, path, host="unix:file")
        with pytest.raises(AddressError, match="unix:none/x"):
            _start(engine, path, host="unix:none/x")
        with pytest.raises(AddressError, match="too long"):
            _start(engine, path, host=f"unix:{'x' * 200}")
    finally:
        server.stop(0)
    assert ["file"] == [file.name for file in folder.iterdir()]
    assert "precious" == Path("file").read_text()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("unix:", "'unix:': unix: wants the path of a socket file"),
        ("unix:\0name", r"'unix:\x00name': no file can have a NUL in its path"),
        ("unix:na\0me", r"'unix:na\x00me': no file can have a NUL in its path"),
        (f"unix:{'x' * 108}", f"'unix:{'x' * 55}'... (113 characters): the path is too long"),
        (f"{'x' * 64}.example", f"'{'x' * 60}'... (72 characters): it is neither a name nor"),
    ],
    ids=["no path", "NUL first", "NUL", "a long path", "a long name"],
)
def test_an_address_that_nobody_can_have_is_an_error(
    engine: str, path: Path, folder: Path, host: str, why: str
) -> None:
    """Said at start, in a line of bounded length; without a file there is no socket, either."""
    with pytest.raises(AddressError, match=re.escape(f"can't listen on {why}")):
        _start(engine, path, host=host)
    assert [] == list(folder.iterdir())


def test_the_longest_path_of_a_socket_file_will_do(path: Path, folder: Path) -> None:
    """107 bytes."""
    server = _start("wire", path, host=f"unix:{'x' * 107}")
    server.stop(0)
    assert [] == list(folder.iterdir())


def test_serve_listens_on_all_addresses_unless_told_otherwise(
    engine: str, path: Path, folder: Path
) -> None:
    """Both families where there are both, as the line that it prints says."""
    server = Serving(folder, "--engine", engine, "--data", str(path))
    port = int(server.target.rpartition(":")[2])
    try:
        expected = ["127.0.0.1", "::1"] if HAS_IPV6 else ["127.0.0.1"]
        assert expected == [a for a in ("127.0.0.1", "::1") if _connects(a, port)]
    finally:
        server.stop()


def test_commands_speak_over_a_socket_file(engine: str, path: Path, folder: Path) -> None:
    """`serve` prints where it listens, `peek` reads from there, and a stop removes the file."""
    command = [
        sys.executable, "-m", "streamer", "serve", "--engine", engine, "--data", str(path),
        "--host", "unix:rows.sock", "--on-unknown-checkpoint", "refuse",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    peek = [sys.executable, "-m", "streamer", "peek", "--from", "unix:rows.sock"]
    unknown = pb.RequestParams(last_processed_uuid="00000000-0000-0000-0000-000000000000")
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as serving:
        try:
            assert serving.stdout
            assert "listening on unix:rows.sock\n" == serving.stdout.readline()
            with grpc.insecure_channel("unix:rows.sock") as channel:
                assert "SERVING" == checked(channel, "embedding.EmbeddingStreamService")
                stub = pb_grpc.EmbeddingStreamServiceStub(channel)
                with pytest.raises(grpc.RpcError, match="FAILED_PRECONDITION"):
                    list(stub.GetEmbeddings(unknown, timeout=_SECONDS))
            shown = subprocess.run(
                peek, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            serving.terminate()
            assert 0 == serving.wait(_SECONDS)
        finally:
            serving.kill()

    assert (0, True) == (shown.returncode, f"{_ROWS} rows in all" in shown.stdout)
    assert not (folder / "rows.sock").exists()

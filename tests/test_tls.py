"""TLS with either engine: who is let in, and certificates that change under way."""

from __future__ import annotations

import errno
import logging
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.engines.tls import Certificates, TlsError
from streamer.service import EmbeddingService
from tests.certificates import Files, client_context, read_all, secure_channel
from tests.datasets import write_dataset
from tests.engines import ENGINES, STARTERS
from tests.wire_peer import (
    HEALTH,
    PATIENCE_SECONDS,
    ROWS,
    STREAM,
    EndlessService,
    Peer,
    answer_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.engines.hosting import RunningEngine

_MIB = 1 << 20
_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other_ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, ca: trustme.CA) -> Files:
    return Files.made(tmp_path, ca)


@pytest.fixture
def service(tmp_path: Path) -> EmbeddingService:
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=5000, dimension=100, batch_rows=2000)
    return EmbeddingService(Dataset(path), chunk_rows=lambda _: 100, max_message_bytes=_MIB)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(engine: str) -> Iterator[Callable[..., RunningEngine]]:
    """Start a server of either engine, which is stopped afterwards."""
    running: list[RunningEngine] = []

    def start(service: Any, certificates: Certificates) -> RunningEngine:
        running.append(cast("Any", STARTERS[engine])(service, certificates=certificates))
        return running[-1]

    yield start
    for server in running:
        server.stop(0)


@pytest.fixture
def server(
    start: Callable[..., RunningEngine], service: EmbeddingService, files: Files
) -> RunningEngine:
    return start(service, Certificates(*files))


def _refusal(channel: grpc.Channel) -> str:
    with channel, pytest.raises(grpc.RpcError) as refusal:
        read_all(channel, ROWS)
    return str(refusal.value.code().name)


def _serial_number(port: int, *cas: trustme.CA) -> Any:
    """Return which certificate a new connection is shown."""
    context = client_context(cas[0], "h2")
    for ca in cas[1:]:
        ca.configure_trust(context)
    with Peer(port, tls=context) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        return (peer.socket.getpeercert() or {})["serialNumber"]


@pytest.mark.parametrize("rpc", [STREAM, ROWS])
def test_stock_client_gets_every_byte_over_tls(
    server: RunningEngine, service: EmbeddingService, ca: trustme.CA, rpc: str
) -> None:
    """What arrives is what arrives without TLS."""
    with secure_channel(server.port, ca) as channel:
        assert answer_bytes(service, rpc, pb.RequestParams()) == read_all(channel, rpc)


def test_client_that_does_not_trust_the_server_stays_away(
    server: RunningEngine, ca: trustme.CA, other_ca: trustme.CA
) -> None:
    """And the server goes on."""
    assert "UNAVAILABLE" == _refusal(secure_channel(server.port, other_ca))
    with secure_channel(server.port, ca) as channel:
        assert read_all(channel, ROWS)


def test_client_certificate_is_asked_for_where_a_client_ca_is_named(
    start: Callable[..., RunningEngine], service: EmbeddingService, tmp_path: Path, ca: trustme.CA
) -> None:
    """The right certificate is let in; none, or one of another CA, is not."""
    files = Files.made(tmp_path, ca)
    client_ca, other_ca = trustme.CA(), trustme.CA()
    client_ca.cert_pem.write_to_path(tmp_path / "clients.pem")
    server = start(service, Certificates(*files, tmp_path / "clients.pem"))
    with secure_channel(server.port, ca, client_ca.issue_cert("client")) as channel:
        assert read_all(channel, ROWS)
    for leaf in (None, other_ca.issue_cert("client"), ca.issue_cert("client")):
        assert "UNAVAILABLE" == _refusal(secure_channel(server.port, ca, leaf))
    with secure_channel(server.port, ca, client_ca.issue_cert("another")) as channel:
        assert read_all(channel, ROWS)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h3", "spdy/3")])
def test_client_that_does_not_offer_h2_is_hung_up_on(
    server: RunningEngine, ca: trustme.CA, protocols: tuple[str, ...]
) -> None:
    """Without h2 in ALPN there is no HTTP/2 (RFC 9113 section 3.2)."""
    with Peer(server.port, tls=client_context(ca, *protocols)) as peer:
        assert peer.until_closed()
        assert not peer.is_greeted
    with Peer(server.port, tls=client_context(ca, "http/1.1", "h2")) as good:
        good.unary(HEALTH)


def test_replaced_certificate_is_shown_to_the_next_connection(
    start: Callable[..., RunningEngine], files: Files, ca: trustme.CA, other_ca: trustme.CA
) -> None:
    """Without a restart; streams under way go on."""
    server = start(EndlessService(), Certificates(*files))
    before = _serial_number(server.port, ca)
    with secure_channel(server.port, ca) as channel:
        method: Any = channel.unary_stream(STREAM)
        call = method(b"", timeout=PATIENCE_SECONDS)
        next(call)
        files.write(other_ca)
        after = _serial_number(server.port, other_ca)
        with secure_channel(server.port, other_ca) as another:
            other_method: Any = another.unary_stream(STREAM)
            other_call = other_method(b"", timeout=PATIENCE_SECONDS)
            next(other_call)
            other_call.cancel()
        for _ in range(1000):  # far more than was on its way
            next(call)
        call.cancel()

    assert before != after


def test_half_written_certificate_leaves_the_old_one_in_use(
    server: RunningEngine, files: Files, ca: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, once a state of the files; when they are whole they are used."""
    other_ca = trustme.CA()
    before = _serial_number(server.port, ca)
    old_key, old_certificate = files.key.read_bytes(), files.certificate.read_bytes()
    with caplog.at_level(logging.WARNING, "streamer.engines.tls"):
        files.certificate.write_bytes(old_certificate[:300])
        for _ in range(3):
            assert before == _serial_number(server.port, ca)
        assert 1 == len(caplog.records)
        assert "TLS_CERT" in caplog.records[0].getMessage()
    files.certificate.unlink()

    assert before == _serial_number(server.port, ca)
    files.write(other_ca)
    files.key.write_bytes(old_key)  # it is another certificate's

    assert before == _serial_number(server.port, ca)
    files.write(other_ca)

    assert before != _serial_number(server.port, other_ca)


def _encrypted(key: bytes) -> bytes:
    secret = BestAvailableEncryption(b"secret")
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, secret
    )


_WRONG: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "no certificate": ("TLS_CERT", lambda _: None),
    "empty certificate": ("TLS_CERT", lambda _: b""),
    "garbage for a certificate": ("TLS_CERT", lambda _: bytes(100)),
    "half a certificate": ("TLS_CERT", lambda pem: pem[:200]),
    "no key": ("TLS_KEY", lambda _: None),
    "empty key": ("TLS_KEY", lambda _: b""),
    "half a key": ("TLS_KEY", lambda pem: pem[:100]),
    "another's key": (
        "TLS_KEY", lambda _: trustme.CA().issue_cert("localhost").private_key_pem.bytes()
    ),
    "no client CA": ("TLS_CLIENT_CA", lambda _: None),
    "empty client CA": ("TLS_CLIENT_CA", lambda _: b""),
    "garbage for a client CA": ("TLS_CLIENT_CA", lambda _: "für".encode()),
    "half a client CA": ("TLS_CLIENT_CA", lambda pem: pem[:200]),
}  # fmt: skip


@pytest.mark.parametrize("wrong", _WRONG.values(), ids=list(_WRONG))
def test_files_that_will_not_do_at_start_are_named(
    files: Files,
    ca: trustme.CA,
    tmp_path: Path,
    wrong: tuple[str, Callable[[bytes], bytes | None]],
) -> None:
    """TlsError has the variable in its text, and the exit code of all files."""
    paths = {"TLS_CERT": files.certificate, "TLS_KEY": files.key}
    paths["TLS_CLIENT_CA"] = tmp_path / "clients.pem"
    ca.cert_pem.write_to_path(paths["TLS_CLIENT_CA"])
    Certificates(*paths.values())
    variable, spoil = wrong
    content = spoil(paths[variable].read_bytes())
    paths[variable].unlink()
    if content is not None:
        paths[variable].write_bytes(content)

    with pytest.raises(TlsError, match=variable) as failure:
        Certificates(*paths.values())
    assert 1 == failure.value.exit_code


def test_encrypted_key_is_an_error_and_no_question(files: Files) -> None:
    """A server asks nobody at a terminal for a password, at start or later."""
    files.key.write_bytes(_encrypted(files.key.read_bytes()))
    code = (
        "import pty, sys; status = pty.spawn([sys.executable, '-c', sys.argv[1], *sys.argv[2:]], "
        "lambda fd: __import__('os').read(fd, 1024)); sys.exit(status >> 8)"
    )
    load = (
        "import sys; from pathlib import Path; from streamer.engines.tls import *\n"
        "try: Certificates(*map(Path, sys.argv[1:]))\n"
        "except TlsError as error: print('refused:', error)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, load, *map(str, files)],
        cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        assert process.stdout
        said = process.stdout.read()

    assert b"refused: TLS_CERT and TLS_KEY" in said
    assert b"pass phrase" not in said


def test_certificate_that_could_not_be_read_is_read_later(
    files: Files, ca: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Without permission or file descriptors for a moment: that says nothing of the files."""
    certificates = Certificates(*files)
    before = certificates.server_context()
    files.write(ca)
    with mock.patch.object(Path, "read_bytes", side_effect=OSError(errno.EMFILE, "too many")):
        looks = [certificates.server_context() for _ in range(3)]

    assert [before] * 3 == looks
    assert 1 == len([r for r in caplog.records if r.levelname == "WARNING"])
    with mock.patch.object(
        ssl.SSLContext, "load_cert_chain", side_effect=PermissionError(errno.EACCES, "denied")
    ):
        assert before is certificates.server_context()
    assert before is not certificates.server_context()


def test_certificate_that_is_wrong_is_read_once(files: Files) -> None:
    """Not again for each connection, until it changes."""
    certificates = Certificates(*files)
    files.key.write_bytes(b"nonsense")
    with mock.patch.object(Path, "read_bytes", autospec=True, side_effect=Path.read_bytes) as read:
        for _ in range(3):
            certificates.server_context()

    assert 2 == read.call_count

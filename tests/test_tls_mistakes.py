"""Mistakes with TLS between our clients and real servers: who is told what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import re
import socket
import ssl
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
import trustme
from click.testing import CliRunner

from streamer.__main__ import main
from streamer.client.advice import Advice
from streamer.client.aio import AsyncEmbeddingClient
from streamer.client.channel import tls_credentials
from streamer.client.client import EmbeddingClient
from streamer.client.failures import Failure, NoProgressError, ServerFailedError
from streamer.client.reading import ReadPolicy
from streamer.client.upload import Uploader, UploadPolicy
from streamer.client.upload_segments import UploadError
from streamer.dataset import Dataset
from streamer.engines.tls import Certificates
from streamer.errors import Status
from streamer.service import EmbeddingService
from streamer.store import EmbeddingStore
from tests.certificates import Files
from tests.datasets import make_batch, write_file
from tests.engines import ENGINES, STARTERS
from tests.wire_peer import HEALTH, EndlessService, Peer, eventually, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import grpc

    from streamer.engines.hosting import RunningEngine

_ONCE = ReadPolicy(max_tries=1)
_REFUSED = Failure(
    Status.UNAVAILABLE,
    "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:50051:"
    " Failed to connect to remote host: Connection refused",
)
_PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class _Files(NamedTuple):
    """PEM files: authorities of servers and of clients, and clients' certificates."""

    ca: Path
    other_ca: Path
    client: Files
    stranger: Files
    late: Files


class _World(NamedTuple):
    engine: str
    ports: dict[str, int]
    files: _Files


def _issued(folder: Path, name: str, ca: trustme.CA, *names: str, **options: Any) -> Files:
    leaf = ca.issue_cert(*names, **options)
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    files.key.write_bytes(leaf.private_key_pem.bytes())
    return files


@pytest.fixture(scope="module", params=ENGINES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_World]:
    """Servers of one engine, each with other certificates."""
    folder = tmp_path_factory.mktemp("tls")
    ca, client_ca, other_ca = trustme.CA(), trustme.CA(), trustme.CA()
    for name, each in {"ca": ca, "client-ca": client_ca, "other-ca": other_ca}.items():
        each.cert_pem.write_to_path(folder / f"{name}.pem")
    sound = _issued(folder, "sound", ca, "localhost", "127.0.0.1")
    certificates = {
        "clear": None,
        "tls": Certificates(*sound),
        "mutual": Certificates(*sound, folder / "client-ca.pem"),
        "expired": Certificates(*_issued(folder, "old", ca, "127.0.0.1", not_after=_PAST)),
        "misnamed": Certificates(*_issued(folder, "other", ca, "jobs.example", "10.1.2.3")),
    }
    service = EmbeddingService(
        Dataset(write_file(folder / "jobs.arrow", make_batch(3))),
        chunk_rows=lambda _: 300, max_message_bytes=1 << 20,
    )  # fmt: skip
    start = cast("Any", STARTERS[request.param])
    servers: dict[str, RunningEngine] = {
        name: start(service, certificates=each) for name, each in certificates.items()
    }
    files = _Files(
        folder / "ca.pem",
        folder / "other-ca.pem",
        _issued(folder, "client", client_ca, "client", common_name="Büro 7\x1b[2J"),
        _issued(folder, "stranger", other_ca, "stranger"),
        _issued(folder, "late", client_ca, "late", not_after=_PAST),
    )
    yield _World(request.param, {name: each.port for name, each in servers.items()}, files)
    for server in servers.values():
        server.stop(0)


class _Mistake(NamedTuple):
    """What a client connects with, to which server, and what it is told on each engine."""

    server: str
    credentials: Callable[[_Files], grpc.ChannelCredentials | None]
    wire: str
    grpcio: str

    def told(self, world: _World) -> str:
        return self.wire if world.engine == "wire" else self.grpcio


def _mistake(server: str, told: str, *files: str, grpcio: str = "") -> _Mistake:
    def credentials(all_files: _Files) -> grpc.ChannelCredentials | None:
        if not files:
            return None
        own: Files | tuple[None, None] = getattr(all_files, files[1]) if files[1:] else (None, None)
        return tls_credentials(getattr(all_files, files[0]), *own)

    return _Mistake(server, credentials, told, grpcio or told)


# The C-core ends the connection without an alert of TLS.
_PERHAPS = "as one does that wants a certificate of the client, or another one: --tls-cert"
_MISTAKES = {
    "clear text to TLS": _mistake("tls", "the server speaks TLS and this client doesn't: --tls"),
    "TLS to clear text": _mistake("clear", "the server speaks clear text, without TLS", "ca"),
    "no certificate": _mistake(
        "mutual", "the server wants a certificate of the client: --tls-cert", "ca", grpcio=_PERHAPS
    ),
    "a stranger's certificate": _mistake(
        "mutual", "the client's certificate (--tls-cert): its authority is unknown there",
        "ca", "stranger", grpcio=_PERHAPS,
    ),
    "a client's expired certificate": _mistake(
        "mutual", "the client's certificate (--tls-cert): it has expired",
        "ca", "late", grpcio=_PERHAPS,
    ),
    "another authority": _mistake(
        "tls", "no authority that is trusted here has signed the server's certificate", "other_ca"
    ),
    "an expired certificate": _mistake("expired", "the server's certificate has expired", "ca"),
    "another name": _mistake(
        "misnamed", "certificate is for jobs.example, 10.1.2.3, not for 127.0.0.1", "ca"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", _MISTAKES.values(), ids=list(_MISTAKES))
def test_clients_say_what_is_wrong_and_what_mends_it(world: _World, mistake: _Mistake) -> None:
    """More than "Socket closed": the blocking client and the one for asyncio."""
    target = f"127.0.0.1:{world.ports[mistake.server]}"
    credentials = mistake.credentials(world.files)

    async def read() -> None:
        async with AsyncEmbeddingClient(target, credentials=credentials, policy=_ONCE) as client:
            async for _ in client.batches():
                pass

    with pytest.raises(NoProgressError, match=re.escape(mistake.told(world))):
        asyncio.run(read())
    with (
        EmbeddingClient(target, credentials=credentials, policy=_ONCE) as client,
        pytest.raises(NoProgressError, match=re.escape(mistake.told(world))),
    ):
        next(client.batches())


@pytest.mark.parametrize("name", ["clear text to TLS", "no certificate", "another name"])
def test_commands_say_so_too(world: _World, tmp_path: Path, name: str) -> None:
    """`peek`, and an upload."""
    mistake = _MISTAKES[name]
    target = f"127.0.0.1:{world.ports[mistake.server]}"
    options = [] if name == "clear text to TLS" else ["--tls-ca", str(world.files.ca)]
    peeked = CliRunner().invoke(main, ["peek", "--from", target, *options])
    store = EmbeddingStore.open(write_file(tmp_path / "jobs.arrow", make_batch(3)))
    with (
        Uploader(
            target, store,
            credentials=mistake.credentials(world.files), policy=UploadPolicy(max_tries=1),
        ) as uploader,
        pytest.raises(UploadError, match=re.escape(mistake.told(world))),
    ):  # fmt: skip
        uploader.send(next(uploader.segments(None)))

    assert mistake.told(world) in str(peeked.exception)


def test_client_that_connects_rightly_gets_no_advice(world: _World) -> None:
    """Nor does one whose server isn't there."""
    credentials = tls_credentials(world.files.ca, *world.files.client)
    target = f"127.0.0.1:{world.ports['mutual']}"
    with EmbeddingClient(target, credentials=credentials) as client, client.batches() as stream:
        assert next(stream).num_rows
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        EmbeddingClient(f"127.0.0.1:{port}", policy=_ONCE) as client,
        pytest.raises(NoProgressError) as failure,
    ):
        next(client.batches())
    assert "TLS" not in str(failure.value)


@pytest.mark.parametrize("name", ["clear text to TLS", "no certificate"])
def test_of_a_names_addresses_any_may_say_what_is_wrong(world: _World, name: str) -> None:
    """Of them gRPC reports the last one alone, where nobody may listen."""
    mistake = _MISTAKES[name]
    target = f"localhost:{world.ports[mistake.server]}"
    advice = Advice(target, mistake.credentials(world.files))
    assert mistake.told(world) in advice.added_to(_REFUSED).said


def test_advice_is_looked_for_until_somebody_is_there(tmp_path: Path) -> None:
    """A server that isn't there yet has nothing wrong, and may have later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    advice = Advice(f"localhost:{port}", None)
    for _ in range(5):
        assert _REFUSED == advice.added_to(_REFUSED)
    certificates = Certificates(*_issued(tmp_path, "sound", trustme.CA(), "localhost"))
    with serving(EndlessService(1024), certificates=certificates, port=port):
        assert "the server speaks TLS" in advice.added_to(_REFUSED).said


def test_a_server_that_shuts_out_everybody_is_looked_at_a_few_times_only() -> None:
    """It may be full, and looks are connections, too."""
    looks: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, address = listener.accept()
                    looks.append(address)
                    peer.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        advice = Advice(f"localhost:{listener.getsockname()[1]}", None)
        for _ in range(10):
            assert _REFUSED == advice.added_to(_REFUSED)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert 1 <= len(looks) <= 3


def test_server_that_says_nothing_is_looked_at_for_seconds_only() -> None:
    """It takes the connection of a look, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            first, _ = listener.accept()
            first.close()  # "Socket closed"
            second, _ = listener.accept()
            second.recv(1 << 16)
            ended.wait(60)
            second.close()

        ended = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with EmbeddingClient(target, policy=_ONCE) as client, pytest.raises(NoProgressError):
            next(client.batches())
        ended.set()


def test_client_that_is_closed_connects_no_more() -> None:
    """A failed read of asyncio's client kept its channel, which went on trying for ever."""
    accepted: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    accepted.append(time.monotonic())
                    peer.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        failures = []

        async def read() -> None:
            target = f"127.0.0.1:{listener.getsockname()[1]}"
            async with AsyncEmbeddingClient(target, policy=_ONCE) as client:
                try:
                    await client.batches().dataset()
                except NoProgressError as error:
                    failures.append(error)

        asyncio.run(read())
        # It came back about every second.
        is_quiet = eventually(lambda: time.monotonic() - accepted[-1] > 3, 60)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert 1 == len(failures)
    assert is_quiet


def _refusals(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


_REASONS = {
    "no certificate": "it shows no certificate, and TLS_CLIENT_CA wants one",
    "a stranger's certificate": "does not pass TLS_CLIENT_CA: unable to get local issuer",
    "a client's expired certificate": "does not pass TLS_CLIENT_CA: certificate has expired",
    "clear text to TLS": "it does not speak TLS",
    "TLS to clear text": "the peer speaks TLS, and this server doesn't",
    "another authority": "it does not trust the authority of this server's certificate",
}


@pytest.mark.parametrize("world", ["wire"], indirect=True)
@pytest.mark.parametrize("name", _REASONS)
def test_wire_engines_log_says_who_was_refused_and_why(
    world: _World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The C-core says so on standard error, and not who it was."""
    mistake = _MISTAKES[name]
    target = f"127.0.0.1:{world.ports[mistake.server]}"
    with EmbeddingClient(
        target, credentials=mistake.credentials(world.files), policy=_ONCE
    ) as client, pytest.raises(NoProgressError):  # fmt: skip
        next(client.batches())

    line = re.compile(rf"connection from ipv4:127\.0\.0\.1:\d+ .*{re.escape(_REASONS[name])}")
    assert eventually(lambda: line.search(_refusals(caplog))), _refusals(caplog)


def test_calls_log_lines_have_the_subject_of_the_clients_certificate(
    world: _World, caplog: pytest.LogCaptureFixture
) -> None:
    """Made fit to show; readable where it was."""
    credentials = tls_credentials(world.files.ca, *world.files.client)
    caplog.set_level(logging.INFO, "streamer")
    target = f"127.0.0.1:{world.ports['mutual']}"
    with EmbeddingClient(target, credentials=credentials) as client:
        assert 3 == sum(batch.num_rows for batch in client.batches())
        with pytest.raises(ServerFailedError):
            next(client.batches(after=str(uuid.UUID(int=1)), must_exist=True))

    lines = [r.getMessage() for r in caplog.records if "ipv4:127.0.0.1:" in r.getMessage()]
    assert len(lines) >= 3
    subject = r"ipv4:127\.0\.0\.1:\d+ \(CN=Büro 7\\x1b\[2J,OU=[^,]+,O=trustme[^)]*\)"
    assert [] == [line for line in lines if not re.search(subject, line)]


@pytest.mark.parametrize("suite", ["ECDHE+SHA", "ECDHE+SHA384:!AESGCM", "kRSA+AESGCM", "kRSA+SHA"])
def test_suites_that_http2_forbids_are_not_spoken(world: _World, suite: str) -> None:
    """RFC 9113 section 9.2.2: neither CBC nor keys that aren't ephemeral."""
    context = ssl.create_default_context(cafile=world.files.ca)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    with pytest.raises(OSError, match=r"(?i)handshake|eof|reset"):
        Peer(world.ports["tls"], tls=context)


def test_tls_1_2_is_spoken_with_suites_that_http2_permits(world: _World) -> None:
    """For clients that know no newer one."""
    context = ssl.create_default_context(cafile=world.files.ca)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    with Peer(world.ports["tls"], tls=context) as peer:
        peer.unary(HEALTH)


@pytest.mark.parametrize("world", ["wire"], indirect=True)
def test_client_without_h2_is_let_go_in_good_order_and_logged(
    world: _World, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS's own end of a connection, then that of TCP."""
    context = ssl.create_default_context(cafile=world.files.ca)
    with (
        socket.create_connection(("127.0.0.1", world.ports["tls"]), 60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as peer,
    ):
        assert b"" == peer.recv(100)
    assert eventually(lambda: "it does not offer h2 by ALPN" in _refusals(caplog))

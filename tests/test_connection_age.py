"""Connections that have become old, and those of one address, as the settings bound them."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
import trustme

from streamer.dataset import Dataset
from streamer.engines.addresses import counted_address
from streamer.engines.keepalive import ConnectionAge
from streamer.engines.tls import Certificates
from streamer.engines.wire.limits import Limits
from streamer.engines.wire.times import Due, Times
from streamer.service import EmbeddingService
from tests.certificates import Files, client_context
from tests.datasets import write_dataset
from tests.engines import ENGINES, HAS_IPV6, STARTERS
from tests.wire_peer import HEALTH, ROWS, EndlessService, Peer, eventually, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_SECONDS = 60.0
_ROWS = 2000
_AGE = 0.5
_LARGE = 1 << 30


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingService:
    path: Path = tmp_path_factory.mktemp("data") / "jobs.arrow"
    write_dataset(path, rows=_ROWS, dimension=100)
    return EmbeddingService(Dataset(path), chunk_rows=lambda _: 8, max_message_bytes=1 << 20)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _started(engine: str, service: EmbeddingService, age: ConnectionAge) -> RunningEngine:
    if engine == "grpcio":
        return STARTERS[engine](service, age=age)
    return STARTERS[engine](service, limits=Limits(age=age))


@pytest.fixture
def server(engine: str, service: EmbeddingService) -> Iterator[RunningEngine]:
    server = _started(engine, service, ConnectionAge(_AGE))
    yield server
    server.stop(0)


def test_an_old_connection_ends_when_its_streams_are_done(server: RunningEngine) -> None:
    """GOAWAY at its age; a stream under way is sent whole, then the server hangs up."""
    with Peer(server.port) as peer:
        peer.opens_windows = False
        stream = peer.call(ROWS)
        assert peer.until(lambda: len(peer.goaways) > 0, _SECONDS)
        assert stream not in peer.trailers
        peer.opens_windows = True
        peer.open_window(_LARGE, 0, stream)

        assert peer.until_ended(stream, _SECONDS)
        assert "0" == peer.trailers[stream]["grpc-status"]
        assert peer.received(stream) > _ROWS * 400
        assert peer.until_closed(_SECONDS)
    assert {0} == {goaway.error_code for goaway in peer.goaways}


def test_a_stock_client_notices_nothing(server: RunningEngine) -> None:
    """It opens another connection for its next calls: all of them end well."""
    with grpc.insecure_channel(server.address) as channel:
        method: Any = channel.unary_stream(ROWS)
        peers: set[frozenset[int]] = set()
        while len(peers) < 3:
            rows = list(method(b"", timeout=_SECONDS))
            assert _ROWS == len(rows)
            peers.add(_local_ports(server.port))


def _local_ports(port: int) -> frozenset[int]:
    """Return this process' ports that are connected to the server's."""
    found = psutil.Process().net_connections("tcp")
    return frozenset(c.laddr.port for c in found if c.raddr and c.raddr.port == port)


def test_after_the_grace_streams_are_ended(engine: str, service: EmbeddingService) -> None:
    """Whether or not their client takes anything; with the wire engine it is told why."""
    server = _started(engine, service, ConnectionAge(_AGE, 0.2))
    try:
        with Peer(server.port) as peer:
            peer.opens_windows = False
            stream = peer.call(ROWS)
            assert peer.until_closed(_SECONDS)
        assert peer.goaways
        if engine == "wire":
            assert "14" == peer.trailers[stream]["grpc-status"]
    finally:
        server.stop(0)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_connections_leave_once_at_their_own_age(factor: float) -> None:
    """Also while the peer takes nothing; from then on other things are due as before."""
    limits = Limits(age=ConnectionAge(100, 50))
    times = Times(limits, 0.0, factor)
    times.ready()

    def due(now: float) -> Due:
        times.heard(now)
        return times.due(now, calls=1, blocked_since=now - 1)[0]

    assert Due.NOTHING is due(100 * factor - 1)
    assert Due.LEAVE is due(100 * factor + 1)
    assert Due.NOTHING is due(100 * factor + 2)
    assert Due.CUT_OFF is due(100 * factor + 52)


def test_an_address_has_so_many_connections(caplog: pytest.LogCaptureFixture) -> None:
    """One more is hung up on, another address' is not; the log says so now and then."""
    caplog.set_level(logging.WARNING)
    with serving(EndlessService(1024), max_connections_per_address=2) as server:
        with Peer(server.port) as first, Peer(server.port) as second:
            first.unary(HEALTH)
            second.unary(HEALTH)
            for _ in range(3):
                with Peer(server.port) as third:
                    assert third.until_closed(_SECONDS)
            with socket.create_connection(
                ("127.0.0.1", server.port), _SECONDS, source_address=("127.0.0.2", 0)
            ) as other:
                other.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert other.recv(100).startswith(b"HTTP/1.1 505")
            first.unary(HEALTH)

        def admitted() -> bool:
            with Peer(server.port) as peer:
                peer.try_to_send([])
                return peer.until(lambda: peer.is_greeted, 1.0)

        assert eventually(admitted)
        assert eventually(lambda: "that MAX_CONNECTIONS_PER_ADDRESS allows" in caplog.text)


@pytest.mark.parametrize("name", ["spiffe:jobs:batch", "ipv4:127.0.0.1"])
def test_a_certificates_subject_does_not_change_the_address(tmp_path: Path, name: str) -> None:
    """Whatever is in it: a colon made each connection one from elsewhere."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = client_context(ca, "h2")
    ca.issue_cert("client", common_name=name).configure_cert(context)
    certificates = Certificates(*Files.made(tmp_path, ca), tmp_path / "ca.pem")
    with (
        serving(
            EndlessService(1024), certificates=certificates, max_connections_per_address=2
        ) as server,
        Peer(server.port, tls=context) as first,
        Peer(server.port, tls=context) as second,
    ):
        first.unary(HEALTH)
        second.unary(HEALTH)
        with pytest.raises(OSError, match=r"(?i)eof|reset"):
            Peer(server.port, tls=context)


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_addresses_of_ipv6_are_bounded_too() -> None:
    """By way of a listener for both families, IPv4's are those of IPv4."""
    with contextlib.ExitStack() as running:
        server = running.enter_context(
            serving(EndlessService(1024), host="::", max_connections_per_address=1)
        )
        for address in ("::1", "127.0.0.1", "127.0.0.2"):
            own = (address, 0)
            port = (address, server.port)
            first = running.enter_context(socket.create_connection(port, _SECONDS, own))
            first.sendall(b"PRI")
            with socket.create_connection(port, _SECONDS, own) as second:
                assert b"" == second.recv(100)


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%lo", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_client_of_ipv6_has_its_whole_prefix(host: str, counted: str) -> None:
    """Else it would have 2**64 addresses, each with connections of its own."""
    assert counted == counted_address(host)

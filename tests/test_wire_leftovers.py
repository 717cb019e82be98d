"""What connections to the wire engine leave behind when they are gone: nothing."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, NoReturn

import pytest
import trustme
from hyperframe.frame import RstStreamFrame

from streamer.engines.tls import Certificates
from streamer.errors import InvalidRequestError
from tests.certificates import Files, client_context
from tests.datasets import write_dataset
from tests.serving import Serving
from tests.wire_peer import (
    HEALTH,
    REFLECTION,
    ROWS,
    STREAM,
    EndlessService,
    Peer,
    anonymous_bytes,
    eventually,
    serving,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from proto import embedding_stream_pb2 as pb
    from streamer.engines.wire.engine import WireEngine
    from streamer.service import Caller

_MIB = 1 << 20
_SECONDS = 60.0


class _Service(EndlessService):
    def get_embeddings(self, _request: pb.RequestParams, _caller: Caller) -> NoReturn:
        message = "never"
        raise InvalidRequestError(message)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, ca: trustme.CA) -> Files:
    return Files.made(tmp_path_factory.mktemp("tls"), ca)


@pytest.fixture(scope="module", params=["clear text", "TLS"])
def server(
    request: pytest.FixtureRequest, files: Files, ca: trustme.CA
) -> Iterator[tuple[WireEngine, ssl.SSLContext | None]]:
    secure = request.param == "TLS"
    service = _Service(256 << 10)
    with serving(service, certificates=Certificates(*files) if secure else None) as engine:
        yield engine, client_context(ca, "h2") if secure else None


def _cut_off(peer: Peer) -> None:
    for stream_id in (peer.call(STREAM), peer.call(STREAM, b"", **{"grpc-timeout": "1H"})):
        assert peer.until_received(stream_id, _MIB)


def _cancelled(peer: Peer) -> None:
    stream_id = peer.call(STREAM)
    assert peer.until_received(stream_id, _MIB)
    peer.send(RstStreamFrame(stream_id))
    peer.unary(HEALTH)


def _refused(peer: Peer) -> None:
    for path in (ROWS, "/no/Method"):
        assert peer.until_ended(peer.call(path))


def _watched(peer: Peer) -> None:
    assert peer.until_received(peer.call("/grpc.health.v1.Health/Watch"), 1)


def _half_called(peer: Peer) -> None:
    peer.send(peer.headers(STREAM), peer.headers(REFLECTION))
    peer.unary(HEALTH)


def _broken(peer: Peer) -> None:
    peer.unary(HEALTH)
    peer.send(b"\xff" * 100)
    assert peer.until_closed(_SECONDS)


@pytest.mark.parametrize(
    "use", [_cut_off, _cancelled, _refused, _watched, _half_called, _broken],
    ids=lambda use: use.__name__.strip("_"),
)  # fmt: skip
def test_connection_that_is_gone_leaves_nothing_for_the_garbage_collector(
    server: tuple[WireEngine, ssl.SSLContext | None],
    use: Callable[[Peer], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it held is free at once: blocks of a MiB can't wait until the collector comes by."""
    engine, context = server
    caplog.set_level("CRITICAL", "streamer")  # records keep errors, and these their frames
    left: list[weakref.ref[object]] = []
    gc.collect()
    gc.disable()
    try:
        with Peer(engine.port, tls=context) as peer:
            peer.unary(HEALTH)
            (session,) = engine._server._sessions
            core, link = session._core, session._link
            left += map(weakref.ref, (session, core, core._h2, link))
            del core, link
            use(peer)
            left += map(weakref.ref, session._calls.values())
            left += [weakref.ref(call.context) for call in session._calls.values()]
            del session
        assert eventually(lambda: not engine._server._sessions, _SECONDS)

        assert eventually(lambda: not any(ref() for ref in left), _SECONDS), [
            (ref(), gc.get_referrers(ref())) for ref in left if ref()
        ]
    finally:
        gc.enable()


def test_streams_that_are_cut_off_over_tls_leave_as_little_as_in_clear_text(
    tmp_path: Path, files: Files, ca: trustme.CA
) -> None:
    """Two servers, 512 connections each, 8 at once: over TLS 180 MB stayed."""
    write_dataset(tmp_path / "jobs.arrow", rows=5000, dimension=384)
    tls = {"TLS_CERT": str(files.certificate), "TLS_KEY": str(files.key)}
    grown = {}
    for name, settings in {"clear": {}, "TLS": tls}.items():
        context = client_context(ca, "h2") if settings else None
        with Serving(tmp_path, "--data", "jobs.arrow", settings=settings) as server:
            port = int(server.target.rpartition(":")[2])
            before = anonymous_bytes(server.process.pid)
            for _ in range(64):
                with contextlib.ExitStack() as stack:
                    peers = [stack.enter_context(Peer(port, tls=context)) for _ in range(8)]
                    for peer in peers:
                        peer.call(STREAM)
                    for peer in peers:
                        assert peer.until_received(1, 256 << 10)
            grown[name] = (anonymous_bytes(server.process.pid) - before) / 1e6

    assert grown["clear"] < 60, grown
    assert grown["TLS"] < 60, grown

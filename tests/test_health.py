"""What health checks say of the dataset and of the process, on both engines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.service import EmbeddingService
from tests.datasets import write_dataset
from tests.engines import ENGINES, STARTERS
from tests.health import Watch, checked
from tests.wire_peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_SECONDS = 60.0
_STREAMS = "embedding.EmbeddingStreamService"
_INITIAL_WINDOW_SIZE = 4  # its number among the settings of HTTP/2
_ALIAS = "com.alpha.backend.grpc"
_STREAM_NAMES = [_STREAMS, "EmbeddingStreamService", f"{_ALIAS}.EmbeddingStreamService"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def _running(
    engine: str, service: EmbeddingService
) -> Iterator[tuple[RunningEngine, grpc.Channel]]:
    server = STARTERS[engine](service, alias_packages=[_ALIAS])
    try:
        with grpc.insecure_channel(server.address) as channel:
            yield server, channel
    finally:
        server.stop(0)


def _service(path: Path) -> EmbeddingService:
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=1 << 20)
    service.check_seconds = 0.1
    return service


def _called(channel: grpc.Channel) -> str:
    """Return the status of a call."""
    method: Any = channel.unary_stream(f"/{_STREAMS}/GetEmbeddings")
    call = method(pb.RequestParams().SerializeToString(), timeout=_SECONDS)
    with contextlib.suppress(grpc.RpcError):
        list(call)
    return str(call.code().name)


def test_a_service_is_serving_while_its_dataset_is_sound(engine: str, tmp_path: Path) -> None:
    """Missing, there, replaced by a damaged file, gone, there again: watched and checked."""
    path, other = tmp_path / "jobs.arrow", tmp_path / "other"
    with _running(engine, _service(path)) as (_, channel):
        watches = [Watch(channel, name) for name in _STREAM_NAMES]
        process = Watch(channel, "")

        def seen() -> tuple[set[str], set[str], str]:
            """Return what watches tell next, what checks say then, and how a call ends."""
            told = {watch.next() for watch in watches}
            return told, {checked(channel, name) for name in _STREAM_NAMES}, _called(channel)

        assert ({"NOT_SERVING"}, {"NOT_SERVING"}, "NOT_FOUND") == seen()
        write_dataset(other)
        other.replace(path)
        assert ({"SERVING"}, {"SERVING"}, "OK") == seen()
        other.write_bytes(b"ARROW1 and then nothing")
        other.replace(path)
        assert ({"NOT_SERVING"}, {"NOT_SERVING"}, "DATA_LOSS") == seen()
        write_dataset(other)
        other.replace(path)
        assert ({"SERVING"}, {"SERVING"}, "OK") == seen()
        path.unlink()
        assert ({"NOT_SERVING"}, {"NOT_SERVING"}, "NOT_FOUND") == seen()

        assert "SERVING" == process.next()
        assert "SERVING" == checked(channel, "")
        for watch in (process, *watches):
            watch.cancel()


def test_a_drain_changes_the_services_name_and_not_the_process(engine: str, tmp_path: Path) -> None:
    """Balancers send nothing more; whoever restarts dead processes leaves this one alone."""
    write_dataset(tmp_path / "jobs.arrow")
    with _running(engine, _service(tmp_path / "jobs.arrow")) as (server, channel):
        watch, process = Watch(channel, _STREAMS), Watch(channel, "")
        assert ["SERVING", "SERVING"] == [watch.next(), process.next()]
        server.stop(0.2)  # which waits for both of them, in vain

        assert "NOT_SERVING" == watch.next()
        with pytest.raises(grpc.RpcError):
            process.next()


class _CountingService(EmbeddingService):
    looks = 0

    def check(self) -> None:
        self.looks += 1


def test_health_checks_open_nothing_themselves(engine: str, tmp_path: Path) -> None:
    """A thread looks at the dataset now and then, however many ask."""
    service = _CountingService(Dataset(tmp_path), chunk_rows=lambda _: 1, max_message_bytes=1024)
    with _running(engine, service) as (_, channel):
        assert {"SERVING"} == {checked(channel, _STREAMS) for _ in range(200)}

    assert 1 <= service.looks < 200


def test_watchers_that_take_nothing_or_leave_hold_up_nobody(engine: str, tmp_path: Path) -> None:
    """Others are told of each change, and checks are answered, while some take no message."""
    path, other = tmp_path / "jobs.arrow", tmp_path / "other"
    write_dataset(other)
    request = health_pb2.HealthCheckRequest(service=_STREAMS).SerializeToString()
    with _running(engine, _service(path)) as (server, channel), contextlib.ExitStack() as peers:
        for _ in range(3):
            peer = peers.enter_context(Peer(server.port, settings={_INITIAL_WINDOW_SIZE: 0}))
            peer.call("/grpc.health.v1.Health/Watch", request)
        watch = Watch(channel, _STREAMS)
        assert "NOT_SERVING" == watch.next()
        for _ in range(5):
            leaving = [Watch(channel, _STREAMS) for _ in range(5)]
            assert {"NOT_SERVING"} == {each.next() for each in leaving}
            other.replace(path)
            assert "SERVING" == watch.next()
            for each in leaving:
                each.cancel()
            path.rename(other)
            assert "NOT_SERVING" == watch.next()
            assert "NOT_SERVING" == checked(channel, _STREAMS)
        watch.cancel()

"""A server under `ulimit -v`: out of memory ends calls, not the process."""

from __future__ import annotations

import resource
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as rpc
from streamer.errors import OutOfMemoryError
from streamer.memory_room import MemoryRoom
from tests.datasets import write_dataset
from tests.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIB = 1 << 20
_ROWS = 20_000
_STREAMS = 64
_SECONDS = 120


def _limited(folder: Path, size: int) -> Serving:
    """Serve a dataset in a process that may map `size` bytes."""
    return Serving(folder, "--data", "jobs.arrow", limit=("RLIMIT_AS", size, size))


def _rows(server: Serving, chunk_size: int) -> str:
    """Stream everything; return how it ended."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.target, options) as channel:
        request = pb.RequestParams(chunk_size=chunk_size)
        chunks = rpc.EmbeddingStreamServiceStub(channel).StreamEmbedding(request, timeout=_SECONDS)
        try:
            return "whole" if _ROWS == sum(len(chunk.rows) for chunk in chunks) else "cut"
        except grpc.RpcError as error:
            return str(error.code().name)


@pytest.mark.parametrize("spare", [30 * _MIB, 60 * _MIB])
def test_many_streams_that_memory_is_too_small_for_end_alone(tmp_path: Path, spare: int) -> None:
    """64 at once with that much beyond what the idle server has: those too many are refused."""
    write_dataset(tmp_path / "jobs.arrow", rows=_ROWS, dimension=384)
    with _limited(tmp_path, 8 << 30) as idle:
        taken = psutil.Process(idle.process.pid).memory_info().vms
        assert "whole" == _rows(idle, 300)
    with _limited(tmp_path, taken + spare) as server, ThreadPoolExecutor(_STREAMS) as threads:
        sizes = [(300, 3_000, 10_000)[number % 3] for number in range(_STREAMS)]
        ends = Counter(threads.map(lambda size: _rows(server, size), sizes))

        assert {"RESOURCE_EXHAUSTED"} <= set(ends) <= {"RESOURCE_EXHAUSTED", "whole"}
        with grpc.insecure_channel(server.target) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
            assert health_pb2.HealthCheckResponse.SERVING == answer.status
        assert 0 == server.stop()


@pytest.fixture
def limit() -> Iterator[int]:
    """Let this process map 200 MiB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = psutil.Process().memory_info().vms + 200 * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (size, before[1]))
    yield 200 * _MIB
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_promises_are_kept_to_what_there_is(limit: int) -> None:
    """What others were promised counts while they are at it; an end makes room."""
    room = MemoryRoom()
    with room.promised(limit // 2):
        with pytest.raises(OutOfMemoryError), room.promised(limit // 2):
            pass
        with room.promised(limit // 4):
            pass
    with room.promised(limit // 2):
        pass


def test_without_a_limit_everything_is_promised() -> None:
    """Whoever doesn't limit the process has the kernel decide."""
    assert resource.RLIM_INFINITY == resource.getrlimit(resource.RLIMIT_AS)[0]
    with MemoryRoom().promised(1 << 50):
        pass

"""What do many streams at once do to the wire engine: to its speed, memory and health checks?"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.measure import Pass, Server, anonymous_bytes, count_bytes, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

_STREAMS = (1, 4, 16, 64)
_ROUNDS = 3
_SAMPLE_SECONDS = 0.02


class Meanwhile(NamedTuple):
    """What was seen of a server while streams were read."""

    peak_megabytes: float
    health_milliseconds: list[float]


def _while_reading(server: Server, streams: int) -> tuple[Pass, Meanwhile]:
    """Read from connections of their own; look at memory and health from another."""
    done = threading.Event()
    peak = 0
    health: list[float] = []

    def sample() -> None:
        nonlocal peak
        with grpc.insecure_channel(server.target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest())  # connects
            while not done.is_set():
                peak = max(peak, anonymous_bytes(server.pid))
                begin = time.perf_counter()
                stub.Check(health_pb2.HealthCheckRequest())
                health.append((time.perf_counter() - begin) * 1e3)
                time.sleep(_SAMPLE_SECONDS)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        (found,) = count_bytes(server.target, "GetEmbeddings", "--streams", str(streams))
    finally:
        done.set()
        sampler.join()
    return found, Meanwhile(peak / 1e6, health)


def test_many_streams(dataset: Path, results: Results) -> None:
    """Rows a second of all streams together, and anonymous memory while they run."""
    seconds: dict[int, list[float]] = {streams: [] for streams in _STREAMS}
    meanwhile: dict[int, list[Meanwhile]] = {streams: [] for streams in _STREAMS}
    with streamer(dataset) as server:
        count_bytes(server.target, "GetEmbeddings")  # warm: heads are kept from now on
        for _ in range(1 if results.quick else _ROUNDS):
            for streams in _STREAMS:
                found, seen = _while_reading(server, streams)
                seconds[streams].append(found.seconds)
                meanwhile[streams].append(seen)

    rates = {streams: streams * results.rows / min(found) for streams, found in seconds.items()}
    for streams in _STREAMS[1:]:
        results.add(
            Result(
                f"GetEmbeddings, {streams} streams at once",
                f"{rates[streams]:,.0f} rows/s",
                f"one stream: {rates[1]:,.0f} rows/s",
                rates[streams] / rates[1],
                "x",
                samples={str(streams): seconds[streams], "1": seconds[1]},
            )
        )
    most = _STREAMS[-1]
    megabytes = {n: max(m.peak_megabytes for m in seen) for n, seen in meanwhile.items()}
    health = {
        n: sorted(ms for m in s for ms in m.health_milliseconds) for n, s in meanwhile.items()
    }
    results.add(
        Result(
            f"anonymous memory of wire during {most} streams",
            f"{megabytes[most]:.0f} MB",
            f"one stream: {megabytes[1]:.0f} MB",
            megabytes[most],
            "MB",
            f"<= {150 + 8 * most} MB",
        )
    )
    results.add(
        Result(
            f"slowest of {len(health[most]):,} health checks during {most} streams",
            f"{health[most][-1]:.0f} ms (median {health[most][len(health[most]) // 2]:.0f})",
            f"one stream: {health[1][-1]:.0f} ms",
            health[most][-1],
            "ms",
            "<= 100 ms",
        )
    )

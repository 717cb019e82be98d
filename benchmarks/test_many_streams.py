"""What do many streams at once do to the wire engine's speed and memory?"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from benchmarks.measure import Pass, Server, anonymous_bytes, count_bytes, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

_STREAMS = (1, 4, 16, 64)
_ROUNDS = 3
_SAMPLE_SECONDS = 0.02


def _peak_while_reading(server: Server, streams: int) -> tuple[Pass, float]:
    """Read from connections of their own; return it, and the server's peak in MB."""
    done = threading.Event()
    peak = 0

    def sample() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_bytes(server.pid))
            time.sleep(_SAMPLE_SECONDS)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        (found,) = count_bytes(server.target, "GetEmbeddings", "--streams", str(streams))
    finally:
        done.set()
        sampler.join()
    return found, peak / 1e6


def test_many_streams(dataset: Path, results: Results) -> None:
    """Rows a second of all streams together, and anonymous memory while they run."""
    seconds: dict[int, list[float]] = {streams: [] for streams in _STREAMS}
    megabytes = dict.fromkeys(_STREAMS, 0.0)
    with streamer(dataset) as server:
        count_bytes(server.target, "GetEmbeddings")  # warm: heads are kept from now on
        for _ in range(1 if results.quick else _ROUNDS):
            for streams in _STREAMS:
                found, peak = _peak_while_reading(server, streams)
                seconds[streams].append(found.seconds)
                megabytes[streams] = max(megabytes[streams], peak)

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
    results.add(
        Result(
            f"anonymous memory of wire during {most} streams",
            f"{megabytes[most]:.0f} MB",
            f"one stream: {megabytes[1]:.0f} MB",
            megabytes[most],
            "MB",
        )
    )

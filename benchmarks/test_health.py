"""How many unary calls does an engine answer?"""

from __future__ import annotations

import re
import subprocess
from statistics import median
from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import streamer
from benchmarks.results import Result, Results
from interop.toolchains import MissingToolchainError, require_command

if TYPE_CHECKING:
    from pathlib import Path

_ROUNDS = 5
_CALLS = 20_000
_QUICK_CALLS = 1000
_CONNECTIONS = 8
_STREAMS = 16  # at once, of a connection
_SECONDS = 300
_REQUEST = bytes(5)  # a length-prefixed HealthCheckRequest without fields


def test_health_checks(dataset: Path, folder: Path, results: Results) -> None:
    """grpc.health.v1.Health/Check, asked by h2load."""
    try:
        h2load = require_command("h2load")
    except MissingToolchainError as error:
        pytest.skip(str(error))
    body = folder / "health_check_request"
    body.write_bytes(_REQUEST)
    calls = _QUICK_CALLS if results.quick else _CALLS

    def calls_a_second(target: str) -> float:
        done = subprocess.run(
            [
                h2load, f"--requests={calls}", f"--clients={_CONNECTIONS}",
                f"--max-concurrent-streams={_STREAMS}", f"--data={body}",
                "--header=content-type: application/grpc", "--header=te: trailers",
                f"http://{target}/grpc.health.v1.Health/Check",
            ],
            capture_output=True, text=True, check=True, timeout=_SECONDS,
        )  # fmt: skip
        assert f"{calls} succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
        found = re.search(r"([\d.]+) req/s", done.stdout)
        assert found, done.stdout
        return float(found[1])

    samples: dict[str, list[float]] = {"wire": [], "grpcio": []}
    with streamer(dataset) as wire, streamer(dataset, "grpcio") as grpcio:
        for _ in range(2 if results.quick else _ROUNDS):
            samples["wire"].append(calls_a_second(wire.target))
            samples["grpcio"].append(calls_a_second(grpcio.target))
    rates = {engine: median(found) for engine, found in samples.items()}
    results.add(
        Result(
            f"health checks of {_CONNECTIONS} connections on wire",
            f"{rates['wire']:,.0f} calls/s",
            f"grpcio: {rates['grpcio']:,.0f} calls/s",
            rates["wire"] / rates["grpcio"],
            "x",
            samples={f"{engine}, calls/s": found for engine, found in samples.items()},
        )
    )

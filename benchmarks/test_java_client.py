"""How fast does a Java client get rows from the wire engine, against a server in Java?"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pytest

from benchmarks.measure import ROOT, serving, streamer
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers import Peers

_SECONDS = 900


class _Client(NamedTuple):
    """How a client asks for rows; its first passes, while its JVM compiles, don't count."""

    name: str
    ahead: int
    passes: int
    warm_up_passes: int
    must_reach: str = ""


_CLIENTS = (
    _Client("that asks for 1,000 rows ahead", 1000, 20, 6, ">= 2.5"),
    _Client("as it is by default", 0, 5, 2),
)


@pytest.mark.parametrize("client", _CLIENTS, ids=lambda client: f"{client.ahead} ahead")
def test_java_client(
    dataset: Path, row_dump: Path, peers: Peers, results: Results, client: _Client
) -> None:
    """One JVM reads from both servers in turn."""
    if "java" in peers.missing:
        pytest.skip(peers.missing["java"])
    passes = client.warm_up_passes + 2 if results.quick else client.passes
    with ExitStack() as stack:
        ours = stack.enter_context(streamer(dataset))
        theirs = stack.enter_context(serving(*peers.commands["RowServer"], str(row_dump)))
        options = (str(client.ahead), str(passes), ours.target, theirs.target)
        run = subprocess.run(
            [*peers.commands["RowClient"], *options],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
            timeout=_SECONDS,
        )  # fmt: skip
    streams = [
        (int(rows), float(seconds)) for rows, seconds in map(str.split, run.stdout.splitlines())
    ]
    assert {results.rows} == {rows for rows, _ in streams}

    counted = [seconds for _, seconds in streams[2 * client.warm_up_passes :]]
    samples = {"ours": counted[::2], "grpc-java": counted[1::2]}
    speed = {server: results.rows / median(seconds) for server, seconds in samples.items()}
    results.add(
        Result(
            f"GetEmbeddings to a Java client {client.name}",
            f"{speed['ours']:,.0f} rows/s",
            f"grpc-java's server: {speed['grpc-java']:,.0f} rows/s",
            speed["ours"] / speed["grpc-java"],
            "x",
            client.must_reach,
            samples,
        )
    )

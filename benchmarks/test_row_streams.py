"""How fast do rows leave the wire engine, against sendall and against other servers?

One race answers all of it: the servers run side by side and are read from in turn by the same
client, which only counts bytes. (Arrow Flight's has to be its own.)
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from benchmarks.chart import draw_bars
from benchmarks.lanes import ROWS_A_CHUNK, Lanes, Speed
from benchmarks.results import Result, Results, describe_machine

if TYPE_CHECKING:
    from benchmarks.conftest import Certificate
    from benchmarks.peers import Peers

_ROUNDS = 7
_CHART = Path(__file__).parent.parent / "docs" / "row-streams.png"
_GATHERED, _GATHERED_SMALL = "wire, gathered, 16 MB", "wire, gathered, 16 KB"
_JOINED, _TLS = "wire, joined", "wire, TLS"
_ANEW = ", heads encoded anew"
# What the chart calls the lanes that it shows.
_BARS = {
    "raw": "raw sendall, no gRPC",
    _GATHERED: "wire engine, 16 MB frames",
    _GATHERED_SMALL: "wire engine, 16 KB frames",
    "Arrow Flight": "Arrow Flight, record batches",
    _JOINED: "wire engine, blocks joined",
    _TLS: "wire engine, TLS",
    "C++ gRPC": "C++ gRPC server",
    "grpc-java": "grpc-java server",
    "grpcio": "grpcio engine",
}


class Race:
    """What was measured; a test that asks for a server that can't be had is skipped."""

    def __init__(self, rows: int, speeds: dict[str, Speed], missing: dict[str, str]) -> None:
        self.speeds = speeds
        self._rows = rows
        self._missing = missing

    def __getitem__(self, name: str) -> Speed:
        if name in self._missing:
            pytest.skip(self._missing[name])
        return self.speeds[name]

    def rows_a_second(self, name: str) -> float:
        return self._rows / median(self[name].seconds)

    def compare(self, question: str, ours: str, baseline: str, must_reach: str = "") -> Result:
        """Return how many times the baseline's rows a second ours has: medians."""
        rates = {name: self.rows_a_second(name) for name in (ours, baseline)}
        return Result(
            question,
            f"{rates[ours]:,.0f} rows/s",
            f"{baseline}: {rates[baseline]:,.0f} rows/s",
            rates[ours] / rates[baseline],
            "x",
            must_reach,
            {name: self[name].seconds for name in rates},
        )


@pytest.fixture(scope="module")
def race(
    dataset: Path,
    row_dump: Path,
    peers: Peers,
    certificate: Certificate | None,
    results: Results,
) -> Race:
    with Lanes(dataset) as lanes:
        lanes.add_raw()
        lanes.add_wire()
        lanes.add_tls(certificate)
        lanes.add_flight()
        lanes.add_peers(peers, row_dump)
        lanes.add_grpcio()
        speeds = lanes.race(2 if results.quick else _ROUNDS)
    return Race(results.rows, speeds, lanes.missing)


def test_every_server_sends_the_same_bytes(race: Race) -> None:
    """Otherwise they could not be compared. Chunks have other lengths, Arrow other bytes."""
    others = ("wire, chunks", "grpcio, chunks", "Arrow Flight")
    sizes = {name: speed.stream_bytes for name, speed in race.speeds.items() if name not in others}

    assert {race["raw"].stream_bytes} == set(sizes.values()), sizes
    assert race["wire, chunks"].stream_bytes == race["grpcio, chunks"].stream_bytes


@pytest.mark.parametrize(
    ("lane", "bar"), [(_GATHERED, 0.75), (_GATHERED_SMALL, 0.65), (_JOINED, 0.5)]
)
def test_against_raw_sendall(race: Race, results: Results, lane: str, bar: float) -> None:
    """With kept heads, which has to reach the bar, and without, which is reported."""
    results.add(race.compare(f"GetEmbeddings, {lane}", lane, "raw", f">= {bar}"))
    results.add(race.compare(f"GetEmbeddings, {lane}{_ANEW}", lane + _ANEW, "raw"))


def test_against_cpp(race: Race, results: Results) -> None:
    """Rows a second, and what a stream costs the server's processor."""
    results.add(race.compare("GetEmbeddings against C++ gRPC", _GATHERED, "C++ gRPC", ">= 4"))
    ours, theirs = race[_GATHERED].cpu_seconds, race["C++ gRPC"].cpu_seconds
    results.add(
        Result(
            "… processor time of the server for a stream",
            f"{ours:.3f} s",
            f"C++ gRPC: {theirs:.3f} s",
            ours / theirs,
            "x the time",
            "<= 0.25",
        )
    )


def test_against_grpcio(race: Race, results: Results) -> None:
    """Both RPCs."""
    results.add(race.compare("GetEmbeddings against grpcio", _GATHERED, "grpcio", ">= 50"))
    results.add(
        race.compare(
            f"StreamEmbedding by {ROWS_A_CHUNK} against grpcio",
            "wire, chunks", "grpcio, chunks", ">= 2",
        )
    )  # fmt: skip


def test_against_grpc_java(race: Race, results: Results) -> None:
    """The same client for both; test_java_client.py has a Java client."""
    results.add(race.compare("GetEmbeddings against grpc-java", _GATHERED, "grpc-java"))


def test_against_flight(race: Race, results: Results) -> None:
    """Bytes a second, for Arrow has other bytes a row."""
    megabytes = {
        name: race[name].stream_bytes / median(race[name].seconds) / 1e6
        for name in (_GATHERED, "Arrow Flight")
    }
    results.add(
        Result(
            "GetEmbeddings against Arrow Flight, bytes",
            f"{megabytes[_GATHERED]:,.0f} MB/s",
            f"DoGet: {megabytes['Arrow Flight']:,.0f} MB/s",
            megabytes[_GATHERED] / megabytes["Arrow Flight"],
            "x",
            ">= 1.2",
            {name: race[name].seconds for name in megabytes},
        )
    )


def test_tls(race: Race, results: Results) -> None:
    """Against the same bytes over TLS, and against clear text, joined as TLS is and gathered."""
    for baseline in ("raw TLS", _JOINED, _GATHERED):
        results.add(race.compare("GetEmbeddings over TLS", _TLS, baseline))


def test_processor_time(race: Race, results: Results) -> None:
    """Seconds of the server's processor for a gigabyte of GetEmbeddings."""
    raw = race["raw"].cpu_seconds / race["raw"].stream_bytes * 1e9
    for name in (_GATHERED, _GATHERED_SMALL, _JOINED, _TLS, "grpcio"):
        if name not in race.speeds:
            continue
        ours = race[name].cpu_seconds / race[name].stream_bytes * 1e9
        results.add(
            Result(
                f"processor time for a gigabyte, {name}",
                f"{ours:.2f} s",
                f"raw: {raw:.2f} s",
                ours,
                "s",
            )
        )


@pytest.mark.parametrize(
    ("rpc", "lane", "baseline"),
    [
        ("GetEmbeddings", _GATHERED, "grpcio"),
        ("StreamEmbedding", "wire, chunks", "grpcio, chunks"),
    ],
)
def test_first_row(race: Race, results: Results, rpc: str, lane: str, baseline: str) -> None:
    """From the request to the first byte of DATA."""
    milliseconds = {
        name: [seconds * 1e3 for seconds in race[name].first_byte_seconds]
        for name in (lane, baseline)
    }
    value = median(milliseconds[lane])
    results.add(
        Result(
            f"time to the first row, {rpc} on wire",
            f"{value:.1f} ms",
            f"grpcio: {median(milliseconds[baseline]):.1f} ms",
            value,
            "ms",
            samples={f"{name}, milliseconds": values for name, values in milliseconds.items()},
        )
    )


def test_chart(race: Race, results: Results) -> None:
    """Draws docs/row-streams.png, if no server was missing."""
    if results.quick:
        pytest.skip("a small run is nothing to draw")
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib, of the extra bench")
    machine = describe_machine()
    row_bytes = race["raw"].stream_bytes / results.rows
    draw_bars(
        {label: race.rows_a_second(name) for name, label in _BARS.items()},
        title="GetEmbeddings: rows a second that leave one server",
        caption=(
            f"{results.rows:,} rows of {row_bytes:,.0f} bytes over loopback to one client that "
            "counts bytes and decodes nothing (Arrow Flight: its own client).\n"
            f"Medians of {_ROUNDS} interleaved rounds, {machine['cpu']}, {machine['cores']} cores."
        ),
        highlighted="wire",
        path=_CHART,
    )

"""What do attacks on the wire engine do to others' health checks, and to the server's memory?

Each attack of tests/attacks for some seconds, at full rate, from the beginning whenever the
server has ended its connections. Meanwhile two honest clients, processes of their own, ask for
the server's health and read all rows. Each attack has a server of its own, so that its memory
tells; with --quick all have the same one. ATTACK_CHECKOUT: another version is attacked.

With --tls all of it goes over TLS.
`-k "rapid and 32"` makes the attacks whose names have these words.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from benchmarks.measure import ROOT
from benchmarks.results import Result, Results, describe_machine
from tests.attacks import ATTACKS, Attacker
from tests.attacks.honest import HonestClient, Seen
from tests.attacks.server import AttackedServer, attacked_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.conftest import Certificate

_SECONDS = 1.5
_QUICK_SECONDS = 0.2
_QUICK_FRAMES = 2000
_PAGE = ROOT / "docs" / "attacks.md"
_BEGIN, _END = "<!-- table -->", "<!-- end of table -->"
_BASELINES = {"none": 5.0, "none, but a stream at full speed": 0.0}  # ms between its messages


class Row(NamedTuple):
    """A line of the table."""

    name: str
    tries: str
    frames: int
    connections: int
    outcome: str
    health: Seen
    grown_megabytes: float
    failures: list[str]  # of others' calls

    @property
    def cells(self) -> list[str]:
        p50, p99, most = (self.health.percentile(share) for share in (0.5, 0.99, 1.0))
        return [
            self.name, self.tries, f"{self.frames:,}", f"{self.connections:,}", self.outcome,
            f"{p50:.1f}", f"{p99:.0f}", f"{most:.0f}", f"{self.grown_megabytes:.0f}",
            f"{len(self.failures)}: {self.failures[0]}" if self.failures else "none",
        ]  # fmt: skip


_HEADS = [
    "attack", "what it tries", "frames", "connections", "how it ended", "p50", "p99", "max",
    "memory", "others' failures",
]  # fmt: skip


def _markdown(rows: list[Row]) -> str:
    machine = describe_machine()
    told = (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"h2 {machine['h2']}, {machine['time']}. Milliseconds of others' health checks, MB of "
        "anonymous memory that the server took at most beyond what it had before."
    )
    lines = [
        told,
        "",
        "| " + " | ".join(_HEADS) + " |",
        "|---|---|" + "--:|--:|---|" + "--:|" * 4 + "---|",
        *("| " + " | ".join(cell.replace("|", "/") for cell in row.cells) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def table(results: Results, pytestconfig: pytest.Config) -> Iterator[list[Row]]:
    """Collect rows; write them when all are there."""
    rows: list[Row] = []
    yield rows
    text = _markdown(rows)
    name = "attacks-quick.md" if results.quick else "attacks.md"
    path = ROOT / "benchmarks" / "results" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if pytestconfig.getoption("--write-docs"):
        before, _, rest = _PAGE.read_text().partition(_BEGIN)
        after = rest.partition(_END)[2]
        _PAGE.write_text(f"{before}{_BEGIN}\n{text}{_END}{after}")
    attacks = [row for row in rows if row.name in ATTACKS]
    if attacks:
        _add_worst(results, attacks)


def _add_worst(results: Results, rows: list[Row]) -> None:
    slowest = max(rows, key=lambda row: row.health.percentile(0.99))
    largest = max(rows, key=lambda row: row.grown_megabytes)
    p99 = slowest.health.percentile(0.99)
    samples = {
        f"{row.name}, ms": [row.health.percentile(share) for share in (0.5, 0.99, 1.0)]
        for row in rows
    }
    results.add(
        Result(
            f"others' health checks under {len(rows)} attacks, p99 of the worst", f"{p99:.0f} ms",
            slowest.name, p99, "ms", "<= 250 ms", samples=samples,
        )
    )  # fmt: skip
    grown = largest.grown_megabytes
    results.add(
        Result(
            f"memory that {len(rows)} attacks take, the most", f"{grown:.0f} MB", largest.name,
            grown, "MB", "<= 600 MB",
        )
    )  # fmt: skip


class Stage(NamedTuple):
    """A server, two clients that mean well, and what an attacker connects with."""

    server: AttackedServer
    health: HonestClient
    stream: HonestClient
    tls: ssl.SSLContext | None


@pytest.fixture(scope="module")
def trusted(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Certificate | None:
    """Return the certificate of all servers; None: they speak plain text."""
    if not pytestconfig.getoption("--tls"):
        return None
    certificate: Certificate | None = request.getfixturevalue("certificate")
    assert certificate, "openssl makes the certificate, and isn't there"
    return certificate


@contextlib.contextmanager
def _staged(
    dataset: Path, log: Path, trusted: Certificate | None, pause_ms: float = 5.0
) -> Iterator[Stage]:
    ca = trusted and trusted.chain
    environment = {"TLS_CERT": str(trusted.chain), "TLS_KEY": str(trusted.key)} if trusted else {}
    tls = None
    if ca:
        tls = ssl.create_default_context(cafile=ca)
        tls.set_alpn_protocols(["h2"])
    with attacked_server(dataset, log, **environment) as server:
        health = HonestClient(server.target, "health", pause_ms=5, ca=ca)
        stream = HonestClient(server.target, "stream", pause_ms=pause_ms, ca=ca)
        with health, stream:
            yield Stage(server, health, stream, tls)


@pytest.fixture(scope="module")
def shared(
    dataset: Path, folder: Path, trusted: Certificate | None, results: Results
) -> Iterator[Stage | None]:
    """Return a stage for all attacks; None where each has its own."""
    with contextlib.ExitStack() as stack:
        log = folder / "attacked.log"
        yield stack.enter_context(_staged(dataset, log, trusted)) if results.quick else None


@pytest.fixture
def stage(
    dataset: Path, folder: Path, trusted: Certificate | None, shared: Stage | None
) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        log = folder / "attacked.log"
        yield shared or stack.enter_context(_staged(dataset, log, trusted))


def _bounds(results: Results) -> dict[str, Any]:
    if results.quick:
        return {"max_frames": _QUICK_FRAMES, "seconds": _QUICK_SECONDS}
    return {"max_frames": sys.maxsize, "seconds": _SECONDS}


@pytest.mark.parametrize("name", _BASELINES)
def test_baseline(
    dataset: Path,
    folder: Path,
    trusted: Certificate | None,
    results: Results,
    table: list[Row],
    *,
    name: str,
) -> None:
    """The same clients without an attack."""
    pause_ms = _BASELINES[name]
    with (
        _staged(dataset, folder / "attacked.log", trusted, pause_ms) as (server, health, _, _),
        server.watched() as memory,
        Attacker(server.port, **_bounds(results)) as attacker,
    ):
        attacker.hold(_QUICK_SECONDS if results.quick else _SECONDS)
        seen = health.seen()
    grown = (memory.peak - memory.before) / 1e6
    table.append(Row(name, "", 0, 0, "", seen, grown, seen.failures))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(stage: Stage, results: Results, table: list[Row], name: str) -> None:
    """Others' calls end well; how quickly, and what it took of memory, stands in the table."""
    server, health_client, stream_client, tls = stage
    health_client.seen()
    with (
        server.watched() as memory,
        Attacker(server.port, tls=tls, **_bounds(results)) as attacker,
    ):
        attacker.run(ATTACKS[name], again=True)
        health = health_client.seen()
    read = stream_client.seen()
    failures = health.failures + read.failures
    table.append(
        Row(
            name, ATTACKS[name].tries, attacker.frames, attacker.connections, attacker.outcome,
            health, (memory.peak - memory.before) / 1e6, failures,
        )
    )  # fmt: skip

    assert not failures
    assert {results.rows} == set(read.rows)

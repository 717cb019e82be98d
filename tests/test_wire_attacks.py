"""Attacks on a server in a process of its own: others are served, and its memory stays bounded.

How quickly others are served is measured by benchmarks/test_attacks.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.attacks import ATTACKS, Attacker
from tests.attacks.honest import HonestClient
from tests.attacks.server import AttackedServer, attacked_server
from tests.datasets import write_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1 << 20
_ROWS = 2000
_SECONDS = 0.15
# The server takes 55 MiB when it has nothing to do. 448 blocks that wait for windows take 300.
_MAX_ANONYMOUS_BYTES = 500 * _MIB


class _Stage(NamedTuple):
    server: AttackedServer
    health: HonestClient
    stream: HonestClient


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Stage]:
    """Return a server, and two processes that read all rows and check its health all the while."""
    folder = tmp_path_factory.mktemp("attacked")
    write_dataset(folder / "jobs.arrow", rows=_ROWS, dimension=64)
    with attacked_server(folder / "jobs.arrow", folder / "server.log") as server:
        health = HonestClient(server.target, "health", pause_ms=40)
        stream = HonestClient(server.target, "stream", pause_ms=5, chunk_rows=100)
        with health, stream:
            yield _Stage(server, health, stream)


@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_served_and_memory_is_bounded(stage: _Stage, name: str) -> None:
    """The connection of the attacker may live or end; the server and others' calls go on."""
    server, attack = stage.server, ATTACKS[name]
    with (
        server.watched() as memory,
        Attacker(server.port, max_frames=attack.enough_frames, seconds=_SECONDS) as attacker,
    ):
        attacker.run(attack)
        health, stream = stage.health.seen(), stage.stream.seen()

    assert attacker.frames + attacker.connections > 1
    assert [] == health.failures + stream.failures
    assert {_ROWS} == set(stream.rows)
    assert memory.peak < _MAX_ANONYMOUS_BYTES
    assert "internal error" not in server.log.read_text()

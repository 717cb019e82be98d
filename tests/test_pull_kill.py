"""SIGKILL of puller, server and PostgreSQL at random moments: no row is lost, none is there twice.

KILL_ROUNDS=100 is the long run: `KILL_ROUNDS=100 pytest -s tests/test_pull_kill.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.datasets import make_batch, write_file
from tests.kill import Killing, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = int(os.environ.get("KILL_ROUNDS", "2"))
_SEED = int(os.environ.get("KILL_SEED", "1"))
_ROWS = 16_000
# 23 MB: more than the client takes in before the database has its first rows.
_DIMENSION = 360


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    path = tmp_path_factory.mktemp("kill") / "jobs.arrow"
    write_file(path, make_batch(_ROWS, dimension=_DIMENSION, seed=5), batch_rows=4096)
    rig = Rig(path)
    yield rig
    rig.close()


@pytest.mark.timeout(600 + 15 * _ROUNDS)
@pytest.mark.parametrize("victim", ["puller", "server", "postgres"])
def test_nothing_is_lost_or_twice_after_a_kill(rig: Rig, victim: str) -> None:
    """Whoever is killed, whenever: the table is always the file's first rows, in the end all."""
    figures = Killing(rig, victim, seed=_SEED).run(_ROUNDS)

    print(figures)  # noqa: T201 - what a long run is for
    assert _ROUNDS == figures.kills == len(figures.found)
    assert figures.loads

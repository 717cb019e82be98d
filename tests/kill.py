"""Kills one of the three programs of a pull at random moments, and looks what is left.

A rig is a real server, a real PostgreSQL and the real command. After every kill the table
must hold the first rows of the file, as many as its checkpoint says; then the pull is taken
up again, until the table is the file. Then it is dropped, and the next load begins.
"""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import psutil
import psycopg

from tests.postgres import Postgres, rows_of_file, rows_of_table, run
from tests.pulling import ServerProcess, position, start_pull

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

DATABASE = "jobs"
# A hundred and sixty transactions for a load of 16,000 rows.
_COMMITS = {"PULL_COMMIT_SIZE": "1", "PULL_CHUNK_SIZE": "100"}
# Every fifth kill comes while the command starts, or looks at the database.
_EARLY_SHARE = 0.2
# Few rows are there before a kill could hit them: a load with less than that left is let end.
_LEAST_SHARE = 0.25
# Loads after the first one, which is measured, take less time.
_LATER_SHARE = 0.8
# The part of a load's time in which the server sends: up to 15 MB are on their way.
_SENDING_SHARE = 0.35
_END_SECONDS = 120.0
_HAS_BEGUN = ("pulling", "nothing new")


@dataclass
class Figures:
    """What happened; `at_kill` and `found`: rows at each kill, and after that run.

    `moving` are the kills of which the killed run itself had committed rows.
    """

    victim: str
    rows: int
    runs: int = 0
    kills: int = 0
    moving: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    loads: int = 0
    requests: int = 0
    at_kill: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"\n{self.victim}: {self.kills} kills {self.struck} in {self.runs} runs, of which"
            f" {self.moving} had committed rows before; {self.requests} streams; {self.loads} loads"
            f" of {self.rows:,} rows complete and equal to the file"
            f"\n  rows at the kill: {self._spread(self.at_kill)}"
            f"\n  rows when the run was over: {self._spread(self.found)}"
        )

    def _spread(self, rows: list[int]) -> str:
        there = np.array(rows)
        quarters = np.percentile(there, [0, 25, 50, 75, 100]).astype(int)
        return (
            f"none {(there == 0).sum()}, some {((there > 0) & (there < self.rows)).sum()},"
            f" all {(there == self.rows).sum()}; {len(np.unique(there))} different numbers,"
            f" quartiles {quarters.tolist()}"
        )


class Rig:
    """The programs, and how long an undisturbed run takes to its first row, and from there."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.expected = rows_of_file(file)
        with contextlib.ExitStack() as running:
            self.postgres = Postgres()
            running.callback(self.postgres.stop)
            self.server = ServerProcess(file)
            running.callback(self.server.kill)
            run(self.postgres.url(), f"CREATE DATABASE {DATABASE}")
            self.url = self.postgres.url(DATABASE)
            self.start_seconds, self.load_seconds = self._undisturbed()
            self.close = running.pop_all().close

    def start(self, **settings: str) -> subprocess.Popen[str]:
        return start_pull(
            self.file.parent, self.server.address, self.url, **_COMMITS, **settings
        )  # fmt: skip

    def _undisturbed(self) -> tuple[float, float]:
        begin = time.monotonic()
        with self.start() as process:
            wait_for_rows(process)
            middle = time.monotonic()
            assert process.stdout
            assert "rows written" in process.stdout.readline()
            end = time.monotonic()
        assert self.check() == len(self.expected.ids)
        self.drop()
        return middle - begin, _LATER_SHARE * (end - middle)

    def check(self) -> int:
        """Return the rows that are there: the file's first, as many as the checkpoint says."""
        self.position()
        self._wait_for_sessions()
        if rows := self.position():
            found = rows_of_table(self.url, self.expected.vectors.shape[1])
            differences = self.expected.first(rows).differences(found)
            assert (rows, []) == (len(found.ids), differences)
        return rows

    def drop(self) -> None:
        run(self.url, "DROP TABLE recruit_embedding")

    def position(self) -> int:
        """Return the rows that are there, which are those of the checkpoint at any moment.

        Waits for a PostgreSQL that is recovering.
        """
        end = time.monotonic() + _END_SECONDS
        while True:
            try:
                rows, in_checkpoint = position(self.url)
            except psycopg.OperationalError:
                assert time.monotonic() < end, self.postgres.log()
                time.sleep(0.02)
            else:
                assert rows == in_checkpoint
                return rows

    def _wait_for_sessions(self) -> None:
        """Wait until the database has noticed that a command is gone."""
        query = "SELECT FROM pg_stat_activity WHERE application_name = 'embedding-streamer'"
        end = time.monotonic() + _END_SECONDS
        while run(self.url, query):
            assert time.monotonic() < end
            time.sleep(0.01)

    def processes_of_postgres(self) -> dict[str, psutil.Process]:
        """Return its processes that a test may kill, those that are there."""
        found = {"postmaster": psutil.Process(self.postgres.pid)}
        for child in found["postmaster"].children():
            try:
                title = " ".join(child.cmdline())
            except psutil.NoSuchProcess:
                continue
            if f" {DATABASE} " in title:
                found["the puller's backend"] = child
            elif "checkpointer" in title:
                found["checkpointer"] = child
        return found


def wait_for_rows(process: subprocess.Popen[str]) -> None:
    """Return when the command has begun to pull, or has ended."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith(_HAS_BEGUN):
            return


class Killing:
    """Kills `victim`, one of "puller", "server" and "postgres", `rounds` times."""

    def __init__(self, rig: Rig, victim: str, *, seed: int) -> None:
        self._rig = rig
        self._victim = victim
        self._random = random.Random(seed)
        self.figures = Figures(victim, len(rig.expected.ids))

    def run(self, rounds: int) -> Figures:
        left = self.figures.rows
        while self.figures.kills < rounds or left < self.figures.rows:
            strike = self.figures.kills < rounds and left > _LEAST_SHARE * self.figures.rows
            left = self._round(left, strike=strike)
        return self.figures

    def _round(self, left: int, *, strike: bool) -> int:
        """Pull `left` rows and be killed meanwhile; return the rows left, all if complete."""
        figures, rig = self.figures, self._rig
        figures.runs += 1
        requests = rig.server.requests()
        # A pull either outlives the server's death or gives up and is resumed.
        tries = self._random.choice(["1", "10"])
        with rig.start(PULL_TRIES=tries) as process:
            was_struck = strike and self._strike(process, left / figures.rows)
            output, _ = process.communicate(timeout=_END_SECONDS)
        may_fail = was_struck and (self._victim != "server" or tries == "1")
        codes = {0, -signal.SIGKILL if self._victim == "puller" else 1} if may_fail else {0}
        assert process.returncode in codes, output
        assert "Traceback" not in output, output
        found = rig.check()
        figures.requests += rig.server.requests() - requests
        if was_struck:
            figures.kills += 1
            figures.moving += figures.at_kill[-1] > figures.rows - left
            figures.found.append(found)
        if found < figures.rows:
            assert was_struck, output
            return figures.rows - found
        figures.loads += 1
        rig.drop()
        return figures.rows

    def _strike(self, process: subprocess.Popen[str], share: float) -> bool:
        """Kill at a random moment of a run over that share of the rows; False if too late."""
        if self._random.random() < _EARLY_SHARE:
            time.sleep(self._random.uniform(0, self._rig.start_seconds))
        else:
            wait_for_rows(process)
            share *= _SENDING_SHARE if self._victim == "server" else 1.0
            time.sleep(self._random.uniform(0, share * self._rig.load_seconds))
        if process.poll() is not None:
            return False
        strikes: dict[str, Callable[[], str]] = {
            "puller": functools.partial(self._kill_puller, process),
            "server": self._kill_server,
            "postgres": self._kill_postgres,
        }
        what = strikes[self._victim]()
        self.figures.struck[what] = self.figures.struck.get(what, 0) + 1
        return True

    def _kill_puller(self, process: subprocess.Popen[str]) -> str:
        process.kill()
        self._look()
        return "puller"

    def _kill_server(self) -> str:
        self._rig.server.kill()
        self._look()
        self._rig.server.start()
        return "server"

    def _kill_postgres(self) -> str:
        there = self._rig.processes_of_postgres()
        what = self._random.choice(sorted(there))
        if what == "postmaster":
            self._rig.postgres.kill()
            self._rig.postgres.start()
        else:
            there[what].kill()
            there[what].wait(_END_SECONDS)
            # Until the postmaster has noticed, it goes on as if nothing had happened.
            time.sleep(0.1)
        self._look()
        return what

    def _look(self) -> None:
        self.figures.at_kill.append(self._rig.position())

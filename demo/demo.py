"""From a pickle to a nearest-neighbour query, with the project's own commands: `make demo`.

Converts a pickle, serves it, pulls it into a PostgreSQL that is started for the purpose,
prints five rows and the nearest neighbours of one of them, says how long each step took,
and cleans up. Without a pickle a sample of --rows rows is made first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psycopg
from rich.console import Console
from rich.table import Table

from streamer.sinks.database import database

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parent.parent
_STOP_SECONDS = 20
_FIVE_ROWS = """
SELECT id, company_name AS company, exp_years AS years, primary_keyword AS keyword
FROM recruit_embedding ORDER BY id LIMIT 5
"""
_NEIGHBOURS = """
SELECT other.company_name AS company, other.exp_years AS years, other.primary_keyword AS keyword,
       round((other.vector <=> one.vector)::numeric, 4) AS cosine_distance
FROM recruit_embedding AS one, recruit_embedding AS other
WHERE one.id = (SELECT min(id::text)::uuid FROM recruit_embedding)
ORDER BY other.vector <=> one.vector LIMIT 5
"""


@click.command()
@click.option("--pickle", type=click.Path(path_type=Path), help="[default: a sample]")
@click.option("--rows", default=10_000, show_default=True, help="Rows of the sample.")
def main(pickle: Path | None, rows: int) -> None:
    """Show the way from a pickle to a nearest-neighbour query, and how long it takes."""
    for ending in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))  # and clean up
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="embedding-demo-") as folder:
        work = Path(folder)
        work.chmod(0o755)  # PostgreSQL runs as another user where this is root
        if pickle is None:
            pickle = work / "sample.pkl"
            _run("data/make_sample.py", "--rows", str(rows), "--out", str(pickle))
        data, into = work / "demo.arrow", f"embedded:{work / 'postgres'}"
        with database(into) as dsn:  # its start is no step of the way
            with _step(seconds, "convert"):
                _run("-m", "convert", str(pickle), "-o", str(data))
            with contextlib.ExitStack() as stack:
                with _step(seconds, "serve: ready"):
                    address = stack.enter_context(_serving(data))
                with _step(seconds, "pull"):
                    _run("-m", "streamer", "pull", "--from", address, "--into", into)
            with psycopg.connect(dsn) as connection:
                _show(connection, "five rows", _FIVE_ROWS)
                with _step(seconds, "nearest neighbours"):
                    _show(connection, "nearest to the first of them", _NEIGHBOURS)
    for name, took in seconds.items():
        click.echo(f"{name:<20} {took:6.2f} s")
    click.echo(f"{'together':<20} {sum(seconds.values()):6.2f} s")


@contextlib.contextmanager
def _step(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin


def _run(*arguments: str) -> None:
    click.secho("\n$ python " + " ".join(arguments), bold=True)
    done = subprocess.run([sys.executable, *arguments], cwd=_ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


@contextlib.contextmanager
def _serving(data: Path) -> Iterator[str]:
    """Run `serve` until the end; yield its HOST:PORT."""
    arguments = ["-m", "streamer", "serve", "--data", str(data), "--host", "127.0.0.1"]
    click.secho("\n$ python " + " ".join([*arguments, "--port", "0"]), bold=True)
    environment = {**os.environ, "LOG_LEVEL": "WARNING"}
    server = subprocess.Popen(
        [sys.executable, *arguments, "--port", "0"],
        cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line.startswith("listening on "):
            sys.exit(server.wait() or 1)
        click.echo(line.strip())
        yield line.split()[-1]
    finally:
        server.terminate()
        server.wait(_STOP_SECONDS)


def _show(connection: psycopg.Connection, title: str, query: str) -> None:
    cursor = connection.execute(query)
    table = Table(title=title, title_justify="left")
    for column in cursor.description or ():
        table.add_column(column.name, no_wrap=column.name == "id")
    for row in cursor:
        table.add_row(*map(str, row))
    Console().print(table)


if __name__ == "__main__":
    main()

"""The dataset, a server process of each engine, and the built clients.

INTEROP_ROWS     rows of the dataset; the real one's number if not set
INTEROP_REQUIRE  1: a test whose toolchain is missing fails instead of being skipped
INTEROP_PROXIES  all: every proxy does every case (test_proxies.py)
INTEROP_SERVER   another checkout, with a .venv, whose servers are tested with these tests
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from interop.dataset import read_dataset
from interop.proxies.tables import Frames, Results, frames_table, results_table
from interop.servers import Server, serving
from interop.toolchains import (
    ROOT,
    MissingToolchainError,
    build_cpp,
    build_java,
    build_node,
    build_python,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.dataset import Dataset

# Every test that needs a server runs with each of them.
ENGINES = ("grpcio", "wire")

_ROWS = int(os.environ.get("INTEROP_ROWS", "141897"))
_REQUIRED = os.environ.get("INTEROP_REQUIRE") == "1"
# A test's fixtures count: making the dataset takes a minute, and so does a cold build.
_TIMEOUT_SECONDS = 600
_RATES = pytest.StashKey[list[str]]()
_PROXY_RESULTS = pytest.StashKey[Results]()
_PROXY_FRAMES = pytest.StashKey[Frames]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proxy-table", type=Path, help="write what proxies did, as Markdown")
    parser.addoption("--proxy-frames", type=Path, help="write the frames that proxies sent")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RATES] = []
    config.stash[_PROXY_RESULTS] = {}
    config.stash[_PROXY_FRAMES] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if table := config.option.proxy_table:
        table.write_text(results_table(config.stash[_PROXY_RESULTS]))
    if table := config.option.proxy_frames:
        table.write_text(frames_table(config.stash[_PROXY_FRAMES]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[_RATES]:
        terminalreporter.section("rates, clients' own work included")
        for line in config.stash[_RATES]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def rates(pytestconfig: pytest.Config) -> list[str]:
    """Return the lines that stand at the end of the report."""
    return pytestconfig.stash[_RATES]


@pytest.fixture(scope="session")
def proxy_results(pytestconfig: pytest.Config) -> Results:
    """Return where a test puts what came of each case."""
    return pytestconfig.stash[_PROXY_RESULTS]


@pytest.fixture(scope="session")
def proxy_frames(pytestconfig: pytest.Config) -> Frames | None:
    """Return where a test puts what frames each case made, if anybody asks for them."""
    return pytestconfig.stash[_PROXY_FRAMES] if pytestconfig.option.proxy_frames else None


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="interop-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def python_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def dataset(folder: Path, python_environment: dict[str, str]) -> Dataset:
    pickle = folder / "jobs.pkl"
    make_sample = str(ROOT / "data" / "make_sample.py")
    for command in (
        [make_sample, "--rows", str(_ROWS), "--out", str(pickle)],
        ["-m", "convert", str(pickle)],
    ):
        subprocess.run(
            [sys.executable, *command],
            cwd=folder, env=python_environment, check=True, capture_output=True,
        )  # fmt: skip
    pickle.unlink()
    return read_dataset(pickle.with_suffix(".arrow"))


@pytest.fixture(scope="session", params=ENGINES)
def server(request: pytest.FixtureRequest, folder: Path, dataset: Dataset) -> Iterator[Server]:
    """Run a server, which has to log no error and to stop when told."""
    engine: str = request.param
    log = folder / f"{engine}.log"
    with serving(log, "--data", str(dataset.path), "--engine", engine) as target:
        yield Server(engine, target)
    assert " ERROR " not in log.read_text()


@pytest.fixture(scope="session")
def missing() -> Callable[[object], NoReturn]:
    """Return what ends a test for want of its toolchain."""

    def end(reason: object) -> NoReturn:
        if _REQUIRED:
            pytest.fail(str(reason))
        pytest.skip(str(reason))

    return end


def _clients(
    build: Callable[[Path], dict[str, list[str]]],
) -> Callable[..., dict[str, list[str]]]:
    """Return a fixture: the clients that `build` makes, built once a session."""

    @pytest.fixture(scope="session", name=build.__name__.removeprefix("build_"))
    def clients(folder: Path, missing: Callable[[object], NoReturn]) -> dict[str, list[str]]:
        part = folder / build.__name__
        part.mkdir()
        try:
            return build(part)
        except MissingToolchainError as error:
            missing(error)

    return clients


python = _clients(build_python)
node = _clients(build_node)
java = _clients(build_java)
cpp = _clients(build_cpp)

"""Options, shared data, and the closing table."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from benchmarks.measure import run_python
from benchmarks.peers import Peers, build_peers
from benchmarks.results import Results
from benchmarks.row_dump import write_row_dump

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL_ROWS = 141_897
_QUICK_ROWS = 4000
_TIMEOUT_SECONDS = 1800
_RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help=f"{_QUICK_ROWS:,} rows instead of {_FULL_ROWS:,}: shows that the benchmarks run, "
        "not how fast anything is",
    )
    parser.addoption(
        "--large", action="store_true", help="also those that need 10 GB of disk and some minutes"
    )
    parser.addoption("--tls", action="store_true", help="attacks go over TLS")
    parser.addoption(
        "--write-docs", action="store_true", help="put the table of attacks into docs/attacks.md"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


def pytest_configure(config: pytest.Config) -> None:
    quick = config.getoption("--quick")
    config.stash[_RESULTS] = Results(_QUICK_ROWS if quick else _FULL_ROWS, quick)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    results = config.stash[_RESULTS]
    if not results.found:
        return
    name = "quick.json" if results.quick else "full.json"
    path = Path(__file__).parent / "results" / name
    results.write(path)
    terminalreporter.section(f"{results.rows:,} rows")
    terminalreporter.write_line(results.table())
    terminalreporter.write_line(f"written to benchmarks/results/{name}")


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Results:
    return pytestconfig.stash[_RESULTS]


class Sources(NamedTuple):
    """Sample pickles of both shapes."""

    records: Path
    dataframe64: Path


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sources(folder: Path, results: Results) -> Sources:
    made = Sources(folder / "records.pkl", folder / "dataframe64.pkl")
    for shape, path in made._asdict().items():
        run_python(
            "data/make_sample.py", "--rows", str(results.rows), "--shape", shape,
            "--out", str(path),
        )  # fmt: skip
    return made


@pytest.fixture(scope="session")
def dataset(folder: Path, sources: Sources) -> Path:
    out = folder / "dataset.arrow"
    run_python("-m", "convert", str(sources.dataframe64), "-o", str(out))
    return out


@pytest.fixture(scope="session")
def row_dump(folder: Path, dataset: Path) -> Path:
    """Return the rows as the servers of other gRPC implementations read them."""
    out = folder / "rows.dump"
    write_row_dump(dataset, out)
    return out


@pytest.fixture(scope="session")
def peers(folder: Path) -> Peers:
    return build_peers(folder)


class Certificate(NamedTuple):
    """PEM files for localhost; the certificate is its own CA."""

    chain: Path
    key: Path


@pytest.fixture(scope="session")
def certificate(folder: Path) -> Certificate | None:
    """Return a certificate; None if there is no openssl to make one."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    made = Certificate(folder / "chain.pem", folder / "key.pem")
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
            "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
            "-out", str(made.chain), "-keyout", str(made.key),
        ],
        capture_output=True, check=True,
    )  # fmt: skip
    return made

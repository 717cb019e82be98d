"""Every row arrives behind each of the proxies of interop/proxies.

Whatever a call asks for, however slow its client is, and whatever other clients do.

By default one proxy does all cases, and each other one the three that tell most.
INTEROP_PROXIES=all does all cases with each. --proxy-table FILE writes the results as a table in
Markdown, as docs/proxies.md has it; --proxy-frames FILE the frames that the proxies sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import psycopg
import pytest
import trustme

from interop.dataset import rows_of_chunk
from interop.proxies.frames import FrameCounts, relayed
from interop.proxies.running import PROXIES, RunningProxy, running
from interop.servers import serving
from interop.toolchains import ROOT, MissingToolchainError
from proto import embedding_stream_pb2 as pb
from tests.certificates import Files
from tests.datasets import write_dataset
from tests.postgres import TABLE, Rows, new_database, rows_of_file, rows_of_table, session_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from interop.proxies.tables import Frames, Results

_SECONDS = 300
# As many as the faults needed that were seen here: HAProxy lost streams after 14,000 rows.
_ROWS = 50_000
_ROWS_A_PAUSE = "200"
# Proxies wait for 60 s by default.
_SILENT_SECONDS = 75
_OK = "OK"
# Clients that have begun to read and then wait, while another one reads everything.
_WAITING = 4
_CANCELS, _CANCELS_OF_ANOTHER = 500, 3000


class _Report(NamedTuple):
    """What interop/clients/python/behind_proxy.py prints."""

    rows: int
    digest: str
    status: str


class _Expected(NamedTuple):
    """What a client reports that got all rows, and one that got those behind an id."""

    all_rows: _Report
    middle_id: str
    second_half: _Report


class _Servers(NamedTuple):
    """The two servers, and what is in them."""

    streamer: str  # HOST:PORT
    receiver: str
    log: Path  # of streamer
    receiver_log: Path
    data: Path
    database: str
    rows: Rows
    counts: FrameCounts  # of both; empty, unless --proxy-frames was given


class _Rig(NamedTuple):
    """A running proxy in front of the servers."""

    name: str
    proxy: RunningProxy
    servers: _Servers
    expected: _Expected
    ca: Path
    folder: Path


# ------------------------------------------------------------------------------- the cases


def _get_embeddings(rig: _Rig) -> str:
    return _read(rig, "GetEmbeddings")


def _chunks_of(rows: int) -> Callable[[_Rig], str]:
    def case(rig: _Rig) -> str:
        return _read(rig, "StreamEmbedding", "--chunk-rows", str(rows))

    return case


def _resume(rig: _Rig) -> str:
    after = ("--after", rig.expected.middle_id)
    with _client(rig.proxy.target, "StreamEmbedding", *after) as client:
        return _outcome(rig, client, rig.expected.second_half)


def _slow(rig: _Rig) -> str:
    return _read(rig, "StreamEmbedding", "--chunk-rows", "30", "--slow", _ROWS_A_PAUSE)


def _others_wait(rig: _Rig) -> str:
    """Read all rows while other clients don't read; then they do."""
    with contextlib.ExitStack() as clients:
        waiting = [
            clients.enter_context(_client(rig.proxy.target, "StreamEmbedding", "--wait"))
            for _ in range(_WAITING)
        ]
        outcomes = [_until_it_waits(client) for client in waiting]
        if _sum_of(outcomes) == _OK:
            outcomes = [_read(rig, "StreamEmbedding")]
            outcomes += [_go_on(rig, client) for client in waiting]
        return _sum_of(outcomes)


def _upload(rig: _Rig) -> str:
    """Send all rows, in calls of 16 MB that are tried once each, and look into the table."""
    with psycopg.connect(rig.servers.database) as connection:
        if connection.execute("SELECT to_regclass(%s)", [TABLE]).fetchone() != (None,):
            connection.execute(f"TRUNCATE {TABLE}")
    state = rig.folder / "state.json"
    state.unlink(missing_ok=True)
    done = subprocess.run(
        [
            sys.executable, "-m", "streamer", "upload", "--data", str(rig.servers.data),
            "--to", rig.proxy.target, "--state", str(state),
            "--failed-ids", str(rig.folder / "failed.txt"),
        ],
        cwd=rig.folder, env={**_environment(), "UPLOAD_TRIES": "1"},
        capture_output=True, text=True, check=False, timeout=_SECONDS,
    )  # fmt: skip
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    found = rows_of_table(rig.servers.database, rig.servers.rows.vectors.shape[1])
    return "; ".join(rig.servers.rows.differences(found)) or _OK


def _cancels(rig: _Rig) -> str:
    """Cancel calls, and then read all rows on the same channel."""
    half = str(_CANCELS // 2)
    cancel = ("--cancel", half, "--cancel-later", half, *_tries(rig))
    return _read(rig, "StreamEmbedding", *cancel)


def _tries(rig: _Rig) -> tuple[str, ...]:
    """Return what lets a client that has cancelled calls try again, where it has to.

    HAProxy 2.6 doesn't give back the connection's window for DATA of cancelled calls (later
    releases do); the server asks it to connect again, and a call that comes meanwhile is
    UNAVAILABLE.
    """
    return ("--tries", "10") if rig.name == "haproxy" else ()


def _cancels_of_another(rig: _Rig) -> str:
    """Read all rows slowly, while another client cancels calls."""
    cancel = ("StreamEmbedding", "--cancel", str(_CANCELS_OF_ANOTHER), *_tries(rig))
    with _client(rig.proxy.target, "GetEmbeddings", "--slow", _ROWS_A_PAUSE, "--wait") as reader:
        outcome = _until_it_waits(reader)
        if outcome != _OK:
            return outcome
        with _client(rig.proxy.target, *cancel) as other:
            return _sum_of([_go_on(rig, reader), _outcome(rig, other)])


def _silence(rig: _Rig) -> str:
    """Let a client not read, and another not send, for longer than proxies wait by themselves."""
    with (
        _client(rig.proxy.target, "StreamEmbedding", "--wait") as reader,
        _run_client("paused_upload", rig.proxy.target) as sender,
    ):
        outcomes = [_until_it_waits(reader), _until_it_waits(sender)]
        if _sum_of(outcomes) != _OK:
            return _sum_of(outcomes)
        time.sleep(_SILENT_SECONDS)
        outcome = _go_on(rig, reader)
        sent, _ = sender.communicate("\n", timeout=_SECONDS)
        return _sum_of([outcome, _OK if sent == "2 rows\n" else f"upload: {sent.strip()}"])


def _tls(rig: _Rig) -> str:
    """Read all rows over TLS from the proxy, which speaks clear text to the server."""
    with _client(rig.proxy.tls_target, "StreamEmbedding", "--ca", str(rig.ca)) as client:
        return _outcome(rig, client)


# Those that tell most come first.
_CASES: dict[str, Callable[[_Rig], str]] = {
    "StreamEmbedding, 300 rows a message": _chunks_of(300),
    "upload": _upload,
    f"{_CANCELS_OF_ANOTHER:,} calls cancelled by another client": _cancels_of_another,
    **{f"StreamEmbedding, {rows:,} rows a message": _chunks_of(rows)
       for rows in (1, 30, 3000, 10_000)},
    "GetEmbeddings": _get_embeddings,
    "resume from the middle": _resume,
    "small windows, 20 ms of pause every 200 rows": _slow,
    f"{_WAITING} clients don't read while another one does": _others_wait,
    f"{_CANCELS:,} calls cancelled, then all rows": _cancels,
    "TLS to the proxy": _tls,
}  # fmt: skip
_OF_EACH = tuple(_CASES)[:3]
_IN_FULL: tuple[str, ...] = ("haproxy",)
if os.environ.get("INTEROP_PROXIES") == "all":
    _IN_FULL = tuple(PROXIES)
    _CASES[f"neither read nor sent for {_SILENT_SECONDS} s"] = _silence


@pytest.mark.parametrize("rig", PROXIES, indirect=True, scope="module")
@pytest.mark.parametrize("case", _OF_EACH)
def test_every_row_arrives(
    rig: _Rig, case: str, proxy_results: Results, proxy_frames: Frames | None
) -> None:
    """Exactly once and in order, bit for bit, in what tells most."""
    _check(rig, case, proxy_results, proxy_frames)


@pytest.mark.parametrize("rig", _IN_FULL, indirect=True, scope="module")
@pytest.mark.parametrize("case", tuple(_CASES)[len(_OF_EACH) :])
def test_every_row_arrives_in_all_cases(
    rig: _Rig, case: str, proxy_results: Results, proxy_frames: Frames | None
) -> None:
    """The same in every other case."""
    _check(rig, case, proxy_results, proxy_frames)


def _check(rig: _Rig, case: str, results: Results, frames: Frames | None) -> None:
    logs = (rig.servers.log, rig.servers.receiver_log, rig.proxy.log)
    begin = [log.stat().st_size for log in logs]

    outcome = _CASES[case](rig)

    results[rig.name, case] = outcome
    if frames is not None:
        frames[rig.name, case] = rig.servers.counts.take()
    assert outcome == _OK, "\n".join(
        f"{log}:\n{log.read_text()[place:]}" for log, place in zip(logs, begin, strict=True)
    )


def test_page_names_every_file() -> None:
    """What is tested is what docs/proxies.md tells users to copy."""
    page = (ROOT / "docs" / "proxies.md").read_text()

    files = [name for proxy in PROXIES.values() for name in proxy.files]
    assert [name for name in files if f"](../interop/proxies/{name})" not in page] == []


# ---------------------------------------------------------------------------- what they use


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "jobs.arrow"
    write_dataset(path, rows=_ROWS, dimension=384, batch_rows=16_384)
    return path


@pytest.fixture(scope="module")
def expected(data: Path) -> _Expected:
    rows = rows_of_chunk(data)
    middle = len(rows) // 2
    before_middle = pb.RowChunk.FromString(rows[middle - 1]).rows[0].id
    return _Expected(_report_of(rows), before_middle, _report_of(rows[middle:]))


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what the configurations name, and ca.pem for clients."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    files = Files.made(folder, ca)
    chain, key = files.certificate.read_bytes(), files.key.read_bytes()
    for name, content in (
        ("chain.pem", chain), ("key.pem", key), ("chain-and-key.pem", chain + key),
        ("ca.pem", ca.cert_pem.bytes()),
    ):  # fmt: skip
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def servers(
    data: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config,
    proxy_frames: Frames | None,
) -> Iterator[_Servers]:  # fmt: skip
    folder = tmp_path_factory.mktemp("servers")
    log, receiver_log = folder / "serve.log", folder / "receive.log"
    counts = FrameCounts()
    with contextlib.ExitStack() as running_servers:
        enter = running_servers.enter_context
        database = enter(new_database(session_url(pytestconfig)))
        streamer = enter(serving(log, "--data", str(data)))
        receiver = enter(serving(receiver_log, "--into", database, command="receive"))
        if proxy_frames is not None:
            streamer, receiver = (enter(relayed(each, counts)) for each in (streamer, receiver))
        rows = rows_of_file(data)
        yield _Servers(streamer, receiver, log, receiver_log, data, database, rows, counts)


@pytest.fixture(scope="module")
def rig(
    request: pytest.FixtureRequest, servers: _Servers, expected: _Expected, tls_folder: Path,
    missing: Callable[[object], NoReturn],
) -> Iterator[_Rig]:  # fmt: skip
    name: str = request.param
    folder = tls_folder.with_name(f"proxy-{name}")
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as proxy:
        try:
            started = proxy.enter_context(
                running(
                    PROXIES[name], folder, streamer=servers.streamer, receiver=servers.receiver,
                    tls_folder=tls_folder,
                )
            )  # fmt: skip
        except MissingToolchainError as error:
            missing(error)
        yield _Rig(name, started, servers, expected, tls_folder / "ca.pem", folder)


def _client(target: str, *options: str) -> subprocess.Popen[str]:
    return _run_client("behind_proxy", target, *options)


def _run_client(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"interop.clients.python.{name}", *arguments],
        cwd=ROOT, env=_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _report_of(rows: list[bytes]) -> _Report:
    return _Report(len(rows), hashlib.sha256(b"".join(rows)).hexdigest(), _OK)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _read(rig: _Rig, rpc: str, *options: str) -> str:
    """Read all rows, and say what is wrong with them."""
    with _client(rig.proxy.target, rpc, *options) as client:
        return _outcome(rig, client)


def _outcome(rig: _Rig, client: subprocess.Popen[str], wanted: _Report | None = None) -> str:
    """Wait for the end of a client, and say what is wrong with its rows."""
    try:
        out, err = client.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no end after {_SECONDS} s"
    finally:
        client.kill()
    if client.returncode:
        return err.strip().splitlines()[-1]
    return _difference(out, wanted or rig.expected.all_rows)


def _until_it_waits(client: subprocess.Popen[str]) -> str:
    assert client.stdout
    line = client.stdout.readline()
    return _OK if line == "waiting\n" else f"its first message didn't come: {line.strip()}"


def _go_on(rig: _Rig, client: subprocess.Popen[str]) -> str:
    """Let a client go on that waits, and say what is wrong with its rows."""
    assert client.stdin
    client.stdin.write("\n")
    client.stdin.flush()
    return _outcome(rig, client)


def _difference(printed: str, wanted: _Report) -> str:
    report = _Report(**json.loads(printed))
    if report == wanted:
        return _OK
    then = "but others" if report.status == _OK else f"then {report.status}"
    return f"{report.rows:,} of {wanted.rows:,} rows, {then}"


def _sum_of(outcomes: list[str]) -> str:
    return next((outcome for outcome in outcomes if outcome != _OK), _OK)

"""Both clients and both engines, as they should be: what is read is what the file has."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
import pytest
import trustme
from ulid import ULID

from convert.id_text import IdKind
from streamer.batch_schema import batch_schema, id_kind_of
from streamer.client import AsyncEmbeddingClient, EmbeddingClient, Rpc
from streamer.client.channel import tls_credentials
from streamer.client.failures import (
    ClosedError,
    DatasetChangedError,
    NoProgressError,
    ServerFailedError,
)
from streamer.client.progress import DatasetHeaders
from streamer.dataset import Dataset
from streamer.engines.tls import Certificates
from streamer.errors import InvalidRequestError, Status
from streamer.service import EmbeddingService
from tests.certificates import Files
from tests.clients import CLIENTS, connect
from tests.datasets import FINGERPRINT, id_texts, make_batch, messages_of, with_info, write_file
from tests.engines import ENGINES, STARTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.engines.hosting import RunningEngine

_MIB = 1 << 20
_ROOT = Path(__file__).parent.parent
_ROWS = 40
_DIMENSION = 3
_CHUNK_ROWS = 25
# More than sockets and windows hold: a server that breaks off hasn't sent it all.
_LARGE_ROWS = 4000
_LARGE_DIMENSION = 2000
_FILE = make_batch(_ROWS, dimension=_DIMENSION)


def _service(path: Path) -> EmbeddingService:
    return EmbeddingService(
        Dataset(path), chunk_rows=lambda _: _CHUNK_ROWS, max_message_bytes=_MIB
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_file(folder / "jobs.arrow", _FILE, batch_rows=22)
    write_file(folder / "ulids.arrow", with_info(_FILE, id_kind="ulid"), batch_rows=22)
    write_file(folder / "empty.arrow", make_batch(0, dimension=_DIMENSION))
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def targets(engine: str, folder: Path) -> Iterator[dict[str, str]]:
    """Serve each dataset."""
    servers = {
        name: STARTERS[engine](_service(folder / f"{name}.arrow"))
        for name in ("jobs", "ulids", "empty")
    }
    yield {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}
    for server in servers.values():
        server.stop(0)


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(Rpc))
def rpc(request: pytest.FixtureRequest) -> Rpc:
    return Rpc(request.param)


def _rows(batches: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in messages_of(batch)]


@pytest.mark.parametrize("chunk_size", [0, 1, 7, _ROWS - 1, _ROWS, _ROWS + 1, 10_000])
def test_rows_are_those_of_the_file(
    targets: dict[str, str], kind: str, rpc: Rpc, chunk_size: int
) -> None:
    """Every value of every row; in batches of the size that was asked for."""
    with connect(kind, targets["jobs"]) as client:
        batches = list(client.batches(chunk_size=chunk_size, rpc=rpc))
    rows = chunk_size or (_CHUNK_ROWS if rpc is Rpc.CHUNKS else _ROWS)

    assert messages_of(_FILE) == _rows(batches)
    assert all(rows == batch.num_rows for batch in batches[:-1])
    assert 0 < batches[-1].num_rows <= rows
    schema = batch_schema(_DIMENSION, IdKind.UUID)
    assert all(schema.equals(batch.schema, check_metadata=True) for batch in batches)


def test_read_begins_after_any_row(targets: dict[str, str], kind: str, rpc: Rpc) -> None:
    """In upper case, too; after the last one there is nothing, which is no error."""
    rows, ids = messages_of(_FILE), id_texts(_FILE)
    with connect(kind, targets["jobs"]) as client:
        for place in range(_ROWS):
            batches = list(client.batches(ids[place].upper(), 11, rpc=rpc, must_exist=True))
            assert rows[place + 1 :] == _rows(batches)


@pytest.mark.parametrize("place", [0, 1, 22, 39, 40])
def test_read_begins_after_an_id_that_is_no_row(
    targets: dict[str, str], kind: str, rpc: Rpc, place: int
) -> None:
    """With the next row; not if the caller insists on a row."""
    ids = [UUID(text).int for text in id_texts(_FILE)]
    between = (ids[place - 1] + 1) if place else ids[0] - 1
    with connect(kind, targets["jobs"]) as client:
        stream = client.batches(str(UUID(int=between)), rpc=rpc)
        assert messages_of(_FILE)[place:] == _rows(list(stream))
        with pytest.raises(ServerFailedError, match="not in the dataset") as error:
            list(client.batches(str(UUID(int=between)), rpc=rpc, must_exist=True))
    assert Status.FAILED_PRECONDITION is error.value.status


def test_ulids_are_checkpoints_too(targets: dict[str, str], kind: str, rpc: Rpc) -> None:
    """Text of 26 characters in either case; the batches say what it is."""
    rows = messages_of(_FILE)
    with connect(kind, targets["ulids"]) as client:
        for place in (None, 0, 21, 38, 39):
            after = "" if place is None else str(ULID.from_uuid(UUID(rows[place]["id"])))
            expected = rows[0 if place is None else place + 1 :]
            for text in (after, after.lower()):
                batches = list(client.batches(text, 7, rpc=rpc, must_exist=True))
                assert expected == _rows(batches)
                assert all(id_kind_of(batch.schema) is IdKind.ULID for batch in batches)
        with pytest.raises(ServerFailedError, match="not a ULID in canonical form"):
            list(client.batches(rows[0]["id"], rpc=rpc))


@pytest.mark.parametrize("when", ["before", "during", "after", "twice"])
def test_dataset_says_what_is_served(targets: dict[str, str], kind: str, when: str) -> None:
    """Whenever it is asked, and no row is lost by it."""
    after = id_texts(_FILE)[9]
    expected = DatasetHeaders(FINGERPRINT, _ROWS, _DIMENSION, _ROWS - 10, checkpoint_found=True)
    with connect(kind, targets["jobs"]) as client, client.batches(after, 7) as stream:
        batches: list[pa.RecordBatch] = []
        if when in ("before", "twice"):
            assert expected == stream.dataset
        if when in ("during", "twice"):
            batches.append(next(stream))
            assert expected == stream.dataset
        batches.extend(stream)
        assert expected == stream.dataset
    assert messages_of(_FILE)[10:] == _rows(batches)


def test_empty_dataset_has_headers_and_no_rows(targets: dict[str, str], rpc: Rpc) -> None:
    """The sync client's part; grpc.aio may lose the headers of an answer without messages."""
    with connect("sync", targets["empty"]) as client, client.batches(rpc=rpc) as stream:
        expected = DatasetHeaders(FINGERPRINT, 0, _DIMENSION, 0, checkpoint_found=True)
        assert expected == stream.dataset
        assert [] == list(stream)


def test_empty_dataset_has_no_rows(targets: dict[str, str], kind: str, rpc: Rpc) -> None:
    """And nothing is asked again."""
    with connect(kind, targets["empty"]) as client:
        assert [] == list(client.batches(rpc=rpc))


def test_fingerprint_is_insisted_on(targets: dict[str, str], kind: str) -> None:
    """The dataset that is served, or none."""
    with connect(kind, targets["jobs"]) as client:
        assert _ROWS == len(_rows(list(client.batches(fingerprint=FINGERPRINT))))
        with pytest.raises(DatasetChangedError):
            next(client.batches(fingerprint="0" * 64))


def test_wrong_requests_are_the_callers_errors(targets: dict[str, str], kind: str) -> None:
    """Whoever notices first; none of them is tried again."""
    with connect(kind, targets["jobs"]) as client:
        with pytest.raises(InvalidRequestError):
            client.batches("x")
        with pytest.raises(InvalidRequestError, match="chunk_size -1"):
            client.batches(chunk_size=-1)
        with pytest.raises(ServerFailedError, match="chunk_size 10001 is not") as error:
            next(client.batches(chunk_size=10_001))
        assert Status.INVALID_ARGUMENT is error.value.status


def test_generic_multi_streams(targets: dict[str, str], rpc: Rpc) -> None:
    """Threads share a client, tasks an async one; each read is whole."""
    expected = messages_of(_FILE)
    with EmbeddingClient(targets["jobs"]) as client, ThreadPoolExecutor(4) as pool:
        for batches in pool.map(lambda _: list(client.batches(rpc=rpc, chunk_size=3)), range(8)):
            assert expected == _rows(batches)

    async def read_all() -> list[list[pa.RecordBatch]]:
        async def read(client: AsyncEmbeddingClient) -> list[pa.RecordBatch]:
            return [batch async for batch in client.batches(rpc=rpc, chunk_size=3)]

        async with AsyncEmbeddingClient(targets["jobs"]) as client:
            return await asyncio.gather(*(read(client) for _ in range(8)))

    for batches in asyncio.run(read_all()):
        assert expected == _rows(batches)


def test_iteration_after_the_end_has_nothing(targets: dict[str, str], kind: str) -> None:
    """One that was closed before its begin or in its middle has no end: rows are missing."""
    with connect(kind, targets["jobs"]) as client:
        ended, closed, unused = client.batches(), client.batches(chunk_size=1), client.batches()
        list(ended)
        next(closed)
        for stream in (ended, closed, unused):
            stream.close()
            stream.close()
        assert [] == list(ended)
        assert next(ended, None) is None
        for stream in (closed, unused):
            with pytest.raises(ClosedError):
                next(stream)


@pytest.mark.parametrize("mutual", [False, True])
def test_rows_come_over_tls(
    engine: str,
    folder: Path,
    tmp_path: Path,
    kind: str,
    mutual: bool,  # noqa: FBT001
) -> None:
    """With a certificate of the client's own where the server asks for one; else nothing."""
    ca, clients = trustme.CA(), trustme.CA()
    files = Files.made(tmp_path, ca)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    leaf = clients.issue_cert("client")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificates = Certificates(*files, *([tmp_path / "clients.pem"] if mutual else []))
    own = (tmp_path / "cert.pem", tmp_path / "key.pem") if mutual else ()
    server = STARTERS[engine](_service(folder / "jobs.arrow"), certificates=certificates)
    target = f"127.0.0.1:{server.port}"
    wrong = [None, tls_credentials(tmp_path / "clients.pem", *own)]
    if mutual:
        wrong.append(tls_credentials(tmp_path / "ca.pem"))
    try:
        right = tls_credentials(tmp_path / "ca.pem", *own)
        with connect(kind, target, credentials=right) as client:
            assert messages_of(_FILE) == _rows(list(client.batches()))
        for credentials in wrong:
            with (
                connect(kind, target, credentials=credentials, max_tries=2) as client,
                pytest.raises(NoProgressError),
            ):
                list(client.batches())
    finally:
        server.stop(0)


@pytest.mark.parametrize("changes", [False, True])
def test_server_that_is_stopped_in_mid_stream(
    engine: str,
    tmp_path: Path,
    kind: str,
    changes: bool,  # noqa: FBT001
) -> None:
    """It comes back on its port: with the same dataset the read goes on, with another it ends."""
    rows = make_batch(_LARGE_ROWS, dimension=_LARGE_DIMENSION)
    path = write_file(tmp_path / "jobs.arrow", rows, batch_rows=500)
    running: list[RunningEngine] = [STARTERS[engine](_service(path))]
    port = running[0].port
    pauses = 0

    def restart(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if changes and pauses == 1:
            write_file(tmp_path / "new.arrow", with_info(rows, fingerprint="f" * 64))
            (tmp_path / "new.arrow").replace(path)
        if pauses == 1:
            running.append(STARTERS[engine](_service(path), port=port))
        time.sleep(0.05)

    taken: list[pa.RecordBatch] = []
    with connect(kind, f"127.0.0.1:{port}", sleep=restart, max_tries=50) as client:
        stream = client.batches(chunk_size=100)
        taken.append(next(stream))
        running[0].stop(0)
        if changes:
            with pytest.raises(DatasetChangedError):
                taken.extend(stream)
        else:
            taken.extend(stream)
    running[-1].stop(0)

    got = [text for batch in taken for text in id_texts(batch)]
    assert id_texts(rows)[: len(got)] == got
    assert changes or len(got) == _LARGE_ROWS
    assert pauses


def _serve(path: Path, port: int) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "streamer", "serve", "--data", str(path),
            "--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR",
        ],
        cwd=_ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    return process, int(process.stdout.readline().rpartition(":")[2])


def test_server_that_is_killed_in_mid_stream(tmp_path: Path, kind: str) -> None:
    """SIGKILL, and a new process on the same port: each row comes once."""
    rows = make_batch(_LARGE_ROWS, dimension=_LARGE_DIMENSION)
    path = write_file(tmp_path / "jobs.arrow", rows, batch_rows=500)
    process, port = _serve(path, 0)
    processes = [process]

    def restart(_seconds: float) -> None:
        if len(processes) == 1:
            processes.append(_serve(path, port)[0])
        time.sleep(0.05)

    taken: list[pa.RecordBatch] = []
    try:
        with connect(kind, f"127.0.0.1:{port}", sleep=restart, max_tries=50) as client:
            for batch in client.batches(chunk_size=50):
                if not taken:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                taken.append(batch)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()

    assert 2 == len(processes)
    assert id_texts(rows) == [text for batch in taken for text in id_texts(batch)]
    vectors = pa.chunked_array([batch.column("vector").flatten() for batch in taken])
    assert rows.column("vector").flatten().equals(vectors.combine_chunks())

"""The whole way as a user goes it: sample, convert, serve, and a client elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamer import __version__
from tests.serving import Serving, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parent.parent
_ROWS = 2000

# Reads one RPC with the generated client and prints what arrived as JSON.
_CLIENT = """
import json, sys
import grpc
from proto import embedding_stream_pb2 as pb, embedding_stream_pb2_grpc as pb_grpc
target, rpc, after, chunk_size, take = sys.argv[1:]
channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", 16 << 20)])
stub = pb_grpc.EmbeddingStreamServiceStub(channel)
request = pb.RequestParams(last_processed_uuid=after, chunk_size=int(chunk_size))
rows = []
for message in getattr(stub, rpc)(request, timeout=60):
    rows += message.rows if rpc == "StreamEmbedding" else [message]
    if int(take) and len(rows) >= int(take):
        break
print(json.dumps([
    [r.id, r.company_name, r.exp_years, r.english_level, r.primary_keyword, list(r.vector)]
    for r in rows
]))
"""


def _run(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment(**extra), capture_output=True, text=True, check=False,
    )  # fmt: skip


def _read(
    server: Serving, rpc: str, *, after: str = "", chunk_size: int = 0, take: int = 0
) -> list[list[Any]]:
    out = subprocess.run(
        [sys.executable, "-c", _CLIENT, server.target, rpc, after, str(chunk_size), str(take)],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows: list[list[Any]] = json.loads(out.stdout)
    return rows


@pytest.fixture(scope="module", params=["records", "dataframe64", "dataframe32"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a sample pickle of one shape, converted."""
    folder = tmp_path_factory.mktemp(request.param)
    names = "real" if request.param == "dataframe64" else "documented"
    sample = _run(
        folder, str(_ROOT / "data" / "make_sample.py"), "--rows", str(_ROWS), "--dim", "16",
        "--shape", request.param, "--names", names, "--out", "jobs.pkl",
    )  # fmt: skip
    assert sample.returncode == 0, sample.stderr
    converted = _run(folder, "-m", "convert", "jobs.pkl")
    assert converted.returncode == 0, converted.stderr
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    server = Serving(folder, "--data", "jobs.arrow", "--host", "127.0.0.1")
    yield server
    assert server.stop() == 0


def _source_rows(folder: Path) -> list[list[Any]]:
    """Read the pickle with pandas' own code, which no part of the project does."""
    with (folder / "jobs.pkl").open("rb") as file:
        source = pickle.load(file)
    records = source if isinstance(source, list) else source.to_dict("records")
    rows = []
    for record in records:
        plain = {key.lower().replace(" ", "_"): value for key, value in record.items()}
        years = str(plain["exp_years"]).removesuffix("y").replace("no_exp", "0")
        vector = np.array(plain["job_post_vectors"], np.float32).tolist()
        rows.append([
            plain["id"], plain["company_name"], int(years), plain["english_level"],
            plain["primary_keyword"], vector,
        ])  # fmt: skip
    return sorted(rows, key=lambda row: uuid.UUID(row[0]).bytes)


@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_client_gets_the_rows_of_the_pickle(folder: Path, server: Serving, rpc: str) -> None:
    """Convert, stream, decode: what comes out is what went in, sorted by id."""
    assert _source_rows(folder) == _read(server, rpc)


def test_head_and_resume_are_the_whole(folder: Path, server: Serving) -> None:
    """A client that broke off goes on after its last row, in another process."""
    head = _read(server, "StreamEmbedding", chunk_size=7, take=700)
    middle = _read(server, "GetEmbeddings", after=head[-1][0].upper(), take=100)
    tail = _read(server, "StreamEmbedding", after=middle[-1][0], chunk_size=10_000)

    assert _source_rows(folder) == head + middle + tail


def test_info_and_verify_describe_the_file(folder: Path) -> None:
    """Both commands succeed on what convert wrote."""
    info = _run(folder, "-m", "streamer", "info", "jobs.arrow")
    verify = _run(folder, "-m", "streamer", "verify", "jobs.arrow")
    ids = [row[0] for row in _source_rows(folder)]

    assert (0, 0) == (info.returncode, verify.returncode)
    assert f"rows         {_ROWS:,} in 1 record batches" in info.stdout
    assert f"first id     {ids[0]}" in info.stdout
    assert f"last id      {ids[-1]}" in info.stdout
    assert re.search(r"fingerprint  [0-9a-f]{64}\n", info.stdout)
    assert "jobs.arrow is sound: 2,000 rows in order" in verify.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    _run(
        folder, str(_ROOT / "data" / "make_sample.py"),
        "--rows", "50", "--dim", "4", "--out", "jobs.pkl",
    )  # fmt: skip
    assert _run(folder, "-m", "convert", "jobs.pkl").returncode == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_ends_with_success(small: Path, number: int) -> None:
    """SIGTERM and Ctrl-C end an idle server at once, with exit code 0 and a line in the log."""
    server = Serving(small, "--data", "jobs.arrow")

    assert 0 == server.stop(number)
    assert "draining" in server.log.read_text()
    assert server.log.read_text().endswith("stopped\n")
    assert f"] INFO [commands.running] - embedding-streamer {__version__}, wire engine, on " in (
        server.log.read_text()
    )


def test_settings_come_from_the_env_file(small: Path) -> None:
    """DATA_PATH, CHUNK_SIZE and LOG_FILE are read from .env in the working folder."""
    (small / ".env").write_text(
        "DATA_PATH=jobs.arrow\nCHUNK_SIZE=20\nLOG_FILE=logs/s.log\nGRPC_PROT=1\n"
    )
    server = Serving(small)
    _read(server, "StreamEmbedding")
    server.stop()
    (small / ".env").unlink()

    log = (small / "logs" / "s.log").read_text()
    assert re.search(r"\] INFO \[service\] - StreamEmbedding to .* by 20: 50 rows after", log)
    warning = "WARNING [cli.options] - .env sets 'GRPC_PROT', which is no setting: is GRPC_PORT"
    assert 1 == log.count(warning)
    assert re.search(r"sent 50 rows, 0\.0 MB in [\d.]+ s \([\d,]+ rows/s\): complete", log)


def test_automatic_chunk_size_is_logged(small: Path) -> None:
    """CHUNK_SIZE=auto chooses by memory and dimension; any machine fits 1000 small rows."""
    server = Serving(small, "--data", "jobs.arrow", settings={"CHUNK_SIZE": "auto"})
    _read(server, "StreamEmbedding")
    server.stop()

    assert " by 1000: 50 rows" in server.log.read_text()


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, "NOT_FOUND", "no dataset file jobs.arrow yet"),
        (b"something else", "DATA_LOSS", "dataset file jobs.arrow: it is not an Arrow file"),
    ],
)
def test_server_waits_for_a_sound_dataset(
    small: Path, tmp_path: Path, content: bytes | None, code: str, said: str
) -> None:
    """Without one the server starts, says so, and serves the file once it is there."""
    if content is not None:
        (tmp_path / "jobs.arrow").write_bytes(content)
    server = Serving(tmp_path, "--data", "jobs.arrow")
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        _read(server, "GetEmbeddings")
    (tmp_path / "new").write_bytes((small / "jobs.arrow").read_bytes())
    (tmp_path / "new").replace(tmp_path / "jobs.arrow")

    rows = _read(server, "GetEmbeddings")
    server.stop()

    assert 50 == len(rows)
    assert code in refusal.value.stderr
    assert re.search(f"NOT_SERVING: calls get {code}: .*{said}", server.log.read_text())


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "text"),
    [
        (["serve"], {"GRPC_PORT": "x"}, 2, "GRPC_PORT is 'x'"),
        (["serve", "--port", "0", "--host", "192.0.2.1"], {}, 1, "can't listen on 192.0.2.1:0"),
        (["serve"], {"LOG_FILE": "/dev/null/x"}, 1, "LOG_FILE /dev/null/x"),
        (["serve"], {"LOG_FILE": "pipe"}, 1, "LOG_FILE pipe: it is a pipe that nobody reads"),
        (["serve", "--host", "unix:"], {}, 2, "unix: wants the path of a socket file"),
        (["serve", "--engine", "steam"], {}, 2, "--engine"),
        (["verify", "bad.arrow"], {}, 1, "python -m convert"),
        (["info", "none.arrow"], {}, 1, "no dataset file none.arrow"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    small: Path, arguments: list[str], variables: dict[str, str], code: int, text: str
) -> None:
    """No traceback for what a user can mend."""
    (small / "bad.arrow").write_bytes(b"something else entirely")
    with contextlib.suppress(FileExistsError):
        os.mkfifo(small / "pipe")

    out = _run(small, "-m", "streamer", *arguments, **variables)

    assert code == out.returncode
    assert text in out.stderr
    assert 1 == out.stderr.lower().count("error: ")
    assert "Traceback" not in out.stderr


def test_verify_finds_a_vector_that_is_not_finite(small: Path) -> None:
    """A NaN that got into the file is named with its row's id."""
    data = bytearray((small / "jobs.arrow").read_bytes())
    with (small / "jobs.pkl").open("rb") as file:
        record = pickle.load(file)[7]
    place = data.index(np.array(record["job_post_vectors"], np.float32).tobytes())
    data[place + 4 : place + 8] = np.float32("nan").tobytes()
    (small / "nan.arrow").write_bytes(data)

    out = _run(small, "-m", "streamer", "verify", "nan.arrow")

    assert 1 == out.returncode
    assert f"the vector of row {record['id']} is not finite" in out.stderr
    assert 0 == _run(small, "-m", "streamer", "info", "nan.arrow").returncode


@pytest.mark.parametrize("command", [[], ["serve"], ["info"], ["verify"]])
def test_help_teaches(command: list[str]) -> None:
    """Each command explains itself."""
    out = _run(_ROOT, "-m", "streamer", *command, "--help")

    assert 0 == out.returncode
    assert "Usage: python -m streamer" in out.stdout
    assert len(out.stdout) > 150


@pytest.mark.parametrize("package", ["streamer", "convert"])
def test_each_command_says_its_version(package: str, tmp_path: Path) -> None:
    """The same of both, and of the distribution: setuptools reads it where they do."""
    out = _run(tmp_path, "-m", package, "--version")
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())

    assert (0, f"embedding-streamer {__version__}\n") == (out.returncode, out.stdout)
    assert {"attr": "convert.__version__"} == project["tool"]["setuptools"]["dynamic"]["version"]

"""Whatever a server, a caller, a row, a file or a database says: no terminal obeys it.

Each command is run against inputs that hold escape sequences, C1 controls, overrides of the
direction of writing, and line feeds, wherever there is text. What it prints and logs must be
lines of text that nobody else has written.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import pickle
import sys
import traceback
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import grpc
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convert.__main__
import streamer.__main__
from convert.foreign_text import fit_json, fit_lines, fit_to_show, quoted
from proto import embedding_stream_pb2 as pb
from streamer.client.aio import AsyncEmbeddingClient
from streamer.client.client import EmbeddingClient
from streamer.client.failures import ReadError
from streamer.client.reading import ReadPolicy
from streamer.errors import Status, StreamerError
from streamer.retry import Backoff
from tests.batch_server import BatchServer, refuse
from tests.batch_server import say as answer_with
from tests.datasets import make_batch, with_info, write_file
from tests.engines import ENGINES
from tests.postgres import new_database, run, session_url
from tests.raw_server import RawCall, RawServer
from tests.scripted_server import Fail, Headers, Rows, ScriptedServer, Sound, rows_of
from tests.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HONEST = "경력 3년 · Zoë Müller　株式会社"
_CONTROLS = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b31m\u202egpj.\u2066\u200f\u2028\ufeff\x7f"
_EVIL = f"{_CONTROLS}\r\nFORGED line\n{_HONEST}"
_SMALL = make_batch(3, dimension=4)
_ROWS = rows_of([make_batch(3, dimension=4, text=[_EVIL])])
_PATIENT = ReadPolicy(max_tries=2, backoff=Backoff(base_seconds=0.0, cap_seconds=0.0))


def _assert_fit(text: str, *, has: str = "") -> None:
    """Check that `text` is harmless, and no line of it is what somebody else made one."""
    obeyed = {c for c in text if not (c == "\n" or c.isprintable() or c in "\u3000\xa0")}
    assert obeyed == set(), ascii(text)
    assert not [line for line in text.splitlines() if line.lstrip(" │").startswith("FORGED")], text
    assert has in text


class Said(NamedTuple):
    """What a command said, and its exit code."""

    out: str
    log: str
    code: int


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Said]]:
    """Run a command in this process: what it prints, then what is in its log file."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run_it(module: Any, *arguments: str, **settings: str) -> Said:
        log = tmp_path / "command.log"
        printed = io.StringIO()
        code = 0
        with (
            mock.patch.object(sys, "argv", ["command", *arguments]),
            mock.patch.dict(os.environ, LOG_FILE=str(log), COLUMNS="200", **settings),
            contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed),
        ):  # fmt: skip
            try:
                module.run()
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(printed.getvalue(), log.read_text() if log.exists() else "", code)

    yield run_it
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


@given(st.text())
def test_what_is_fit_to_show_is_one_line_that_nothing_obeys(text: str) -> None:
    """And what was printable before is as it was; `quoted` is so, too."""
    for shown in (fit_to_show(text), quoted(text)):
        assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    if text.isprintable():
        assert text == fit_to_show(text)
    assert text.count("\n") == fit_lines(text).count("\n")


@given(st.text())
def test_json_that_is_fit_to_show_says_the_same(text: str) -> None:
    """On lines that nothing obeys: of rows that were left out."""
    shown = fit_json(json.dumps([text], ensure_ascii=False))

    assert [text] == json.loads(shown)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    assert json.dumps([_HONEST], ensure_ascii=False) == fit_json(f'["{_HONEST}"]')


def test_honest_text_stays_readable() -> None:
    """Of any script, ideographic spaces included."""
    assert _HONEST == fit_to_show(_HONEST)
    assert "'경력 3년'" == quoted("경력 3년")


def _evil_headers(call: RawCall) -> None:
    call.grpc_headers(
        ("dataset-fingerprint", _CONTROLS + _HONEST), ("dataset-rows", _CONTROLS),
        ("checkpoint-found", _CONTROLS), ("rows-remaining", "3"),
    )  # fmt: skip
    call.rows(_ROWS)
    call.trailers()


def test_peek_shows_a_hostile_server(command: Callable[..., Said]) -> None:
    """Its headers, the text of its rows."""
    with RawServer([_evil_headers]) as server:
        said = command(streamer.__main__, "peek", "--from", server.target)

    _assert_fit(said.out, has="\\x1b]0;owned\\x07")
    assert "경력 3년" in said.out
    _assert_fit(said.log)
    assert 0 == said.code


@pytest.mark.parametrize("status", [Status.INTERNAL, Status.UNAVAILABLE])
def test_peek_shows_the_words_of_a_server_that_fails(
    command: Callable[..., Said], status: Status
) -> None:
    """In its error, and where it tries again."""
    with ScriptedServer(_ROWS) as server:
        server.play(*[[Fail(status, _EVIL)]] * 3)
        said = command(streamer.__main__, "peek", "--from", server.target)

    _assert_fit(said.out, has="\\x1b]0;owned\\x07")
    _assert_fit(said.log)
    assert 1 == said.code


def _failures(policy: ReadPolicy, target: str) -> list[BaseException]:
    """Return how a read fails with both clients."""
    errors: list[BaseException] = []
    with EmbeddingClient(target, policy=policy) as client, client.batches() as stream:
        try:
            for _ in stream:
                pass
        except ReadError as error:
            errors.append(error)

    async def read() -> None:
        async with AsyncEmbeddingClient(target, policy=policy) as client:
            async for _ in client.batches():
                pass

    try:
        asyncio.run(read())
    except ReadError as error:
        errors.append(error)
    return errors


@pytest.mark.parametrize("status", [Status.INTERNAL, Status.UNAVAILABLE])
def test_clients_errors_are_fit_to_show(status: Status) -> None:
    """As text, and in a traceback."""
    with ScriptedServer(_ROWS) as server:
        server.play(*[[Fail(status, _EVIL)]] * 4)
        errors = _failures(_PATIENT, server.target)

    assert 2 == len(errors)
    for error in errors:
        _assert_fit(str(error), has="경력 3년")
        _assert_fit("".join(traceback.format_exception(error)))


def test_client_tells_of_another_dataset_in_words_that_are_fit_to_show() -> None:
    """The fingerprint is the server's own."""

    def begin(call: RawCall) -> None:
        call.grpc_headers(("dataset-fingerprint", "known"), ("rows-remaining", "3"))
        call.rows(_ROWS[:1])
        call.trailers(14)

    with RawServer([begin, _evil_headers, begin, _evil_headers]) as server:
        errors = _failures(_PATIENT, server.target)

    assert ["DatasetChangedError"] * 2 == [type(error).__name__ for error in errors]
    for error in errors:
        _assert_fit(str(error), has="\\x1b]0;owned")


def test_any_error_of_ours_is_fit_to_show() -> None:
    """What a new one quotes, too."""
    _assert_fit(str(StreamerError(f"it says {_CONTROLS}\nand more")), has="\\nand more")


def test_upload_shows_what_a_batch_server_says(
    command: Callable[..., Said], tmp_path: Path
) -> None:
    """Its words, and ids that it has made up."""
    path = write_file(tmp_path / "jobs.arrow", _SMALL)
    strange = answer_with(total_count=3, success_count=2, failed_count=1, failed_ids=[_EVIL])
    for answer in (refuse(grpc.StatusCode.INTERNAL, _EVIL), strange):
        with BatchServer([answer]) as server:
            said = command(streamer.__main__, "upload", "--to", server.target, "--data", str(path))

        _assert_fit(said.out, has="\\x1b]0;owned\\x07")
        _assert_fit(said.log)
        assert 1 == said.code


def test_info_and_verify_show_a_hostile_file(command: Callable[..., Said], tmp_path: Path) -> None:
    """Its name, what it says of its source, and types of columns that are named so."""
    sound = write_file(tmp_path / f"{_EVIL}.arrow", with_info(_SMALL, source=_EVIL))
    broken = tmp_path / f"broken{_EVIL}.arrow"
    names = list(_SMALL.schema.names)
    types = pa.StructArray.from_arrays([pa.array([1, 2, 3])], names=[_EVIL])
    columns = [types if name == "exp_years" else _SMALL.column(name) for name in names]
    write_file(broken, pa.RecordBatch.from_arrays(columns, names).replace_schema_metadata(
        _SMALL.schema.metadata
    ))  # fmt: skip
    renamed = tmp_path / "renamed.arrow"
    write_file(renamed, pa.RecordBatch.from_arrays(_SMALL.columns, [*names[:-1], _EVIL])
               .replace_schema_metadata(_SMALL.schema.metadata))  # fmt: skip
    for name in ("info", "verify"):
        said = command(streamer.__main__, name, str(sound))
        _assert_fit(said.out, has="\\x1b]0;owned\\x07")
        assert 0 == said.code
        for path in (broken, renamed):
            said = command(streamer.__main__, name, str(path))
            _assert_fit(said.out, has="\\x1b]0;owned\\x07")
            assert 1 == said.code


_RECORD = {
    "id": "0a1b2c3d-0000-4000-8000-000000000001", "company_name": "x", "exp_years": 3,
    "english_level": "x", "primary_keyword": "x", "job_post_vectors": [1.0, 2.0],
}  # fmt: skip


def _sources(folder: Path) -> Iterator[Path]:
    """Make files of every kind that hold hostile text in other places each."""
    records: dict[str, list[dict[Any, Any]]] = {
        "name": [{**_RECORD, _EVIL: 1}],
        "text": [{**_RECORD, "company_name": _EVIL, "exp_years": _EVIL}],
        "id": [{**_RECORD, "id": _EVIL}],
        "surrogate": [{**_RECORD, "company_name": _EVIL + "\udc80"}],
        "missing": [{_EVIL: 1}],
    }
    for name, rows in records.items():
        path = folder / f"{name}.pkl"
        path.write_bytes(pickle.dumps(rows))
        yield path
        table = pa.table({key: [str(row[key]) for row in rows] for key in rows[0] if "\udc80" not
                          in str(rows[0][key])})  # fmt: skip
        pa.parquet.write_table(table, folder / f"{name}.parquet")
        yield folder / f"{name}.parquet"
    refused = folder / f"{_EVIL}.pkl"
    refused.write_bytes(b"\x80\x04\x8c\x02os\x8c" + bytes([len(_EVIL.encode())]) + _EVIL.encode()
                        + b"\x93.")  # fmt: skip
    yield refused
    part = folder / f"parts{_EVIL}"
    part.mkdir()
    (part / f"{_EVIL}.parquet").write_bytes(b"PAR1" + _EVIL.encode())
    yield part
    yield folder / f"absent{_EVIL}.pkl"


def test_convert_and_inspect_show_hostile_sources(
    command: Callable[..., Said], tmp_path: Path
) -> None:
    """Names of files, columns and globals, values that won't do, the words of Arrow."""
    for path in _sources(tmp_path):
        for arguments in (
            (str(path), "-o", "out.arrow", "--force"),
            (str(path), "-o", "out.arrow", "--force", "--skip-invalid"),
            ("inspect", str(path)),
        ):
            said = command(convert.__main__, *arguments)
            _assert_fit(said.out)
            assert "Traceback" not in said.out


@pytest.mark.parametrize("engine", ENGINES)
def test_servers_log_tells_of_hostile_callers(tmp_path: Path, engine: str) -> None:
    """What they ask for, and by what names."""
    path = write_file(tmp_path / "jobs.arrow", _SMALL)
    log = tmp_path / "log"
    settings = {"ENGINE": engine, "LOG_FILE": str(log), "LOG_LEVEL": "DEBUG"}
    with Serving(tmp_path, "--data", str(path), settings=settings) as server:
        with grpc.insecure_channel(server.target) as channel:
            for method, metadata in {
                "StreamEmbedding": (),
                "GetEmbeddings": (("checkpoint-policy", "\u202e~"),),
                "No\u202e": (),
            }.items():
                call: Any = channel.unary_stream(
                    f"/embedding.EmbeddingStreamService/{method}",
                    pb.RequestParams.SerializeToString,
                )
                with contextlib.suppress(grpc.RpcError, UnicodeEncodeError, ValueError):
                    list(call(pb.RequestParams(last_processed_uuid=_EVIL), metadata=metadata))
        server.wait_for("\\x1b]0;owned")
        server.stop()

    _assert_fit(server.log.read_text(), has="경력 3년")
    _assert_fit(log.read_text(), has="\\x1b]0;owned")


def test_pull_and_its_database_show_nothing_that_is_obeyed(
    command: Callable[..., Said], pytestconfig: pytest.Config
) -> None:
    """The server's words, and those of a trigger that refuses its rows."""
    with new_database(session_url(pytestconfig)) as url, ScriptedServer(_ROWS) as server:
        into = (
            "pull",
            "--from",
            server.target,
            "--into",
            url,
            "--index",
            "none",
            "--table",
            "jobs",
        )
        server.play([Fail(Status.INTERNAL, _EVIL)])
        refused = command(streamer.__main__, *into)
        server.play([Headers(remaining=3, rows=3), Rows(0, 3)])
        assert 0 == command(streamer.__main__, *into).code
        run(url, "TRUNCATE jobs")
        words = _EVIL.replace("'", "''")
        run(
            url,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RAISE"
            f" EXCEPTION USING MESSAGE = '{words}', DETAIL = '{words}'; END $f$",
        )
        run(
            url,
            "CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        server.play([Sound()], [Sound()])
        by_trigger = command(streamer.__main__, *into, "--restart")

    for said in (refused, by_trigger):
        _assert_fit(said.out, has="\\x1b]0;owned\\x07")
        _assert_fit(said.log)
        assert 1 == said.code

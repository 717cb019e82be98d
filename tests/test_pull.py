"""The command `pull`: what it writes, says and refuses, from real engines into PostgreSQL."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.client.client import EmbeddingClient
from streamer.pull import loads_of
from streamer.pull import pull as pull_rows
from streamer.pull_refusals import OtherDatasetError
from streamer.sinks.copy_binary import copy_rows
from streamer.sinks.database import connect
from streamer.sinks.table import OnConflict, TakenIdError
from streamer.sinks.target import TableName
from tests.datasets import make_batch, with_column, with_info, write_file
from tests.engines import ENGINES
from tests.postgres import (
    assert_table_holds,
    assert_table_is_file,
    client_batch,
    configure,
    load,
    new_database,
    run,
    session_url,
)
from tests.pulling import position, pull, serving, start_server
from tests.scripted_server import ScriptedServer, Sound, embeddings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ROWS = make_batch(1000, seed=3)
_OTHER = "fedcba9876543210" * 4
_NAME = TableName("public", "recruit_embedding")
# Many transactions for little data; many messages in each.
_SMALL = {"PULL_COMMIT_SIZE": "10KB", "PULL_CHUNK_SIZE": "30"}


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a dataset file, in a folder where no .env is, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write_file(tmp_path / "jobs.arrow", _ROWS, batch_rows=350)


class _BreakError(Exception):
    """What ends a pull from inside."""


def _pull_rows(
    source: str, url: str, *, advance: Callable[[int], None], max_bytes: int = 10_000
) -> None:
    with connect(url) as connection:
        pull_rows(
            EmbeddingClient(source), connection, _NAME,
            load_bytes=max_bytes, chunk_rows=30, on_conflict=OnConflict.UPDATE, restart=False,
            announce=lambda _: None, advance=advance,
        )  # fmt: skip


def _break_off(source: str, url: str, loads: int) -> int:
    """Pull so many loads and then break off; return the rows that are there."""
    left = iter(range(loads - 1))

    def advance(_: int) -> None:
        if next(left, None) is None:
            raise _BreakError

    with pytest.raises(_BreakError):
        _pull_rows(source, url, advance=advance)
    rows, in_checkpoint = position(url)
    assert rows == in_checkpoint
    return rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("commit", ["1", "10KB", "1GB"])
def test_empty_database_gets_every_row(url: str, file: Path, engine: str, commit: str) -> None:
    """One command into an empty database: the table is the file, and the lines say so."""
    with serving(file, engine) as source:
        done = pull(source, url, PULL_COMMIT_SIZE=commit, PULL_CHUNK_SIZE="100")

    assert done.error is None
    assert re.fullmatch(
        r"pulling 1,000 of 1,000 rows, from the first\n"
        r"1,000 rows written, [\d,]+ rows/s; public\.recruit_embedding has 1,000 rows\n",
        done.output,
    )
    assert_table_is_file(url, file)
    assert (1000, 1000) == position(url)


@pytest.mark.parametrize("engine", ENGINES)
def test_broken_off_pull_goes_on_where_it_was(url: str, file: Path, engine: str) -> None:
    """The rows that are there are neither asked for nor written again."""
    with serving(file, engine) as source:
        rows = _break_off(source, url, 3)
        before = run(url, "SELECT id, xmin::text FROM recruit_embedding ORDER BY id")
        done = pull(source, url, **_SMALL)
    after = run(url, "SELECT id, xmin::text FROM recruit_embedding ORDER BY id")

    assert 0 < rows < 1000
    last = _ROWS.column("id")[rows - 1].as_py()
    assert f"pulling {1000 - rows} of 1,000 rows, after {last}\n" in done.output
    assert f"\n{1000 - rows} rows written, " in done.output
    assert before == after[:rows]
    assert_table_is_file(url, file)


def test_second_pull_has_nothing_to_do(url: str, file: Path) -> None:
    """It says so, and succeeds."""
    with serving(file) as source:
        pull(source, url)
        done = pull(source, url)

    assert done.error is None
    assert done.output == (
        "nothing new: every row of the dataset was pulled before\n"
        "0 rows written; public.recruit_embedding has 1,000 rows\n"
    )


@pytest.mark.parametrize("place", ["address", "environment", "database"])
def test_text_arrives_whatever_encoding_clients_have(url: str, file: Path, place: str) -> None:
    """COPY's binary form has text in the client's encoding, and rows are UTF-8."""
    variables = {"PGCLIENTENCODING": "latin1"} if place == "environment" else {}
    if place == "database":
        configure(url, "client_encoding = latin1")
    address = url
    if place == "address":
        address += ("&" if "?" in url else "?") + "client_encoding=latin1"
    with serving(file) as source:
        done = pull(source, address, **variables)

    assert done.error is None
    assert_table_is_file(url, file)


def test_restart_writes_every_row_over_what_is_there(url: str, file: Path) -> None:
    """Deleted rows come back, changed ones become what they were, the others stay."""
    with serving(file) as source:
        pull(source, url)
        run(url, "DELETE FROM recruit_embedding WHERE mod(exp_years, 5) = 0")
        run(url, "UPDATE recruit_embedding SET company_name = 'x' WHERE mod(exp_years, 5) = 1")
        done = pull(source, url, "--restart", **_SMALL)

    assert "pulling 1,000 of 1,000 rows, from the first\n" in done.output
    assert_table_is_file(url, file)
    assert (1000, 1000) == position(url)


def test_deleted_rows_are_warned_of(url: str, file: Path) -> None:
    """A table that was emptied or restored from a backup has fewer rows than were pulled."""
    with serving(file) as source:
        pull(source, url)
        run(url, "TRUNCATE recruit_embedding")
        done = pull(source, url)
        run(url, "DROP TABLE recruit_embedding")
        anew = pull(source, url)

    assert "warning: that is fewer than the 1,000 that were pulled into it" in done.output
    assert "--restart writes all of them again" in done.output
    assert done.error is None
    assert "1,000 rows written" in anew.output
    assert_table_is_file(url, file)


@pytest.mark.parametrize("engine", ENGINES)
def test_server_that_comes_back_is_read_on(
    url: str, file: Path, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that goes away in the middle and comes back costs nothing but time."""
    # 64 MB: more than is on its way when the server stops.
    write_file(file, make_batch(1000, dimension=16_000), batch_rows=350)
    servers = [start_server(file, engine)]
    port = int(servers[0].address.rpartition(":")[2])

    def bounce(_: int) -> None:
        if len(servers) < 3:
            servers[-1].stop(0)
            servers.append(start_server(file, engine, port=port))

    caplog.set_level("INFO", "streamer.service")
    try:
        _pull_rows(f"127.0.0.1:{port}", url, advance=bounce, max_bytes=1)
    finally:
        servers[-1].stop(0)

    assert 2 <= caplog.text.count(" rows after ")
    assert_table_is_file(url, file)


def test_empty_dataset_is_pulled(url: str, file: Path) -> None:
    """No rows are a table without rows, and no error."""
    write_file(file, with_info(_ROWS.slice(0, 0), rows=0))
    with serving(file) as source:
        done = pull(source, url)

    assert "0 rows written; public.recruit_embedding has 0 rows\n" in done.output
    assert done.error is None


def test_dataset_after_an_empty_one_is_pulled(url: str, file: Path) -> None:
    """Of a dataset that put no row into the table nothing is left to be mixed up with."""
    write_file(file, with_info(_ROWS.slice(0, 0), rows=0, fingerprint=_OTHER))
    with serving(file) as source:
        pull(source, url)
        write_file(file.with_name("new"), _ROWS).replace(file)
        done = pull(source, url)
        again = pull(source, url)

    assert done.error is None
    assert "nothing new" in again.output
    assert_table_is_file(url, file)


def test_ulid_dataset_is_pulled_and_resumed(url: str, file: Path) -> None:
    """Its checkpoint is the text of a ULID, the table's ids are the same 16 bytes."""
    write_file(file, with_info(_ROWS, id_kind="ulid"))
    with serving(file) as source:
        rows = _break_off(source, url, 2)
        done = pull(source, url)

    ((last,),) = run(url, "SELECT last_id FROM embedding_streamer_checkpoint")
    assert re.search(r"after [0-9A-HJKMNP-TV-Z]{26}\n", done.output)
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", last)
    assert 0 < rows < 1000
    assert_table_is_file(url, file)


@pytest.mark.parametrize("kinds", [("uuid", "ulid"), ("ulid", "uuid")], ids="-".join)
def test_dataset_with_ids_of_another_kind_is_another_one(
    url: str, file: Path, kinds: tuple[str, str]
) -> None:
    """Its server takes the checkpoint for none: the answer says what to do, all the same."""
    for kind, number in zip(kinds, ("1", "2"), strict=True):
        write_file(file, with_info(_ROWS, id_kind=kind, fingerprint=number * 64))
        with serving(file) as source:
            done = pull(source, url)

    assert isinstance(done.error, OtherDatasetError)
    assert "and the server has another dataset now. --restart" in str(done.error)


def test_messages_of_long_rows_have_fewer_rows(url: str) -> None:
    """400 rows of 3,000 floats are 5 MB: the others are asked for anew."""
    rows = embeddings(600, dimension=3_000)
    with ScriptedServer(rows) as server:
        server.play([Sound()], [Sound()])
        done = pull(server.target, url, PULL_CHUNK_SIZE="400")
        asked = [call.chunk_size for call in server.calls]

    assert None is done.error, done.output
    assert 400 == asked[0]
    assert 100 < asked[1] < 200
    assert [(600,)] == run(url, "SELECT count(*) FROM recruit_embedding")


@pytest.mark.parametrize("choice", OnConflict)
def test_rows_from_elsewhere_are_treated_as_asked(url: str, file: Path, choice: OnConflict) -> None:
    """Ids that the table had before the first pull: updated, left alone, or refused."""
    theirs = with_column(_ROWS.slice(500, 3), "exp_years", pa.array([7] * 3, pa.int32()))
    load(url, theirs)
    with serving(file) as source:
        done = pull(source, url, "--on-conflict", choice.value, **_SMALL)

    rows, in_checkpoint = position(url)
    if choice is OnConflict.ERROR:
        assert isinstance(done.error, TakenIdError)
        assert str(_ROWS.column("id")[500].as_py()) in str(done.error)
        assert 0 < in_checkpoint <= 500
        assert rows == in_checkpoint + 3
        return
    assert (1000, 1000) == (rows, in_checkpoint)
    expected = [1000] if choice is OnConflict.UPDATE else [500, 3, 497]
    parts = [_ROWS] if len(expected) == 1 else [_ROWS.slice(0, 500), theirs, _ROWS.slice(503)]
    whole = pa.Table.from_batches(map(client_batch, parts)).combine_chunks().to_batches()[0]
    assert_table_holds(url, whole)


@given(
    cuts=st.sets(st.integers(1, 299), max_size=12).map(sorted),
    max_bytes=st.integers(1, 30_000),
)
@settings(max_examples=60)
def test_loads_are_the_rows_again(cuts: list[int], max_bytes: int) -> None:
    """However the rows come, and whatever is committed at a time: all of them, once, in order.

    Each load but the last is full, and no fuller than the batch that filled it makes it.
    """
    whole = client_batch(_ROWS.slice(0, 300))
    bounds = [0, *cuts, 300]
    batches = [whole.slice(a, b - a) for a, b in pairwise(bounds)]

    loads = list(loads_of(iter(batches), max_bytes))

    pieces = [[piece.to_pybytes() for piece in load.rows.pieces] for load in loads]
    assert copy_rows(whole).to_pybytes() == b"".join(map(b"".join, pieces))
    assert all(sum(map(len, load)) >= max_bytes for load in pieces[:-1])
    assert all(sum(map(len, load[:-1])) < max_bytes for load in pieces)
    ends = np.cumsum([load.rows.rows for load in loads])
    assert 300 == ends[-1]
    ids = whole.column("id")
    assert [ids[int(end) - 1].as_py() for end in ends] == [load.rows.last_id for load in loads]
    assert [str(load.rows.last_id) for load in loads] == [load.last_id for load in loads]
    assert [ids[int(e) - n.rows.rows].as_py() for e, n in zip(ends, loads, strict=True)] == [
        load.rows.first_id for load in loads
    ]

"""What `pull` makes of servers, settings and folders that are not as they should be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from streamer.errors import DecodeError
from streamer.sinks.database import DatabaseError, EmbeddedError, TargetError, connect
from tests.postgres import TABLE, new_database, run, session_url
from tests.pulling import pull
from tests.scripted_server import Headers, Rows, ScriptedServer, Sound, embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def url(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Return an empty database; the current folder has no .env."""
    monkeypatch.chdir(tmp_path)
    with new_database(session_url(pytestconfig)) as url:
        yield url


def _has_table(url: str) -> bool:
    return run(url, "SELECT to_regclass(%s) IS NOT NULL", TABLE) == [(True,)]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (Headers(remaining=8), "pulling 8 rows, from the first"),
        (Headers(), "the server does not say how many rows there are"),
        (Headers(fingerprint=None), "the server does not say how many rows there are"),
        (Headers(remaining=8, rows=9), "pulling 8 of 9 rows, from the first"),
    ],
)
def test_a_server_may_say_little(url: str, headers: Headers, said: str) -> None:
    """Whatever headers are missing, the rows are written."""
    with ScriptedServer(embeddings(8)) as server:
        server.play([headers, Rows(0, 8)])
        done = pull(server.target, url)

    assert done.error is None
    assert said in done.output
    assert [(8,)] == run(url, f"SELECT count(*) FROM {TABLE}")


def test_rows_of_another_dimension_than_announced_leave_no_table(url: str) -> None:
    """A server that contradicts itself doesn't stand in the way of a sound one."""
    with ScriptedServer(embeddings(8)) as server:
        server.play([Headers(remaining=8, rows=8, dimension=5), Rows(0, 8)], [Sound()])
        refused = pull(server.target, url)
        assert isinstance(refused.error, DecodeError)
        assert "announces 5 floats and sends 2" in str(refused.error)
        assert not _has_table(url)

        assert pull(server.target, url).error is None
    assert [(8,)] == run(url, f"SELECT count(*) FROM {TABLE}")


def test_a_first_load_that_fails_leaves_no_table(url: str) -> None:
    """The table is made with its first rows, or not at all."""
    rows = embeddings(8)
    rows[3].vector[0] = math.nan
    with ScriptedServer(rows) as server:
        server.play([Sound()])
        done = pull(server.target, url)

    assert isinstance(done.error, DatabaseError)
    assert not _has_table(url)


def test_a_wrong_index_memory_is_told_before_the_load(url: str) -> None:
    """Nobody waits for a load to learn of a typing error."""
    with ScriptedServer(embeddings(8)) as server:
        done = pull(server.target, url, "--index", "hnsw", INDEX_MEMORY="lots")
        assert [] == server.calls

    assert isinstance(done.error, DatabaseError)
    assert "maintenance_work_mem" in str(done.error)


def test_an_index_for_another_distance_is_not_the_one_that_was_asked_for(url: str) -> None:
    """Cosine queries don't use an index of Euclidean distance."""
    with ScriptedServer(embeddings(8)) as server:
        server.play([Sound()], [Sound()], [Sound()])
        assert pull(server.target, url).error is None
        run(url, f"CREATE INDEX ON {TABLE} USING hnsw (vector vector_l2_ops)")
        assert "built in" in pull(server.target, url, "--index", "hnsw").output
        assert "has one already" in pull(server.target, url, "--index", "hnsw").output


def test_somebodys_folder_is_not_made_a_databases(tmp_path: Path) -> None:
    """Nor is it given to another user."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("...")
    (tmp_path / "file").write_text("...")
    before = (tmp_path / "letters").stat()
    for place in ("letters", "file", "file/x/y"):
        done = pull("127.0.0.1:1", f"embedded:{tmp_path / place}")
        assert isinstance(done.error, EmbeddedError), place

    assert (before.st_uid, before.st_mode) == (
        (tmp_path / "letters").stat().st_uid, (tmp_path / "letters").stat().st_mode,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "user"), [("/nonesuch", ""), ("", "nobody_here@")], ids=["database", "role"]
)
def test_who_is_not_let_in_is_told_so(url: str, path: str, user: str) -> None:
    """A wrong name is no database that is down for a moment."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    wrong = parts._replace(path=path or parts.path, netloc=(user or "postgres@") + place).geturl()
    with pytest.raises(TargetError, match=r"does not let us in: .* does not exist"):
        connect(wrong)


def test_an_empty_address_is_none(url: str) -> None:
    """DATABASE_URL= in a .env is no invitation to libpq's defaults."""
    del url
    done = pull("127.0.0.1:1", None, DATABASE_URL="")

    assert "no database: give --into or DATABASE_URL" in str(done.error)

"""Rows that can't be stored: named to the sender, kept with the reason, in nobody's way."""

from __future__ import annotations

import math
import threading
import uuid
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

import psycopg
import pytest
from ulid import ULID

from proto import embedding_stream_pb2 as pb
from streamer.codec.message_run import MessageRun
from streamer.errors import Status
from streamer.row_check import RejectedRow, check_rows
from streamer.service import Caller
from streamer.sinks.database import DatabaseError, TargetError, connect, database
from streamer.sinks.dead_letters import DeadLetters
from streamer.sinks.table import EmbeddingTable
from streamer.sinks.target import TableName
from streamer.sinks.upload_sink import UploadSinks
from streamer.upload_service import UploadService
from tests.datasets import make_batch, messages_of
from tests.postgres import TABLE, assert_table_holds, new_database, new_role, run, session_url
from tests.wire_peer import PATIENCE_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LETTERS = "embedding_streamer_dead_letter"
_COLUMNS = (
    "id uuid PRIMARY KEY, company_name {}, exp_years integer, english_level text,"
    " primary_keyword text, vector vector(4)"
)
_NUL = "company_name: a NUL character"


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


def _upload(
    url: str, messages: Iterable[pb.Embedding | bytes], *, block_rows: int | None = None,
    table: str = TABLE, dimension: int | None = None,
) -> pb.UploadResult:  # fmt: skip
    """Upload by way of the service, without an engine; `block_rows` are stored at a time."""
    sent = [row if isinstance(row, bytes) else row.SerializeToString() for row in messages]
    step = block_rows or len(sent) or 1
    runs = [MessageRun.of(sent[start : start + step]) for start in range(0, len(sent), step)]
    with database(url) as dsn:
        service = UploadService(UploadSinks(dsn, table, dimension).open, block_bytes=1)
        return service.upload_embeddings(iter(runs), Caller("test", {}, lambda: None))


def _with_table(url: str, company_name: str = "text", extra: str = "") -> None:
    run(url, "CREATE EXTENSION vector")
    run(url, f"CREATE TABLE {TABLE} ({_COLUMNS.format(company_name)}{extra})")


def _letters(url: str) -> list[tuple[str, str, bytes]]:
    """Return id, reason and message of each."""
    query = "SELECT id, reason, message FROM embedding_streamer_dead_letter ORDER BY 1, 2, 3"
    return run(url, query)


def _counters(result: pb.UploadResult) -> tuple[int, int, int]:
    return result.total_count, result.success_count, result.failed_count


def _rows(count: int, **options: Any) -> list[pb.Embedding]:
    return [pb.Embedding(**row) for row in messages_of(make_batch(count, **options))]


def _spoilt(rows: list[pb.Embedding]) -> dict[int, tuple[str, bytes]]:
    """Spoil some of 20 rows; return reason and message of each by its place."""
    rows[0].id = "x\0y"
    rows[3].vector[2] = math.nan
    rows[7].vector.append(1.0)
    rows[8].company_name = "nul\0"
    rows[19].vector[:] = []
    reasons = {
        0: "id: no UUID or ULID in canonical form", 3: "vector: NaN or infinity",
        7: "vector: not 4 floats", 8: _NUL, 19: "vector: empty; vector: not 4 floats",
    }  # fmt: skip
    return {place: (text, rows[place].SerializeToString()) for place, text in reasons.items()}


# Rows that are bad in themselves


@pytest.mark.parametrize("block_rows", [1, 7, 20])
def test_bad_rows_are_kept_and_the_others_stored(url: str, block_rows: int) -> None:
    """With the message as it came; an id's NUL is written out, for no text has one."""
    rows = _rows(20)
    bad = _spoilt(rows)
    ids = [rows[place].id for place in bad]
    result = _upload(url, rows, block_rows=block_rows, dimension=4)

    assert (20, 15, 5) == _counters(result)
    assert ids == list(result.failed_ids)
    assert sorted((rows[place].id.replace("\0", "\\0"), *kept) for place, kept in bad.items()) == (
        _letters(url)
    )
    kept = [row for place, row in enumerate(rows) if place not in bad]
    assert [(row.id,) for row in kept] == run(
        url, "SELECT id::text FROM recruit_embedding ORDER BY id"
    )


def test_what_is_no_embedding_is_kept_too(url: str) -> None:
    """Any bytes at all; each of them once."""
    result = _upload(url, [b"\xff", *_rows(3), b"\xff", b"\x12\x02\xc3\x28"])

    assert (6, 3, 3) == _counters(result)
    assert ["", "", ""] == list(result.failed_ids)
    letters = _letters(url)
    assert [b"\x12\x02\xc3\x28", b"\xff"] == sorted(message for *_, message in letters)
    assert all(reason.startswith("not an Embedding: ") for _, reason, _ in letters)


def test_if_all_rows_fail_there_is_no_table(url: str) -> None:
    """Nobody knows its dimension; the rows are kept nevertheless, and the next ones make it."""
    rows = _rows(5)
    for row in rows:
        row.vector[0] = math.inf
    assert (5, 0, 5) == _counters(_upload(url, rows, block_rows=2))
    assert [(None,)] == run(url, "SELECT to_regclass(%s)", TABLE)
    assert 5 == len(_letters(url))
    assert (5, 5, 0) == _counters(_upload(url, _rows(5)))


def test_sent_again_bad_rows_are_kept_once(url: str) -> None:
    """In one call and in others; the last reason stands."""
    rows = _rows(20)
    _spoilt(rows)
    _upload(url, rows + rows, dimension=4)
    before = _letters(url)
    result = _upload(url, rows, block_rows=3, dimension=4)

    assert (20, 15, 5) == _counters(result)
    assert before == _letters(url)
    assert 5 == len(before)
    [row] = _rows(1, seed=9)
    _upload(url, [row], table="other", dimension=3)
    _upload(url, [row], table="other", dimension=5)
    assert [("vector: not 5 floats",)] == run(
        url, "SELECT reason FROM embedding_streamer_dead_letter WHERE target_name = 'public.other'"
    )


def test_tables_have_dead_letters_of_their_own(url: str) -> None:
    """The same message, rejected from two tables."""
    for table in ("one", '"Two"'):
        _upload(url, [pb.Embedding(id="x")], table=table)

    assert [("public.Two",), ("public.one",)] == run(
        url,
        'SELECT target_name FROM embedding_streamer_dead_letter ORDER BY target_name COLLATE "C"',
    )


def test_a_table_of_another_dimension_takes_none_of_the_rows(url: str) -> None:
    """It says what it holds, whatever most rows have, or --dimension says."""
    _upload(url, _rows(3))
    other = [pb.Embedding(**row) for row in messages_of(make_batch(5, dimension=6, seed=1))]
    with pytest.raises(TargetError, match="holds vectors of 4 floats"):
        _upload(url, other, dimension=6)
    result = _upload(url, [*other, *_rows(1, seed=2)])

    assert (6, 1, 5) == _counters(result)
    assert {"vector: not 4 floats"} == {reason for _, reason, _ in _letters(url)}


def test_a_table_of_any_dimension_is_refused(url: str) -> None:
    """Before a call is answered; nothing is made beside it."""
    _with_table(url, extra=", CHECK (true)")
    run(url, f"ALTER TABLE {TABLE} ALTER COLUMN vector TYPE vector")
    with pytest.raises(TargetError, match=r"ALTER COLUMN vector TYPE vector\(DIMENSION\)"):
        _upload(url, _rows(3))

    assert [(TABLE,)] == run(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")


def test_many_bad_rows_that_are_the_same_are_written_once_a_block(url: str) -> None:
    """All of them count, and one is kept: to write it 50,000 times would take a minute."""
    written = "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = %s"
    result = _upload(url, [b""] * 50_000 + [b"\xff"] * 50_000)

    assert (100_000, 0, 100_000) == _counters(result)
    assert [b"", b"\xff"] == sorted(message for *_, message in _letters(url))
    # Sessions tell their figures when they end.
    assert eventually(lambda: run(url, written, _LETTERS) > [(0,)])
    assert run(url, written, _LETTERS) < [(100,)]


def test_a_long_id_is_kept_whole(url: str) -> None:
    """A megabyte of it; no index stands in its way."""
    id_ = "é" * (1 << 19)
    result = _upload(url, [pb.Embedding(id=id_, vector=[1.0])])

    assert [id_] == list(result.failed_ids)
    assert [id_] == [kept for kept, *_ in _letters(url)]


# Rows that the database refuses


@pytest.mark.parametrize("share", [1, 3, 40])
@pytest.mark.parametrize("block_rows", [None, 13])
def test_rows_that_the_database_refuses_are_found(
    url: str, share: int, block_rows: int | None
) -> None:
    """A name too long for its column: all rows, some, one; the rest is stored."""
    _with_table(url, "varchar(5)")
    rows = _rows(40)
    for number, row in enumerate(rows):
        row.company_name = "too long" if number % share == 0 else "right"
    result = _upload(url, rows, block_rows=block_rows)

    failing = [row.id for row in rows[::share]]
    assert (40, 40 - len(failing), len(failing)) == _counters(result)
    assert failing == list(result.failed_ids)
    reason = "the database: value too long for type character varying(5)"
    assert [(row.id, reason, row.SerializeToString()) for row in rows[::share]] == _letters(url)
    good = [row.id for row in rows if row.company_name == "right"]
    assert [(id_,) for id_ in good] == run(
        url, "SELECT id::text FROM recruit_embedding ORDER BY id"
    )


def test_rows_that_break_a_rule_are_found(url: str) -> None:
    """CHECK, and another unique column, of which one row may have a value."""
    _with_table(url, "text UNIQUE", ", CHECK (exp_years >= 0)")
    rows = _rows(20)
    for number, row in enumerate(rows):
        row.company_name, row.exp_years = f"name {number}", number
    rows[4].exp_years = -1
    rows[11].company_name = "name 2"
    result = _upload(url, rows)

    assert (20, 18, 2) == _counters(result)
    assert [rows[4].id, rows[11].id] == list(result.failed_ids)
    reasons = [reason for _, reason, _ in _letters(url)]
    assert "violates check constraint" in reasons[0]
    assert "duplicate key value violates unique constraint" in reasons[1]


def test_refused_rows_of_a_later_upload_leave_what_is_there(url: str) -> None:
    """A value that can't be written over the old one, between others that are."""
    _with_table(url, "varchar(5)")
    rows = _rows(40)
    for row in rows:
        row.company_name = "old"
    _upload(url, rows)
    for number, row in enumerate(rows):
        row.company_name = "too long" if number % 3 == 0 else "new"
    result = _upload(url, rows)

    assert (40, 26, 14) == _counters(result)
    assert [("old", 14), ("new", 26)] == run(
        url, "SELECT company_name, count(*) FROM recruit_embedding GROUP BY 1 ORDER BY 2"
    )
    assert [row.id for row in rows[::3]] == [id_ for id_, *_ in _letters(url)]


def test_an_index_that_a_row_does_not_fit_into_fails_that_row(url: str) -> None:
    """No sending again would help: it isn't the database that is away."""
    _with_table(url)
    run(url, f"CREATE INDEX ON {TABLE} (company_name)")
    rows = _rows(20)
    rows[5].company_name = "".join(uuid.uuid5(uuid.NAMESPACE_DNS, str(n)).hex for n in range(500))
    result = _upload(url, rows)

    assert (20, 19, 1) == _counters(result)
    assert [rows[5].id] == list(result.failed_ids)
    assert "index row" in _letters(url)[0][1]


@pytest.mark.parametrize(
    "refusal",
    [
        "RAISE EXCEPTION 'ninety-nine'",
        "RAISE EXCEPTION 'ninety-nine' USING ERRCODE = 'ZZ001'",
        "RAISE EXCEPTION 'ninety-nine' USING ERRCODE = 'no_data_found'",
        "ASSERT false, 'ninety-nine'",
    ],
)
@pytest.mark.parametrize("when", ["BEFORE", "CONSTRAINT AFTER"])
def test_a_trigger_may_refuse_rows(url: str, refusal: str, when: str) -> None:
    """However its author says that a row won't do; also when only a commit would ask it."""
    _with_table(url)
    run(
        url, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF new.exp_years = 99 THEN {refusal}; END IF; RETURN new; END $$",
    )  # fmt: skip
    kind, _, moment = when.rpartition(" ")
    deferred = "DEFERRABLE INITIALLY DEFERRED" if kind else ""
    run(
        url, f"CREATE {kind} TRIGGER t {moment} INSERT ON {TABLE} {deferred}"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )  # fmt: skip
    rows = _rows(20)
    for number, row in enumerate(rows):
        row.exp_years = 99 if number == 5 else number
    result = _upload(url, rows)

    assert (20, 19, 1) == _counters(result)
    assert [(rows[5].id, "the database: ninety-nine")] == [kept[:2] for kept in _letters(url)]


def test_a_constraint_that_waits_for_the_commit_refuses_single_rows(url: str) -> None:
    """As if it didn't wait."""
    _with_table(url)
    run(url, "CREATE TABLE years (years integer PRIMARY KEY)")
    run(url, "INSERT INTO years SELECT generate_series(0, 98)")
    run(
        url, f"ALTER TABLE {TABLE} ADD FOREIGN KEY (exp_years) REFERENCES years"
        " DEFERRABLE INITIALLY DEFERRED",
    )  # fmt: skip
    rows = _rows(60)
    for number, row in enumerate(rows):
        row.exp_years = 99 if number == 5 else number
    result = _upload(url, rows)

    assert (60, 59, 1) == _counters(result)
    assert [rows[5].id] == [kept[0] for kept in _letters(url)]


@pytest.mark.parametrize("spelling", [str.upper, str.lower])
def test_refused_rows_are_named_as_they_were_sent(url: str, spelling: Any) -> None:
    """A sender of ULIDs knows no UUIDs; the message that is kept is the one that came."""
    _with_table(url, "varchar(5)")
    rows = _rows(4)
    for row in rows:
        row.id = spelling(str(ULID.from_bytes(uuid.UUID(row.id).bytes)))
    rows[2].company_name = "too long"
    for number in (0, 1, 3):
        rows[number].company_name = "fits"
    message = rows[2].SerializeToString() + b"\x78\x01"  # and a field that nobody knows
    result = _upload(url, [*rows[:2], message, rows[3]])

    assert (4, 3, 1) == _counters(result)
    assert [rows[2].id] == list(result.failed_ids)
    assert [(rows[2].id, message)] == [(id_, kept) for id_, _, kept in _letters(url)]


@pytest.fixture
def latin_url(pytestconfig: pytest.Config, url: str) -> str:
    """Return a database that has 191 characters."""
    name = urlsplit(url).path[1:]
    for statement in (
        f"DROP DATABASE {name}",
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    ):
        run(session_url(pytestconfig), statement)
    return url


def test_another_encoding_gets_text_or_says_that_it_has_none(latin_url: str) -> None:
    """An umlaut is an umlaut there, and Hangul is refused; nothing is garbled."""
    rows = _rows(3, text=["Acme"])
    for row, text in zip(rows, ["Zeta & Söhne", "한빛소프트", "Acme"], strict=True):
        row.company_name = text
    result = _upload(latin_url, rows)

    with psycopg.connect(latin_url, client_encoding="UTF8") as connection:
        found = connection.execute(
            "SELECT company_name FROM recruit_embedding ORDER BY 1"
        ).fetchall()
    assert [("Acme",), ("Zeta & Söhne",)] == found
    assert (3, 2, 1) == _counters(result)
    assert [rows[1].id] == list(result.failed_ids)


def test_an_id_in_no_encoding_of_the_database_is_kept(latin_url: str) -> None:
    """One bad id doesn't fail the rows that came with it."""
    result = _upload(latin_url, [*_rows(3, text=["Söhne"]), pb.Embedding(id="한빛")])

    assert (4, 3, 1) == _counters(result)
    assert ["한빛"] == list(result.failed_ids)
    assert [pb.Embedding(id="한빛").SerializeToString()] == [
        kept for *_, kept in _letters(latin_url)
    ]


def test_many_refused_rows_are_found_in_good_time(url: str) -> None:
    """Every second row of those that are there already: no row is written again and again."""
    _with_table(url, "varchar(5)")
    rows = _rows(200)
    for row in rows:
        row.company_name = "old"
    _upload(url, rows)
    run(
        url, "CREATE FUNCTION tick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM nextval('ticks'); RETURN new; END $$",
    )  # fmt: skip
    run(url, "CREATE SEQUENCE ticks")
    run(url, f"CREATE TRIGGER t BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION tick()")
    for number, row in enumerate(rows):
        row.company_name = "too long" if number % 2 else "new"
    result = _upload(url, rows)

    assert (200, 100, 100) == _counters(result)
    [(ticks,)] = run(url, "SELECT last_value FROM ticks")
    assert ticks < 20 * 200


def test_what_came_before_a_refused_row_is_stored(url: str) -> None:
    """Three rows of one id, of which the last is refused: the second of them stays."""
    _with_table(url, extra=", CHECK (company_name NOT LIKE 'bad%')")
    first, second, third = _rows(3)
    sent = [
        pb.Embedding.FromString(row.SerializeToString())
        for row in (first, second, first, third, first, second, third)
    ]
    names = ["good 1", "bad 1", "good 2", "bad 2", "bad 3", "good 3", "bad 4"]
    for row, name in zip(sent, names, strict=True):
        row.company_name = name
    result = _upload(url, sent)

    # third's rows are refused one after the other; second's bad row was overtaken.
    assert (7, 4, 3) == _counters(result)
    assert [first.id, third.id, third.id] == sorted(result.failed_ids, key=[
        first.id, second.id, third.id].index)  # fmt: skip
    assert {(first.id, "good 2"), (second.id, "good 3")} == set(
        run(url, f"SELECT id::text, company_name FROM {TABLE}")
    )
    assert {"bad 2", "bad 3", "bad 4"} == {
        pb.Embedding.FromString(message).company_name for *_, message in _letters(url)
    }


def test_what_was_rolled_back_is_not_looked_at_again(url: str) -> None:
    """However many rows are refused, the next try reads its own rows only."""
    _with_table(url, "varchar(5)")
    rows = _rows(300)
    _upload(url, [pb.Embedding(id=r.id, company_name="old", vector=r.vector) for r in rows])
    for number, row in enumerate(rows):
        row.company_name = "too long" if number % 2 else "new"
    sizes: list[int] = []
    with database(url) as dsn, UploadSinks(dsn, TABLE, None).open() as sink:
        copy = EmbeddingTable._copy

        def watched(table: EmbeddingTable, into: Any, copied: Any) -> None:
            query = "SELECT pg_relation_size('pg_temp.embedding_streamer_stage'::regclass)"
            sizes.append(table._connection.execute(query).fetchone()[0])  # type: ignore[index]
            copy(table, into, copied)

        with mock.patch.object(EmbeddingTable, "_copy", watched):
            refused = sink.write(
                check_rows(MessageRun.of([r.SerializeToString() for r in rows]), 4)
            )

    assert 150 == len(refused)
    assert len(sizes) > 30
    assert {0} == set(sizes)


# The table of dead letters itself


def test_a_role_needs_no_right_to_create_once_the_table_is_there(url: str) -> None:
    """Who may write both tables may receive; who may not is told so."""
    _upload(url, [pb.Embedding(id="x"), *_rows(2)])
    grant = f"GRANT SELECT, INSERT, UPDATE ON {TABLE}, {_LETTERS} TO ROLE"
    with new_role(url, grant) as as_role:
        assert (6, 5, 1) == _counters(_upload(as_role, [pb.Embedding(id="y"), *_rows(5, seed=1)]))
    with new_role(url, f"GRANT SELECT, INSERT, UPDATE ON {TABLE} TO ROLE") as as_role:
        with pytest.raises(DatabaseError, match="does not permit") as refused:
            _upload(as_role, [pb.Embedding(id="z")])
        assert Status.FAILED_PRECONDITION == refused.value.status


def test_the_same_dead_letters_from_two_sides_are_no_deadlock(url: str) -> None:
    """Two calls keep the same rows in opposite orders: each ends, both rows are there once."""
    letters = [RejectedRow(f"{n}", "why", b"%d" % n) for n in range(400)]
    errors: list[Exception] = []

    def keep(order: int) -> None:
        try:
            with connect(url) as connection:
                table = DeadLetters(connection, TableName("public", TABLE))
                for _ in range(5):
                    with connection.transaction():
                        table.add(letters[::order])
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=keep, args=(order,)) for order in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)

    assert [] == errors
    assert 400 == len(_letters(url))


def test_letters_and_rows_are_kept_together_or_not_at_all(url: str) -> None:
    """If dead letters can't be written, the block's sound rows aren't either."""
    _upload(url, _rows(3))
    run(url, f"ALTER TABLE {_LETTERS} ADD CHECK (id <> 'x')")
    with pytest.raises(DatabaseError):
        _upload(url, [*_rows(5, seed=1), pb.Embedding(id="x")])

    assert_table_holds(url, make_batch(3))

"""What becomes of rows that are written: new ones, those that are there, and refused ones."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from streamer.sinks.database import DatabaseError
from streamer.sinks.table import EmbeddingTable, OnConflict, TakenIdError
from tests.datasets import make_batch, with_column
from tests.postgres import (
    assert_table_holds,
    client_batch,
    load,
    new_database,
    open_table,
    run,
    session_url,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_ROWS = make_batch(20, seed=1)


@pytest.fixture
def url(pytestconfig: pytest.Config) -> Iterator[str]:
    with new_database(session_url(pytestconfig)) as url:
        yield url


def _joined(*batches: pa.RecordBatch) -> pa.RecordBatch:
    return pa.Table.from_batches(map(client_batch, batches)).combine_chunks().to_batches()[0]


def _changed(batch: pa.RecordBatch) -> pa.RecordBatch:
    return with_column(batch, "exp_years", pa.array([77] * batch.num_rows, pa.int32()))


def _vectors(floats: NDArray[np.float32]) -> pa.Array:
    kind = _ROWS.schema.field("vector").type
    return pa.FixedSizeListArray.from_arrays(pa.array(floats), type=kind)


def test_update_overwrites_and_adds(url: str) -> None:
    """Rows that are there get all their values anew, the others come in between."""
    load(url, _changed(_ROWS.slice(5, 5)))

    load(url, _ROWS)

    assert_table_holds(url, _ROWS)


@pytest.mark.parametrize("column", _ROWS.schema.names[1:])
def test_update_sees_a_change_in_any_column(url: str, column: str) -> None:
    """Each of a row's values counts when it is compared with the one that is there."""
    other = make_batch(20, seed=2, text=["other"])
    load(url, with_column(_ROWS, column, other.column(column)))

    load(url, _ROWS)

    assert_table_holds(url, _ROWS)


def test_update_sees_the_sign_of_zero(url: str) -> None:
    """-0.0 and 0.0 compare as equal, and are not the same bits."""
    zeros = np.zeros(4 * 20, np.float32)
    plus, minus = (with_column(_ROWS, "vector", _vectors(z)) for z in (zeros, -zeros))
    load(url, plus)

    load(url, minus)

    assert_table_holds(url, minus)


def test_skip_leaves_what_is_there(url: str) -> None:
    """Only ids that are new are written."""
    there = _changed(_ROWS.slice(5, 5))
    load(url, there)

    with open_table(url) as table:
        write(table, _ROWS, OnConflict.SKIP)

    assert_table_holds(url, _joined(_ROWS.slice(0, 5), there, _ROWS.slice(10)))


def test_error_names_the_row_and_writes_nothing(url: str) -> None:
    """The whole transaction is undone, rows before the taken id included."""
    there = _changed(_ROWS.slice(19, 1))
    load(url, there)

    with (
        open_table(url) as table,
        pytest.raises(TakenIdError, match=f"{there.column('id')[0].as_py()}.*already exists"),
    ):
        write(table, _ROWS, OnConflict.ERROR)

    assert_table_holds(url, there)


@pytest.mark.parametrize("choice", [OnConflict.UPDATE, OnConflict.SKIP])
def test_unchanged_rows_are_not_rewritten(url: str, choice: OnConflict) -> None:
    """The same rows again make no dead versions for vacuum to clear; a changed row makes one."""
    query = "SELECT id, xmin::text, ctid::text FROM recruit_embedding ORDER BY id"
    load(url, _ROWS)
    before = run(url, query)

    with open_table(url) as table:
        write(table, _ROWS, choice)
    same = run(url, query)
    with open_table(url) as table:
        changed = _joined(_ROWS.slice(0, 3), _changed(_ROWS.slice(3, 1)), _ROWS.slice(4))
        write(table, changed, choice)
    after = run(url, query)

    assert before == same
    assert (choice is OnConflict.UPDATE) == (before[3] != after[3])
    assert before[:3] + before[4:] == after[:3] + after[4:]


@pytest.mark.parametrize("choice", OnConflict)
def test_id_that_comes_in_between_is_handled(
    url: str, monkeypatch: pytest.MonkeyPatch, choice: OnConflict
) -> None:
    """Between the look for taken ids and the COPY somebody else may write one of them."""
    theirs = _changed(_ROWS.slice(7, 1))
    copied = EmbeddingTable._copy

    def lose_the_race(self: EmbeddingTable, *arguments: Any) -> None:
        monkeypatch.undo()
        load(url, theirs)
        copied(self, *arguments)

    expected = {
        OnConflict.UPDATE: _ROWS,
        OnConflict.SKIP: _joined(_ROWS.slice(0, 7), theirs, _ROWS.slice(8)),
        OnConflict.ERROR: theirs,
    }
    refused: Any = contextlib.nullcontext()
    if choice is OnConflict.ERROR:
        refused = pytest.raises(TakenIdError)
    with open_table(url) as table, refused:
        monkeypatch.setattr(EmbeddingTable, "_copy", lose_the_race)
        write(table, _ROWS, choice)

    assert_table_holds(url, expected[choice])


def test_nan_is_refused_by_the_database(url: str) -> None:
    """Pgvector takes no NaN: a clear error, and rows before it are not kept."""
    floats = np.ones(4 * 20, np.float32)
    floats[-1] = np.nan
    kind = _ROWS.schema.field("vector").type
    rows = with_column(
        _ROWS, "vector", pa.FixedSizeListArray.from_arrays(pa.array(floats), type=kind)
    )

    with pytest.raises(DatabaseError, match="the database refuses it: NaN not allowed in vector"):
        load(url, rows)

    assert [(0,)] == run(url, "SELECT count(*) FROM recruit_embedding")


def test_nul_in_a_text_is_refused_by_the_database(url: str) -> None:
    """PostgreSQL's text holds no NUL character."""
    with pytest.raises(DatabaseError, match="refuses it: invalid byte sequence for encoding"):
        load(url, make_batch(20, text=["nul \0"]))

    assert [(0,)] == run(url, "SELECT count(*) FROM recruit_embedding")


def test_text_that_is_too_long_for_a_column_is_a_clear_error(url: str) -> None:
    """A varchar(n) that is too short for a row: nothing is cut off, nothing is written."""
    with open_table(url):
        pass
    run(url, "ALTER TABLE recruit_embedding ALTER company_name TYPE varchar(3)")

    with pytest.raises(DatabaseError, match="too long for type character varying"):
        load(url, _ROWS)

    assert [(0,)] == run(url, "SELECT count(*) FROM recruit_embedding")

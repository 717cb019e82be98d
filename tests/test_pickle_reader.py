"""Reading pickles as data gives what `pickle.load` gives, for all that embeddings pickles hold."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import gc
import io
import mmap
import pickle
import pickletools
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.pickle_reader import DamagedPickle, FloatLists, Pickle, UnsupportedPickle, open_pickle
from convert.pickle_reader.stand_ins import Opaque

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXTURES = sorted((Path(__file__).parent / "pickles").glob("*.pkl"))


def read_rows(buffer: Any, **options: Any) -> list[dict[Any, Any]]:
    """Return all rows, whole; check that the columns hold the same."""
    rows = []
    for batch in open_pickle(buffer).batches(**options):
        whole = [batch.row(row) for row in range(batch.rows)]
        for name, column in batch.columns.items():
            values = column_values(column)
            assert len(values) == batch.rows
            same(values, [row.get(name) for row in whole])
        rows += whole
    return rows


def column_values(column: Any) -> list[Any]:
    """Return the rows of a column as Python's values."""
    if isinstance(column, FloatLists):
        return [column.row(row) for row in range(len(column))]
    return column.to_pylist() if isinstance(column, pa.Array) else list(column)


def same(expected: Any, found: Any) -> None:
    """Assert that values are equal; NaN is NaN, arrays, tuples and lists hold the same."""
    if isinstance(expected, np.ndarray | list | tuple):
        if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
            assert expected.shape == found.shape
            # pickle.load swaps bytes; a view in place doesn't.
            assert expected.dtype.newbyteorder("=") == found.dtype.newbyteorder("=")
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            same(one, other)
    elif isinstance(expected, dict):
        assert list(map(repr, expected)) == list(map(repr, found))
        for one, other in zip(expected.values(), found.values(), strict=True):
            same(one, other)
    elif isinstance(expected, pd.Timestamp):
        assert found in (expected, expected.to_datetime64())
    elif expected is pd.NA or expected is pd.NaT:
        assert pd.isna(found)
    elif isinstance(expected, set | frozenset):
        assert sorted(map(repr, expected)) == sorted(map(repr, found))
        assert type(expected) is type(found)
    elif isinstance(expected, float | np.floating | complex | decimal.Decimal):
        assert repr(expected) == repr(found) or expected == found
    else:
        assert expected == found
        assert isinstance(expected, bool | np.bool_) is isinstance(found, bool | np.bool_)


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Hold next to nothing, so that small files are read like large ones."""
    machine, memo = "convert.pickle_reader.machine", "convert.pickle_reader.memo"
    state, alike = "convert.pickle_reader.state", "convert.pickle_reader.alike"
    with contextlib.ExitStack() as stack:
        for name, value in {
            f"{state}._CHECKPOINT_BYTES": 1, f"{machine}._LUMP_ITEMS": 4,
            f"{state}._PIECE_ROWS": 2, f"{machine}._PAUSE_BYTES": 7,
            f"{alike}.references._TRIAL_ROWS": 1, f"{alike}.references._MAX_RECALLED": 1,
            f"{alike}.pace._LEAST_BYTES": 100, f"{alike}.pace.WORTH_IT": 1,
            f"{alike}.vectors.WORTH_IT": 4,
            f"{memo}._ASKED": 1, f"{memo}._GENERATION": 1,
            f"{memo}._RECENT": 1,
        }.items():  # fmt: skip
            stack.enter_context(mock.patch(name, value))
        yield


class _SmallBatches(pickle._Pickler):
    """Writes lists and dicts in batches of three, and a frame every few bytes."""

    _BATCHSIZE = 3


def dump(content: object, protocol: int, how: str) -> bytes:
    if how == "C":
        return pickle.dumps(content, protocol)
    if how == "optimized":
        return pickletools.optimize(pickle.dumps(content, protocol))
    file = io.BytesIO()
    with mock.patch("pickle._Framer._FRAME_SIZE_TARGET", 20):
        try:
            _SmallBatches(file, protocol).dump(content)
            pickle.loads(file.getvalue())
        except (AssertionError, TypeError):  # Python's own pickler mixes up empty b"" and arrays
            return pickle.dumps(content, protocol)
    return file.getvalue()


floats = st.floats(width=64)
numbers = st.one_of(st.integers(-5, 300), st.integers(), floats)
float_lists = st.one_of(
    st.lists(floats, max_size=40), st.lists(floats, min_size=3, max_size=3).map(tuple)
)
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=8),
    st.text(st.characters(), min_size=1, max_size=3).map(lambda text: text * 150),
    st.binary(max_size=6), st.binary(min_size=300, max_size=310),
    st.binary(max_size=3).map(bytearray),
    st.dates(), st.datetimes(), st.datetimes(timezones=st.just(dt.UTC)), st.timedeltas(),
    st.times(), st.decimals(allow_nan=False), st.uuids(), st.complex_numbers(),
    st.sampled_from([np.float32(0.5), np.int8(-3), np.datetime64("2024-01-02", "s"), pd.NaT,
                     pd.Timestamp("2024-01-02"), pd.NA, np.bool_(1), np.str_("ab")]),
)  # fmt: skip
arrays = st.one_of(
    st.lists(floats, max_size=50).map(np.array),
    st.lists(st.floats(width=32), min_size=4, max_size=4).map(lambda x: np.array(x, np.float32)),
    st.just(np.arange(12).reshape(3, 4)), st.just(np.arange(12.0).reshape(3, 4).T),
    st.just(np.array(["a", None, 1.5], object)),
    st.just(np.array([["a", "b"], ["c", "d"]], object).T),
    st.just(np.array(["ab", "c"])), st.just(np.array([1.5, 2], ">f8")),
)  # fmt: skip
int64s = st.integers(-(2**63), 2**63)
members = st.one_of(st.none(), int64s, floats, st.text(max_size=4), st.binary(max_size=4))
values = st.recursive(
    st.one_of(scalars, float_lists, arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), int64s), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
        st.sets(members, max_size=5), st.frozensets(members, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip
names = st.one_of(
    st.sampled_from(["id", "name", "vector"]),
    st.text(max_size=3), int64s, st.none(), st.tuples(st.text(max_size=2), floats),
)  # fmt: skip


@st.composite
def records(draw: Any) -> list[dict[Any, Any]]:
    """Rows that share names, values and sometimes whole rows."""
    pool = draw(st.lists(values, min_size=1, max_size=8))
    keys = draw(st.lists(names, max_size=4, unique_by=repr))
    shared = st.sampled_from(pool)
    row = st.fixed_dictionaries(
        {key: st.one_of(shared, values) for key in keys},
        optional={"rare": shared},
    )
    rows = draw(st.lists(row, max_size=12))
    if rows and draw(st.booleans()):
        rows += draw(st.lists(st.sampled_from(rows), max_size=5))
    found: list[dict[Any, Any]] = rows
    return found


@pytest.mark.parametrize("how", ["C", "optimized", "in small batches"])
@settings(max_examples=60)
@given(rows=records(), protocol=st.integers(0, 5), batch_rows=st.integers(1, 20))
def test_records_are_read_as_pickle_loads_them(
    how: str, rows: list[dict[Any, Any]], protocol: int, batch_rows: int
) -> None:
    """All values, shared or not, in all protocols, whether little or everything is held."""
    if protocol < 2:  # nothing that older protocols write as calls of copyreg
        rows = [{"x": row.get("x"), "y": [0.5, n, None, "\n'"]} for n, row in enumerate(rows)]
    content = dump(rows, protocol, how)
    expected = pickle.loads(content)

    same(expected, read_rows(content, batch_rows=batch_rows))
    with small_limits():
        same(expected, read_rows(content, batch_rows=batch_rows))


# Columns of the fixtures named so whose values can only be skipped.
_SKIPPED = {"Month", "Range", "Rare", "Band"}


@pytest.mark.parametrize("source", _FIXTURES, ids=lambda path: path.stem)
def test_the_fixtures_of_all_versions_are_read(source: Path) -> None:
    """Pandas 1.5 to 3.1, NumPy 1 and 2: what pandas reads, where it can."""
    content = source.read_bytes()
    rows = read_rows(content)
    skipped = {name for name, value in rows[0].items() if isinstance(value, Opaque)}

    assert len(rows) == (3 if "filtered" in source.name else 6)
    assert (_SKIPPED if "skipped" in source.name else set()) == skipped
    try:
        expected = pd.read_pickle(source)
    except Exception:  # it is of another version
        return
    if isinstance(expected, pd.DataFrame):
        expected = frame_rows(with_index(expected.drop(columns=list(skipped))))
    same(expected, [_without(skipped, row) for row in rows])
    with small_limits():
        again = read_rows(content, batch_rows=4)
        same(expected, [_without(skipped, row) for row in again])


def _without(names: set[Any], row: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value for name, value in row.items() if name not in names}


def with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns and then the levels of the index, as they are to be called."""
    index = frame.index
    if (
        isinstance(index, pd.RangeIndex)
        and index.name is None
        and index.equals(pd.RangeIndex(len(index)))
    ):
        return frame
    several = index.nlevels > 1
    names = [
        (f"index_{place}" if several else "index") if name is None else str(name)
        for place, name in enumerate(index.names)
    ]
    levels = {name: index.get_level_values(place) for place, name in enumerate(names)}
    return frame.assign(
        **{name: list(values) for name, values in levels.items() if name not in frame}
    )


def frame_rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    columns = {name: list(frame[name]) for name in frame.columns}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp) and value.tz is not None:
        return value.tz_convert(None)
    return None if value is pd.NA or value is pd.NaT else value


columns = st.sampled_from(
    ["object", "str", "string", "string[pyarrow]", "category", "int8", "uint64", "float32",
     "Int16", "UInt32", "Float64", "boolean", "int32[pyarrow]", "double[pyarrow]", ">i4",
     "datetime64[s]", "datetime64[ns]", "timedelta64[ns]", "bool"]
)  # fmt: skip


def _column(kind: str, rows: int) -> Any:
    if kind in ("object", "str", "string", "string[pyarrow]", "category"):
        return pd.Series([["a", "한빛", "", "a" * 300][row % 4] for row in range(rows)], dtype=kind)
    if kind[0] in "IUFb":
        return (
            pd.Series([[1, None, 0][row % 3] for row in range(rows)], dtype=kind)
            if kind != "bool"
            else pd.Series([row % 2 == 0 for row in range(rows)])
        )
    return pd.Series(range(rows)).astype(kind)  # type: ignore[call-overload]


@settings(max_examples=60)
@given(
    kinds=st.lists(columns, min_size=1, max_size=6),
    objects=st.lists(st.lists(values, min_size=5, max_size=5), max_size=3),
    vectors=st.sampled_from(["float64", "float32", ">f4", "list", "tuple", "2-D"]),
    protocol=st.integers(2, 5), how=st.sampled_from(["C", "optimized", "in small batches"]),
    order=st.sampled_from([1, -1]), batch_rows=st.integers(1, 8),
)  # fmt: skip
def test_dataframes_are_read_as_pandas_reads_them(  # noqa: PLR0917
    kinds: list[str], objects: list[list[Any]], vectors: str, protocol: int, how: str,
    order: int, batch_rows: int,
) -> None:  # fmt: skip
    """All types of columns, alone and several in a block, in any order."""
    table: dict[str, Any] = {f"{kind} {n}": _column(kind, 5) for n, kind in enumerate(kinds)}
    table.update((f"o{n}", pd.Series(column, dtype=object)) for n, column in enumerate(objects))
    matrix = np.arange(5 * 40, dtype=np.float64).reshape(5, 40) / 7
    if vectors == "2-D":
        frame = pd.concat([pd.DataFrame(table), pd.DataFrame(matrix)], axis=1)
    else:
        make: Any = {"list": list, "tuple": tuple}.get(vectors, lambda x: np.array(x, vectors))
        frame = pd.DataFrame({**table, "vector": [make(row.tolist()) for row in matrix]})
    frame = frame.iloc[:, ::order]
    content = dump(frame, protocol, how)
    expected = frame_rows(frame)

    same(expected, read_rows(content, batch_rows=batch_rows))
    with small_limits():
        same(expected, read_rows(content, batch_rows=batch_rows))


@pytest.mark.parametrize("protocol", range(6))
def test_vectors_become_matrices_in_place(protocol: int, tmp_path: Path) -> None:
    """Lists of floats of a mapped file: float32 rows, however frames and batches cut them."""
    matrix = np.random.default_rng(1).standard_normal((50, 3000))
    path = tmp_path / "jobs.pkl"
    path.write_bytes(pickle.dumps([{"v": row.tolist()} for row in matrix], protocol))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (batch,) = open_pickle(data).batches()
        column = batch.columns["v"]
        if protocol == 0:
            same(matrix.tolist(), column)
            return
        assert isinstance(column, FloatLists)
        out = np.zeros((49, 3000), np.float32)
        column.fill(out, 1)

        assert [3000] * 50 == column.lengths().tolist()
        assert (matrix[1:].astype(np.float32) == out).all()
        assert matrix[7].tolist() == column.row(7).tolist()
        del batch, column


def test_rows_that_are_no_vectors_are_told_apart() -> None:
    """None, empty, mixed and text among vectors; none of these makes the others objects."""
    odd = [None, [], [1.5, "x"], "text", [1.5], [1, 2], np.array([0.5])]
    rows = [{"v": [0.5, float(n)]} for n in range(20)] + [{"v": value} for value in odd]
    (batch,) = open_pickle(pickle.dumps(rows)).batches()
    column = batch.columns["v"]

    assert isinstance(column, FloatLists)
    assert [2] * 20 + [-1] * 7 == column.lengths().tolist()
    assert odd[:6] == [column.row(row) for row in range(20, 26)]


def test_columns_that_are_not_wanted_are_named_and_in_the_row() -> None:
    """Names come in order of appearance; a late one is null before."""
    rows: list[dict[str, Any]] = [{"a": 1, "b": "x" * 1000}, {"c": 3.5, "a": 2}]
    scan = open_pickle(pickle.dumps(rows))
    first, second = scan.batches(lambda name: name != "b", batch_rows=1)

    assert ["a", "b", "c"] == list(scan.columns)
    assert {"a": [1]} == dict(first.columns) or {"a": [1], "c": [None]} == dict(first.columns)
    assert {"a": [2], "c": [3.5]} == dict(second.columns)
    assert rows == [first.row(0), second.row(0)]
    assert 2 == scan.rows


def test_batches_have_the_rows_that_were_asked_for() -> None:
    """All but the last are full."""
    content = pickle.dumps([{"n": n} for n in range(2500)])

    assert [700, 700, 700, 400] == [b.rows for b in open_pickle(content).batches(batch_rows=700)]


@pytest.mark.parametrize("content", [[], [{"a": 1}] * 5000, pd.DataFrame({"a": range(9)})])
def test_progress_counts_every_byte(content: object) -> None:
    """What is reported adds up to the size."""
    dumped = pickle.dumps(content)
    told: list[int] = []
    list(open_pickle(dumped).batches(advance=told.append))

    assert len(dumped) == sum(told)


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_a_second_pass_reads_the_same(shape: str) -> None:
    """Whoever looked into a file can go on to read it."""
    rows = [{"a": f"{n % 7}", "b": [0.5, n + 0.5]} for n in range(3000)]
    content: Any = rows if shape == "records" else pd.DataFrame(rows).astype({"a": object})
    scan = open_pickle(pickle.dumps(content))
    next(scan.batches(batch_rows=10)).row(3)
    found = [batch.row(n) for batch in scan.batches() for n in range(batch.rows)]

    same(rows, found)
    assert 3000 == scan.rows


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_collection_is_left_as_it_was(is_on: bool) -> None:  # noqa: FBT001
    """It is off while the reader reads, not while the caller works; also after an error."""
    was_on = gc.isenabled()
    content = pickle.dumps([{"n": n} for n in range(5000)])
    seen: list[bool] = []
    (gc.enable if is_on else gc.disable)()
    try:
        batches = open_pickle(content[:-1]).batches(
            batch_rows=1000, advance=lambda _: seen.append(gc.isenabled())
        )
        with contextlib.suppress(DamagedPickle):
            for _ in batches:
                assert is_on is gc.isenabled()
        assert is_on is gc.isenabled()
        next(open_pickle(content).batches(batch_rows=9))
        assert is_on is gc.isenabled()
        list(open_pickle(content).batches(advance=lambda _: seen.append(gc.isenabled())))
        assert {False} == set(seen)
    finally:
        (gc.enable if was_on else gc.disable)()


def test_globals_are_listed_with_their_first_byte() -> None:
    """What was named is known also when it is refused."""
    content = pickle.dumps([{"a": dt.date(2024, 1, 2)}, {"a": uuid.UUID(int=1)}, {"a": print}, 1])
    scan = open_pickle(content)
    with pytest.raises(UnsupportedPickle, match=r"row 3 is an int, .*\(at byte \d+\)"):
        list(scan.batches())

    assert ["datetime.date", "uuid.UUID", "builtins.print"] == list(scan.globals_named)
    for name, offset in scan.globals_named.items():
        assert b"\x93" == content[offset : offset + 1], name


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ([{}], "a list of dicts"),
        ([{"a": 1}] * 5000, "a list of dicts"),
        (pd.DataFrame({"a": [1]}), "a DataFrame"),
    ],
    ids=["one row", "rows", "frame"],
)
@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_kind_is_known_with_the_first_rows(content: object, kind: str, protocol: int) -> None:
    """What a file holds is said once rows of it were seen, and not guessed before."""
    scan = open_pickle(pickle.dumps(content, protocol))

    assert "" == scan.kind
    next(scan.batches())
    assert kind == scan.kind
    assert protocol == scan.protocol


@pytest.mark.parametrize("place", range(3, 9))
@pytest.mark.parametrize("pops", [1, 2, 3])
def test_rows_that_are_taken_back_are_no_rows(place: int, pops: int) -> None:
    """POP behind rows that were let go is an error, and no reason to lose others."""
    rows = [b"}(\x8c\x01aK" + bytes([row]) + b"u" for row in range(9)]
    rows.insert(place, b"0" * pops)
    content = b"\x80\x04](" + b"".join(rows) + b"e."

    with small_limits(), contextlib.suppress(UnsupportedPickle):
        assert pickle.loads(content) == read_rows(content)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, pa.py_buffer])
def test_any_buffer_is_read(wrap: Any) -> None:
    """Bytes in memory are as good as a mapped file."""
    rows = [{"id": f"{n}", "v": [0.5 * n, 1.5, 2.5], "t": "long" * 100} for n in range(30)]

    assert rows == read_rows(wrap(pickle.dumps(rows)))


def test_values_that_were_let_go_are_found_again() -> None:
    """Whole rows, lists, arrays and text that far later rows share."""
    shared = [{"l": [0.5] * 9}, [1, [2]], np.arange(3.0), "text" * 100, dt.date(2024, 1, 2)]
    rows = [{"n": n, "x": shared[n % 5] if n % 1000 < 5 else None} for n in range(20_000)]
    rows += rows[::7]

    same(rows, read_rows(pickle.dumps(rows)))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("shape", ["records", "frame"])
def test_arrays_one_after_another_are_read_each(protocol: int, shape: str) -> None:
    """Written alike or not: of other lengths and types in between, and some of them twice."""
    chance = np.random.default_rng(1)
    vectors: list[Any] = [chance.standard_normal(50) for _ in range(3000)]
    vectors[100], vectors[200] = vectors[99], vectors[101]
    vectors[300:310] = [np.arange(50, dtype=np.int32)] * 10
    vectors[1500] = vectors[1600] = chance.standard_normal(60)
    vectors[2000] = vectors[10]
    vectors[2100], vectors[2200] = None, [0.5] * 50
    content: Any = [{"v": vector} for vector in vectors]
    if shape == "frame":
        content = pd.DataFrame({"v": pd.Series(vectors, dtype=object)})
    found = read_rows(pickle.dumps(content, protocol))

    same([{"v": vector} for vector in vectors], found)


def test_columns_may_share_their_values() -> None:
    """Two object columns of the same text, in any order: read in time."""
    text = [f"text number {n}" for n in range(30_000)]
    frame = pd.DataFrame({"a": pd.Series(text, dtype=object)})
    frame["b"] = pd.Series(text[::-1], dtype=object)
    scan = Pickle(pickle.dumps(frame))
    found = [
        b
        for batch in scan.batches(lambda name: name == "b")
        for b in column_values(batch.columns["b"])
    ]

    assert text[::-1] == found

"""What a pickle holds besides lists of dicts: tables of any nesting, read as pandas reads them."""

from __future__ import annotations

import collections
import fractions
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.pickle_reader import IndexName, PickleReaderError, UnsupportedPickle, open_pickle
from tests import pickles as p
from tests.shapes.old_pandas import pickled_by
from tests.test_pickle_reader import (
    column_values,
    dump,
    frame_rows,
    read_rows,
    same,
    small_limits,
    with_index,
)
from tests.test_pickle_reader_hostile import measured, refused

_ROWS = 5
_TEXTS = ["a", "한빛", "", "a" * 300, "Zeta"]


# Tables made of parts, and the frame that pandas makes of them.


def _series(values: list[Any], kind: str) -> Any:
    match kind:
        case "list":
            return values
        case "tuple":
            return tuple(values)
        case "array":
            made = np.empty(len(values), object)
            made[:] = values
            return made
        case "numbers":
            return np.arange(len(values), dtype="i2")
        case "strings":
            return np.array([str(value)[:5] for value in values])
        case "Index":
            return pd.Index(values, dtype=object, name="some name")
        case _:
            return pd.Series(values, dtype="category" if kind == "category" else object)


_column_kinds = st.sampled_from(
    ["list", "tuple", "array", "numbers", "strings", "Index", "Series", "category"]
)
_matrices = st.sampled_from(["f4", "f8", ">f4", "i8", "F", "object", "lists", "arrays"])


def _matrix(kind: str, width: int) -> Any:
    matrix = np.arange(_ROWS * width, dtype="f8").reshape(_ROWS, width) / 7
    match kind:
        case "F":
            return np.asfortranarray(matrix)
        case "object":
            return matrix.astype(object)
        case "lists":
            return matrix.tolist()
        case "arrays":
            return list(matrix)
        case _:
            return matrix.astype(kind)


def _index(kinds: list[str], names: list[Any]) -> Any:  # noqa: C901 - a table of cases
    levels: list[Any] = []
    for kind in kinds:
        match kind:
            case "text":
                levels.append([f"row {row}" for row in range(_ROWS)])
            case "repeated":
                levels.append(["x", "y", "x", None, "y"])
            case "numbers":
                levels.append([5, -3, 2**40, 0, 5])
            case "floats":
                levels.append([0.5, 1.5, 0.5, -1.0, 2.5])
            case "dates":
                levels.append(pd.to_datetime(["2024-01-02"] * 3 + ["2023-05-06"] * 2))
            case "category":
                levels.append(pd.Categorical(["p", "q", "p", "p", "q"]))
            case "range":
                levels.append(pd.RangeIndex(10, 10 + 3 * _ROWS, 3))
    if not levels:
        return None
    if len(levels) == 1:
        return pd.Index(levels[0]).set_names([names[0]])
    return pd.MultiIndex.from_arrays(levels, names=names[: len(levels)])


_levels = st.lists(
    st.sampled_from(["text", "repeated", "numbers", "floats", "dates", "category", "range"]),
    max_size=3,
)
_level_names = st.permutations(["id", None, "회사", 7, ("a", 1)])


def _missing_is_none(rows: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
    return [
        {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()}
        for row in rows
    ]


_how = st.sampled_from(["C", "optimized", "in small batches"])


@settings(max_examples=80)
@given(
    kinds=_levels,
    names=_level_names,
    protocol=st.integers(2, 5),
    how=_how,
    batch_rows=st.integers(1, 8),
)
def test_an_index_is_columns_as_pandas_has_them(
    kinds: list[str], names: list[Any], protocol: int, how: str, batch_rows: int
) -> None:
    """Flat or of levels, named or not, of any type; in batches, whether little is held or all."""
    frame = pd.DataFrame(
        {"text": pd.Series(_TEXTS, dtype=object), "v": [[0.5, n] for n in range(_ROWS)]}
    )
    index = _index(kinds, names)
    if index is not None:
        frame.index = index
    content = dump(frame, protocol, how)
    expected = _missing_is_none(frame_rows(with_index(frame)))

    same(expected, _missing_is_none(read_rows(content, batch_rows=batch_rows)))
    with small_limits():
        same(expected, _missing_is_none(read_rows(content, batch_rows=batch_rows)))


@settings(max_examples=80)
@given(
    columns=st.dictionaries(st.text(max_size=3), _column_kinds, min_size=1, max_size=4),
    matrix=_matrices,
    width=st.integers(1, 40),
    constant=st.booleans(),
    with_frame=st.booleans(),
    order=st.booleans(),
    protocol=st.integers(2, 5),
    how=_how,
    batch_rows=st.integers(1, 8),
    outer=st.sampled_from(["dict", "OrderedDict", "tuple"]),
)
def test_a_dict_or_tuple_of_columns_is_read_as_pandas_makes_a_frame_of_it(  # noqa: PLR0917
    columns: dict[str, str],
    matrix: str,
    width: int,
    constant: bool,  # noqa: FBT001
    with_frame: bool,  # noqa: FBT001
    order: bool,  # noqa: FBT001
    protocol: int,
    how: str,
    batch_rows: int,
    outer: str,
) -> None:
    """Lists, tuples, arrays, Series, a DataFrame among them, and a matrix: in any order."""
    parts: dict[str, Any] = {name: _series(_TEXTS, kind) for name, kind in columns.items()}
    parts["the vectors"] = _matrix(matrix, width)
    if constant:
        parts["the same"] = "for all rows"
    expected = {
        name: list(values) if name != "the same" else [values] * _ROWS
        for name, values in parts.items()
    }
    frame = pd.DataFrame({"in frame": range(_ROWS)}, index=pd.Index(_TEXTS, name="by"))
    if with_frame:
        parts["the frame"] = frame
    if order:
        parts = dict(reversed(parts.items()))
    content: Any = collections.OrderedDict(parts) if outer == "OrderedDict" else parts
    if outer == "tuple":
        places = {name: place for place, name in enumerate(parts)}
        expected = {places[name]: values for name, values in expected.items()}  # type: ignore[misc]
        content = tuple(parts.values())
    if with_frame:
        expected |= {"in frame": list(range(_ROWS)), "by": list(_TEXTS)}
    dumped = dump(content, protocol, how)

    for limits in (None, small_limits()):
        if limits is not None:
            limits.__enter__()
        try:
            found = read_rows(dumped, batch_rows=batch_rows)
        finally:
            if limits is not None:
                limits.__exit__(None, None, None)
        assert _ROWS == len(found)
        assert set(expected) == set(found[0])
        for name, values in expected.items():
            same([_listed(v) for v in values], [_listed(row[name]) for row in found])


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_an_index_is_told_from_columns() -> None:
    """Its names are text, of a class of its own."""
    frame = pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["b", 7])
    )
    scan = open_pickle(pickle.dumps(frame))
    list(scan.batches())

    assert ["a", "b", "7"] == list(scan.columns)
    assert [False, True, True] == [isinstance(name, IndexName) for name in scan.columns]


def test_columns_of_one_name_are_told_apart() -> None:
    """All are there, and called the same."""
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    scan = open_pickle(pickle.dumps(frame))
    (batch,) = scan.batches()

    assert ["a", "b", "a"] == list(map(str, scan.columns))
    assert [1, 2, 3] == [column_values(values)[0] for values in batch.columns.values()]


@pytest.mark.parametrize("version", [(0, 19), (0, 25), (1, 1), (1, 3)])
def test_what_older_versions_of_pandas_pickled_is_what_pandas_reads(
    version: tuple[int, int],
) -> None:
    """The pickles made here are such that pandas itself reads them, where it still can."""
    frame = pd.DataFrame(
        {"a": pd.Series(_TEXTS, dtype=object), "n": range(_ROWS), "f": np.arange(_ROWS) / 2}
    )
    content = pickled_by(version, frame)

    same(frame_rows(frame), read_rows(content))
    if version == (1, 1):  # others have changed since
        same(frame_rows(frame), frame_rows(pickle.loads(content)))


# Objects of classes.


def test_the_classes_of_objects_are_listed_and_not_made() -> None:
    """Their names are known; a column of them holds what says so."""
    rows = [{"a": n, "path": Path("x"), "half": fractions.Fraction(1, 2)} for n in range(3)]
    modules = set(sys.modules)
    scan = open_pickle(pickle.dumps(rows))
    (batch,) = scan.batches()

    assert [0, 1, 2] == batch.columns["a"]
    assert {"pathlib.PosixPath"} == {
        type(value).__name__ for value in column_values(batch.columns["path"])
    }
    assert {"pathlib.PosixPath", "fractions.Fraction"} <= set(scan.globals_named)
    assert "<pathlib.PosixPath>" == str(batch.row(0)["path"])
    assert modules == set(sys.modules)


_FOREIGN = p.named("some.module", "Class")


@pytest.mark.parametrize(
    "value",
    [
        _FOREIGN,
        p.called(_FOREIGN, p.text("a")),
        p.made(_FOREIGN),
        _FOREIGN + p.EMPTY_TUPLE + p.dict_of({"a": p.number(1)}) + b"\x92",
        p.built(p.made(_FOREIGN), p.dict_of({"a": p.number(1)})),
        p.built(p.made(_FOREIGN), p.tuple_of(p.NONE, p.NONE)),
        p.made(_FOREIGN) + p.number(1) + b"a",
        p.made(_FOREIGN) + b"(" + p.number(1) * 300 + b"e",
        p.made(_FOREIGN) + p.text("a") + p.number(1) + b"s",
        p.made(_FOREIGN) + b"(" + p.text("a") + p.number(1) + b"u",
        p.made(_FOREIGN) + b"(" + p.number(1) + b"\x90",
        b"(" + p.number(1) + b"isome.module\nClass\n",
        b"(" + _FOREIGN + p.number(1) + b"o",
        p.called(
            p.named("copyreg", "_reconstructor"), _FOREIGN, p.named("builtins", "object"), p.NONE
        ),
        p.called(p.named("builtins", "getattr"), _FOREIGN, p.text("MEMBER")),
        p.called(p.named("functools", "partial"), _FOREIGN),
    ],
)
def test_an_object_is_skipped_however_it_is_pickled(value: bytes) -> None:
    """Called, made, filled as a list, a dict or a set."""
    content = p.pickled(b"](" + p.dict_of({"a": p.number(1), "b": value}) + b"e")
    (batch,) = open_pickle(content).batches()

    assert [1] == batch.columns["a"]
    assert "<" == str(batch.row(0)["b"])[0]


# Hostile ones.


def _dict_of_one_list(keys: int) -> bytes:
    """Pickle a dict of many keys, all of which have the same list of 20,000 numbers."""
    items = b"](" + b"K\x01" * 20_000 + b"eq\x01"
    rest = b"".join(p.text(f"{key}") + b"h\x01" for key in range(keys))
    return p.pickled(b"}(" + p.text("first") + items + rest + b"u")


_HOSTILE: dict[str, bytes] = {
    "a dict whose keys share a list": _dict_of_one_list(900),
    "a list in itself, in a dict": p.pickled(
        b"}(" + p.text("a") + b"]\x94h\x00a" + p.text("b") + b"]Nau"
    ),
    "a dict in itself": p.pickled(b"}\x94(" + p.text("a") + b"h\x00" + p.text("b") + b"h\x00u"),
    "a matrix of no width": p.pickled(
        p.dict_of(
            {
                name: p.array(p.tuple_of(p.number(2**40), p.number(0)), p.INT64, p.raw(b""))
                for name in "ab"
            }
        )
    ),
    "an index of 2**40 rows": p.pickled(
        p.dict_of(
            {
                name: p.called(
                    p.named("pandas.core.indexes.base", "_new_Index"),
                    p.named("pandas.core.indexes.range", "RangeIndex"),
                    p.dict_of({"start": p.number(0), "stop": p.number(2**40), "step": p.number(1)}),
                )
                for name in "ab"
            }
        )
    ),
    "2,000 classes": p.pickled(
        b"".join(p.named("a", f"C{n}") + p.POP for n in range(2000)) + b"]."
    ),
    "a class of a name without end": p.pickled(b"](" + p.named("a", "b" * 100_000) + b"e"),
    "400,000 objects that are no rows, a dict after each": (
        b"\x80\x04" + _FOREIGN + b"\x940](" + b"h\x00)R}b" * 400_000
    ),
    "a call of an object": p.pickled(p.called(p.called(_FOREIGN), p.number(1))),
    "a Series in itself": p.pickled(
        b"}("
        + p.text("a")
        + p.named("pandas", "Series")
        + b")\x81\x94"
        + p.dict_of(
            {
                "_mgr": p.called(
                    p.named("pandas.core.internals.managers", "SingleBlockManager"),
                    p.tuple_of(b"h\x00", p.NONE),
                    p.NONE,
                )
            }
        )
        + b"b"
        + p.text("b")
        + b"h\x00u"
    ),
}


@pytest.mark.parametrize("case", _HOSTILE)
def test_a_hostile_table_is_refused_at_once(case: str) -> None:
    """With an error of the reader, before much is read again."""
    content = _HOSTILE[case]
    assert isinstance(refused(content), PickleReaderError)
    with small_limits():
        assert refused(content) is not None


def _tables() -> dict[str, bytes]:
    levels = pd.MultiIndex.from_arrays(
        [["x", "y"], pd.to_datetime(["2024-01-02"] * 2)], names=["a", None]
    )
    frame = pd.DataFrame({"a": ["x", "y"]}, index=levels)
    table = {
        "t": ["a", "b"],
        "v": np.arange(80.0).reshape(2, 40),
        "df": frame,
        "s": pd.Series([1, 2]),
        "k": 3,
    }
    other = [collections.defaultdict(int, a=1, p=Path("x"))] * 2
    return {
        **{f"dict {n}": pickle.dumps(table, n) for n in (2, 5)},
        "tuple": pickle.dumps(tuple(table.values()), 4),
        "other": pickle.dumps(other, 4),
        "old": pickled_by((1, 0), frame),
        "1.3": pickled_by((1, 3), frame),
    }


_SOUND = _tables()


@pytest.mark.parametrize("case", _SOUND)
def test_every_wrong_byte_of_a_table_is_an_error_or_another_value(case: str) -> None:
    """Nothing but errors of the reader comes out, whatever a byte becomes, and wherever it ends."""
    content = bytearray(_SOUND[case])
    assert refused(bytes(content)) is None
    with small_limits():
        for place in range(0, len(content), 29):
            was = content[place]
            for wrong in (was ^ 1, was ^ 128, 0, *b"(e."):
                content[place] = wrong
                refused(bytes(content))
            content[place] = was
            assert refused(bytes(content[:place])) is not None


@pytest.mark.parametrize("shape", ["lists", "matrix", "levels"])
def test_memory_does_not_grow_with_the_rows_of_a_table(shape: str, tmp_path: Path) -> None:
    """Three times the rows need the same, give or take the offsets of what is in lists."""
    used = []
    for rows in (10_000, 30_000):
        ids = [f"id {n}" for n in range(rows)]
        source: Any = {
            "id": ids,
            "v": [[n + 0.5] * 50 for n in range(rows)],
            "x": [[n] for n in range(rows)],
        }
        if shape == "matrix":
            source["v"] = np.arange(50 * rows).reshape(rows, 50) / 2
        if shape == "levels":
            source = pd.DataFrame(source).assign(n=range(rows)).set_index(["id", "n"])
        path = tmp_path / "jobs.pkl"
        path.write_bytes(pickle.dumps(source))
        found, mebibytes, _ = measured(path)
        assert rows == found
        used.append(mebibytes)

    assert used[1] < used[0] + 16


def test_a_tuple_of_rows_says_what_it_is() -> None:
    """Rows that were handed out can't be taken back: it is an error, and says what is there."""
    with pytest.raises(UnsupportedPickle, match="a tuple of 2"):
        read_rows(pickle.dumps(([{"a": 1}], [2])))

"""Columns of vectors, in memory, in pickles, in Arrow: the same values, the same reasons."""

from __future__ import annotations

import decimal
import pickle
import tracemalloc
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convert import vectors as vectors_module
from convert.pickle_reader import Batch, FloatLists, open_pickle
from convert.reading import IdWishes, Reading
from convert.validation import text_column, years_column
from convert.vectors import fill_matrix, vector_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from convert.pickle_reader import Values

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NAN, _INF = float("nan"), float("inf")

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


def _in_a_pickle(rows: Sequence[Any], protocol: int = 4) -> Values:
    """Return rows as the reader of pickles hands them out: numbers stay where they lie."""
    content = pickle.dumps([{"v": row} for row in rows], protocol)
    (batch,) = open_pickle(content).batches(batch_rows=1 << 20)
    return batch.columns["v"]


def _in_place(rows: Sequence[Any]) -> Values:
    """Return rows as the reader does if their bytes are many, however few these are."""
    with mock.patch("convert.pickle_reader.literals._SHORT_BYTES", 1):
        return _in_a_pickle(rows)


_HOLDERS: dict[str, Callable[[Sequence[Any]], Values]] = {
    "in memory": list,
    "in a pickle": _in_a_pickle,
    "in place": _in_place,
}
however_held = pytest.mark.parametrize("hold", _HOLDERS.values(), ids=_HOLDERS)


class _Vectors(NamedTuple):
    matrix: NDArray[np.float32]
    problems: dict[int, str]


def _vectors(values: Values) -> _Vectors:
    """Convert to the dimension that most rows have."""
    lengths = vector_lengths(values)
    sizes = [size for size, _ in Counter(lengths.tolist()).most_common() if size]
    matrix = np.full((len(lengths), sizes[0] if sizes else 0), 7, np.float32)
    return _Vectors(matrix, fill_matrix(matrix, values, lengths))


def _bits(matrix: Any) -> bytes:
    """Return the bytes, so that -0.0 isn't 0.0."""
    return np.asarray(matrix, np.float32).tobytes()


vector_rows = st.integers(1, 6).flatmap(
    lambda dimension: st.lists(
        st.lists(float32s, min_size=dimension, max_size=dimension), min_size=1
    )
)


@however_held
@given(vector_rows, st.sampled_from(["list", "tuple", "<f4", "<f8", ">f4", ">f8", "object"]))
def test_a_float32_survives_exactly(
    hold: Callable[[Sequence[Any]], Values], rows: list[list[float]], kind: str
) -> None:
    """Bit for bit, subnormals and negative zeros too, from lists and arrays of all kinds."""
    held: list[Any] = rows
    if kind == "tuple":
        held = [tuple(row) for row in rows]
    elif kind != "list":
        held = [np.array(row, kind) for row in rows]
    found = _vectors(hold(held))

    assert {} == found.problems
    assert np.float32 == found.matrix.dtype
    assert (len(rows), len(rows[0])) == found.matrix.shape
    assert _bits(rows) == _bits(found.matrix)


@however_held
@given(st.lists(st.floats(-_FLOAT32_MAX, _FLOAT32_MAX), min_size=1, max_size=20))
def test_a_float64_is_rounded_to_the_nearest_float32(
    hold: Callable[[Sequence[Any]], Values], values: list[float]
) -> None:
    """The rounding is that of NumPy, and of C."""
    assert _bits(np.array(values)) == _bits(_vectors(hold([values])).matrix)


@however_held
@given(st.lists(st.integers(-(2**24), 2**24), min_size=1))
def test_whole_numbers_are_numbers(
    hold: Callable[[Sequence[Any]], Values], values: list[int]
) -> None:
    """A vector may hold ints, in a list or in an array of them."""
    for row in (
        values,
        np.array(values),
        np.array(values, np.int32),
        [*values[:-1], float(values[-1])],
    ):
        assert [float(value) for value in values] == _vectors(hold([row])).matrix[0].tolist()


@however_held
@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", "g", "i1", "u1", "i2", "i8", "u8", ">i4", ">f2", ">f8", "?"]
)
def test_an_array_of_any_number_type_is_a_vector(
    dtype: str, hold: Callable[[Sequence[Any]], Values]
) -> None:
    """Half to extended precision, every width of int, either byte order, bools."""
    found = _vectors(hold([np.array([1, 0, 1], dtype)] * 3))

    assert ([[1.0, 0.0, 1.0]] * 3, {}) == (found.matrix.tolist(), found.problems)


@however_held
@pytest.mark.parametrize(
    "row", [[True, False, True], np.array([True, False, True]), [1.0, False, True], [1, 0, True]]
)
def test_bools_are_numbers_as_they_are_to_python(
    row: Any, hold: Callable[[Sequence[Any]], Values]
) -> None:
    """True is 1 and False is 0, alone, in an array, and among numbers."""
    found = _vectors(hold([[0.5] * 3, row]))

    assert ([[0.5] * 3, [1.0, 0.0, 1.0]], {}) == (found.matrix.tolist(), found.problems)
    assert [[1.0, 0.0, 1.0]] == _vectors(hold([row])).matrix.tolist()


_BAD_VECTORS: dict[str, tuple[Any, str]] = {
    "None": (None, "missing vector"),
    "NaN": (_NAN, "missing vector"),
    "NaN of NumPy": (np.float64("nan"), "missing vector"),
    "empty list": ([], "missing vector"),
    "empty array": (np.array([]), "missing vector"),
    "too short": ([0.5], "1 values, not 3 as most rows have"),
    "too short by one": ([0.5, 1.5], "2 values, not 3 as most rows have"),
    "too long": ([0.5] * 4, "4 values, not 3 as most rows have"),
    "text": ("0.5", "str instead of a vector"),
    "bytes": (bytes(12), "bytes instead of a vector"),
    "number": (0.5, "float instead of a vector"),
    "dict": ({0: 0.5, 1: 0.5, 2: 0.5}, "dict instead of a vector"),
    "set": ({0.5, 1.5, 2.5}, "set instead of a vector"),
    "matrix": (
        np.zeros((3, 1)),
        "a matrix of 3 x 1 instead of a vector; v.ravel() makes one of it",
    ),
    "array of no dimension": (np.array(0.5), "ndarray instead of a vector"),
    "NaN in it": ([0.5, _NAN, 0.5], "NaN"),
    "NaN in an array": (np.array([0.5, _NAN, 0.5], np.float32), "NaN"),
    "infinity in it": ([0.5, _INF, 0.5], "infinity"),
    "minus infinity in it": (np.array([0.5, -_INF, 0.5]), "infinity"),
    "half infinity in it": (np.array([0.5, _INF, 0.5], np.float16), "infinity"),
    "too large": ([0.5, 1e39, 0.5], "a value is too large for float32"),
    "too small": ([0.5, -1e39, 0.5], "a value is too large for float32"),
    "barely too large": ([0.5, 3.40282356779733662e38, 0.5], "a value is too large for float32"),
    "too large in an array": (
        np.array([0.5, 1e39, 0.5], ">f8"),
        "a value is too large for float32",
    ),
    "extended, too large": (np.array([0, "1e4000", 0], "g"), "a value is too large for float32"),
    "None in it": ([0.5, None, 0.5], "a value is missing"),
    "None in an array": (np.array([0.5, None, 0.5], object), "a value is missing"),
    "texts": (["0.5", "0.5", "0.5"], "a value is not a number"),
    "texts in an array": (np.array(["0.5", "0.5", "0.5"]), "a value is not a number"),
    "bytes in an array": (np.array([b"0.5", b"0.5", b"0.5"]), "a value is not a number"),
    "a text in it": ([0.5, "0.5", 0.5], "a value is not a number"),
    "bytes in it": ([b"1", b"2", b"3"], "a value is not a number"),
    "complex": ([0.5, 1j, 0.5], "a value is not a number"),
    "complex array": (np.array([0.5, 1j, 0.5]), "a value is not a number"),
    "complex array of small ones": (np.ones(3, np.complex64), "a value is not a number"),
    "Decimals": ([decimal.Decimal(1)] * 3, "a value is not a number"),
    "lists in it": ([[0.5], [0.5], [0.5]], "a value is not a number"),
    "vectors in it": ([[0.5, 1.5], [0.5, 1.5], [0.5, 1.5]], "a value is not a number"),
    "a list in it": ([0.5, [0.5], 0.5], "a value is not a number"),
    "lists of other lengths in it": ([[0.5], [0.5, 1], []], "a value is not a number"),
    "arrays in it": ([np.zeros(1)] * 3, "a value is not a number"),
    "dicts in it": ([{}, {}, {}], "a value is not a number"),
    "times": (np.zeros(3, "M8[s]"), "a value is not a number"),
    "durations": (np.zeros(3, "m8[s]"), "a value is not a number"),
}


@however_held
@pytest.mark.parametrize("case", _BAD_VECTORS)
@pytest.mark.parametrize("kind", ["list", "f4", "f8", ">f8", "i2"])
def test_what_is_no_vector_is_a_problem(
    case: str, kind: str, hold: Callable[[Sequence[Any]], Values]
) -> None:
    """One bad row among good ones: it has a reason, they have their values."""
    bad, reason = _BAD_VECTORS[case]
    sound: list[Any] = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    if kind != "list":
        sound = [np.array(row, kind) for row in sound]
    found = _vectors(hold([sound[0], bad, *sound[1:]]))

    assert {1: reason} == found.problems
    assert _bits(sound) == _bits(found.matrix[[0, 2, 3]])


@however_held
@pytest.mark.parametrize(
    "case", [case for case, (_, why) in _BAD_VECTORS.items() if "most" not in why]
)
def test_a_column_of_bad_vectors_alone_has_a_problem_in_every_row(
    case: str, hold: Callable[[Sequence[Any]], Values]
) -> None:
    """Nothing becomes a vector for want of others to compare it with."""
    bad, _ = _BAD_VECTORS[case]

    assert [0, 1] == list(_vectors(hold([bad, bad])).problems)


some_rows = st.lists(
    st.one_of(
        st.lists(st.one_of(st.floats(), st.booleans(), st.none(), st.integers(-9, 9)),
                 min_size=3, max_size=3),
        st.lists(st.floats(), min_size=2, max_size=4),
        st.sampled_from(["f2", "f4", ">f8", "i1", "?"]).map(lambda dtype: np.ones(3, dtype)),
        st.sampled_from([bad for bad, _ in _BAD_VECTORS.values()]),
        st.sampled_from([[_FLOAT32_MAX] * 3, [3.4028235e38] * 3, [2**70, 1, 1], [2**70] * 3]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@however_held
@given(some_rows)
@example([[2**70] * 3, None])
@example([[2**70, 1, 1], [0.5, True, 0.5], [True] * 3, None])
@example([[3.4028235e38] * 3, None])
def test_a_vector_means_the_same_in_any_company(
    hold: Callable[[Sequence[Any]], Values], rows: list[Any]
) -> None:
    """Neither the values nor the reason depend on the other rows, but for the dimension."""
    most = [[0.25] * 3] * 5
    together = _vectors(hold([*most, *rows]))
    for place, row in enumerate(rows, len(most)):
        alone = _vectors(hold([*most, row]))

        assert alone.problems.get(len(most)) == together.problems.get(place)
        if place not in together.problems:
            assert _bits(alone.matrix[-1]) == _bits(together.matrix[place])


@given(some_rows, st.integers(2, 5))
def test_rows_in_a_pickle_mean_what_they_mean_in_memory(rows: list[Any], protocol: int) -> None:
    """The same dimension, values and reasons in the same rows, in every protocol."""
    here = _vectors(rows)
    sound = [row for row in range(len(rows)) if row not in here.problems]
    for held in (_in_a_pickle(rows, protocol), _in_place(rows)):
        there = _vectors(held)

        assert here.problems == there.problems
        assert _bits(here.matrix[sound]) == _bits(there.matrix[sound])
        assert vector_lengths(rows).tolist() == vector_lengths(held).tolist()


def test_vectors_in_a_pickle_stay_there() -> None:
    """Lists of floats and arrays are no objects of Python before they are float32."""
    for row in ([0.5] * 4, (0.5,) * 4, np.zeros(100, np.float32), np.zeros(200, np.int16)):
        assert isinstance(_in_a_pickle([row] * 3), FloatLists)
    for row in (np.array([0.5, 1.5], ">f8"), np.array([True, False]), np.array([1.5, 2], "f2")):
        assert isinstance(_in_place([row] * 3), FloatLists)


@however_held
@pytest.mark.parametrize("kind", ["mixed", "list", "f4"])
def test_a_bad_vector_leaves_other_blocks_and_its_own_block_alone(
    kind: str, hold: Callable[[Sequence[Any]], Values]
) -> None:
    """Rows on both sides of every block's end, with bad ones in the second block."""
    block = vectors_module._BLOCK_ROWS
    rows = [[float(row), 0.5] for row in range(3 * block + 7)]
    expected = np.array(rows, np.float32)
    held: list[Any] = [
        np.array(row, np.float32) if kind == "f4" or (kind == "mixed" and number % 2) else row
        for number, row in enumerate(rows)
    ]
    bad = [block, block + 5, 2 * block - 1]
    for number, value in zip(bad, (None, [1.0, _NAN], ["1", "2"]), strict=True):
        held[number] = value
    found = _vectors(hold(held))
    kept = np.setdiff1d(np.arange(len(rows)), bad)

    assert dict(zip(bad, ["missing vector", "NaN", "a value is not a number"], strict=True)) == (
        found.problems
    )
    assert np.array_equal(expected[kept], found.matrix[kept])


def test_the_dimension_is_that_of_most_rows() -> None:
    """One long vector in front doesn't make all others wrong."""
    rows = [[1.0] * 5, [1.0] * 2, None, [2.0] * 2, []]
    dictionaries = defaultdict[str, Any](mock.Mock)  # texts don't matter
    reading = Reading(IdWishes(None, 0, lambda: bytes(32)), None, dictionaries)
    batch, names = Batch(5, {"v": rows}, lambda _row: {}), {"vector": "v"}
    reading.look(batch, names)
    assert 2 == reading.shape.dimension
    _, problems = reading.take(batch, names, np.empty((5, 2), np.float32))

    assert [0, 2, 4] == [problem.row for problem in problems if problem.field == "vector"]


@however_held
def test_no_row_has_a_vector(hold: Callable[[Sequence[Any]], Values]) -> None:
    """A column of nothing is a matrix of no columns, with a problem in every row."""
    found = _vectors(hold([None, [], _NAN]))

    assert ((3, 0), [0, 1, 2]) == (found.matrix.shape, list(found.problems))


def test_vectors_are_neither_text_nor_years() -> None:
    """A column of vectors that another field is said to be has a problem in every row."""
    for rows in ([[0.5, 1.5], [0.5, 2.5]], [np.zeros(3), np.ones(3)]):
        values = _in_a_pickle(rows)

        assert [0, 1] == list(text_column(values).problems)
        assert [0, 1] == list(years_column(values).problems)


@pytest.mark.parametrize("kind", ["list", "f4", "f8", "list in a pickle", "f8 in a pickle"])
@pytest.mark.parametrize("bad", [False, True])
def test_vectors_are_copied_once(kind: str, *, bad: bool) -> None:
    """At its height the memory is a block more than the source and the float32 matrix."""
    rows, dimension = 20_000, 64
    values = np.random.default_rng(0).standard_normal((rows, dimension))
    held: Any = values.tolist() if "list" in kind else list(values.astype(kind[:2]))
    if bad:
        held[rows // 2] = None
    if "pickle" in kind:
        held = _in_a_pickle(held)
    lengths = vector_lengths(held)
    matrix = np.empty((rows, dimension), np.float32)
    block = 8 * vectors_module._BLOCK_ROWS * dimension
    tracemalloc.start()
    try:
        fill_matrix(matrix, held, lengths)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * block + 16 * rows


# Arrow.

_ITEMS = [
    pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint8(), pa.int64(), pa.bool_(),
]  # fmt: skip
arrow_rows = st.lists(
    st.one_of(st.none(), st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=4),
              st.lists(float32s, min_size=3, max_size=3)),
    min_size=1, max_size=8,
)  # fmt: skip


@given(
    rows=arrow_rows, kind=st.sampled_from(["list", "large list", "list view"]),
    item=st.sampled_from([pa.float32(), pa.float64()]), skipped=st.integers(0, 3),
)  # fmt: skip
def test_rows_in_arrow_mean_what_they_mean_in_memory(
    rows: list[Any], kind: str, item: pa.DataType, skipped: int
) -> None:
    """Nulls, empty lists, nulls in lists, NaN, and a column that is a part of another."""
    most = [[0.25] * 3] * 9
    make = {"list": pa.list_, "large list": pa.large_list, "list view": pa.list_view}[kind]
    values = pa.array([*most[:skipped], *most, *rows, [1.0]], make(item))[skipped:-1]
    here, there = _vectors([*most, *rows]), _vectors(values)

    assert here.problems == there.problems
    sound = [row for row in range(len(values)) if row not in here.problems]
    assert _bits(here.matrix[sound]) == _bits(there.matrix[sound])
    assert vector_lengths([*most, *rows]).tolist() == vector_lengths(values).tolist()


@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_a_bad_vector_in_arrow_leaves_other_blocks_alone(
    make: Callable[[pa.DataType], pa.DataType],
) -> None:
    """Items of later rows are found behind rows that have none, fewer or more."""
    block = vectors_module._BLOCK_ROWS
    rows: list[Any] = [[float(row), 0.5] for row in range(4 * block + 7)]
    expected = np.array(rows, np.float32)
    bad: dict[int, Any] = {3: None, block - 1: [], block: [1.0], 3 * block: [1.0, 2.0, 3.0]}
    for row, value in bad.items():
        rows[row] = value
    found = _vectors(pa.array(rows, make(pa.float32())))
    kept = np.setdiff1d(np.arange(len(rows)), list(bad))

    assert list(bad) == list(found.problems)
    assert np.array_equal(expected[kept], found.matrix[kept])


@given(
    rows=st.lists(st.one_of(st.none(), st.lists(st.integers(0, 1), min_size=3, max_size=3)),
                  min_size=1),
    item=st.sampled_from(_ITEMS), skipped=st.integers(0, 3),
)  # fmt: skip
def test_lists_of_fixed_size_are_vectors_of_any_number_type(
    rows: list[Any], item: pa.DataType, skipped: int
) -> None:
    """Half to double, ints, bools; a null is a missing vector, whatever lies behind it."""
    rows = [None if row is None else [value == 1 for value in row] for row in rows]
    numbers = pa.array(rows, pa.list_(pa.bool_(), 3))
    if pa.types.is_boolean(item):
        values = numbers
    else:
        whole = numbers.values.cast(pa.uint8()).cast(pa.float32()).cast(item)
        values = pa.FixedSizeListArray.from_arrays(whole, 3, mask=numbers.is_null())
    found = _vectors(values[skipped:])
    kept = rows[skipped:]

    assert {n: "missing vector" for n, row in enumerate(kept) if row is None} == found.problems
    for number, row in enumerate(kept):
        if row is not None:
            assert [float(value) for value in row] == found.matrix[number].tolist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, 2.5]), pa.array(["a", "b"]), pa.nulls(2), pa.array([b"ab", b"cd"]),
        pa.array([["1", "2"], ["3", "4"]]), pa.array([[[1.5], [2.5]]] * 2),
        pa.array([[decimal.Decimal(1)], [decimal.Decimal(2)]]),
        pa.array([[1], [2]], pa.list_(pa.timestamp("s"))),
        pa.array([[2**62], [2**62]], pa.list_(pa.timestamp("s"))),
        pa.array([[1], [2]], pa.list_(pa.duration("s"))),
        pa.array([{"a": 1}, {"a": 2}]), pa.array([[], []], pa.list_(pa.float32())),
        pa.array([[("a", 1.0)], [("b", 2.0)]], pa.map_(pa.string(), pa.float32())),
        pa.array([None, None], pa.list_(pa.float32(), 2)),
    ],
    ids=lambda values: str(values.type),
)  # fmt: skip
def test_a_column_of_arrow_that_holds_no_vectors_is_a_problem_in_every_row(
    values: pa.Array,
) -> None:
    """Numbers, text, times, lists of text: no list of numbers."""
    assert [0, 1] == list(_vectors(values).problems)

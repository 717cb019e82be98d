"""Columns of text, years and vectors: what is valid survives, what isn't has a reason."""

from __future__ import annotations

import decimal
import tracemalloc
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convert import vectors as vectors_module
from convert.validation import Column, text_column, years_column
from convert.vectors import Vectors, vector_matrix
from tests.pickles import ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

_INT32_MAX = 2**31 - 1
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NAN, _INF = float("nan"), float("inf")

nulls = st.sampled_from([None, _NAN, np.float64("nan")])
# Everything but surrogates, which are no Unicode text.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
int32s = st.integers(-(2**31), _INT32_MAX)
naturals = st.integers(0, _INT32_MAX)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


# Text.


@settings(deadline=None)
@given(st.lists(st.one_of(texts, nulls)))
def test_text_survives_and_null_becomes_empty(values: list[Any]) -> None:
    """Every character in every place; nulls are counted."""
    column = text_column(values)

    assert [v if isinstance(v, str) else "" for v in values] == column.values.to_pylist()
    assert sum(not isinstance(v, str) for v in values) == column.nulls_replaced
    assert {} == column.problems


@pytest.mark.parametrize(
    "null",
    [np.float16("nan"), np.float32("nan"), np.longdouble("nan"), np.datetime64("NaT")],
    ids=lambda null: null.dtype.name,
)
def test_a_missing_value_of_numpy_is_null(null: np.generic) -> None:
    """Records may hold NumPy's scalars; NaN of 16 bits is as missing as that of 64."""
    text, years = text_column(["a", null]), years_column([5, null])

    assert (["a", ""], 1, {}) == (text.values.to_pylist(), text.nulls_replaced, text.problems)
    assert ([5, 0], 1, {}) == (years.values.to_pylist(), years.nulls_replaced, years.problems)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), texts), min_size=1))
def test_text_survives_from_every_kind_of_column(values: list[str | None]) -> None:
    """Arrow text of both sizes, dictionary-encoded, categories, NumPy objects."""
    plain = pa.array(values, pa.string())
    columns = [
        plain, plain.cast(pa.large_string()), plain.dictionary_encode(),
        plain.cast(pa.large_string()).dictionary_encode(), np.array(values, object),
    ]  # fmt: skip
    for column in map(text_column, columns):
        assert [value or "" for value in values] == column.values.to_pylist()
        assert values.count(None) == column.nulls_replaced
        assert {} == column.problems
        assert pa.string() == column.values.type


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "int instead of text"),
        (0.5, "float instead of text"),
        (True, "bool instead of text"),
        (_INF, "float instead of text"),
        ([], "list instead of text"),
        (["Acme"], "list instead of text"),
        ({"name": "Acme"}, "dict instead of text"),
        (b"\xff\xfe", "bytes instead of text"),
        (np.array(["Acme"]), "ndarray instead of text"),
        (np.int64(5), "int64 instead of text"),
        (decimal.Decimal(5), "Decimal instead of text"),
        (uuid.UUID(int=1), "UUID instead of text"),
        (np.datetime64("2024-01-01"), "datetime64 instead of text"),
        ("\ud800", "'\\ud800' is not valid Unicode"),
        ("a\udfffb" + "c" * 99, f"'a\\udfffb{'c' * 37}'... is not valid Unicode"),
    ],
)
def test_what_is_no_text_is_a_problem(value: object, reason: str) -> None:
    """The reason says what is there instead; the rows around it are converted."""
    column = text_column(["before", value, None, "after"])

    assert {1: reason} == column.problems
    assert ["before", "", "", "after"] == column.values.to_pylist()
    assert 1 == column.nulls_replaced


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2]), np.array([0.5, 1]), np.array([True, False]), pa.array([1, 2]),
        pa.array([b"\xff", b"\xfe"]), pa.array([1, 2]).dictionary_encode(),
        np.array(["2024-01-01", "2024-01-02"], "M8[ns]"),
    ],
    ids=lambda values: str(getattr(values, "dtype", None) or values.type),
)  # fmt: skip
def test_a_column_of_another_type_is_a_problem_in_every_row(values: Any) -> None:
    """A column of numbers or times is no text, whatever holds it."""
    column = text_column(values)

    assert [0, 1] == list(column.problems)
    assert 0 == column.nulls_replaced


def test_a_column_of_nulls_alone_is_empty_text() -> None:
    """Lists, float columns full of NaN, and Arrow's null type, as pandas makes them."""
    columns = [[None, None], np.array([_NAN, _NAN]), pa.nulls(2), [None, _NAN]]

    assert [(["", ""], 2, {})] * 4 == [
        (c.values.to_pylist(), c.nulls_replaced, c.problems) for c in map(text_column, columns)
    ]


# Years.


@settings(deadline=None)
@given(st.lists(int32s, min_size=1))
def test_years_survive_in_every_form(values: list[int]) -> None:
    """Whole numbers as int or float, in lists, NumPy and Arrow, of any width that holds them."""
    columns: list[Any] = [
        values, [float(v) for v in values], np.array(values), np.array(values, np.float64),
        np.array(values, ">i8"), np.array(values, object), np.array(values, np.longdouble),
        pa.array(values, pa.int32()), pa.array(values, pa.float64()),
        pa.array(values).dictionary_encode(),
    ]  # fmt: skip
    for column in map(years_column, columns):
        assert values == column.values.to_pylist()
        assert (0, {}) == (column.nulls_replaced, column.problems)
        assert pa.int32() == column.values.type


@settings(deadline=None)
@given(st.lists(naturals, min_size=1))
def test_years_may_be_written_as_text(values: list[int]) -> None:
    """'5', '5y' and '05', with spaces around, as objects, text and categories."""
    for form in ("{}", "{}y", "0{}", " {}y "):
        written = [form.format(value) for value in values]
        columns: list[Any] = [
            written, np.array(written), pa.array(written), pa.array(written).dictionary_encode(),
        ]  # fmt: skip
        for column in map(years_column, columns):
            assert values == column.values.to_pylist()
            assert (0, {}) == (column.nulls_replaced, column.problems)


@pytest.mark.parametrize(
    ("value", "years"),
    [
        (5, 5), (5.0, 5), ("5", 5), ("5y", 5), ("no_exp", 0), (0, 0), ("0", 0), (-0.0, 0),
        (np.int8(5), 5), (np.uint64(5), 5), (np.float16(5), 5), (np.str_("5y"), 5),
        (_INT32_MAX, _INT32_MAX), (str(_INT32_MAX), _INT32_MAX), (-(2**31), -(2**31)),
    ],
)  # fmt: skip
def test_a_form_of_years_is_read_beside_all_others(value: object, years: int) -> None:
    """A column may mix the forms, and each value means the same alone and among others."""
    among = years_column([value, "10y", 3, None, "no_exp", 2.0])

    assert [years, 10, 3, 0, 0, 2] == among.values.to_pylist()
    assert (1, {}) == (among.nulls_replaced, among.problems)
    assert [years] == years_column([value]).values.to_pylist()


@settings(deadline=None)
@given(st.lists(st.one_of(naturals, nulls)))
def test_null_years_become_zero_and_are_counted(values: list[Any]) -> None:
    """None and NaN, beside numbers and alone."""
    column = years_column(values)
    present = [isinstance(value, int) for value in values]

    assert [v if there else 0 for v, there in zip(values, present, strict=True)] == (
        column.values.to_pylist()
    )
    assert (present.count(False), {}) == (column.nulls_replaced, column.problems)


@pytest.mark.parametrize(
    "values",
    [
        np.array([5, _NAN]), pa.array([5, None]), pa.array([5.0, None]), pa.array([5.0, _NAN]),
        pa.array(["5y", None]), pa.array(["5y", None]).dictionary_encode(), ["5", None], [5, _NAN],
    ],
    ids=str,
)  # fmt: skip
def test_null_years_are_counted_in_every_kind_of_column(values: Any) -> None:
    """Arrow nulls, NaN in floats, null categories."""
    column = years_column(values)

    assert ([5, 0], 1, {}) == (column.values.to_pylist(), column.nulls_replaced, column.problems)


_BAD_YEARS: dict[str, tuple[Any, str]] = {
    "fraction": (5.5, "5.5 is not a whole number of years"),
    "infinity": (_INF, "inf is not a whole number of years"),
    "minus infinity": (-_INF, "-inf is not a whole number of years"),
    "2**31": (2**31, "is not a 32-bit number of years"),
    "-2**31-1": (-(2**31) - 1, "is not a 32-bit number of years"),
    "1e300": (1e300, "1e+300 is not a 32-bit number of years"),
    "2**63": (2**63, "is not a 32-bit number of years"),
    "10**400": (10**400, "is not a 32-bit number of years"),
    "-10**400": (-(10**400), "is not a 32-bit number of years"),
    "10**5000": (10**5000, "is not a 32-bit number of years"),
    "400 digits": ("9" * 400, "is not a 32-bit number of years"),
    "5,000 digits": ("9" * 5000, "is not a 32-bit number of years"),
    "True": (True, "bool instead of a number of years"),
    "True of NumPy": (np.bool_(True), "instead of a number of years"),  # noqa: FBT003
    "complex": (1 + 2j, "complex instead of a number of years"),
    "complex of NumPy": (np.complex128(1 + 2j), "complex128 instead of a number of years"),
    "duration": (np.timedelta64(5, "D"), "timedelta64 instead of a number of years"),
    "date": (np.datetime64("2024-01-01"), "datetime64 instead of a number of years"),
    "Decimal": (decimal.Decimal(5), "Decimal instead of a number of years"),
    "list": ([5], "list instead of a number of years"),
    "dict": ({5: 5}, "dict instead of a number of years"),
    "array": (np.array([5]), "ndarray instead of a number of years"),
    "bytes": (b"5", "bytes instead of a number of years"),
    "nothing": ("", "'' is not a number of years"),
    "space": (" ", "' ' is not a number of years"),
    "y": ("y", "'y' is not a number of years"),
    "5Y": ("5Y", "'5Y' is not a number of years"),
    "5 y": ("5 y", "'5 y' is not a number of years"),
    "5.0": ("5.0", "'5.0' is not a number of years"),
    "+5": ("+5", "'+5' is not a number of years"),
    "-5": ("-5", "'-5' is not a number of years"),
    "5_0": ("5_0", "'5_0' is not a number of years"),
    "0x5": ("0x5", "'0x5' is not a number of years"),
    "5y5": ("5y5", "'5y5' is not a number of years"),
    "Arabic five": ("\u0665", "'\\u0665' is not a number of years"),
    "superscript five": ("⁵", "'\\u2075' is not a number of years"),
    "no exp": ("no exp", "'no exp' is not a number of years"),
    "nan": ("nan", "'nan' is not a number of years"),
    "much text": ("x" * 999, f"'{'x' * 40}'... is not a number of years"),
}


@pytest.mark.parametrize("case", _BAD_YEARS)
@pytest.mark.parametrize(
    "others", [[5, None, 7], ["5y", None, "7"], [5.0, _NAN, 7.0], ["5", None, 7]]
)
def test_what_is_no_number_of_years_is_a_problem(case: str, others: list[Any]) -> None:
    """The same reason among numbers, texts and both; the rows around it are converted."""
    value, reason = _BAD_YEARS[case]
    column = years_column([others[0], value, *others[1:]])

    assert [1] == list(column.problems)
    assert column.problems[1].endswith(reason)
    assert len(column.problems[1]) < 500
    assert [5, 0, 0, 7] == column.values.to_pylist()
    assert 1 == column.nulls_replaced


@pytest.mark.parametrize(
    "values",
    [
        np.array([5.5, 5.0]), pa.array([5.5, 5.0]), np.array([2**31, 5]), np.array([_INF, 5]),
        np.array([2**63, 5], np.uint64), np.array([5.5, 5], np.float16), pa.array(["x", "5"]),
        pa.array(["x", "5"]).dictionary_encode(), pa.array([5.5, 5]).dictionary_encode(),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_value_in_a_typed_column_is_the_only_problem(values: Any) -> None:
    """Columns of one type name the row that is wrong and convert the others."""
    column = years_column(values)

    assert ([0, 5], [0], 0) == (
        column.values.to_pylist(), list(column.problems), column.nulls_replaced
    )  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False]), pa.array([True, False]), np.array([1 + 1j, 2]),
        np.array([1, 2], "m8[D]"), np.array([1, 2], "M8[D]"), pa.array([b"1", b"2"]),
        pa.array([[1], [2]]),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_that_holds_no_numbers_is_a_problem_in_every_row(values: Any) -> None:
    """Bools, complex numbers, durations, times, bytes and lists are no years."""
    assert [0, 1] == list(years_column(values).problems)


def _outcome(column: Column, row: int) -> object:
    return "a problem" if row in column.problems else column.values[row].as_py()


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            int32s, st.floats(), nulls, st.booleans(), st.text("0123456789y", max_size=3),
            st.sampled_from([value for value, _ in _BAD_YEARS.values()]),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_a_value_of_years_means_the_same_in_any_company(values: list[Any]) -> None:
    """Whether a value is valid, and what it becomes, doesn't depend on the other rows."""
    together = years_column(values)

    assert [_outcome(years_column([value]), 0) for value in values] == [
        _outcome(together, row) for row in range(len(values))
    ]


# Vectors.


def _vectors(rows: Sequence[Any]) -> Vectors:
    return vector_matrix(list(rows), ignore)


def _bits(matrix: Any) -> bytes:
    """Return the bytes, so that -0.0 isn't 0.0."""
    return np.asarray(matrix, np.float32).tobytes()


vector_rows = st.integers(1, 6).flatmap(
    lambda dimension: st.lists(
        st.lists(float32s, min_size=dimension, max_size=dimension), min_size=1
    )
)


@settings(deadline=None)
@given(vector_rows, st.sampled_from(["list", "tuple", "<f4", "<f8", ">f4", ">f8", "object"]))
def test_a_float32_survives_exactly(rows: list[list[float]], kind: str) -> None:
    """Bit for bit, subnormals and negative zeros too, from lists and arrays of all kinds."""
    held: list[Any] = rows
    if kind == "tuple":
        held = [tuple(row) for row in rows]
    elif kind != "list":
        held = [np.array(row, kind) for row in rows]
    found = _vectors(held)

    assert {} == found.problems
    assert np.float32 == found.matrix.dtype
    assert (len(rows), len(rows[0])) == found.matrix.shape
    assert _bits(rows) == _bits(found.matrix)


@settings(deadline=None)
@given(st.lists(st.floats(-_FLOAT32_MAX, _FLOAT32_MAX), min_size=1, max_size=20))
def test_a_float64_is_rounded_to_the_nearest_float32(values: list[float]) -> None:
    """The rounding is that of NumPy, and of C."""
    assert _bits(np.array(values)) == _bits(_vectors([values]).matrix)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**24), 2**24), min_size=1))
def test_whole_numbers_are_numbers(values: list[int]) -> None:
    """A vector may hold ints, in a list or in an array of them."""
    for row in (
        values,
        np.array(values),
        np.array(values, np.int32),
        [*values[:-1], float(values[-1])],
    ):
        assert [float(value) for value in values] == _vectors([row]).matrix[0].tolist()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "u1", "i2", "i8", "u8", ">i4"])
def test_an_array_of_any_number_type_is_a_vector(dtype: str) -> None:
    """Half to extended precision, and every width of int."""
    assert [[1.0, 0.0, 100.0]] == _vectors([np.array([1, 0, 100], dtype)]).matrix.tolist()


@pytest.mark.parametrize(
    "row", [[True, False, True], np.array([True, False, True]), [1.0, False, True], [1, 0, True]]
)
def test_bools_are_numbers_as_they_are_to_python(row: Any) -> None:
    """True is 1 and False is 0, alone, in an array, and among numbers."""
    found = _vectors([[0.5] * 3, row])

    assert ([[0.5] * 3, [1.0, 0.0, 1.0]], {}) == (found.matrix.tolist(), found.problems)
    assert [[1.0, 0.0, 1.0]] == _vectors([row]).matrix.tolist()


_BAD_VECTORS: dict[str, tuple[Any, str]] = {
    "None": (None, "missing vector"),
    "NaN": (_NAN, "missing vector"),
    "NaN of NumPy": (np.float64("nan"), "missing vector"),
    "empty list": ([], "missing vector"),
    "empty array": (np.array([]), "missing vector"),
    "too short": ([0.5], "1 values, not 3 as most rows have"),
    "too long": ([0.5] * 4, "4 values, not 3 as most rows have"),
    "text": ("0.5", "str instead of a vector"),
    "bytes": (bytes(12), "bytes instead of a vector"),
    "number": (0.5, "float instead of a vector"),
    "dict": ({0: 0.5, 1: 0.5, 2: 0.5}, "dict instead of a vector"),
    "set": ({0.5, 1.5, 2.5}, "set instead of a vector"),
    "matrix": (np.zeros((3, 1)), "ndarray instead of a vector"),
    "array of no dimension": (np.array(0.5), "ndarray instead of a vector"),
    "NaN in it": ([0.5, _NAN, 0.5], "NaN"),
    "NaN in an array": (np.array([0.5, _NAN, 0.5], np.float32), "NaN"),
    "infinity in it": ([0.5, _INF, 0.5], "infinity"),
    "minus infinity in it": (np.array([0.5, -_INF, 0.5]), "infinity"),
    "too large": ([0.5, 1e39, 0.5], "a value is too large for float32"),
    "too small": ([0.5, -1e39, 0.5], "a value is too large for float32"),
    "barely too large": ([0.5, 3.40282356779733662e38, 0.5], "a value is too large for float32"),
    "extended, too large": (np.array([0, "1e4000", 0], "g"), "a value is too large for float32"),
    "None in it": ([0.5, None, 0.5], "a value is missing"),
    "None in an array": (np.array([0.5, None, 0.5], object), "a value is missing"),
    "texts": (["0.5", "0.5", "0.5"], "a value is not a number"),
    "texts in an array": (np.array(["0.5", "0.5", "0.5"]), "a value is not a number"),
    "a text in it": ([0.5, "0.5", 0.5], "a value is not a number"),
    "bytes in it": ([b"1", b"2", b"3"], "a value is not a number"),
    "complex": ([0.5, 1j, 0.5], "a value is not a number"),
    "Decimals": ([decimal.Decimal(1)] * 3, "a value is not a number"),
    "lists in it": ([[0.5], [0.5], [0.5]], "a value is not a number"),
    "a list in it": ([0.5, [0.5], 0.5], "a value is not a number"),
    "lists of other lengths in it": ([[0.5], [0.5, 1], []], "a value is not a number"),
    "arrays in it": ([np.zeros(1)] * 3, "a value is not a number"),
    "dicts in it": ([{}, {}, {}], "a value is not a number"),
    "times": (np.zeros(3, "M8[s]"), "a value is not a number"),
    "durations": (np.zeros(3, "m8[s]"), "a value is not a number"),
}


@pytest.mark.parametrize("case", _BAD_VECTORS)
@pytest.mark.parametrize("kind", ["list", "f4", "f8"])
def test_what_is_no_vector_is_a_problem(case: str, kind: str) -> None:
    """One bad row among good ones: it has a reason, they have their values."""
    bad, reason = _BAD_VECTORS[case]
    sound: list[Any] = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    if kind != "list":
        sound = [np.array(row, kind) for row in sound]
    found = _vectors([sound[0], bad, *sound[1:]])

    assert {1: reason} == found.problems
    assert _bits(sound) == _bits(found.matrix[[0, 2, 3]])


@pytest.mark.parametrize(
    "case", [case for case, (_, why) in _BAD_VECTORS.items() if "most" not in why]
)
def test_a_column_of_bad_vectors_alone_has_a_problem_in_every_row(case: str) -> None:
    """Nothing becomes a vector for want of others to compare it with."""
    bad, _ = _BAD_VECTORS[case]

    assert [0, 1] == list(_vectors([bad, bad]).problems)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(st.one_of(st.floats(), st.booleans(), st.none(), st.integers(-9, 9)),
                     min_size=3, max_size=3),
            st.sampled_from([bad for bad, _ in _BAD_VECTORS.values()]),
            st.sampled_from([[_FLOAT32_MAX] * 3, [3.4028235e38] * 3, [2**70, 1, 1], [2**70] * 3]),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
@example([[2**70] * 3, None])
@example([[2**70, 1, 1], [0.5, True, 0.5], [True] * 3, None])
@example([[3.4028235e38] * 3, None])
def test_a_vector_means_the_same_in_any_company(rows: list[Any]) -> None:
    """Neither the values nor the reason depend on the other rows, but for the dimension."""
    most = [[0.25] * 3] * 5
    together = _vectors([*most, *rows])
    for place, row in enumerate(rows, len(most)):
        alone = _vectors([*most, row])

        assert alone.problems.get(len(most)) == together.problems.get(place)
        if place not in together.problems:
            assert _bits(alone.matrix[-1]) == _bits(together.matrix[place])


def test_a_bad_vector_leaves_other_blocks_and_its_own_block_alone() -> None:
    """Rows on both sides of every block's end, with bad ones in the second block."""
    block = vectors_module._BLOCK_ROWS
    rows = [[float(row), 0.5] for row in range(3 * block + 7)]
    expected = np.array(rows, np.float32)
    held: list[Any] = [np.array(row) if number % 2 else row for number, row in enumerate(rows)]
    bad = [block, block + 5, 2 * block - 1]
    for number, value in zip(bad, (None, [1.0, _NAN], ["1", "2"]), strict=True):
        held[number] = value
    seen: list[int] = []
    found = vector_matrix(held, seen.append)
    kept = np.setdiff1d(np.arange(len(rows)), bad)

    assert dict(zip(bad, ["missing vector", "NaN", "a value is not a number"], strict=True)) == (
        found.problems
    )
    assert np.array_equal(expected[kept], found.matrix[kept])
    assert len(rows) == sum(seen)


def test_the_dimension_is_that_of_most_rows() -> None:
    """One long vector in front doesn't make all others wrong."""
    found = _vectors([[1.0] * 5, [1.0] * 2, None, [2.0] * 2, []])

    assert 2 == found.matrix.shape[1]
    assert [0, 2, 4] == list(found.problems)


def test_no_row_has_a_vector() -> None:
    """A column of nothing is a matrix of no columns, with a problem in every row."""
    found = _vectors([None, [], _NAN])

    assert ((3, 0), [0, 1, 2]) == (found.matrix.shape, list(found.problems))


@pytest.mark.parametrize("kind", ["list", "f4", "f8"])
@pytest.mark.parametrize("bad", [False, True])
def test_vectors_are_copied_once(kind: str, *, bad: bool) -> None:
    """At its height the memory is one float32 matrix and one block more than the source."""
    rows, dimension = 20_000, 64
    values = np.random.default_rng(0).standard_normal((rows, dimension))
    held: list[Any] = values.tolist() if kind == "list" else list(values.astype(kind))
    if bad:
        held[rows // 2] = None
    size = 4 * rows * dimension
    block = 8 * vectors_module._BLOCK_ROWS * dimension
    tracemalloc.start()
    try:
        vector_matrix(held, ignore)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size <= peak < size + 4 * block + 16 * rows

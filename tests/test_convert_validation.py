"""Columns of text and years: what is valid survives, what isn't has a reason."""

from __future__ import annotations

import decimal
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.validation import TextColumn, YearsColumn, text_column, years_column

_INT32_MAX = 2**31 - 1
_NAN, _INF = float("nan"), float("inf")

nulls = st.sampled_from([None, _NAN, np.float64("nan")])
# Everything but surrogates, which are no Unicode text.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
int32s = st.integers(-(2**31), _INT32_MAX)
naturals = st.integers(0, _INT32_MAX)


# Text.


def _texts_of(column: TextColumn) -> list[str]:
    return [column.distinct[place].as_py() for place in column.indices.tolist()]


@given(st.lists(st.one_of(texts, nulls)))
def test_text_survives_and_null_becomes_empty(values: list[Any]) -> None:
    """Every character in every place; nulls are counted."""
    column = text_column(values)

    assert [v if isinstance(v, str) else "" for v in values] == _texts_of(column)
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

    assert (["a", ""], 1, {}) == (_texts_of(text), text.nulls_replaced, text.problems)
    assert ([5, 0], 1, {}) == (years.values.to_pylist(), years.nulls_replaced, years.problems)


@given(st.lists(st.one_of(st.none(), texts), min_size=1))
def test_text_survives_from_every_kind_of_column(values: list[str | None]) -> None:
    """Arrow text of both sizes, dictionary-encoded, categories, NumPy objects."""
    plain = pa.array(values, pa.string())
    columns = [
        plain, plain.cast(pa.large_string()), plain.dictionary_encode(),
        plain.cast(pa.large_string()).dictionary_encode(), np.array(values, object),
    ]  # fmt: skip
    for column in map(text_column, columns):
        assert [value or "" for value in values] == _texts_of(column)
        assert values.count(None) == column.nulls_replaced
        assert {} == column.problems


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
        ("a\udfffb" + "c" * 99, f"'a\\udfffb{'c' * 57}'... (102 characters) is not valid Unicode"),
    ],
)
def test_what_is_no_text_is_a_problem(value: object, reason: str) -> None:
    """The reason says what is there instead; the rows around it are converted."""
    column = text_column(["before", value, None, "after"])

    assert {1: reason} == column.problems
    assert ["before", "", "", "after"] == _texts_of(column)
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
        (_texts_of(c), c.nulls_replaced, c.problems) for c in map(text_column, columns)
    ]


# Years.


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
        (5, 5), (5.0, 5), ("5", 5), ("5y", 5), ("no_exp", 0), ("5.0", 5), ("5.", 5), ("-5", -5),
        ("5+", 5), ("5Y", 5), ("5 y", 5), ("5 years", 5), ("1 year", 1), ("5 Yrs", 5),
        ("5+ years", 5), (" 5 ", 5), (0, 0), ("0", 0), (-0.0, 0),
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
    "5.5 as text": ("5.5", "'5.5' is not a number of years"),
    "range": ("3-5", "'3-5' is not a number of years"),
    "months": ("5 months", "'5 months' is not a number of years"),
    "Korean": ("경력 3년", "'경력 3년' is not a number of years"),
    "long": ("0" * 100_000 + "x", "... (100001 characters) is not a number of years"),
    "+5": ("+5", "'+5' is not a number of years"),
    "--5": ("--5", "'--5' is not a number of years"),
    "-2**31-1 as text": (str(-(2**31) - 1), "is not a 32-bit number of years"),
    "5_0": ("5_0", "'5_0' is not a number of years"),
    "0x5": ("0x5", "'0x5' is not a number of years"),
    "5y5": ("5y5", "'5y5' is not a number of years"),
    "Arabic five": ("\u0665", "'\u0665' is not a number of years"),
    "superscript five": ("⁵", "'⁵' is not a number of years"),
    "no exp": ("no exp", "'no exp' is not a number of years"),
    "nan": ("nan", "'nan' is not a number of years"),
    "much text": ("x" * 999, f"'{'x' * 60}'... (999 characters) is not a number of years"),
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


def _outcome(column: YearsColumn, row: int) -> object:
    return "a problem" if row in column.problems else column.values[row].as_py()


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

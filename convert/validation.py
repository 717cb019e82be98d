"""Source columns of text and years to Arrow columns; the vectors have `convert.vectors`.

Each function returns the column, the nulls it replaced, and the rows it can't convert
with the reason. In those rows the column holds a default, which must not be used.
A column that is right is converted at once; only one that isn't is looked at a row at a
time, to say which rows are wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.source import Values

# What pa.array raises for values that are not of the type asked for.
_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)
_YEARS_TEXT = re.compile(r"([0-9]+)y?")
_NO_YEARS_TEXT = "no_exp"
_INT32 = np.iinfo(np.int32)


class Column(NamedTuple):
    values: pa.Array
    nulls_replaced: int
    problems: dict[int, str]


def text_column(values: Values) -> Column:
    """Convert to a string column; null becomes ""."""
    column, problems = _typed(values, pa.string(), _text_reason)
    return Column(column.fill_null(""), column.null_count - len(problems), problems)


def years_column(values: Values) -> Column:
    """Convert to an int32 column: 5, 5.0, '5', '5y', 'no_exp' (0); null becomes 0."""
    array = _inferred(values)
    if array is None:
        years, problems = _parsed_each(list(values))
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        years, problems = _whole_numbers(array)
    else:
        distinct = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        parsed, reasons = _parsed_each(distinct.dictionary.to_pylist())
        years = parsed.take(distinct.indices)
        bad = pc.is_in(distinct.indices, pa.array(list(reasons), distinct.indices.type))
        rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False)).tolist()
        problems = {row: reasons[distinct.indices[row].as_py()] for row in rows}
    return Column(years.fill_null(0), years.null_count - len(problems), problems)


def _inferred(values: Values) -> pa.Array | None:
    """Return `values` as an Arrow array of one plain type, or None if they are mixed."""
    try:
        array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
    except _CONVERSION_ERRORS:
        return None
    plain = (
        pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_large_string,
        pa.types.is_dictionary, pa.types.is_null,
    )  # fmt: skip
    return array if any(is_type(array.type) for is_type in plain) else None


def _whole_numbers(array: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    try:
        return array.cast(pa.int32()), {}
    except pa.ArrowInvalid:  # out of range, or not whole
        return _parsed_each(array.to_pylist())


def _parsed_each(values: list[Any]) -> tuple[pa.Array, dict[int, str]]:
    """Parse every distinct value of `values` once; null where there is null or a problem."""
    outcomes: dict[tuple[type, Any], int | str | None] = {}
    parsed: list[int | None] = []
    problems: dict[int, str] = {}
    for row, value in enumerate(values):
        try:
            key = (type(value), value)
            if key not in outcomes:
                outcomes[key] = _parse_years(value)
            outcome = outcomes[key]
        except TypeError:  # unhashable, so no number and no text
            outcome = f"{type(value).__name__} instead of a number of years"
        if isinstance(outcome, str):
            problems[row] = outcome
            outcome = None
        parsed.append(outcome)
    return pa.array(parsed, pa.int32()), problems


def _parse_years(value: Any) -> int | str | None:  # noqa: ANN401
    """Return the years, None for null, or the reason why it is neither."""
    if isinstance(value, str):
        text = value.strip()
        match = _YEARS_TEXT.fullmatch(text)
        if text == _NO_YEARS_TEXT:
            return 0
        if match is None:
            return f"{_shortened(value)} is not a number of years"
        value = int(match[1])
    if is_null(value):
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return f"{type(value).__name__} instead of a number of years"
    number = float(value)
    if not number.is_integer():
        return f"{value} is not a whole number of years"
    if not _INT32.min <= number <= _INT32.max:
        return f"{value} is not a 32-bit number of years"
    return int(number)


def is_null(value: Any) -> bool:  # noqa: ANN401
    """Whether `value` is what pandas calls missing: None, NaN, NaT."""
    return value is None or (
        isinstance(value, float | np.floating | np.datetime64) and bool(value != value)  # noqa: PLR0124
    )


def _typed(
    values: Values, arrow_type: pa.DataType, reason: Callable[[Any], str]
) -> tuple[pa.Array, dict[int, str]]:
    """Convert to `arrow_type`, null where there is null or a problem."""
    try:
        if isinstance(values, pa.Array):
            plain = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
            if not _is_text(plain.type):
                values = plain.to_pylist()
            else:
                return plain.cast(arrow_type), {}
        if isinstance(values, np.ndarray):
            values = values.tolist()
        return pa.array(values, arrow_type, from_pandas=True), {}
    except _CONVERSION_ERRORS:
        pass
    converted, problems = [], {}
    for row, value in enumerate(values):
        try:
            pa.array([value], arrow_type, from_pandas=True)
        except _CONVERSION_ERRORS:
            problems[row] = reason(value)
        converted.append(None if row in problems else value)
    return pa.array(converted, arrow_type, from_pandas=True), problems


def _is_text(arrow_type: pa.DataType) -> bool:
    return any(
        is_type(arrow_type)
        for is_type in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    )


def _text_reason(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        return f"{_shortened(value)} is not valid Unicode"
    return f"{type(value).__name__} instead of text"


def _shortened(text: str) -> str:
    return f"{text[:40]!a}..." if len(text) > 40 else f"{text!a}"

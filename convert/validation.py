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

from convert.pickle_reader import FloatLists

if TYPE_CHECKING:
    from convert.pickle_reader import Values

_YEARS_TEXT = re.compile(r"0*([0-9]+)y?")
_NO_YEARS_TEXT = "no_exp"
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
_INT32 = np.iinfo(np.int32)
_INT32_DIGITS = 10
# NumPy has longer floats, which Arrow doesn't.
_ARROW_MAX_ITEM_BYTES = 8


class Column(NamedTuple):
    values: pa.Array
    nulls_replaced: int
    problems: dict[int, str]


def text_column(values: Values) -> Column:
    """Convert to a string column; null becomes ""."""
    if isinstance(values, pa.Array):
        plain = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
        if _is_text(plain.type):
            text = plain.cast(pa.string())
            return Column(text.fill_null(""), text.null_count, {})
        values = python_values(plain)
    texts, problems = _texts(python_values(values))
    column = pa.array(texts, pa.string())
    return Column(column.fill_null(""), column.null_count - len(problems), problems)


def years_column(values: Values) -> Column:
    """Convert to an int32 column: 5, 5.0, '5', '5y', 'no_exp' (0); null becomes 0."""
    if (
        isinstance(values, np.ndarray)
        and values.dtype.kind in "iuf"
        and (values.dtype.itemsize <= _ARROW_MAX_ITEM_BYTES)
    ):
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        values = pa.array(native, from_pandas=True)
    if not isinstance(values, pa.Array):
        years, problems = _parsed_each(python_values(values))
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        years, problems = _whole_numbers(values)
    elif _is_text(values.type) or pa.types.is_dictionary(values.type):
        years, problems = _parsed_distinct(values)
    else:
        years, problems = _parsed_each(python_values(values))
    return Column(years.fill_null(0), years.null_count - len(problems), problems)


def python_values(values: Values) -> list[Any]:
    """Return a column as a list of Python's or NumPy's values."""
    if isinstance(values, FloatLists):
        return [values.row(row) for row in range(len(values))]
    if not isinstance(values, pa.Array):
        return list(values)
    try:
        listed: list[Any] = values.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        # Times beyond what Python can say: no field takes them, whatever they are.
        return [values.type] * len(values)
    return listed


def is_null(value: Any) -> bool:  # noqa: ANN401
    """Whether `value` is what pandas calls missing: None, NaN, NaT."""
    return value is None or (
        isinstance(value, float | np.floating | np.datetime64 | np.timedelta64)
        and bool(value != value)  # noqa: PLR0124
    )


def _is_text(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))


def _texts(values: list[Any]) -> tuple[list[str | None], dict[int, str]]:
    """Return the texts, None where there is null or a problem.

    What isn't text is never given to Arrow to find out: for some mixtures of NumPy's
    scalars it doesn't survive that.
    """
    problems = {}
    texts: list[str | None] = []
    for row, value in enumerate(values):
        text = None
        if isinstance(value, str):
            # Lone surrogates are the only text that UTF-8 can't say.
            if value.isascii() or is_unicode(value):
                text = value
            else:
                problems[row] = f"{_shortened(value)} is not valid Unicode"
        elif not is_null(value):
            problems[row] = f"{type(value).__name__} instead of text"
        texts.append(text)
    return texts, problems


def is_unicode(text: str) -> bool:
    """Whether `text` can be said in UTF-8: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole_numbers(array: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    try:
        return array.cast(pa.int32()), {}
    except pa.ArrowInvalid:  # out of range, or not whole
        return _parsed_each(array.to_pylist())


def _parsed_distinct(array: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Parse each distinct value of a text or dictionary column once."""
    distinct = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    parsed, reasons = _parsed_each(python_values(distinct.dictionary))
    bad = pc.is_in(distinct.indices, pa.array(list(reasons), distinct.indices.type))
    rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False)).tolist()
    problems = {row: reasons[distinct.indices[row].as_py()] for row in rows}
    return parsed.take(distinct.indices), problems


def _parsed_each(values: list[Any]) -> tuple[pa.Array, dict[int, str]]:
    """Parse `values`, equal ones once; null where there is null or a problem."""
    if _PLAIN_TYPES.issuperset(map(type, values)):
        typed = list(zip(map(type, values), values, strict=True))  # 1 and True are equal
        known = {key: _parse_years(key[1]) for key in set(typed)}
        outcomes = [known[key] for key in typed]
    else:
        outcomes = [_parse_years(value) for value in values]
    problems = {row: why for row, why in enumerate(outcomes) if isinstance(why, str)}
    parsed = [None if isinstance(outcome, str) else outcome for outcome in outcomes]
    return pa.array(parsed, pa.int32()), problems


def _parse_years(value: Any) -> int | str | None:  # noqa: ANN401
    """Return the years, None if there are none, or the reason why it is no number of them."""
    if is_null(value):
        return None
    match value:
        case str():
            return _parse_years_text(value)
        case bool() | np.bool_():
            return f"{type(value).__name__} instead of a number of years"
        case np.timedelta64():  # to NumPy an integer
            return "timedelta64 instead of a number of years"
        case int() | np.integer():
            number = int(value)
        case float() | np.floating():
            if not float(value).is_integer():
                return f"{value} is not a whole number of years"
            number = int(value)
        case _:
            return f"{type(value).__name__} instead of a number of years"
    if _INT32.min <= number <= _INT32.max:
        return number
    # Python prints no integer of thousands of digits.
    shown = value if number.bit_length() < 1100 else f"an integer of {number.bit_length()} bits"
    return f"{shown} is not a 32-bit number of years"


def _parse_years_text(text: str) -> int | str:
    if text.strip() == _NO_YEARS_TEXT:
        return 0
    match = _YEARS_TEXT.fullmatch(text.strip())
    if match is None:
        return f"{_shortened(text)} is not a number of years"
    digits = match[1]
    if len(digits) > _INT32_DIGITS or int(digits) > _INT32.max:
        return f"{_shortened(text)} is not a 32-bit number of years"
    return int(digits)


def _shortened(text: str) -> str:
    return f"{text[:40]!a}..." if len(text) > 40 else f"{text!a}"

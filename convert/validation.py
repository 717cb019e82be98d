"""Source columns of text and years to Arrow columns; the vectors have `convert.vectors`.

Each function returns the column, the nulls it replaced, and the rows it can't convert
with the reason. In those rows the column holds a default, which must not be used.
What rows have in common is looked at once; only a column that isn't right is looked at a
row at a time, to say which rows are wrong.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from convert.foreign_text import quoted
from convert.pickle_reader import LONG_TEXTS, FloatLists

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.pickle_reader import Values

# 5, 05, -5, 5.0, 5y, 5 years, 5+, 5+ years. What it has matched it doesn't try again otherwise: a
# text may be as long as the file.
_YEARS_TEXT = re.compile(
    r"(-?[0-9]++)(?:\.0*+)?+ *+\+?+ *+(?:years?|yrs?|y)?+", re.ASCII | re.IGNORECASE
)
_NO_YEARS_TEXT = "no_exp"
_TEXT_OR_NULL = frozenset({str, type(None)})
_INT32 = np.iinfo(np.int32)
_INT32_DIGITS = 10
# NumPy has longer floats, which Arrow doesn't.
_ARROW_MAX_ITEM_BYTES = 8


class TextColumn(NamedTuple):
    """Each row is one of the `distinct` texts, of which there may be equal ones."""

    distinct: pa.LargeStringArray
    indices: NDArray[np.int64]
    nulls_replaced: int
    problems: dict[int, str]


class YearsColumn(NamedTuple):
    """`values` is int32."""

    values: pa.Array
    nulls_replaced: int
    problems: dict[int, str]


def text_column(values: Values) -> TextColumn:
    """Convert to text; null becomes "".

    A long text that many rows share is looked at once and held once.
    """
    if isinstance(values, pa.Array):
        kind = values.type
        if _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
            return _arrow_text_column(values)
    found, indices = _distinct(values)
    texts, reasons = _texts(found)
    rows = np.bincount(indices, minlength=len(texts))
    nulls = sum(rows[at] for at, text in enumerate(texts) if text is None and at not in reasons)
    distinct = pa.array([text or "" for text in texts], pa.large_string())
    return TextColumn(distinct, indices, int(nulls), _by_row(reasons, indices))


def _arrow_text_column(values: pa.Array) -> TextColumn:
    """Convert text of Arrow, which was checked when it was read, without making it Python's."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    used, indices = _places_used(values)
    texts = values.dictionary
    if len(used) < len(texts) or (used < 0).any():
        texts = texts.take(pa.array(used, mask=used < 0))
    is_null = texts.is_null().to_numpy(zero_copy_only=False)
    nulls = int(is_null[indices].sum())
    texts = texts.cast(pa.large_string())
    return TextColumn(texts.fill_null("") if nulls else texts, indices, nulls, {})


def years_column(values: Values) -> YearsColumn:
    """Convert to an int32 column: 5, 5.0, '5.0', '5y', '5+', 'no_exp' (0); null becomes 0."""
    if (
        isinstance(values, np.ndarray)
        and values.dtype.kind in "iuf"
        and (values.dtype.itemsize <= _ARROW_MAX_ITEM_BYTES)
    ):
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        values = pa.array(native, from_pandas=True)
    if isinstance(values, pa.Array) and (
        pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    ):
        with contextlib.suppress(pa.ArrowInvalid):  # out of range, or not whole
            years = values.cast(pa.int32())
            return YearsColumn(years.fill_null(0), years.null_count, {})
    found, indices = _distinct(values)
    outcomes = [_parse_years(value) for value in found]
    reasons = {at: outcome for at, outcome in enumerate(outcomes) if isinstance(outcome, str)}
    parsed = pa.array([None if isinstance(o, str) else o for o in outcomes], pa.int32())
    years, problems = parsed.take(pa.array(indices)), _by_row(reasons, indices)
    return YearsColumn(years.fill_null(0), years.null_count - len(problems), problems)


def _distinct(values: Values) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the values that there are, and which of them each row has: int64 (rows,).

    Values of one object, or equal texts, are one.
    """
    if isinstance(values, pa.Array):
        if pa.types.is_dictionary(values.type):
            return _distinct_of_dictionary(values)
        if _is_text(values.type):
            return _distinct_of_dictionary(values.dictionary_encode())
        if _is_view(values.type):
            return _distinct_of_views(values, np.arange(len(values)))
    listed = python_values(values)
    # Not all values have a hash, and 1 and True are equal.
    keys = listed if _TEXT_OR_NULL.issuperset(map(type, listed)) else list(map(id, listed))
    found = dict(zip(keys, listed, strict=True))
    number = {key: at for at, key in enumerate(found)}
    return list(found.values()), np.fromiter(map(number.__getitem__, keys), np.int64, len(keys))


def _distinct_of_dictionary(values: pa.DictionaryArray) -> tuple[list[Any], NDArray[np.int64]]:
    used, indices = _places_used(values)
    if _is_view(values.dictionary.type):
        found, of = _distinct_of_views(values.dictionary, used)
        return found, of[indices]
    return python_values(values.dictionary.take(pa.array(used, mask=used < 0))), indices


def _places_used(values: pa.DictionaryArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places in the dictionary that rows have, -1 for null, and which each row has."""
    places = values.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    used, first, number = np.unique(places, return_index=True, return_inverse=True)
    if values.type == LONG_TEXTS and len(used) and used[0] < 0:
        # As a pickle's other texts are numbered: null, too, has the place where it appears.
        order = np.argsort(first)
        return used[order], np.argsort(order)[number]
    return used, number


def _distinct_of_views(
    values: pa.Array, rows: NDArray[np.int64]
) -> tuple[list[Any], NDArray[np.int64]]:
    """Tell the views of `rows` apart by their 16 bytes: length, and the text or where it lies.

    A row of -1 is null.
    """
    places = np.full(len(rows), -1)
    is_valid = rows >= 0
    is_valid[is_valid] = values.is_valid().to_numpy(zero_copy_only=False)[rows[is_valid]]
    views = np.frombuffer(values.buffers()[1] or b"", "V16", values.offset + len(values))
    chosen = views[values.offset :][rows[is_valid]].view("S16")
    places[is_valid] = np.unique(chosen, return_inverse=True)[1]
    _, firsts, indices = np.unique(places, return_index=True, return_inverse=True)
    found = [values[int(rows[at])].as_py() if is_valid[at] else None for at in firsts.tolist()]
    return found, indices


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _by_row(reasons: dict[int, str], indices: NDArray[np.int64]) -> dict[int, str]:
    """Return the reason of each row whose value has one."""
    if not reasons:
        return {}
    rows = np.flatnonzero(np.isin(indices, list(reasons))).tolist()
    return {row: reasons[int(indices[row])] for row in rows}


def python_values(values: Values) -> list[Any]:
    """Return a column as a list of Python's or NumPy's values."""
    if isinstance(values, FloatLists):
        return [values.row(row) for row in range(len(values))]
    if not isinstance(values, pa.Array):
        return list(values)
    # Shared values are made once, but those that Arrow can't choose from, which are no field's.
    with contextlib.suppress(pa.ArrowNotImplementedError):
        if pa.types.is_dictionary(values.type) or _is_view(values.type):
            found, indices = _distinct(values)
            return [found[at] for at in indices.tolist()]
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
                problems[row] = f"{quoted(value)} is not valid Unicode"
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
        return f"{quoted(text)} is not a number of years"
    is_long = len(match[1].lstrip("-0")) > _INT32_DIGITS
    if is_long or not _INT32.min <= int(match[1]) <= _INT32.max:
        return f"{quoted(text)} is not a 32-bit number of years"
    return int(match[1])

"""Vectors written as text: the numbers that Python reads in them, or why there are none."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convert.columns.vector_text import NotNumbers, parsed_vectors
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convert.pickle_reader import Values

_SHORTENED = "was shortened by NumPy, so that numbers are lost; save v.tolist() instead of str(v)"
_SPACE = " \t\n\f\r"
_NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"

floats = st.floats(allow_nan=False, allow_infinity=False)
vectors = st.lists(floats, min_size=1, max_size=9)


def _parsed(*texts: Any) -> list[Any]:
    return python_values(parsed_vectors(list(texts)))


def _bits(values: Sequence[float]) -> bytes:
    """Return the bytes, so that -0.0 isn't 0.0."""
    return np.array(values, np.float64).tobytes()


def _as_numpy_prints(vector: Sequence[float], show: Callable[[Any], str]) -> str:
    with np.printoptions(precision=17, threshold=10**9, floatmode="unique"):
        return show(np.array(vector))


_STYLES: dict[str, Callable[[list[float]], str]] = {
    "JSON": json.dumps,
    "pgvector": lambda vector: json.dumps(vector, separators=(",", ":")),
    "spaces": lambda vector: f" [ {' , '.join(map(repr, vector))} ]\n",
    "lines": lambda vector: json.dumps(vector, indent=2),
    "tuple": lambda vector: str((*vector, 0.5)),
    "array of PostgreSQL": lambda vector: f"{{{','.join(map(repr, vector))}}}",
    "matrix of one row": lambda vector: json.dumps([vector]),
    "str of NumPy": lambda vector: _as_numpy_prints(vector, str),
    "repr of NumPy": lambda vector: _as_numpy_prints(vector, repr),
    "matrix of NumPy": lambda vector: _as_numpy_prints([vector], str),  # type: ignore[list-item]
    "scalars of NumPy": lambda vector: str(list(np.array(vector))),
}


@pytest.mark.parametrize("style", _STYLES)
@given(st.lists(vectors, min_size=1, max_size=4))
def test_numbers_survive_in_each_style(style: str, rows: list[list[float]]) -> None:
    """Bit for bit, whatever the lengths of the rows around."""
    write = _STYLES[style]
    expected = [[*row, 0.5] if style == "tuple" else row for row in rows]

    assert list(map(_bits, expected)) == list(map(_bits, _parsed(*map(write, rows))))


digits = st.text("0123456789", min_size=1, max_size=25)
numerals = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "-"]),
        st.one_of(
            digits, st.builds("{}.".format, digits), st.builds(".{}".format, digits),
            st.builds("{}.{}".format, digits, digits),
        ),
        st.one_of(
            st.just(""),
            st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "-", "+"]),
                      st.integers(0, 400)),
        ),
    ),
)  # fmt: skip


@given(st.lists(numerals, min_size=1, max_size=9))
@example(["9007199254740993", "1.00000005960464477", "1e-400", "1e400", "-0"])
def test_a_number_is_what_float_makes_of_it(tokens: list[str]) -> None:
    """To the last bit; float32 is what that is rounded to, as it is of numbers."""
    (found,) = _parsed(f"[{', '.join(tokens)}]")
    expected = [float(token) for token in tokens]

    assert _bits(expected) == _bits(found)


def _read_slowly(text: str) -> list[float] | None:
    """Return the numbers of a text, as this file's own grammar says what they are; else None."""
    text = text.strip(_SPACE)
    match = re.fullmatch(rf"\[[{_SPACE}]*(\[.*\])[{_SPACE}]*\]", text, re.DOTALL)
    text = match[1] if match else text
    if not (text.startswith("[") and text.endswith("]")):
        return None
    inner = text[1:-1].strip(_SPACE)
    tokens = re.split(f"[{_SPACE}]*,[{_SPACE}]*" if "," in inner else f"[{_SPACE}]+", inner)
    if not all(re.fullmatch(_NUMBER, token) for token in tokens):
        return None
    return [float(token) for token in tokens]


@given(
    st.one_of(
        st.text("[]0123456789.,eE+- \n", max_size=20),
        st.builds("[{}]".format, st.text("0123456789.,eE+- \n", max_size=20)),
        st.builds("[{}]".format, st.text(max_size=8)),
    )
)
@example("[1,2]\n[3]")
@example("[1,2]\x00")
@example("[\x851]")
def test_nothing_else_is_a_vector(text: str) -> None:
    """What isn't numbers in brackets has a reason; what is, is what Python reads."""
    (found,) = _parsed(text)
    expected = _read_slowly(text)

    if isinstance(found, NotNumbers):
        assert expected is None
    else:
        assert expected is not None
        assert _bits(expected) == _bits(found)


any_text = st.one_of(st.builds(json.dumps, vectors), st.text(max_size=9), st.none(), st.just([0.5]))


def _outcome(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


@given(st.lists(any_text, min_size=1, max_size=6))
def test_a_text_means_the_same_in_any_company(values: list[Any]) -> None:
    """What it becomes doesn't depend on the other rows; what is no text stays."""
    assert [_outcome(_parsed(value)[0]) for value in values] == [
        _outcome(value) for value in _parsed(*values)
    ]


@given(
    st.lists(st.one_of(st.none(), st.builds(json.dumps, vectors), st.text(max_size=5)), min_size=1)
)
def test_a_text_means_the_same_however_it_is_held(values: list[str | None]) -> None:
    """Lists, NumPy objects, Arrow's texts, slices of them, dictionaries and views."""
    values = [
        value if value is None else value.encode(errors="replace").decode() for value in values
    ]
    plain = pa.array([None, *values], pa.string())[1:]
    columns: list[Values] = [
        values, np.array([*values, None], object)[:-1], plain, plain.cast(pa.large_string()),
        plain.dictionary_encode(), plain.cast(pa.string_view()),
    ]  # fmt: skip
    expected = list(map(_outcome, _parsed(*values)))

    for column in columns:
        assert expected == [_outcome(value) for value in python_values(parsed_vectors(column))]


def test_rows_of_one_text_share_what_it_becomes() -> None:
    """A text of megabytes in thousands of rows is parsed once: in a list, dictionary, or view."""
    text = f"[{'0.5,' * 100_000}1]"
    _, view, content = pa.array([text], pa.string_view()).buffers()
    views = [None, pa.py_buffer(view.to_pybytes()[:16] * 4096), content]
    columns: list[Values] = [
        [text] * 4096,
        pa.DictionaryArray.from_arrays(pa.array([0] * 4096), pa.array([text])),
        pa.Array.from_buffers(pa.string_view(), 4096, views),
    ]
    for column in columns:
        parsed = python_values(parsed_vectors(column))

        assert 4096 == len(parsed)
        assert 1 == len(set(map(id, parsed)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing vector"),
        (" [ ] ", "missing vector"),
        ("null", "a value is missing"),
        ("[1, None]", "a value is missing"),
        ("[nan, null]", "a value is missing"),
        ("[1, nan, -inf]", "NaN"),
        ("[-Infinity]", "infinity"),
        ("[1 2 ... 9]", f"'[1 2 ... 9]' {_SHORTENED}"),
        ("0.1, 0.2", "'0.1, 0.2' is not a list of numbers"),
        ("[0.1; 0.2]", "'[0.1; 0.2]' is not a list of numbers"),
        ("[0,1 0,2]", "'[0,1 0,2]' is not a list of numbers"),
        ("[1,\u00a02]", "'[1,\u00a02]' is not a list of numbers"),
        ("[true]", "'[true]' is not a list of numbers"),
        ("[\u0665]", "'[\u0665]' is not a list of numbers"),
        ("{1:0.5,3:0.2}/5", "'{1:0.5,3:0.2}/5' is not a list of numbers"),
        ("벡터 [1]", "'벡터 [1]' is not a list of numbers"),
        ("[1] \udc80", "'[1] ?' is not a list of numbers"),
    ],
)  # fmt: skip
def test_what_is_no_vector_has_a_reason(text: str, reason: str) -> None:
    """The same beside vectors and alone."""
    assert [NotNumbers(reason)] == _parsed(text)
    assert NotNumbers(reason) == _parsed("[1,2]", text, "[3]")[1]


@pytest.mark.parametrize(
    "column",
    [[[0.5], None], pa.array([[0.5]]), np.array([1.0]), pa.array([1, 2]), [b"[1]"], [5]],
    ids=str,
)
def test_a_column_without_text_stays(column: Any) -> None:
    """It isn't even looked at value by value where its type says enough."""
    assert parsed_vectors(column) is column or parsed_vectors(column) == column

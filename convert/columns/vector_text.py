"""Vectors written as text: JSON, pgvector's `[0.1,0.2]`, and what other programs print.

Read is what can't mean anything else: numbers with commas or white space between them (NumPy), in
square, round or curly brackets (Python's lists and tuples, PostgreSQL's arrays), also within
`array(...)`; one more pair of brackets is a matrix of one row. What NumPy has shortened
(`[0.1 0.2 ... 0.8 0.9]`) has lost its numbers, and numbers without brackets may be anything.

A number becomes the float64 that Python's float() makes of it, but Python looks at none: a regular
expression says which texts are vectors, NumPy finds where their numbers begin, Arrow converts them.
Of 384 numbers of 20 digits that takes half the time of json.loads and np.array, a row at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.foreign_text import quoted
from convert.pickle_reader import FloatLists
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from convert.pickle_reader import Values

# Bytes of text that are looked at together: they are read several times, and stay in the cache.
# With 8 MB it took six times as long.
_BYTES_AT_ONCE = 512 << 10
NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_VECTOR = rf"^\[{NUMBER}(?:, ?{NUMBER})*\]$"
# What stands around the numbers of such a text, and never in one.
_AROUND = b"[], "
# Other styles, each with what makes the next one of it, and of the last a _VECTOR.
_STYLES = (
    (r"(?s)^\s*array\((.*?)(?:,\s*dtype=[a-z0-9]+)?\)\s*$", r"\1"),
    (r"\bnp\.[a-z0-9]+\(([^()]*)\)", r"\1"),
    (r"(?s)^\s*\((.*)\)\s*$", r"[\1]"),
    (r"(?s)^\s*\{(.*)\}\s*$", r"[\1]"),
    (r"(?s)^\s*\[\s*(\[.*\])\s*\]\s*$", r"\1"),
    (r"^\s*\[\s*", "["),
    (r"\s*\]\s*$", "]"),
    (r"\s*,\s*", ","),
)
# What else may stand among the numbers, and the reason then; of several the first.
_MISPLACED = {
    "a value is missing": {"null", "none"}, "NaN": {"nan"}, "infinity": {"inf", "infinity"},
}  # fmt: skip


@dataclass(frozen=True)
class NotNumbers:
    """Stands for a text that is no vector."""

    reason: str


_Parsed: TypeAlias = "NDArray[np.float64] | NotNumbers | None"


def parsed_vectors(values: Values) -> Values:
    """Return a column of vectors in which what is text is parsed; other values stay.

    The rows of one text share what it becomes: an array, or NotNumbers.
    """
    if isinstance(values, FloatLists):
        values.others.update(
            zip(values.others, _with_texts_parsed([*values.others.values()]), strict=True)
        )
        return values
    if isinstance(values, pa.Array):
        if is_text(values.type):
            return _parse(values)
        if not _is_shared_text(values.type):
            return values
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OU":
        return values
    return _with_texts_parsed(python_values(values))


def _with_texts_parsed(values: list[Any]) -> list[Any]:
    texts = {id(value): value for value in values if isinstance(value, str)}
    if not texts:
        return values
    parsed = dict(zip(texts, _parse([*texts.values()]), strict=True))
    return [parsed.get(id(value), value) for value in values]


def _parse(texts: list[str] | pa.Array) -> list[_Parsed]:
    """Return what the texts become, null None."""
    size = texts.nbytes if isinstance(texts, pa.Array) else sum(map(len, texts))
    rows = max(_BYTES_AT_ONCE * len(texts) // max(size, 1), 1)
    parsed: list[_Parsed] = []
    for begin in range(0, len(texts), rows):
        parsed += _parse_texts(arrow_texts(texts[begin : begin + rows]))
    return parsed


def arrow_texts(texts: Sequence[str] | pa.Array) -> pa.Array:
    """Return texts as large_string; what isn't Unicode has question marks."""
    if isinstance(texts, pa.Array):
        return texts.cast(pa.large_string())
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # a lone surrogate
        return arrow_texts([text.encode(errors="replace").decode() for text in texts])


def _parse_texts(texts: pa.Array) -> list[_Parsed]:
    parsed: list[_Parsed] = [None] * len(texts)
    fits = _are_vectors(texts)
    for row, numbers in zip(np.flatnonzero(fits), _numbers(texts.filter(fits)), strict=True):
        parsed[row] = numbers
    others = np.flatnonzero(~fits)
    if len(others):
        plain = _in_plain_style(texts.take(others))
        fits = _are_vectors(plain)
        for row, numbers in zip(others[fits], _numbers(plain.filter(fits)), strict=True):
            parsed[row] = numbers
        for row in others[~fits].tolist():
            parsed[row] = _no_vector(texts[row].as_py())
    return parsed


def _are_vectors(texts: pa.Array) -> NDArray[np.bool_]:
    fits = pc.fill_null(pc.match_substring_regex(texts, _VECTOR), pa.scalar(value=False))
    mask: NDArray[np.bool_] = fits.to_numpy(zero_copy_only=False)
    return mask


def _in_plain_style(texts: pa.Array) -> pa.Array:
    for pattern, replacement in _STYLES:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    has_commas = pc.match_substring(texts, ",")
    return pc.if_else(has_commas, texts, pc.replace_substring_regex(texts, r"\s+", ","))


def _numbers(texts: pa.Array) -> list[_Parsed]:
    """Return the numbers of texts that are each a _VECTOR."""
    if not len(texts):
        return []
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
    content = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    around = np.flatnonzero(reduce(np.bitwise_or, (content == code for code in _AROUND)))
    # A number follows where what stands around is followed by something else.
    before = np.flatnonzero(np.diff(around, append=len(content)) > 1)
    begins = around[before] - before  # without what stands around
    numbers = content.tobytes().translate(None, _AROUND)
    ends = pa.array(np.append(begins, len(numbers)), pa.int64())
    made = pa.LargeStringArray.from_buffers(len(begins), ends.buffers()[1], pa.py_buffer(numbers))
    rows = np.searchsorted(around[before], offsets[1:-1] - offsets[0])
    return np.split(made.cast(pa.float64()).to_numpy(), rows)


def _no_vector(text: str | None) -> _Parsed:
    """Return why a text is no vector, None if there is none."""
    if text is None:
        return None
    if not text.strip().strip("[](){}").strip():
        return NotNumbers("missing vector")
    if "..." in text:
        why = "was shortened by NumPy, so that numbers are lost; save v.tolist() instead of str(v)"
        return NotNumbers(f"{quoted(text)} {why}")
    words = {word.lower() for word in re.findall("[a-zA-Z]{2,}", text)}
    if words <= set().union(*_MISPLACED.values()):
        for reason, misplaced in _MISPLACED.items():
            if words & misplaced:
                return NotNumbers(reason)
    return NotNumbers(f"{quoted(text)} is not a list of numbers")


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_shared_text(kind: pa.DataType) -> bool:
    """Whether rows may share a text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_text(kind) or bool(pa.types.is_string_view(kind))

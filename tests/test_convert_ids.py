"""Ids that are kept and ids that are made, against the classes for single ones."""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import uuid6
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from convert.errors import ConvertError
from convert.id_text import IdKind, format_ids
from convert.ids import IdMode, Ids, generated_ids, id_texts, kept_ids
from convert.order import is_ascending, repeated_rows, sorted_order
from convert.pickle_reader import Batch
from convert.reading import IdWishes, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convert.pickle_reader import Values

_MS = 1_765_467_000_000  # 2025-12-11T15:30:00Z
_FORMS: dict[str, Callable[[uuid.UUID], object]] = {
    "canonical": str,
    "upper case": lambda value: str(value).upper(),
    "mixed case": lambda value: str(value)[:18].upper() + str(value)[18:],
    "without hyphens": lambda value: value.hex,
    "in braces": lambda value: f"{{{value}}}",
    "in braces, upper case": lambda value: f"{{{value}}}".upper(),
    "URN": lambda value: value.urn,
    "URN, upper case": lambda value: value.urn.upper(),
    "UUID": lambda value: value,
    "bytes": lambda value: value.bytes,
    "str of NumPy": np.str_,
}
_SOME = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9"
_INVALID: dict[str, object] = {
    "underscores": "0a1b2c3d_4e5f_4071_8293_a4b5c6d7e8f9",
    "an underscore for a digit": "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8_9",
    "a space for a digit": "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8 9",
    "0x": "0x1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9aa",
    "0x for digits": "0x1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
    "a sign": "+a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
    "a letter beyond f": "ga1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
    "a digit of another script": "٣a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
    "a wide digit": "０a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",  # noqa: RUF001 - it's the point
    "a lone surrogate": "\ud8001b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
    "one digit less": _SOME[:-1],
    "one digit more": _SOME + "0",
    "two in one": _SOME * 2,
    "half a brace": "{" + _SOME[:-1],
    "a line end": _SOME + "\n0",
    "a NUL": _SOME[:-1] + "\0",
    "braces alone": "{" * 18 + "}" * 18,
    "hyphens alone": "-" * 36,
    "text": "job 1",
    "much text": "x" * 10_000,
    "int": 1,
    "large int": 2**127,
    "float": 0.5,
    "infinity": float("inf"),
    "bool": True,
    "bytes of another length": b"0123456789abcde",
    "bytes of text": _SOME.encode(),
    "list": [_SOME],
    "dict": {"id": _SOME},
    "array of one": np.array([1]),
    "array of two": np.array([1, 2]),
    "array of bytes": np.zeros(16, np.uint8),
}
_MISSING: dict[str, object] = {
    "None": None,
    "NaN": float("nan"),
    "NaN of NumPy": np.float32("nan"),
    "NaT": np.datetime64("NaT"),
    "nothing": "",
}

uuids = st.uuids()
times = st.integers(0, 2**48 - 1)
seeds = st.binary(min_size=32, max_size=32)
modes = st.sampled_from([IdMode.UUID7, IdMode.ULID])


def _as_ints(ids: NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(row.tobytes(), "big") for row in ids]


# Kept ids.


def _kept(values: Values, kind: IdKind = IdKind.UUID) -> Ids:
    return kept_ids(values, id_texts(values), kind)


@given(st.lists(st.tuples(uuids, st.sampled_from(sorted(_FORMS)))))
def test_a_uuid_is_kept_whatever_its_form(column: list[tuple[uuid.UUID, str]]) -> None:
    """Letter case, braces, URNs, no hyphens, UUID objects and bytes: the same 16 bytes."""
    ids = _kept([_FORMS[form](value) for value, form in column])

    assert IdKind.UUID is ids.kind
    assert {} == ids.problems
    assert [value.int for value, _ in column] == _as_ints(ids.values)


@given(st.lists(uuids, min_size=1), st.sampled_from(["object", "U36", "arrow", "dictionary"]))
def test_a_column_of_uuids_may_be_of_any_kind(values: list[uuid.UUID], kind: str) -> None:
    """Lists, NumPy text and Arrow text, plain or dictionary-encoded."""
    texts = [str(value) for value in values]
    columns: dict[str, Any] = {
        "object": texts,
        "U36": np.array(texts, "U36"),
        "arrow": pa.array(texts, pa.large_string()),
        "dictionary": pa.array(texts).dictionary_encode(),
    }
    ids = _kept(columns[kind])

    assert {} == ids.problems
    assert [value.int for value in values] == _as_ints(ids.values)


@given(st.lists(st.integers(0, 2**128 - 1), min_size=1), st.booleans())
def test_a_ulid_is_kept_in_either_case(values: list[int], lower: bool) -> None:  # noqa: FBT001
    """A column of ULIDs keeps their 16 bytes, and the text that ULID prints."""
    texts = [str(ULID(value.to_bytes(16, "big"))) for value in values]
    ids = _kept([text.lower() if lower else text for text in texts], IdKind.ULID)

    assert IdKind.ULID is ids.kind
    assert {} == ids.problems
    assert values == _as_ints(ids.values)
    assert texts == [row.tobytes().decode() for row in format_ids(ids.kind, ids.values)]


@pytest.mark.parametrize("case", _INVALID)
def test_what_is_no_uuid_is_a_problem(case: str) -> None:
    """Python's own UUID() takes some of these; a dataset doesn't."""
    ids = _kept([_SOME, _INVALID[case], str(uuid.UUID(int=7))])

    assert [1] == list(ids.problems)
    assert ids.problems[1].endswith("is not a UUID")
    assert len(ids.problems[1]) < 300
    assert [uuid.UUID(_SOME).int, 7] == _as_ints(ids.values[[0, 2]])


@pytest.mark.parametrize("case", _MISSING)
def test_a_missing_id_is_a_problem_of_its_own(case: str) -> None:
    """Null is not malformed: the reason says that there is no id."""
    assert {1: "missing id"} == _kept([_SOME, _MISSING[case]]).problems


def test_a_null_in_an_arrow_column_is_a_missing_id() -> None:
    """Nulls of Arrow count as those of Python do."""
    assert {0: "missing id"} == _kept(pa.array([None, _SOME])).problems


@pytest.mark.parametrize(
    "value",
    ["8" * 26, "0" * 25 + "U", "0" * 25 + "I", "0" * 25 + "L", "0" * 25 + "-", "0" * 25, "é" * 26],
)
def test_what_is_no_ulid_is_a_problem(value: str) -> None:
    """Too large for 128 bits, a letter that Crockford leaves out, another length."""
    sound = str(ULID(bytes(16)))
    ids = _kept([sound, value, sound, sound], IdKind.ULID)

    assert IdKind.ULID is ids.kind
    assert [1] == list(ids.problems)
    assert ids.problems[1].endswith("is not a ULID")


@pytest.mark.parametrize("mode", [None, IdMode.KEEP])
def test_one_kind_of_id_is_kept_and_it_is_the_most_frequent_one(mode: IdMode | None) -> None:
    """A UUID among ULIDs is a problem, as a ULID is among UUIDs."""
    ulid, others = str(ULID(bytes(16))), [str(uuid.UUID(int=n)) for n in range(2)]

    assert (IdKind.UUID, [0]) == _kind_and_problems([ulid, *others], mode)
    assert (IdKind.ULID, [1]) == _kind_and_problems([ulid, others[0], ulid], mode)
    assert (IdKind.UUID, [0]) == _kind_and_problems([ulid, others[0]], mode)


def _kind_and_problems(values: list[str], mode: IdMode | None) -> tuple[IdKind, list[int]]:
    """Take the ids for a batch of a source; return the kind and the rows that are wrong in it."""
    dictionaries = defaultdict[str, Any](mock.Mock)  # texts don't matter
    reading = Reading(IdWishes(mode, 0, lambda: bytes(32)), None, dictionaries)
    batch = Batch(len(values), {"Key": values}, lambda _row: {})
    _, problems = reading.take(batch, {"id": "Key"}, np.empty((len(values), 0), np.float32))
    return reading.shape.id_kind, [problem.row for problem in problems if problem.field == "id"]


def test_ids_as_they_are_come_as_text() -> None:
    """Text stays, UUIDs and their bytes become text, and what is neither has none."""
    value = uuid.UUID(int=7)

    assert ["x", str(value), str(value), "", "", ""] == id_texts(
        ["x", value, value.bytes, None, 7, b"short"]
    )


@given(st.text(max_size=50))
def test_text_is_an_id_only_if_it_is_hex_digits_in_a_known_form(text: str) -> None:
    """Whatever is accepted means what Python's UUID() takes it for, in ASCII."""
    ids = _kept([text, _SOME, _SOME])
    if 0 not in ids.problems:
        assert text.strip().isascii()
        assert uuid.UUID(text.strip()).int == _as_ints(ids.values)[0]
    else:
        assert text not in (_SOME, _SOME.upper())


# Made ids.


@given(st.integers(0, 300), times, seeds)
def test_a_uuid7_is_what_rfc_9562_says(rows: int, time_ms: int, seed: bytes) -> None:
    """Version, variant, milliseconds and text, as two other implementations read them."""
    ids = generated_ids(IdMode.UUID7, range(rows), time_ms, seed)
    texts = [row.tobytes().decode() for row in format_ids(ids.kind, ids.values)]
    oracles = [uuid6.UUID(bytes=row.tobytes()) for row in ids.values]

    assert IdKind.UUID is ids.kind
    assert texts == [str(oracle) for oracle in oracles]
    assert texts == [str(uuid.UUID(text)) for text in texts]
    assert all(oracle.version == 7 for oracle in oracles)
    assert all(oracle.variant == uuid.RFC_4122 for oracle in oracles)
    assert all(oracle.time == time_ms for oracle in oracles)


@given(st.integers(0, 300), times, seeds)
def test_a_generated_ulid_is_a_ulid(rows: int, time_ms: int, seed: bytes) -> None:
    """Milliseconds and text, as another implementation reads them."""
    ids = generated_ids(IdMode.ULID, range(rows), time_ms, seed)
    oracles = [ULID(row.tobytes()) for row in ids.values]
    texts = [row.tobytes().decode() for row in format_ids(ids.kind, ids.values)]

    assert IdKind.ULID is ids.kind
    assert texts == [str(oracle) for oracle in oracles]
    assert texts == [str(ULID.from_str(text)) for text in texts]
    assert all(oracle.milliseconds == time_ms for oracle in oracles)


def test_uuid7_of_another_implementation_sort_together_with_ours() -> None:
    """Ids made a millisecond earlier or later by uuid6 come before and after all of ours."""
    ours = _as_ints(generated_ids(IdMode.UUID7, range(1000), _MS, bytes(32)).values)
    before = uuid6.UUID(int=((_MS - 1) << 80) | (1 << 80) - 1, version=7).int
    after = uuid6.UUID(int=(_MS + 1) << 80, version=7).int

    assert before < ours[0]
    assert ours[-1] < after


@given(modes, st.integers(1, 500), times, seeds)
def test_made_ids_ascend_strictly_in_source_order(
    mode: IdMode, rows: int, time_ms: int, seed: bytes
) -> None:
    """Sorted by id, the rows lie as they do in the source."""
    ids = generated_ids(mode, range(rows), time_ms, seed).values
    numbers = _as_ints(ids)

    assert numbers == sorted(set(numbers))
    assert list(range(rows)) == sorted_order(ids).tolist()
    assert is_ascending(ids)


@pytest.mark.parametrize("mode", [IdMode.UUID7, IdMode.ULID])
def test_made_ids_ascend_across_every_boundary_of_the_counter(mode: IdMode) -> None:
    """The counter lies across two fields: at 2**16 or 2**20 rows one carries into the other."""
    ids = generated_ids(mode, range(2**20 + 10), 2**48 - 1, b"\xff" * 32).values
    order = sorted_order(ids)

    assert np.array_equal(np.arange(len(ids)), order)
    assert 0 == len(repeated_rows(ids, order))


@given(modes, st.integers(0, 100), st.integers(0, 100), times, seeds)
def test_made_ids_depend_on_row_time_and_seed_alone(
    mode: IdMode, rows: int, more: int, time_ms: int, seed: bytes
) -> None:
    """The same again is the same; further rows change nothing in those before them."""
    short = generated_ids(mode, range(rows), time_ms, seed).values
    long = generated_ids(mode, range(rows + more), time_ms, seed).values

    assert short.tobytes() == generated_ids(mode, range(rows), time_ms, seed).values.tobytes()
    assert short.tobytes() == long[:rows].tobytes()


@given(modes, st.lists(st.integers(0, 40), max_size=9), times, seeds)
def test_ids_made_in_pieces_are_those_made_at_once(
    mode: IdMode, sizes: list[int], time_ms: int, seed: bytes
) -> None:
    """Where batches end makes no difference to any id."""
    pieces, begin = [], 0
    for size in sizes:
        pieces.append(generated_ids(mode, range(begin, begin + size), time_ms, seed).values)
        begin += size
    together = generated_ids(mode, range(begin), time_ms, seed).values

    assert together.tobytes() == b"".join(piece.tobytes() for piece in pieces)


@given(modes, st.binary(max_size=20), st.binary(max_size=20), times)
def test_different_sources_get_different_ids(
    mode: IdMode, one: bytes, other: bytes, time_ms: int
) -> None:
    """Two files of the same time share no id, row by row, unless they are the same file."""
    a, b = (
        generated_ids(mode, range(50), time_ms, hashlib.sha256(source).digest()).values
        for source in (one, other)
    )

    assert (one == other) == bool((a == b).all(axis=1).any())


@pytest.mark.parametrize(("mode", "bits"), [(IdMode.UUID7, 42), (IdMode.ULID, 48)])
def test_the_noise_has_no_fixed_bits(mode: IdMode, bits: int) -> None:
    """Each of the last bits is set in about half of the ids, and no noise comes twice."""
    ids = generated_ids(mode, range(4096), _MS, hashlib.sha256(b"source").digest()).values
    noise = [number & (1 << bits) - 1 for number in _as_ints(ids)]
    share = [sum(n >> bit & 1 for n in noise) / len(noise) for bit in range(bits)]

    assert all(0.45 < s < 0.55 for s in share)
    assert len(noise) == len(set(noise))


@pytest.mark.parametrize("mode", [IdMode.UUID7, IdMode.ULID])
@pytest.mark.parametrize(
    ("rows", "time_ms", "said"),
    [(1, -1, "-1 ms"), (1, 2**48, "doesn't fit"), (2**32 + 1, _MS, "at most 4,294,967,296")],
)
def test_what_doesnt_fit_into_an_id_is_an_error(
    mode: IdMode, rows: int, time_ms: int, said: str
) -> None:
    """A time before 1970 or after 10889, or more rows than the counter counts."""
    with pytest.raises(ConvertError, match=said):
        generated_ids(mode, range(rows), time_ms, bytes(32))

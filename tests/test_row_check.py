"""Which messages are rows that a table takes, against the official runtime, row by row."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from ulid import ULID

from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.batch_schema import batch_schema
from streamer.codec.message_run import MessageRun
from streamer.row_check import RejectedRow, check_rows
from tests.datasets import id_texts, make_batch, messages_of
from tests.postgres import rows_of_batch
from tests.strategies import integers, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_TEXTS = ("company_name", "english_level", "primary_keyword")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII | re.IGNORECASE)


# The reference


class _Expected(NamedTuple):
    """Rows by id, what was rejected in no particular order, and how many rows were sound."""

    rows: dict[bytes, tuple[tuple[str, ...], int, bytes]]
    rejected: list[RejectedRow]
    accepted: int
    dimension: int


def _id(text: str) -> bytes | None:
    if _UUID.fullmatch(text):
        return uuid.UUID(text).bytes
    return ULID.from_str(text.upper()).bytes if _ULID.fullmatch(text) else None


def _reference(messages: Sequence[bytes], dimension: int | None) -> _Expected:
    rejected, parsed = [], []
    for message in messages:
        try:
            parsed.append((message, pb.Embedding.FromString(message)))
        except DecodeError as error:
            rejected.append(RejectedRow("", f"not an Embedding: {error}", message))
    if dimension is None:
        lengths = Counter(len(row.vector) for _, row in parsed if row.vector)
        # Of several that are as frequent, the smallest.
        dimension = min(lengths, key=lambda length: (-lengths[length], length), default=0)
    rows, accepted = {}, 0
    for message, row in parsed:
        id_ = _id(row.id)
        reasons = [
            *["id: no UUID or ULID in canonical form"] * (id_ is None),
            *["vector: empty"] * (not row.vector),
            *[f"vector: not {dimension} floats"] * (len(row.vector) != dimension),
            *["vector: NaN or infinity"] * (not all(map(math.isfinite, row.vector))),
            *[f"{name}: a NUL character" for name in _TEXTS if "\0" in getattr(row, name)],
        ]
        if reasons:
            rejected.append(RejectedRow(row.id, "; ".join(reasons), message))
            continue
        assert id_
        accepted += 1
        text = tuple(getattr(row, name) for name in _TEXTS)
        rows[id_] = (text, row.exp_years, np.array(row.vector, "<f4").tobytes())
    return _Expected(rows, rejected, accepted, dimension)


def _found(batch: pa.RecordBatch | None) -> dict[bytes, tuple[tuple[str, ...], int, bytes]]:
    if batch is None:
        return {}
    rows = rows_of_batch(batch)
    return {
        id_.tobytes(): (text, int(years), vector.tobytes())
        for id_, text, years, vector in zip(*rows, strict=True)
    }


def _assert_as_the_reference(run: MessageRun, dimension: int | None) -> None:
    messages = list(run)
    expected = _reference(messages, dimension)
    checked = check_rows(run, dimension)

    assert expected.rows == _found(checked.batch)
    assert sorted(expected.rejected) == sorted(checked.rejected)
    assert expected.accepted == checked.accepted
    assert len(messages) == checked.accepted + len(checked.rejected)
    if checked.batch is None:
        return
    schema = batch_schema(expected.dimension, IdKind.UUID)
    assert checked.batch.schema.equals(schema, check_metadata=True)
    checked.batch.validate(full=True)
    assert 0 == sum(column.null_count for column in checked.batch.columns)
    ids = [id_.tobytes() for id_ in rows_of_batch(checked.batch).ids]
    assert sorted(set(ids)) == ids


# Messages of every kind

_few_ids = st.sampled_from([bytes(16), b"\x7f" * 16, b"\x80" + bytes(15), b"\xff" * 16])
_id_bytes = _few_ids | st.binary(min_size=16, max_size=16)
_sound_ids = _id_bytes.flatmap(
    lambda raw: st.sampled_from(
        [
            str(uuid.UUID(bytes=raw)), str(uuid.UUID(bytes=raw)).upper(),
            str(uuid.UUID(bytes=raw)).swapcase().title(),
            str(ULID.from_bytes(raw)), str(ULID.from_bytes(raw)).lower(),
        ]
    )
)  # fmt: skip
_A_UUID = "00000000-0000-4000-8000-00000000000a"
_wrong_ids = st.text(max_size=40) | st.sampled_from(
    [
        "", " ", "\0", _A_UUID + "\n", f" {_A_UUID}"[:36], f"{{{_A_UUID}}}", f"urn:uuid:{_A_UUID}",
        _A_UUID.replace("-", ""), _A_UUID.replace("a", "g"), _A_UUID.replace("a", "\0"),
        _A_UUID.replace("-", "_"), _A_UUID[:-2] + "é", _A_UUID[:-3] + "한", _A_UUID[:-1] + "\u0661",
        "8" + "0" * 25, "0" * 25, "0" * 25 + "U", "0" * 25 + "I", "0" * 26 + " ", "0" * 24 + "é",
    ]
)  # fmt: skip
_words = texts | st.sampled_from(["\0", "a\0b", "한빛소프트", "\U0001f600", "￿", "\r\n\t\\N"])
_finite = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.just(-0.0)
_any_floats = _finite | st.sampled_from([math.nan, math.inf, -math.inf])
_vectors = (
    st.lists(_finite, min_size=3, max_size=3)
    | st.lists(_finite, min_size=3, max_size=3)
    | st.lists(_any_floats, max_size=5)
    | st.builds(lambda item: [item] * 40, _any_floats)
)
_embeddings = st.builds(
    pb.Embedding,
    id=_sound_ids | _sound_ids | _sound_ids | _wrong_ids,
    company_name=_words,
    exp_years=integers(32, signed=True),
    english_level=_words,
    primary_keyword=_words,
    vector=_vectors,
)


def _in_any_order(row: pb.Embedding) -> st.SearchStrategy[bytes]:
    """Draw another encoding of the same row: its fields in any order."""
    fields = [pb.Embedding(**{field.name: value}) for field, value in row.ListFields()]
    return st.permutations([field.SerializeToString() for field in fields]).map(b"".join)


_rows = _embeddings.map(pb.Embedding.SerializeToString)
_strange = st.one_of(
    _embeddings.flatmap(_in_any_order),
    st.tuples(_rows, _rows).map(b"".join),  # merged: the last text counts, vectors add up
    st.tuples(_rows, st.sampled_from([b"\x78\x01", b"\xa2\x06\x02hi", b"\x0b\x0c"])).map(b"".join),
    _rows.map(lambda row: row + b"\x35\x00\x00\x80\x3f"),  # one more float, not packed
    _rows.map(lambda row: row + b"\x18\x00"),  # a default that is there all the same
    _rows.map(lambda row: row + b"\x18\x81\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
    _rows.map(lambda row: row + b"\x12\x02\xc3\x28"),  # text that isn't UTF-8
    _rows.map(lambda row: row + b"\x2a\x03\xed\xa0\x80"),  # a surrogate
    _rows.map(lambda row: b"\x0a\x01\xff" + row),
    _rows.map(lambda row: row + b"\x32\x05\x00\x00\x80\x3f\x00"),  # one float and a quarter
    st.tuples(_rows, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]]),
    st.binary(max_size=12),
    st.just(b""),
)
_sent = st.lists(_rows | _rows | _rows | _strange, max_size=8)
_dimensions = st.none() | st.none() | st.sampled_from([1, 3, 4])


@given(messages=_sent, dimension=_dimensions)
@example(messages=[], dimension=None)
@example(messages=[b""], dimension=None)
@example(messages=[b"\xff", b""], dimension=3)
def test_rows_are_sound_or_rejected_as_the_reference_says(
    messages: list[bytes], dimension: int | None
) -> None:
    """Any bytes: the same rows, the same reasons, the original messages, none lost."""
    _assert_as_the_reference(MessageRun.of(messages), dimension)


@given(messages=st.lists(_rows, min_size=1, max_size=30), dimension=_dimensions)
def test_canonical_rows_are_checked_as_the_reference_does(
    messages: list[bytes], dimension: int | None
) -> None:
    """Rows that are decoded by columns, bad values among them, as a wire engine hands them on."""
    run = MessageRun.joined([MessageRun(b"\0" * 5 + row, [5], [5 + len(row)]) for row in messages])

    _assert_as_the_reference(run, dimension)


def test_thousands_of_rows_are_checked_as_the_reference_does() -> None:
    """Duplicates far apart, every twentieth row bad in a way of its own."""
    random = np.random.default_rng(4)
    rows = [pb.Embedding(**row) for row in messages_of(make_batch(3000, dimension=7, seed=4))]
    rows = [rows[place] for place in random.integers(0, 3000, 4000).tolist()]
    rows = [pb.Embedding.FromString(row.SerializeToString()) for row in rows]
    for number, row in enumerate(rows):
        row.exp_years = number
        if number % 20 == 0:
            row.id += "x"
        if number % 20 == 5:
            row.vector[number % 7] = math.nan
        if number % 20 == 10:
            row.primary_keyword += "\0"
        if number % 60 == 15:
            row.vector.append(1.0)
    messages = [row.SerializeToString() for row in rows]

    _assert_as_the_reference(MessageRun.of(messages), None)
    _assert_as_the_reference(MessageRun.of([b"\xff", *messages]), 7)


# Single laws, by hand


def _row(number: int = 1, **changes: object) -> pb.Embedding:
    row = pb.Embedding(id=str(uuid.UUID(int=number)), vector=[1.0, 2.0, 3.0])
    row.MergeFrom(pb.Embedding(**changes))  # type: ignore[arg-type]
    return row


def _check(*rows: pb.Embedding, dimension: int | None = 3) -> tuple[list[str], list[str]]:
    """Return the ids that are kept, and the reasons of the others."""
    run = MessageRun.of([row.SerializeToString() for row in rows])
    checked = check_rows(run, dimension)
    ids = [] if checked.batch is None else id_texts(checked.batch)
    return ids, [row.reason for row in checked.rejected]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "x"}, "id: no UUID or ULID in canonical form"),
        ({"vector": [1.0]}, "vector: not 3 floats"),
        ({"company_name": "a\0"}, "company_name: a NUL character"),
        ({"english_level": "\0"}, "english_level: a NUL character"),
        ({"primary_keyword": "\0b"}, "primary_keyword: a NUL character"),
    ],
)
def test_one_bad_row_among_good_ones(changes: dict[str, object], reason: str) -> None:
    """It alone is rejected, with the reason that people read."""
    good = [_row(1), _row(3)]

    kept, reasons = _check(good[0], _row(2, **changes), good[1])

    assert ([row.id for row in good], [reason]) == (kept, reasons)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
def test_a_float_that_is_no_number_anywhere(wrong: float, place: int) -> None:
    """A table takes none; the neighbours' vectors aren't to blame."""
    bad = _row(2)
    bad.vector[place] = wrong

    kept, reasons = _check(_row(1), bad, _row(3))

    assert ([_row(1).id, _row(3).id], ["vector: NaN or infinity"]) == (kept, reasons)


def test_all_that_is_wrong_is_said() -> None:
    """Several reasons in one text, in the order of the checks."""
    bad = pb.Embedding(id="x", company_name="\0", vector=[math.nan])

    assert (
        "id: no UUID or ULID in canonical form; vector: not 3 floats; vector: NaN or infinity;"
        " company_name: a NUL character"
    ) == _check(bad)[1][0]


def test_of_rows_with_one_id_the_last_sound_one_counts() -> None:
    """All of them were accepted; one with a bad vector doesn't take a good one's place."""
    rows = [_row(1, exp_years=1), _row(1, exp_years=2), _row(1, exp_years=3, vector=[4.0])]
    run = MessageRun.of([row.SerializeToString() for row in rows])

    batch, accepted, rejected, *_ = check_rows(run, 3)

    assert batch is not None
    assert [2] == batch.column("exp_years").to_pylist()
    assert (2, [rows[2].SerializeToString()]) == (accepted, [row.message for row in rejected])


def test_both_kinds_of_text_are_one_id() -> None:
    """A UUID and the ULID of the same 16 bytes; the last one's values."""
    raw = uuid.UUID(int=99).bytes
    ulid = pb.Embedding(id=str(ULID.from_bytes(raw)), exp_years=7, vector=[1.0, 2.0, 3.0])

    batch, accepted, *_ = check_rows(
        MessageRun.of([_row(99).SerializeToString(), ulid.SerializeToString()]), 3
    )

    assert batch is not None
    assert ([7], 2) == (batch.column("exp_years").to_pylist(), accepted)


def test_without_a_dimension_most_vectors_decide() -> None:
    """Empty ones have no say; the others are told what was expected."""
    rows = [_row(1), _row(2), _row(3, vector=[1.0]), *[pb.Embedding(id=_row(4).id)] * 5]

    kept, reasons = _check(*rows, dimension=None)

    assert [_row(1).id, _row(2).id] == kept
    assert ["vector: not 3 floats", *["vector: empty; vector: not 3 floats"] * 5] == reasons


def test_no_row_at_all() -> None:
    """There is no batch of no rows."""
    assert (None, 0, []) == check_rows(MessageRun.of([]), None)[:3]
    assert (None, 0, []) == check_rows(MessageRun.of([]), 3)[:3]


def test_a_row_that_the_database_refuses_is_kept_whole() -> None:
    """Wherever sorting and dropping have put it, it is the message that came."""
    messages = [pb.Embedding(**row).SerializeToString() for row in messages_of(make_batch(5))]
    run = MessageRun.of([b"\xff", *reversed(messages)])

    checked = check_rows(run, None)

    assert checked.batch is not None
    for row, (id_, message) in enumerate(zip(id_texts(checked.batch), messages, strict=True)):
        assert RejectedRow(id_, "because", message) == checked.refuse(row, "because")

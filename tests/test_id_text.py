"""Ids and their text as columns, one id at a time by `uuid` and python-ulid as oracle."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from convert.id_text import IdKind, format_ids, halves, parse_ids, write_text
from tests import strategies

if TYPE_CHECKING:
    from random import Random

id_lists = st.lists(
    strategies.ids | st.sampled_from([bytes(16), b"\xff" * 16, b"\x7f" + b"\xff" * 15]),
    max_size=20,
)
DIGITS = {
    IdKind.UUID: b"0123456789abcdefABCDEF",
    IdKind.ULID: b"0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz",
}
UUID_HYPHENS = (8, 13, 18, 23)
LAST = b"\xff" * 16


def matrix(rows: list[bytes], width: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), width)


def texts_of(kind: IdKind, raw: list[bytes]) -> list[str]:
    return [row.tobytes().decode() for row in format_ids(kind, matrix(raw, 16))]


def canonical_bytes(kind: IdKind, position: int) -> bytes:
    """Return every byte that may stand at `position` of a canonical text."""
    if kind is IdKind.UUID:
        return b"-" if position in UUID_HYPHENS else DIGITS[kind]
    return b"01234567" if position == 0 else DIGITS[kind]


@given(id_lists)
def test_uuid_text_is_what_uuid_prints(raw: list[bytes]) -> None:
    """Every row equals str() of the standard library's UUID."""
    assert [str(uuid.UUID(bytes=value)) for value in raw] == texts_of(IdKind.UUID, raw)


@given(id_lists)
def test_ulid_text_is_what_python_ulid_prints(raw: list[bytes]) -> None:
    """Every row equals str() of python-ulid's ULID."""
    assert [str(ULID.from_bytes(value)) for value in raw] == texts_of(IdKind.ULID, raw)


@pytest.mark.parametrize(
    ("kind", "raw", "text"),
    [
        (IdKind.UUID, bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (IdKind.UUID, LAST, "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        (IdKind.ULID, bytes(16), "00000000000000000000000000"),
        (IdKind.ULID, LAST, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
        # The example of the ULID specification's own text form.
        (
            IdKind.ULID,
            bytes.fromhex("01563e3ab5d3d6764c61efb99302bd5b"),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ),
    ],
)
def test_known_ids_have_their_known_text(kind: IdKind, raw: bytes, text: str) -> None:
    """Golden values of both kinds."""
    assert [text] == texts_of(kind, [raw])


@given(strategies.id_kinds, id_lists, st.data())
def test_text_may_be_written_into_part_of_a_matrix(
    kind: IdKind, raw: list[bytes], data: st.DataObject
) -> None:
    """Columns around the text stay as they are."""
    before, after = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    out = np.full((len(raw), before + kind.chars + after), ord("#"), np.uint8)
    write_text(kind, matrix(raw, 16), out[:, before : before + kind.chars])

    assert ["#" * before + strategies.id_text(kind, value) + "#" * after for value in raw] == [
        row.tobytes().decode() for row in out
    ]


@given(strategies.id_kinds, st.lists(st.tuples(strategies.ids, st.randoms(use_true_random=False))))
def test_parsing_in_any_letter_case_undoes_formatting(
    kind: IdKind, rows: list[tuple[bytes, Random]]
) -> None:
    """Each letter may be upper or lower case; the id is the same and the text canonical."""
    raw = [value for value, _ in rows]
    mixed = [
        "".join(random.choice((char.lower(), char.upper())) for char in text).encode()
        for text, (_, random) in zip(texts_of(kind, raw), rows, strict=True)
    ]
    parsed, canonical = parse_ids(kind, matrix(mixed, kind.chars))

    assert raw == [row.tobytes() for row in parsed]
    assert [True] * len(raw) == canonical.tolist()


@pytest.mark.parametrize(
    ("kind", "position"), [(kind, position) for kind in IdKind for position in range(kind.chars)]
)
def test_one_wrong_character_makes_exactly_its_row_non_canonical(
    kind: IdKind, position: int
) -> None:
    """Of all bytes at one position, those of the alphabet are taken and no others."""
    text = strategies.id_text(kind, bytes(range(16))).encode()
    rows = [text[:position] + bytes([byte]) + text[position + 1 :] for byte in range(256)]
    _, canonical = parse_ids(kind, matrix(rows, kind.chars))

    allowed = canonical_bytes(kind, position)
    assert [byte in allowed for byte in range(256)] == canonical.tolist()


@given(
    strategies.id_kinds,
    st.lists(st.tuples(strategies.ids, st.none() | st.tuples(st.integers(0, 25), st.integers(0)))),
)
def test_bad_rows_leave_good_ones_alone(
    kind: IdKind, rows: list[tuple[bytes, tuple[int, int] | None]]
) -> None:
    """Among good and bad rows the mask shows which is which, and good ones have their id."""
    texts = []
    for raw, damage in rows:
        text = bytearray(strategies.id_text(kind, raw).encode())
        if damage is not None:
            position, choice = damage
            allowed = canonical_bytes(kind, position)
            wrong = [byte for byte in range(256) if byte not in allowed]
            text[position] = wrong[choice % len(wrong)]
        texts.append(bytes(text))
    parsed, canonical = parse_ids(kind, matrix(texts, kind.chars))

    assert [damage is None for _, damage in rows] == canonical.tolist()
    assert [raw for raw, damage in rows if damage is None] == [
        row.tobytes() for row in parsed[canonical]
    ]


@pytest.mark.parametrize("first", list("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
def test_a_ulid_of_more_than_128_bits_is_refused(first: str) -> None:
    """The first of 26 digits of five bits each is 7 at most."""
    _, canonical = parse_ids(IdKind.ULID, matrix([(first + "Z" * 25).encode()], 26))

    assert [first in "01234567"] == canonical.tolist()


@given(strategies.id_kinds, st.lists(strategies.ids, min_size=2, max_size=20))
def test_texts_are_in_the_order_of_the_bytes(kind: IdKind, raw: list[bytes]) -> None:
    """Sorting by text equals sorting by bytes 0 to 255, ids from 8 up last."""
    assert texts_of(kind, sorted(raw)) == sorted(texts_of(kind, raw))


@given(id_lists)
def test_halves_are_the_big_endian_numbers_of_an_id(raw: list[bytes]) -> None:
    """The high and low 64 bits together are the id as a 128-bit number."""
    high, low = halves(matrix(raw, 16))

    assert [int.from_bytes(value, "big") for value in raw] == [
        int(a) << 64 | int(b) for a, b in zip(high, low, strict=True)
    ]


@pytest.mark.parametrize("kind", IdKind)
def test_an_empty_column_has_no_text(kind: IdKind) -> None:
    """No ids are formatted and parsed to no rows of the right width."""
    text = format_ids(kind, np.empty((0, 16), np.uint8))
    ids, canonical = parse_ids(kind, text)

    assert (0, kind.chars) == text.shape
    assert (0, 16) == ids.shape
    assert (0,) == canonical.shape

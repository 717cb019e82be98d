"""The order of ids, against Python's own order of bytes."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convert.id_text import IdKind, format_ids
from convert.order import is_ascending, repeated_rows, sorted_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Few different bytes, so that ids share beginnings, differ late, and repeat.
ids_of_some_rows = st.lists(
    st.one_of(
        st.binary(min_size=16, max_size=16),
        st.lists(st.sampled_from([0, 0x7F, 0x80, 0xFF]), min_size=16, max_size=16).map(bytes),
        st.sampled_from([bytes(16), b"\x80" + bytes(15), b"\x7f" * 16, b"\xff" * 16]),
    )
)


def _matrix(ids: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)


@given(ids_of_some_rows)
def test_ids_are_sorted_as_unsigned_bytes(ids: list[bytes]) -> None:
    """The order is that of Python's bytes; rows of equal ids stay in source order."""
    order = sorted_order(_matrix(ids)).tolist()

    assert sorted(range(len(ids)), key=ids.__getitem__) == order


@given(ids_of_some_rows)
def test_the_order_is_that_of_the_canonical_texts(ids: list[bytes]) -> None:
    """A client that sorts the ids it received, as text, sorts them as the file is sorted."""
    matrix = _matrix(ids)
    for kind in IdKind:
        texts = [row.tobytes() for row in format_ids(kind, matrix)]

        assert sorted(texts) == [texts[row] for row in sorted_order(matrix)]


def test_an_id_with_the_highest_bit_comes_last() -> None:
    """Java's UUID.compareTo would put it first."""
    ids = [uuid.UUID(int=1 << 127).bytes, uuid.UUID(int=1).bytes, uuid.UUID(int=1 << 63).bytes]

    assert [1, 2, 0] == sorted_order(_matrix(ids)).tolist()


@given(ids_of_some_rows)
def test_every_repeated_id_is_found_once_a_repetition(ids: list[bytes]) -> None:
    """Each place whose id has been there before, and no other, is returned."""
    matrix = _matrix(ids)
    order = sorted_order(matrix)
    repeated = repeated_rows(matrix, order).tolist()

    assert len(ids) - len(set(ids)) == len(repeated)
    assert all(ids[order[place]] == ids[order[place - 1]] for place in repeated)


@given(ids_of_some_rows)
def test_rows_ascend_if_each_is_above_the_one_before(ids: list[bytes]) -> None:
    """As Python compares bytes; equal ones don't ascend."""
    nearly = sorted(ids, key=lambda value: value[:8])
    for order in (ids, nearly, sorted(ids), sorted(set(ids))):
        assert is_ascending(_matrix(order)) is all(a < b for a, b in itertools.pairwise(order))


def test_no_rows_have_an_order() -> None:
    """Nothing sorts to nothing, and nothing repeats in it."""
    empty = _matrix([])

    assert [] == sorted_order(empty).tolist()
    assert [] == repeated_rows(empty, sorted_order(empty)).tolist()

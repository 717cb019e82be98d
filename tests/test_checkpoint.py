"""Checkpoints: their text, and the search for the row after one."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from convert.id_text import IdKind
from streamer.checkpoint import Position, first_row_after, parse_checkpoint
from streamer.errors import InvalidRequestError

if TYPE_CHECKING:
    import uuid

_IDS = st.binary(min_size=16, max_size=16)
# Ids that share long prefixes and have high first bytes, as real ones do.
_CLOSE_IDS = st.builds(
    lambda a, b: bytes([a]) + b"\xff" * 14 + bytes([b]), st.integers(0, 255), st.integers(0, 255)
)


def _cut(ids: list[bytes], ends: list[int]) -> list[memoryview]:
    """Cut ids into batches at the places `ends`, none of them empty."""
    places = [0, *sorted({end % len(ids) for end in ends} - {0}), len(ids)] if ids else []
    return [memoryview(b"".join(ids[a:b])) for a, b in pairwise(places) if a < b]


@given(
    ids=st.lists(_IDS | _CLOSE_IDS, max_size=60, unique=True).map(sorted),
    ends=st.lists(st.integers(0, 1000), max_size=8),
    other=_IDS | _CLOSE_IDS,
    pick=st.integers(0, 1000),
)
def test_search_equals_bisect_across_batches(
    ids: list[bytes], ends: list[int], other: bytes, pick: int
) -> None:
    """Whatever the batches and the checkpoint, the row is the one that bisect finds."""
    batches = _cut(ids, ends)
    for checkpoint in (other, ids[pick % len(ids)] if ids else other):
        position = first_row_after(checkpoint, batches)

        before = sum(len(batch) // 16 for batch in batches[: position.batch])
        assert bisect_right(ids, checkpoint) == before + position.row
        assert (checkpoint in ids) == position.found


def test_search_reads_logarithmically_many_ids() -> None:
    """A million ids are searched with a few dozen reads."""
    reads = 0

    class CountedIds:
        def __len__(self) -> int:
            return 16 * 1_000_000

        def __getitem__(self, part: slice) -> bytes:
            nonlocal reads
            reads += 1
            return int(part.start // 16).to_bytes(16, "big")

    position = first_row_after((777_777).to_bytes(16, "big"), [CountedIds()])  # type: ignore[list-item]

    assert Position(0, 777_778, found=True) == position
    assert reads < 30


@given(st.uuids(), st.booleans())
def test_uuid_in_any_case_becomes_its_bytes(value: uuid.UUID, upper: bool) -> None:  # noqa: FBT001
    """Upper and lower case name the same checkpoint."""
    text = str(value).upper() if upper else str(value)

    assert value.bytes == parse_checkpoint(text, IdKind.UUID)


@given(_IDS)
def test_ulid_in_any_case_becomes_its_bytes(value: bytes) -> None:
    """The same for ULID datasets."""
    text = str(ULID.from_bytes(value))

    assert value == parse_checkpoint(text, IdKind.ULID)
    assert value == parse_checkpoint(text.lower(), IdKind.ULID)


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "0",
        "not-a-uuid",
        "c9c3e3f0bf27565da8f730c594108beb",
        "{c9c3e3f0-bf27-565d-a8f7-30c594108beb}",
        "urn:uuid:c9c3e3f0-bf27-565d-a8f7-30c594108beb",
        "c9c3e3f0-bf27-565d-a8f7-30c594108beb ",
        "c9c3e3f0-bf27-565d-a8f7-30c594108beb\n",
        "c9c3e3f0_bf27_565d_a8f7_30c594108beb",
        "c9c3e3f-0bf27-565d-a8f7-30c594108beb",
        "0xc3e3f0-bf27-565d-a8f7-30c594108beb",
        "c9c3e3f0-bf27-565d-a8f7-30c594108be",
        "c9c3e3f0-bf27-565d-a8f7-30c594108bebb",
        "g9c3e3f0-bf27-565d-a8f7-30c594108beb",
        "٣9c3e3f0-bf27-565d-a8f7-30c594108beb",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ],
)
def test_malformed_uuid_is_refused(text: str) -> None:
    """What isn't canonical is an error, never a restart."""
    with pytest.raises(InvalidRequestError, match="canonical"):
        parse_checkpoint(text, IdKind.UUID)


@pytest.mark.parametrize(
    "text",
    [
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "01ARZ3NDEKTSV4RRFFQ69G5FA",
        "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        "01ARZ3NDEKTSV4RRFFQ69G5FAO",
        "c9c3e3f0-bf27-565d-a8f7-30c594108beb",
        "\u0131" * 26,
    ],
)
def test_malformed_ulid_is_refused(text: str) -> None:
    """The same for ULID datasets; letters that look like digits are not taken for them."""
    with pytest.raises(InvalidRequestError, match="ULID"):
        parse_checkpoint(text, IdKind.ULID)


def test_refusal_quotes_the_value_shortened() -> None:
    """A megabyte of nonsense doesn't come back as a megabyte of error."""
    with pytest.raises(InvalidRequestError) as refusal:
        parse_checkpoint("x\x00" * 500_000, IdKind.UUID)

    assert "x\\x00x" in str(refusal.value)
    assert len(str(refusal.value)) < 400

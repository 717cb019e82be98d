"""Blocks of messages: both forms say the same, and what one stream made serves the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import embedding_stream_pb2 as pb
from streamer import blocks as blocks_module
from streamer.blocks import Blocks
from streamer.codec.frames import GatheredFrames, JoinedFrames
from streamer.dataset import Dataset, OpenDataset
from tests.datasets import id_texts, write_dataset
from tests.frames import messages_of_blocks

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 40
_MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=ROWS, batch_rows=16)
    return path


@pytest.fixture
def dataset(path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenDataset:
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 800)
    return Dataset(path).current()


def _blocks(dataset: OpenDataset, *, gathered: bool) -> Blocks:
    return Blocks(dataset, max_message_bytes=_MIB, gathered=gathered)


@pytest.mark.parametrize("row", range(ROWS))
def test_rows_are_the_same_in_both_forms_from_every_row(path: Path, row: int) -> None:
    """Gathered or joined, whatever is kept: the messages are those of the official runtime."""
    dataset = Dataset(path).current()
    expected = [
        pb.Embedding(**{**fields, "id": str(fields["id"])}).SerializeToString()
        for part in dataset.store.rows_after(None).slices
        for fields in part.to_pylist()
    ]
    checkpoint = _id_before(dataset, row)
    for gathered in (True, False, True):
        blocks = _blocks(dataset, gathered=gathered)

        assert expected[row:] == messages_of_blocks(
            blocks.of_rows(dataset.store.rows_after(checkpoint))
        )


def _id_before(dataset: OpenDataset, row: int) -> bytes | None:
    ids = [
        value.as_py().bytes
        for part in dataset.store.rows_after(None).slices
        for value in part.column("id")
    ]
    return ids[row - 1] if row else None


@given(st.integers(0, ROWS - 1), st.integers(1, ROWS + 5), st.integers(200, 2000))
def test_chunks_are_the_same_in_both_forms(
    dataset: OpenDataset, row: int, chunk_rows: int, max_message_bytes: int
) -> None:
    """Chunks begin and end at the same rows, with the same bytes."""
    checkpoint = _id_before(dataset, row)
    joined, gathered = (
        messages_of_blocks(
            Blocks(dataset, max_message_bytes=max_message_bytes, gathered=form).of_chunks(
                dataset.store.rows_after(checkpoint), chunk_rows
            )
        )
        for form in (False, True)
    )

    assert joined == gathered


@given(st.integers(0, ROWS - 1), st.integers(1, ROWS + 5))
def test_parts_of_chunks_are_bounded_and_the_same_bytes(
    dataset: OpenDataset, row: int, chunk_rows: int
) -> None:
    """Joined blocks of an engine that sends bytes needn't hold a whole message."""
    rows = dataset.store.rows_after(_id_before(dataset, row))
    whole = _blocks(dataset, gathered=False).of_chunks(rows, chunk_rows)
    expected = messages_of_blocks(whole)
    rows = dataset.store.rows_after(_id_before(dataset, row))
    parts = list(
        Blocks(dataset, max_message_bytes=_MIB, gathered=False, parts=True).of_chunks(
            rows, chunk_rows
        )
    )

    assert expected == messages_of_blocks(parts)
    # A row more at most, and the prefixes of its messages.
    assert all(isinstance(part, JoinedFrames) and part.nbytes <= 1000 for part in parts)


def test_gathered_vectors_stay_in_the_file(dataset: OpenDataset) -> None:
    """The tails of a block lie in the buffers of the mapped record batch."""
    batch = next(dataset.store.rows_after(None).slices)
    vectors = batch.column("vector").flatten().buffers()[1]
    block = next(iter(_blocks(dataset, gathered=True).of_rows(dataset.store.rows_after(None))))

    assert isinstance(block, GatheredFrames)
    assert vectors.address == block.tails.address


def test_the_next_stream_is_given_the_same_heads(dataset: OpenDataset) -> None:
    """Wherever a stream begins, its later blocks are those that were made before."""
    first, second, resumed = (
        {
            block.heads.address
            for block in _blocks(dataset, gathered=True).of_rows(
                dataset.store.rows_after(_id_before(dataset, row))
            )
            if isinstance(block, GatheredFrames)
        }
        for row in (0, 0, 20)
    )

    assert first == second
    assert resumed < first


def test_kept_heads_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What doesn't fit is made anew for each stream, and right all the same."""
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 800)
    dataset = Dataset(path, kept_head_bytes=1000).current()

    first, second = (
        [
            block
            for block in _blocks(dataset, gathered=True).of_rows(dataset.store.rows_after(None))
            if isinstance(block, GatheredFrames)
        ]
        for _ in range(2)
    )
    same = [a.heads.address == b.heads.address for a, b in zip(first, second, strict=True)]

    assert True in same
    assert False in same
    assert sum(block.held_bytes for block, kept in zip(first, same, strict=True) if kept) <= 1000
    assert messages_of_blocks(first) == messages_of_blocks(second)


def test_another_file_has_heads_of_its_own(path: Path) -> None:
    """What was kept of a file is not sent for the one that takes its place."""
    dataset = Dataset(path)
    before = messages_of_blocks(
        _blocks(dataset.current(), gathered=True).of_rows(dataset.current().store.rows_after(None))
    )
    replacement = path.with_suffix(".new")
    batch = write_dataset(replacement, rows=ROWS, batch_rows=16, seed=1)
    replacement.replace(path)
    opened = dataset.current()
    after = messages_of_blocks(
        _blocks(opened, gathered=True).of_rows(opened.store.rows_after(None))
    )

    assert id_texts(batch) == [pb.Embedding.FromString(message).id for message in after]
    assert before != after


def test_joined_rows_come_in_blocks_of_bounded_size(dataset: OpenDataset) -> None:
    """A kept block is larger than a joined one may be: it is joined in parts."""
    blocks = list(_blocks(dataset, gathered=False).of_rows(dataset.store.rows_after(None)))

    assert all(isinstance(block, JoinedFrames) and block.nbytes <= 800 for block in blocks)
    assert ROWS == sum(block.rows for block in blocks)

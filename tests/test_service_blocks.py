"""What a stream holds and logs, seen in this process, in both forms of blocks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from proto import embedding_stream_pb2 as pb
from streamer import blocks as blocks_module
from streamer.codec.frames import GatheredFrames
from streamer.dataset import Dataset
from streamer.service import Caller, EmbeddingService
from tests.datasets import write_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from streamer.codec.frames import Frames

ROWS = 23
_MIB = 1 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "jobs.arrow"


@pytest.fixture(scope="module")
def batch(path: Path) -> pa.RecordBatch:
    return write_dataset(path, rows=ROWS, batch_rows=5)


@pytest.fixture
def service(path: Path, batch: pa.RecordBatch) -> EmbeddingService:
    assert batch.num_rows == ROWS
    return EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=_MIB)


@pytest.fixture(params=["joined", "gathered"])
def form(request: pytest.FixtureRequest) -> str:
    form: str = request.param
    return form


def _caller(form: str, seconds_left: float | None = None) -> Caller:
    return Caller("test", {}, lambda: seconds_left, takes_gathered=form == "gathered")


def _held_bytes(block: Frames) -> int:
    return block.nbytes - (block.tails.size if isinstance(block, GatheredFrames) else 0)


def test_blocks_are_encoded_as_they_are_asked_for(
    service: EmbeddingService, batch: pa.RecordBatch, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream holds one block, however many rows are left."""
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 300)
    answer = service.get_embeddings(pb.RequestParams(), _caller(form))

    blocks = list(answer.frames)

    assert len(blocks) >= ROWS // 4
    assert all(_held_bytes(block) <= 300 for block in blocks)
    assert batch.num_rows == sum(block.rows for block in blocks)


@pytest.mark.parametrize(
    ("seconds_left", "reason"),
    [(None, "cancelled or gone"), (5.0, "cancelled or gone"), (0.0, "past its deadline")],
)
def test_early_end_is_logged_with_its_reason(
    service: EmbeddingService,
    form: str,
    caplog: pytest.LogCaptureFixture,
    seconds_left: float | None,
    reason: str,
) -> None:
    """Whoever is paged sees whether a client left or ran out of time, and how far it got."""
    caplog.set_level(logging.INFO)
    answer = service.get_embeddings(pb.RequestParams(), _caller(form, seconds_left))
    next(answer.frames)
    answer.frames.close()

    message = caplog.records[-1].getMessage()

    assert "sent 0 rows" in message
    assert message.endswith(reason)


def test_chunks_are_logged_at_debug(
    service: EmbeddingService, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """DEBUG shows every block with its messages, rows and bytes."""
    caplog.set_level(logging.DEBUG)
    list(service.stream_embedding(pb.RequestParams(chunk_size=10), _caller(form)).frames)

    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]

    # Gathered blocks end with their record batches, here of 5 rows, joined ones with chunks.
    rows = 10 if form == "joined" else 5
    assert any(f"1 messages, {rows} rows" in line for line in lines)

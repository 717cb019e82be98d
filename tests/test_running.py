"""Running servers: their settings' bounds, and what an operator does to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.commands.running import limits_of
from streamer.config import Settings, load_settings
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.wire.engine import WireEngine
from streamer.upload_service import UploadService
from tests.engines import ENGINES
from tests.test_upload_service import MemorySink

if TYPE_CHECKING:
    from streamer.engines.hosting import RunningEngine

_LONGEST = {
    name: metadata.le
    for name, field in Settings.model_fields.items()
    if field.annotation is float
    for metadata in field.metadata
    if hasattr(metadata, "le")
}


@pytest.mark.parametrize("name", ENGINES)
def test_the_longest_durations_work(name: str) -> None:
    """With every duration at its bound an upload is taken, and the server stops at once."""
    settings = load_settings(engine=name, **_LONGEST)
    service = UploadService(MemorySink().open, block_bytes=1)
    engine: RunningEngine
    if name == "wire":
        engine = WireEngine(
            service, host="127.0.0.1", port=0, max_workers=1, limits=limits_of(settings)
        )
    else:
        engine = GrpcioEngine(
            service, host="127.0.0.1", port=0, max_workers=1, max_message_bytes=1 << 20
        )
    with grpc.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
        stub = pb_grpc.EmbeddingUploadServiceStub(channel)
        rows = [pb.Embedding(id=f"00000000-0000-7000-8000-{n:012}", vector=[1.0]) for n in range(2)]
        result = stub.UploadEmbeddings(iter(rows), timeout=settings.upload_timeout_seconds)
    engine.stop(settings.shutdown_grace_seconds)

    assert 2 == result.success_count

"""Running servers: their settings' bounds, and what an operator does to them."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.commands.running import limits_of
from streamer.config import Settings, load_settings
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.wire.engine import WireEngine
from streamer.upload_service import UploadService
from tests.datasets import write_dataset
from tests.engines import ENGINES
from tests.serving import Serving
from tests.test_upload_service import MemorySink
from tests.wire_peer import STREAM, Peer

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_SECONDS = 60
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


_WORD = "Bearer-of-a-secret"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_secret_of_a_caller_is_logged(tmp_path: Path, engine: str) -> None:
    """At DEBUG, neither of calls that go well nor of refused ones nor of malformed ones."""
    write_dataset(tmp_path / "jobs.arrow")
    settings = {"LOG_LEVEL": "DEBUG", "LOG_FILE": "x.log"}
    arguments = ("--data", "jobs.arrow", "--engine", engine)
    with Serving(tmp_path, *arguments, settings=settings) as server:
        _call_with_secrets(server.target)
        for name, value in (
            ("authorization", f"{_WORD} "), ("authorization", f"{_WORD}'\""),
            ("authorization", f"{_WORD}\0"), ("te", _WORD), ("Authorization", _WORD),
            ("key-bin", f"{_WORD}!"), ("grpc-timeout", _WORD), ("content-length", _WORD),
        ):  # fmt: skip
            with Peer(int(server.target.rpartition(":")[2])) as peer:
                frame = peer.headers(STREAM, "END_STREAM", **{name: value})
                peer.try_to_send([frame])
                peer.until(lambda p=peer: p.goaways or p.trailers or p.resets)  # type: ignore[misc]
        assert 0 == server.stop()

    log = server.log.read_text()
    assert set((tmp_path / "x.log").read_text().splitlines()) <= set(log.splitlines())
    assert "DEBUG" in log
    assert "INVALID_ARGUMENT" in log
    assert _WORD not in log
    assert "\0" not in log
    assert base64.b64encode(_WORD.encode()).decode().rstrip("=") not in log


def _call_with_secrets(target: str) -> None:
    metadata = (
        ("authorization", f"{_WORD} 1"), ("cookie", f"{_WORD}=2"), ("x-api-token", _WORD),
        ("key-bin", _WORD.encode()), ("checkpoint-policy", "must-exist"),
    )  # fmt: skip
    with grpc.insecure_channel(target) as channel:
        for rpc, after in (("GetEmbeddings", ""), ("StreamEmbedding", "no id"), ("None", "")):
            method: Any = channel.unary_stream(f"/embedding.EmbeddingStreamService/{rpc}")
            request = pb.RequestParams(last_processed_uuid=after).SerializeToString()
            with contextlib.suppress(grpc.RpcError):
                list(method(request, metadata=metadata, timeout=_SECONDS))

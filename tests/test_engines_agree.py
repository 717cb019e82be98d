"""Both engines give the same answers, byte for byte."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.service import EmbeddingService
from tests.datasets import id_texts, write_dataset
from tests.engines import ENGINES, STARTERS
from tests.wire_peer import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamer.engines.hosting import RunningEngine

_ROWS = 700
_MAX_MESSAGE_BYTES = 20_000
_SERVICE = "embedding.EmbeddingStreamService"


class Answer(NamedTuple):
    """Everything that a client sees of a call, but for what describes the connection."""

    messages: list[bytes]
    headers: list[tuple[str, str | bytes]]
    trailers: list[tuple[str, str | bytes]]
    code: grpc.StatusCode
    details: str


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.getbasetemp() / "agree.arrow"
    return id_texts(write_dataset(path, rows=_ROWS, batch_rows=123, dimension=30))


@pytest.fixture(scope="module")
def channels(
    ids: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[grpc.Channel]]:
    assert ids
    path: Path = tmp_path_factory.getbasetemp() / "agree.arrow"
    engines: list[RunningEngine] = []
    for name in ENGINES:
        service = EmbeddingService(
            Dataset(path), chunk_rows=lambda _: 100, max_message_bytes=_MAX_MESSAGE_BYTES
        )
        engines.append(STARTERS[name](service))
    channels = [grpc.insecure_channel(f"127.0.0.1:{engine.port}") for engine in engines]
    yield channels
    for channel in channels:
        channel.close()
    for engine in engines:
        engine.stop(0)


def _answer(
    channel: Any, rpc: str, request: bytes, metadata: tuple[tuple[str, str], ...]
) -> Answer:
    call = channel.unary_stream(f"/{_SERVICE}/{rpc}")(
        request, timeout=PATIENCE_SECONDS, metadata=metadata
    )
    messages: list[bytes] = []
    with contextlib.suppress(grpc.RpcError):  # the status is part of the answer
        messages.extend(call)  # keeps what came before an error
    return Answer(
        messages,
        [tuple(item) for item in call.initial_metadata()],
        [tuple(item) for item in call.trailing_metadata()],
        call.code(),
        call.details(),
    )


def _request(after: str = "", chunk_size: int = 0) -> bytes:
    return pb.RequestParams(last_processed_uuid=after, chunk_size=chunk_size).SerializeToString()


@pytest.mark.parametrize("row", [None, 0, 122, 123, 500, _ROWS - 2, _ROWS - 1])
@pytest.mark.parametrize("chunk_size", [0, 1, 7, 123, 10_000])
@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_streams_are_the_same(
    channels: list[grpc.Channel], ids: list[str], rpc: str, chunk_size: int, row: int | None
) -> None:
    """Messages, headers, trailers and status, from every kind of place."""
    request = _request("" if row is None else ids[row], chunk_size)
    answers = [_answer(channel, rpc, request, ()) for channel in channels]

    assert answers[0] == answers[1]
    assert grpc.StatusCode.OK is answers[0].code


@pytest.mark.parametrize(
    ("request_bytes", "metadata"),
    [
        (_request("oops"), ()),
        (_request("\u00e9\n" * 100), ()),
        (_request(chunk_size=-1), ()),
        (_request("00000000-0000-0000-0000-000000000000"), (("checkpoint-policy", "must-exist"),)),
        (_request(), (("checkpoint-policy", "maybe"),)),
        (b"\xff\xff", ()),
    ],
)
@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_refusals_are_the_same(
    channels: list[grpc.Channel],
    rpc: str,
    request_bytes: bytes,
    metadata: tuple[tuple[str, str], ...],
) -> None:
    """Status and text of a request that is refused."""
    answers = [_answer(channel, rpc, request_bytes, metadata) for channel in channels]

    assert answers[0] == answers[1]
    assert grpc.StatusCode.OK is not answers[0].code

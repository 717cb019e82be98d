"""The service in this process and behind both engines, asked alike."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc
import pytest

from proto import embedding_stream_pb2 as pb
from streamer.errors import (
    CheckpointNotFoundError,
    DatasetNotFoundError,
    InvalidDatasetError,
    InvalidRequestError,
    RowTooLargeError,
    StreamerError,
)
from streamer.service import Caller
from tests.engines import start_grpcio, start_wire
from tests.frames import each_message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from streamer.service import EmbeddingService

# Spelt out, because the contract does: with any other status an error is none of these.
_ERRORS: Mapping[grpc.StatusCode, type[StreamerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: CheckpointNotFoundError,
    grpc.StatusCode.NOT_FOUND: DatasetNotFoundError,
    grpc.StatusCode.DATA_LOSS: InvalidDatasetError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RowTooLargeError,
}


class Reply(NamedTuple):
    """What a call gave: header values, and the messages as they come; `leave` takes no more."""

    headers: dict[str, str]
    messages: Iterator[bytes]
    leave: Callable[[], object]


class Peer(Protocol):
    """Asks a service; the errors are those that the service raises, wherever it runs."""

    def call(self, rpc: str, request: pb.RequestParams, metadata: Mapping[str, str]) -> Reply: ...


class Service:
    """A service and a peer that asks it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def rows(self, after: str = "", **metadata: str) -> list[pb.Embedding]:
        """Return what GetEmbeddings sends."""
        reply = self.call("GetEmbeddings", make_request(after), **metadata)
        return [pb.Embedding.FromString(message) for message in reply.messages]

    def ids(self, after: str = "") -> list[str]:
        return [row.id for row in self.rows(after)]

    def chunks(self, after: str = "", chunk_size: int = 0) -> list[pb.RowChunk]:
        """Return what StreamEmbedding sends."""
        reply = self.call("StreamEmbedding", make_request(after, chunk_size))
        return [pb.RowChunk.FromString(message) for message in reply.messages]

    def call(self, rpc: str, request: pb.RequestParams, **metadata: str) -> Reply:
        named = {key.replace("_", "-"): value for key, value in metadata.items()}
        return self._peer.call(rpc, request, named)


def make_request(after: str = "", chunk_size: int = 0) -> pb.RequestParams:
    return pb.RequestParams(last_processed_uuid=after, chunk_size=chunk_size)


class _Local(NamedTuple):
    service: EmbeddingService
    takes_gathered: bool

    def call(self, rpc: str, request: pb.RequestParams, metadata: Mapping[str, str]) -> Reply:
        caller = Caller("test", metadata, lambda: None, takes_gathered=self.takes_gathered)
        ask = {
            "GetEmbeddings": self.service.get_embeddings,
            "StreamEmbedding": self.service.stream_embedding,
        }
        answer = ask[rpc](request, caller)
        return Reply(_headers(answer.headers), each_message(answer.frames), answer.frames.close)


class _Remote(NamedTuple):
    channel: Any

    def call(self, rpc: str, request: pb.RequestParams, metadata: Mapping[str, str]) -> Reply:
        method = self.channel.unary_stream(f"/embedding.EmbeddingStreamService/{rpc}")
        # Without a timeout, which would take the place of a grpc-timeout in the metadata.
        call = method(request.SerializeToString(), metadata=list(metadata.items()))
        headers = _headers(call.initial_metadata())
        messages = _messages(call)
        if not headers:  # an error, or else a defect
            pytest.fail(f"no headers, but {next(messages, 'a good end')!r}")
        return Reply(headers, messages, call.cancel)


def _headers(fields: Collection[tuple[str, str]]) -> dict[str, str]:
    headers = dict(fields)
    assert len(headers) == len(fields), fields
    return headers


def _messages(call: Any) -> Iterator[bytes]:
    try:
        yield from call
    except grpc.RpcError as error:
        if call.code() not in _ERRORS:
            raise
        raise _ERRORS[call.code()](call.details()) from error


@contextlib.contextmanager
def _served(start: Callable[..., Any], service: EmbeddingService) -> Iterator[Peer]:
    engine = start(service)
    try:
        # Windows that don't grow: whoever doesn't read holds a stream up after 64 KiB.
        options = [("grpc.http2.bdp_probe", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{engine.port}", options) as channel:
            yield _Remote(channel)
    finally:
        engine.stop(0)


def _start_joined(service: EmbeddingService) -> Any:
    return start_wire(service, gathers=False)


# Each way to reach a service; those in this process give no block to a network.
PEERS: dict[str, Callable[[EmbeddingService], contextlib.AbstractContextManager[Peer]]] = {
    "joined": lambda service: contextlib.nullcontext(_Local(service, takes_gathered=False)),
    "gathered": lambda service: contextlib.nullcontext(_Local(service, takes_gathered=True)),
    "grpcio": lambda service: _served(start_grpcio, service),
    "wire": lambda service: _served(start_wire, service),
    "wire joined": lambda service: _served(_start_joined, service),
}
OVER_NETWORK = ["grpcio", "wire", "wire joined"]

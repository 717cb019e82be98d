"""The service in this process and behind both engines, asked alike."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc

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
    from collections.abc import Callable, Iterator, Mapping

    from proto import embedding_stream_pb2 as pb
    from streamer.service import EmbeddingService

_SECONDS = 20
_ERRORS: Mapping[grpc.StatusCode, type[StreamerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: CheckpointNotFoundError,
    grpc.StatusCode.NOT_FOUND: DatasetNotFoundError,
    grpc.StatusCode.DATA_LOSS: InvalidDatasetError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RowTooLargeError,
}


class Reply(NamedTuple):
    """What a call gave: header values, and the messages as they come."""

    headers: dict[str, str]
    messages: Iterator[bytes]


class Peer(Protocol):
    """Asks a service; the errors are those that the service raises, wherever it runs."""

    def call(self, rpc: str, request: pb.RequestParams, metadata: Mapping[str, str]) -> Reply: ...


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
        return Reply(dict(answer.headers), each_message(answer.frames))


class _Remote(NamedTuple):
    channel: Any

    def call(self, rpc: str, request: pb.RequestParams, metadata: Mapping[str, str]) -> Reply:
        method = self.channel.unary_stream(f"/embedding.EmbeddingStreamService/{rpc}")
        call = method(
            request.SerializeToString(), timeout=_SECONDS, metadata=list(metadata.items())
        )
        headers = dict(call.initial_metadata())
        messages = _messages(call)
        if not headers:  # an error, or nothing at all
            messages = iter(list(messages))
        return Reply(headers, messages)


def _messages(call: Any) -> Iterator[bytes]:
    try:
        yield from call
    except grpc.RpcError:
        raise _ERRORS[call.code()](call.details()) from None


@contextlib.contextmanager
def _served(start: Callable[..., Any], service: EmbeddingService) -> Iterator[Peer]:
    engine = start(service)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
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

"""The C-core engine: serves the service with grpcio's own server.

Each stream holds one thread of the pool while it lasts, from its headers on: so do
clients that send headers and no request. grpcio takes the next message
only when the one before has left for the peer's flow-control window, so a slow client
holds one block of Frames; a cancelled call is closed at its next message.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from proto import embedding_stream_pb2 as pb
from streamer.errors import StreamerError, answer_for
from streamer.service import Answer, Caller, parse_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.service import EmbeddingService

_log = logging.getLogger(__name__)

_SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingStreamService"].full_name
# Health checks and reflection have threads of their own: they must answer while every
# worker streams.
_OTHER_WORKERS = 2


class Keepalive(NamedTuple):
    """When the server looks for vanished clients, and how often clients may ping it."""

    time_seconds: float = 30
    timeout_seconds: float = 10
    # Clients that ping every 10 to 30 s get no GOAWAY, also while nothing is streamed.
    min_ping_interval_seconds: float = 10

    def options(self) -> list[tuple[str, int]]:
        # C-core compares with its own clock: a ping sent exactly on time may come early.
        interval_ms = int(self.min_ping_interval_seconds * 1000 * 0.9)
        return [
            ("grpc.keepalive_time_ms", int(self.time_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", interval_ms),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", interval_ms),
            ("grpc.http2.max_pings_without_data", 0),
        ]


class AddressError(StreamerError):
    """The server can't listen on the address it was given."""


class GrpcioServer:
    """A running server; it listens on `port`, `address` is HOST:PORT."""

    def __init__(
        self,
        service: EmbeddingService,
        *,
        host: str,
        port: int,
        max_workers: int,
        max_message_bytes: int,
        keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable
    ) -> None:
        """Listen and accept calls; AddressError if that can't be had."""
        self._stream_pool = ThreadPoolExecutor(max_workers, thread_name_prefix="stream")
        self._other_pool = ThreadPoolExecutor(_OTHER_WORKERS, thread_name_prefix="other")
        self._health = health.HealthServicer()
        self._server = grpc.server(
            self._other_pool,
            options=[
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.so_reuseport", 0),  # a second server must not share the port unnoticed
                *keepalive.options(),
            ],
        )
        self._server.add_generic_rpc_handlers((_handlers(service, self._stream_pool),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = _bind(self._server, host, port)
        self.address = _address(host, self.port)
        self._server.start()
        for name in ("", _SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, wait for those under way, end those that take longer."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_seconds).wait()
        self._stream_pool.shutdown()
        self._other_pool.shutdown()


def _bind(server: grpc.Server, host: str, port: int) -> int:
    _probe(host, port)
    try:
        return server.add_insecure_port(_address(host, port))
    except RuntimeError as error:
        message = f"can't listen on {_address(host, port)}: {error}"
        raise AddressError(message) from None


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _probe(host: str, port: int) -> None:
    """Bind and let go, because the system says what is wrong and grpcio doesn't."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "the port is in use; choose another with --port or GRPC_PORT"
        message = f"can't listen on {host}:{port}: {why}"
        raise AddressError(message) from None


def _handlers(service: EmbeddingService, pool: ThreadPoolExecutor) -> grpc.GenericRpcHandler:
    methods = {
        "GetEmbeddings": service.get_embeddings,
        "StreamEmbedding": service.stream_embedding,
    }
    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            name: grpc.unary_stream_rpc_method_handler(_behaviour(method, pool))
            for name, method in methods.items()
        },
    )


def _behaviour(
    method: Callable[[pb.RequestParams, Caller], Answer], pool: ThreadPoolExecutor
) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    def respond(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        caller = Caller(
            peer=context.peer(),
            metadata={
                key: value for key, value in context.invocation_metadata() if isinstance(value, str)
            },
            seconds_left=context.time_remaining,
        )
        try:
            answer = method(parse_request(request), caller)
            context.send_initial_metadata(answer.headers)
            with contextlib.closing(answer.frames) as blocks:
                for block in blocks:
                    yield from block.messages()
                    del block  # before the next one is made
        except Exception as error:  # noqa: BLE001 - the one place where errors become statuses
            status, text = answer_for(error)
            if isinstance(error, StreamerError):
                _log.warning("call from %s refused: %s: %s", caller.peer, status.name, text)
            else:
                _log.exception("call from %s failed", caller.peer)
            context.abort(grpc.StatusCode[status.name], text)

    respond.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return respond

"""What both engines have in common: where they listen, and which services they offer."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from proto import embedding_stream_pb2 as pb
from streamer.errors import StreamerError
from streamer.upload_service import UploadService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from streamer.codec.message_run import MessageRun
    from streamer.service import Answer, Caller, EmbeddingService


_STREAMS, _UPLOADS = (
    pb.DESCRIPTOR.services_by_name[name].full_name
    for name in ("EmbeddingStreamService", "EmbeddingUploadService")
)
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class AddressError(StreamerError):
    """The server can't listen on the address it was given."""


class RunningEngine(Protocol):
    """A running server; it listens on `port`, `address` is HOST:PORT."""

    port: int
    address: str

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, wait for those under way, end those that take longer."""


class Hosted(NamedTuple):
    """A service as engines host it: its full name, and its methods by name.

    `streams` take one request and answer with blocks; `uploads` take blocks of messages
    and answer with one.
    """

    name: str
    streams: Mapping[str, Callable[[pb.RequestParams, Caller], Answer]]
    uploads: Mapping[str, Callable[[Iterator[MessageRun], Caller], pb.UploadResult]]


def hosted(service: EmbeddingService | UploadService) -> Hosted:
    if isinstance(service, UploadService):
        return Hosted(_UPLOADS, {}, {"UploadEmbeddings": service.upload_embeddings})
    streams = {
        "GetEmbeddings": service.get_embeddings,
        "StreamEmbedding": service.stream_embedding,
    }
    return Hosted(_STREAMS, streams, {})


def add_standard_services(server: Any, name: str) -> health.HealthServicer:  # noqa: ANN401
    """Add health and reflection to whatever generated functions can add servicers to.

    The service `name`, as all others, is SERVING until the servicer says otherwise.
    """
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    for each in ("", name):
        servicer.set(each, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen, one for each address of `host`, and never block.

    With port 0 they share the port that the system picks. AddressError says what is wrong
    and what to do.
    """
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            shared_port = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(_listen(family, kind, protocol, (str(address[0]), shared_port)))
            except OSError as error:
                # A name may have an address of a family that this machine doesn't use.
                if not listeners or error.errno not in _NOT_HERE:
                    raise
    except OSError as error:
        for listener in listeners:
            listener.close()
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "the port is in use; choose another with --port or GRPC_PORT"
        message = f"can't listen on {format_address(host, port)}: {why}"
        raise AddressError(message) from None
    return listeners


def _listen(family: int, kind: int, protocol: int, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = address[0] != "::"  # that one stands for IPv4's addresses, too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

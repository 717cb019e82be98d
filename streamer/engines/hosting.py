"""What both engines offer: one of our services under its names, health and reflection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME

from proto import embedding_stream_pb2 as pb
from streamer.engines.health import Health
from streamer.engines.reflection import add_reflection
from streamer.upload_service import UploadService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from streamer.codec.message_run import MessageRun
    from streamer.service import Answer, Caller, EmbeddingService


_STREAMS, _UPLOADS = (
    pb.DESCRIPTOR.services_by_name[name]
    for name in ("EmbeddingStreamService", "EmbeddingUploadService")
)


class RunningEngine(Protocol):
    """A running server; it listens on `port`, `address` is HOST:PORT."""

    port: int
    address: str

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, wait for those under way, end those that take longer."""


class Hosted(NamedTuple):
    """A service as engines host it: its names, its own first, and its methods by name.

    `streams` take one request and answer with blocks; `uploads` take blocks of messages
    and answer with one. `check`, to be called every `check_seconds`, raises what calls would
    be answered now if they couldn't be served.
    """

    names: tuple[str, ...]
    streams: Mapping[str, Callable[[pb.RequestParams, Caller], Answer]]
    uploads: Mapping[str, Callable[[Iterator[MessageRun], Caller], pb.UploadResult]]
    check: Callable[[], None]
    check_seconds: float


def hosted(service: EmbeddingService | UploadService, alias_packages: Sequence[str]) -> Hosted:
    """Return what to host, in the package of the proto, in none, and in `alias_packages`."""
    descriptor = _UPLOADS if isinstance(service, UploadService) else _STREAMS
    aliases = (f"{package}.{descriptor.name}" for package in alias_packages)
    names = tuple(dict.fromkeys([descriptor.full_name, descriptor.name, *aliases]))
    if isinstance(service, UploadService):
        uploads = {"UploadEmbeddings": service.upload_embeddings}
        return Hosted(names, {}, uploads, service.check, service.check_seconds)
    streams = {
        "GetEmbeddings": service.get_embeddings,
        "StreamEmbedding": service.stream_embedding,
    }
    return Hosted(names, streams, {}, service.check, service.check_seconds)


def add_standard_services(
    server: Any,  # noqa: ANN401
    service: Hosted,
    watch_pool: ThreadPoolExecutor | None = None,
) -> Health:
    """Add health and reflection to whatever generated functions can add servicers to.

    Reflection lists the service's own name alone: of the others it has no descriptor.
    """
    health = Health(service.names, service.check, service.check_seconds, watch_pool)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    add_reflection(server, (service.names[0], SERVICE_NAME))
    return health


def start_threads(pool: ThreadPoolExecutor) -> None:
    """Start all threads of a pool, which by itself starts one when it needs one more.

    Then there may be no memory for its stack, and what was submitted waits for ever.
    """
    count = pool._max_workers  # noqa: SLF001 - what it was made with
    together = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(together.wait)
    together.wait()

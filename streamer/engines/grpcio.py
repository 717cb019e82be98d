"""The C-core engine: serves a service with grpcio's own server.

Each stream holds one thread of the pool while it lasts, from its headers on: so do
clients that send headers and no request. grpcio takes the next message
only when the one before has left for the peer's flow-control window, so a slow client
holds one block of Frames; a cancelled call is closed at its next message.
"""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import grpc

from streamer.codec.message_run import runs_of
from streamer.engines.addresses import (
    UNIX,
    AddressError,
    bound_port,
    close_listeners,
    format_address,
    listening_sockets,
)
from streamer.engines.hosting import Hosted, add_standard_services, hosted, start_threads
from streamer.engines.keepalive import ConnectionAge, Keepalive
from streamer.engines.tls import named_peer, subject_in
from streamer.errors import StreamerError, answer_for
from streamer.service import VERSION_HEADER, Answer, Caller, parse_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from proto import embedding_stream_pb2 as pb
    from streamer.codec.frames import JoinedFrames
    from streamer.codec.message_run import MessageRun
    from streamer.engines.tls import Certificates
    from streamer.service import EmbeddingService
    from streamer.upload_service import UploadService

    Handlers = dict[str, grpc.RpcMethodHandler[Any, Any]]

_log = logging.getLogger(__name__)

# Health checks and reflection have threads of their own: they must answer while every
# worker streams.
_OTHER_WORKERS = 2
# So does each health Watch, for as long as it lasts; further ones wait for their first answer.
_WATCH_WORKERS = 64


def _options(keepalive: Keepalive, age: ConnectionAge) -> list[tuple[str, int]]:
    interval_ms = int(keepalive.tolerated_ping_seconds * 1000)
    ages = {
        "grpc.max_connection_age_ms": age.max_seconds,
        "grpc.max_connection_age_grace_ms": age.grace_seconds,
    }
    return [
        *((name, int(seconds * 1000)) for name, seconds in ages.items() if isfinite(seconds)),
        ("grpc.keepalive_time_ms", int(keepalive.time_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(keepalive.timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", interval_ms),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", interval_ms),
        ("grpc.http2.max_pings_without_data", 0),
    ]


class GrpcioEngine:
    """A running server; it listens on `port`, `address` is HOST:PORT."""

    def __init__(
        self,
        service: EmbeddingService | UploadService,
        *,
        host: str,
        port: int,
        max_workers: int,
        max_message_bytes: int,
        receive_window_bytes: int = 65_535,
        keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable
        age: ConnectionAge = ConnectionAge(),  # noqa: B008 - immutable
        certificates: Certificates | None = None,
        alias_packages: Sequence[str] = (),
    ) -> None:
        """Listen and accept calls; AddressError if that can't be had."""
        self._stream_pool = ThreadPoolExecutor(max_workers, thread_name_prefix="stream")
        self._other_pool = ThreadPoolExecutor(_OTHER_WORKERS, thread_name_prefix="other")
        self._watch_pool = ThreadPoolExecutor(_WATCH_WORKERS, thread_name_prefix="watch")
        start_threads(self._stream_pool)
        start_threads(self._other_pool)
        self._server = grpc.server(
            self._other_pool,
            options=[
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.so_reuseport", 0),  # a second server must not share the port unnoticed
                # By itself the C-core would let every upload send up to 16 MiB ahead.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", receive_window_bytes),
                *_options(keepalive, age),
            ],
        )
        methods = hosted(service, alias_packages)
        self._server.add_generic_rpc_handlers(_handlers(methods, self._stream_pool))
        self._health = add_standard_services(self._server, methods, self._watch_pool)
        self.port = _bind(self._server, host, port, certificates)
        self.address = format_address(host, self.port)
        self._health.start()
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, wait for those under way, end those that take longer."""
        self._health.stop()
        self._server.stop(grace_seconds).wait()
        self._stream_pool.shutdown()
        self._other_pool.shutdown()
        self._watch_pool.shutdown()


def _bind(server: grpc.Server, host: str, port: int, certificates: Certificates | None) -> int:
    """Listen on the addresses that the wire engine would listen on; return the port."""
    # The system says what is wrong with an address, and grpcio doesn't. Names it resolves
    # in its own way.
    probes = listening_sockets(host, port)
    port = bound_port(probes)
    is_unix = host.startswith(UNIX)
    hosts = (
        [UNIX + quote(host.removeprefix(UNIX))]
        if is_unix
        else [str(probe.getsockname()[0]) for probe in probes]
    )
    close_listeners(probes)
    for each in hosts:
        address = format_address(each, port)
        try:
            if certificates is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, certificates.grpc_credentials())
        except RuntimeError as error:
            message = f"can't listen on {address}: {error}"
            raise AddressError(message) from None
    return port


def _handlers(methods: Hosted, pool: ThreadPoolExecutor) -> list[grpc.GenericRpcHandler]:
    streams: Handlers = {
        name: grpc.unary_stream_rpc_method_handler(_stream(method, pool))
        for name, method in methods.streams.items()
    }
    uploads: Handlers = {
        name: grpc.stream_unary_rpc_method_handler(_upload(method, pool))
        for name, method in methods.uploads.items()
    }
    return [grpc.method_handlers_generic_handler(name, streams | uploads) for name in methods.names]


def _stream(
    method: Callable[[pb.RequestParams, Caller], Answer], pool: ThreadPoolExecutor
) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    def respond(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        caller = _caller(context)
        with _failures_as_statuses(caller, context):
            answer = method(parse_request(request), caller)
            context.send_initial_metadata(answer.headers)
            with contextlib.closing(answer.frames) as blocks:
                for block in blocks:
                    yield from cast("JoinedFrames", block).messages()
                    del block  # before the next one is made

    respond.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return respond


def _upload(
    method: Callable[[Iterator[MessageRun], Caller], pb.UploadResult], pool: ThreadPoolExecutor
) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    def receive(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        caller = _caller(context)
        with _failures_as_statuses(caller, context):
            result = method(runs_of(requests), caller)
            context.send_initial_metadata((VERSION_HEADER,))
            return result.SerializeToString()
        raise AssertionError  # a failure has left through `abort`

    receive.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return receive


def _caller(context: grpc.ServicerContext) -> Caller:
    metadata = {
        key: value for key, value in context.invocation_metadata() if isinstance(value, str)
    }
    peer = named_peer(context.peer(), subject_in(context.auth_context()))
    return Caller(peer, metadata, context.time_remaining)


@contextlib.contextmanager
def _failures_as_statuses(caller: Caller, context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what a service raises into what the peer is told; the one place that does."""
    try:
        yield
    except grpc.RpcError:  # what iterating over requests raises when the call is over
        _log.info("call from %s: cancelled or gone", caller.peer)
        raise
    except Exception as error:
        status, text = answer_for(error)
        if isinstance(error, StreamerError):
            _log.warning("call from %s refused: %s: %s", caller.peer, status.name, text)
        else:
            _log.exception("call from %s failed", caller.peer)
        context.abort(grpc.StatusCode[status.name], text)

"""`streamer serve`: answer calls until told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING

import click
import psutil

from streamer.chunking import calculate_optimal_chunk_size
from streamer.config import Engine
from streamer.dataset import Dataset
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.tls import Certificates
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits
from streamer.errors import DatasetNotFoundError
from streamer.service import EmbeddingService

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.config import Settings
    from streamer.engines.hosting import RunningEngine

_log = logging.getLogger(__name__)

_MIB = 1 << 20
# The share of the available memory that one chunk of CHUNK_SIZE=auto may take.
_AUTO_SAFETY_FACTOR = 0.1


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    Raises StreamerError if the dataset file is damaged or the address can't be had. A
    dataset file that isn't there yet is awaited: calls get NOT_FOUND meanwhile.
    """
    dataset = Dataset(settings.data_path, kept_head_bytes=settings.head_cache_size)
    try:
        dataset.current()
    except DatasetNotFoundError:
        _log.warning(
            "no dataset file %s yet: calls get NOT_FOUND until `python -m convert` makes it",
            settings.data_path,
        )
    service = EmbeddingService(
        dataset,
        chunk_rows=_chunk_rows(settings),
        max_message_bytes=settings.max_message_size,
    )
    server = _start(service, settings)
    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        _log.info("%s: draining", signal.Signals(number).name)
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_DFL)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    click.echo(f"listening on {server.address}")
    stopping.wait()
    server.stop(settings.shutdown_grace_seconds)
    _log.info("stopped")


def _start(service: EmbeddingService, settings: Settings) -> RunningEngine:
    certificates = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        certificates = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if settings.engine is Engine.GRPCIO:
        return GrpcioEngine(
            service,
            host=settings.grpc_host,
            port=settings.grpc_port,
            max_workers=settings.max_workers,
            max_message_bytes=settings.max_message_size,
            certificates=certificates,
        )
    return WireEngine(
        service,
        host=settings.grpc_host,
        port=settings.grpc_port,
        max_workers=settings.max_workers,
        limits=Limits(
            max_connections=settings.max_connections,
            max_streams_per_connection=settings.max_streams_per_connection,
            max_streams=settings.max_streams,
            max_header_list_bytes=settings.max_header_list_size,
            max_request_bytes=settings.max_request_size,
            handshake_seconds=settings.handshake_timeout_seconds,
            idle_seconds=settings.idle_timeout_seconds,
            stall_seconds=settings.stall_timeout_seconds,
        ),
        certificates=certificates,
    )


def _chunk_rows(settings: Settings) -> Callable[[int], int]:
    """Return what gives the rows of a chunk from the floats of a vector."""

    def rows(dimension: int) -> int:
        if settings.chunk_size != "auto":
            return settings.chunk_size
        available_mb = psutil.virtual_memory().available / _MIB
        return calculate_optimal_chunk_size(dimension, available_mb, _AUTO_SAFETY_FACTOR)

    return rows

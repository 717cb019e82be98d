"""What the commands have in common that answer calls until told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING

import click

from streamer import __version__
from streamer.config import Engine
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.tls import Certificates
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.config import Settings
    from streamer.engines.hosting import RunningEngine
    from streamer.service import EmbeddingService
    from streamer.upload_service import UploadService

_log = logging.getLogger(__name__)

# From the end of the grace until the calls that are left have been ended.
_ENDING_SECONDS = 1.0


def limits_of(settings: Settings) -> Limits:
    return Limits(
        max_connections=settings.max_connections,
        max_streams_per_connection=settings.max_streams_per_connection,
        max_streams=settings.max_streams,
        max_header_list_bytes=settings.max_header_list_size,
        max_request_bytes=settings.max_request_size,
        handshake_seconds=settings.handshake_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
        stall_seconds=settings.stall_timeout_seconds,
    )


def run_engine(
    service: EmbeddingService | UploadService,
    settings: Settings,
    *,
    host: str,
    port: int,
    limits: Limits,
    after_grace: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain; another signal ends it at once.

    SIGHUP is what a terminal sends when it is closed, often twice: the second one is ignored.
    Prints `listening on HOST:PORT` once calls are accepted. `after_grace` is called if
    methods are still at work when their calls have been ended. AddressError, TlsError.
    """
    server = _start(service, settings, host, port, limits)
    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        _log.info("%s: draining", signal.Signals(number).name)
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as by nohup
        signal.signal(signal.SIGHUP, stop)
    _log.info(
        "embedding-streamer %s, %s engine, on %s", __version__, settings.engine, server.address
    )
    click.echo(f"listening on {server.address}")
    stopping.wait()
    timer = threading.Timer(settings.shutdown_grace_seconds + _ENDING_SECONDS, after_grace)
    timer.start()
    server.stop(settings.shutdown_grace_seconds)
    timer.cancel()
    _log.info("stopped")


def _start(
    service: EmbeddingService | UploadService,
    settings: Settings,
    host: str,
    port: int,
    limits: Limits,
) -> RunningEngine:
    certificates = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        certificates = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if settings.engine is Engine.GRPCIO:
        return GrpcioEngine(
            service,
            host=host,
            port=port,
            max_workers=settings.max_workers,
            max_message_bytes=settings.max_message_size,
            receive_window_bytes=limits.receive_window_bytes,
            certificates=certificates,
        )
    return WireEngine(
        service,
        host=host,
        port=port,
        max_workers=settings.max_workers,
        limits=limits,
        certificates=certificates,
    )

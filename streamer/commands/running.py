"""What the commands have in common that answer calls until told to stop."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from typing import TYPE_CHECKING

from convert import terminal
from streamer import __version__
from streamer.commands.exposure import exposure
from streamer.commands.open_files import connections_that_fit
from streamer.commands.signals import OperatorSignals
from streamer.config import Engine
from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.keepalive import ConnectionAge
from streamer.engines.tls import Certificates
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits
from streamer.logs import log_file

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
        flood_tolerance=settings.flood_tolerance,
        age=_age_of(settings),
        max_connections_per_address=settings.max_connections_per_address,
    )


def _age_of(settings: Settings) -> ConnectionAge:
    age = settings.max_connection_age_seconds
    grace = settings.max_connection_age_grace_seconds
    return ConnectionAge(math.inf if age is None else age, math.inf if grace is None else grace)


def run_engine(
    service: EmbeddingService | UploadService,
    settings: Settings,
    *,
    host: str,
    port: int,
    limits: Limits,
    permitted: str,
    files_per_call: int = 0,
    look_again: Callable[[], None] = lambda: None,
    after_grace: Callable[[], None] = lambda: None,
) -> None:
    """Serve until told to stop by a signal, then drain: see OperatorSignals.

    Prints `listening on HOST:PORT` once calls are accepted. `permitted` says what clients can
    do, `files_per_call` how many files a call opens. `look_again` is called when the
    files in use are to be looked at, `after_grace` if methods are still at work when their
    calls have been ended. AddressError, TlsError.
    """
    certificates = _certificates(settings)
    connections = connections_that_fit(
        limits.max_connections, files_per_call * settings.max_workers
    )
    limits = limits._replace(max_connections=connections)
    server = _start(
        service, settings, host=host, port=port, limits=limits, certificates=certificates
    )

    def look_again_at_all() -> None:
        _look_at_log_file()
        if certificates is not None:
            certificates.look_again()
        look_again()

    signals = OperatorSignals()
    _log.info(
        "embedding-streamer %s, %s engine, on %s", __version__, settings.engine, server.address
    )
    if (warning := exposure(host, settings, permitted)) is not None:
        _log.warning("%s: %s", server.address, warning)
    terminal.say(f"listening on {server.address}")
    signals.wait_for_stop(look_again_at_all)
    timer = threading.Timer(settings.shutdown_grace_seconds + _ENDING_SECONDS, after_grace)
    with contextlib.suppress(RuntimeError):  # no memory for a thread: calls end as they may
        timer.start()
    server.stop(settings.shutdown_grace_seconds)
    timer.cancel()
    _log.info("stopped")


def _look_at_log_file() -> None:
    file = log_file()
    if file is None:
        return
    try:
        file.look_again()
    except OSError as error:
        _log.warning("LOG_FILE %s stays as it is: %s", file.path, error.strerror or error)
    else:
        _log.info("LOG_FILE %s is open", file.path)


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def _start(
    service: EmbeddingService | UploadService,
    settings: Settings,
    *,
    host: str,
    port: int,
    limits: Limits,
    certificates: Certificates | None,
) -> RunningEngine:
    if settings.engine is Engine.GRPCIO:
        return GrpcioEngine(
            service,
            host=host,
            port=port,
            max_workers=settings.max_workers,
            max_message_bytes=settings.max_message_size,
            receive_window_bytes=limits.receive_window_bytes,
            age=limits.age,
            certificates=certificates,
            alias_packages=settings.service_aliases,
        )
    return WireEngine(
        service,
        host=host,
        port=port,
        max_workers=settings.max_workers,
        limits=limits,
        certificates=certificates,
        alias_packages=settings.service_aliases,
    )

"""Both engines, started alike."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from streamer.engines.grpcio import GrpcioEngine
from streamer.engines.keepalive import Keepalive
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.engines.hosting import RunningEngine
    from streamer.engines.tls import Certificates

_MIB = 1 << 20
_KEEPALIVE = Keepalive()
_LIMITS = Limits()


def start_grpcio(
    service: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_workers: int = 4,
    max_message_bytes: int = 16 * _MIB,
    keepalive: Keepalive = _KEEPALIVE,
    certificates: Certificates | None = None,
    **options: Any,
) -> GrpcioEngine:
    return GrpcioEngine(
        service,
        host=host,
        port=port,
        max_workers=max_workers,
        max_message_bytes=max_message_bytes,
        keepalive=keepalive,
        certificates=certificates,
        **options,
    )


def start_wire(
    service: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_workers: int = 4,
    max_message_bytes: int = 16 * _MIB,
    keepalive: Keepalive = _KEEPALIVE,
    certificates: Certificates | None = None,
    gathers: bool = True,
    limits: Limits = _LIMITS,
    **options: Any,
) -> WireEngine:
    del max_message_bytes  # the service keeps to it
    return WireEngine(
        service,
        host=host,
        port=port,
        max_workers=max_workers,
        limits=limits._replace(keepalive=keepalive),
        certificates=certificates,
        gathers=gathers,
        **options,
    )


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as loopback:
        loopback.bind(("::1", 0))
        return True
    return False


HAS_IPV6 = _has_ipv6()
STARTERS: dict[str, Callable[..., RunningEngine]] = {"grpcio": start_grpcio, "wire": start_wire}
ENGINES = list(STARTERS)

"""Who else than programs of this machine can use a server, and for what."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.config import Settings


def exposure(host: str, settings: Settings, permitted: str) -> str | None:
    """Return a warning, None if only this machine's programs or known clients come in.

    `permitted` says what a client of the server can do.
    """
    if is_local(host) or settings.tls_client_ca is not None:
        return None
    text = f"whoever reaches this address can {permitted}: clients need no certificate"
    if settings.tls_cert is not None:
        return f"{text} (TLS_CLIENT_CA)"
    return (
        f"{text} (TLS_CLIENT_CA), and nothing is encrypted (TLS_CERT): whoever sees the traffic"
        " can read it"
    )


def is_local(host: str) -> bool:
    """Return whether a server that listens on `host` is reached from this machine alone."""
    if host.startswith("unix:"):
        return True
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        return False
    return all(_is_loopback(str(address[0])) for *_, address in found)


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback

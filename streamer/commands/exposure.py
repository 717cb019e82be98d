"""Who else than programs of this machine can use a server, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.addresses import is_local

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

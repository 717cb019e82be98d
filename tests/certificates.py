"""Certificates for servers and clients of tests, of authorities made on the spot."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from tests.wire_peer import PATIENCE_SECONDS, framed

if TYPE_CHECKING:
    from pathlib import Path

    import trustme


class Files(NamedTuple):
    """A server's certificate chain and its key."""

    certificate: Path
    key: Path

    @classmethod
    def made(cls, folder: Path, ca: trustme.CA) -> Files:
        files = cls(folder / "server.pem", folder / "server.key")
        files.write(ca)
        return files

    def write(self, ca: trustme.CA) -> None:
        """Put a new certificate in place, a file after the other."""
        leaf = ca.issue_cert("localhost", "127.0.0.1")
        for path, blobs in (
            (self.certificate, leaf.cert_chain_pems),
            (self.key, [leaf.private_key_pem]),
        ):
            new = path.with_suffix(".new")
            new.write_bytes(b"".join(blob.bytes() for blob in blobs))
            new.replace(path)


def client_context(ca: trustme.CA, *protocols: str) -> ssl.SSLContext:
    """Return a client's context that trusts `ca` and offers `protocols`."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def secure_channel(port: int, ca: trustme.CA, leaf: trustme.LeafCert | None = None) -> grpc.Channel:
    """Return a channel that trusts `ca`, and shows the certificate `leaf`."""
    credentials = grpc.ssl_channel_credentials(
        ca.cert_pem.bytes(),
        leaf.private_key_pem.bytes() if leaf else None,
        leaf.cert_chain_pems[0].bytes() if leaf else None,
    )
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials)


def read_all(channel: Any, rpc: str) -> bytes:
    """Return all messages of an answer, prefixed as on the wire."""
    call = channel.unary_stream(rpc)(b"", timeout=PATIENCE_SECONDS)
    return b"".join(map(framed, call))

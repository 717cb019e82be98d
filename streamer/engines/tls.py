"""Certificates for both engines, read again when their files change.

TlsError, which names the variable, for files that won't do at start. Once running, new
files that won't do (say, half written) are logged, and the old ones stay in use.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from convert.foreign_text import fit_to_show
from streamer.errors import StreamerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

# What is left of TLS 1.2 without the suites that HTTP/2 forbids (RFC 9113 section 9.2.2), which
# is what gRPC's C-core offers, too. TLS 1.3 has no others.
_TLS_1_2_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsError(StreamerError):
    """The file of TLS_CERT, TLS_KEY or TLS_CLIENT_CA can't be used."""


class _UnreadableError(TlsError):
    """A file can't be read now, whatever it holds."""


class _Loaded(NamedTuple):
    """What the files held when they were in the state `identity`."""

    identity: tuple[object, ...]
    context: ssl.SSLContext
    grpc_configuration: grpc.ServerCertificateConfiguration


class Certificates:
    """A server's certificate chain and key, PEM, and the CA of its clients, if they need one.

    With `client_ca`, clients must show a certificate that it has signed (mutual TLS). May be
    shared between threads.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._files = {"TLS_CERT": certificate, "TLS_KEY": key}
        if client_ca is not None:
            self._files["TLS_CLIENT_CA"] = client_ca
        self._lock = threading.Lock()
        self._loaded = self._load()
        self._rejected: tuple[object, ...] | None = None
        self._complaint = ""

    def server_context(self) -> ssl.SSLContext:
        """Return the context for a connection that is being accepted."""
        return self._current().context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded.grpc_configuration,
            lambda: self._current().grpc_configuration,
            require_client_authentication="TLS_CLIENT_CA" in self._files,
        )

    def look_again(self) -> None:
        """Read the files if they have changed, or wouldn't do before; log the outcome."""
        with self._lock:
            before, self._rejected, self._complaint = self._loaded, None, ""
        if self._current() is before and not self._complaint:
            _log.info("the certificates in use are those of the files")

    def _current(self) -> _Loaded:
        with self._lock:
            try:
                identity = self._identity()
                if identity not in (self._loaded.identity, self._rejected):
                    self._rejected = identity
                    self._loaded = self._load()
                    self._complaint = ""
                    _log.info("certificates read again")
            except TlsError as error:
                if isinstance(error, _UnreadableError):  # the next look may find them readable
                    self._rejected = None
                if str(error) != self._complaint:  # not once more for every connection
                    _log.warning("the certificates in use stay: %s", error)
                self._complaint = str(error)
            return self._loaded

    def _identity(self) -> tuple[object, ...]:
        identity: list[object] = []
        for variable, path in self._files.items():
            try:
                status = path.stat()
            except OSError as error:
                raise _unreadable(variable, path, error) from None
            identity += [status.st_ino, status.st_mtime_ns, status.st_size]
        return tuple(identity)

    def _load(self) -> _Loaded:
        identity = self._identity()
        contents = {name: _content(name, path) for name, path in self._files.items()}
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["h2"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113 section 9.2
        context.set_ciphers(_TLS_1_2_SUITES)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            context.load_cert_chain(
                self._files["TLS_CERT"], self._files["TLS_KEY"], password=refuse_password
            )
        except (ssl.SSLError, ValueError) as error:
            message = f"TLS_CERT and TLS_KEY are no certificate and its key in PEM: {error}"
            raise TlsError(message) from None
        except OSError as error:
            message = f"TLS_CERT and TLS_KEY: {error.strerror or error}"
            raise _UnreadableError(message) from None
        client_ca = contents.get("TLS_CLIENT_CA")
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(cadata=client_ca.decode("ascii"))
            except (OSError, ValueError) as error:
                message = f"TLS_CLIENT_CA is no certificate in PEM: {error}"
                raise TlsError(message) from None
        pair = (contents["TLS_KEY"], contents["TLS_CERT"])
        configuration = grpc.ssl_server_certificate_configuration([pair], client_ca)
        return _Loaded(identity, context, configuration)


def refuse_password() -> bytes:
    """Say no where OpenSSL would ask for a password at the terminal; ValueError."""
    message = "the key is encrypted, and there is nobody to ask"
    raise ValueError(message)


_SHORT = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU",
    "countryName": "C", "localityName": "L", "stateOrProvinceName": "ST",
}  # fmt: skip
_MAX_SUBJECT_CHARS = 200

# What OpenSSL calls the mistakes that peers make most, and what that means here.
_HANDSHAKE_FAILURES = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate, and TLS_CLIENT_CA wants one",
    "HTTP_REQUEST": "it does not speak TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks no version of TLS from 1.2 on",
    "NO_SHARED_CIPHER": "it offers no cipher suite that HTTP/2 permits",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of this server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept this server's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this server's certificate has expired, it says",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept this server's certificate",
}


def failed_handshake(error: ssl.SSLError) -> str:
    """Return what was wrong with a client, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not pass TLS_CLIENT_CA: {error.verify_message}"
    reason = error.reason or str(error)
    return _HANDSHAKE_FAILURES.get(reason, reason.replace("_", " ").lower())


def named_peer(peer: str, subject: str) -> str:
    """Return how the log names a client: its address, and its certificate's subject, if any."""
    return f"{peer} ({fit_to_show(subject[:_MAX_SUBJECT_CHARS])})" if subject else peer


def subject_of(certificate: Mapping[str, Any] | None) -> str:
    """Return the subject of what `SSLObject.getpeercert` returns, as RFC 4514 writes it."""
    names = reversed((certificate or {}).get("subject", ()))
    return ",".join(f"{_SHORT.get(key, key)}={value}" for name in names for key, value in name)


def subject_in(auth_context: Mapping[str, Any]) -> str:
    """Return the subject of what grpcio says of a caller: RFC 4514 with its bytes escaped."""
    escaped = next(iter(auth_context.get("x509_subject", ())), b"")
    text = re.sub(rb"\\([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), escaped)
    return text.decode("utf-8", "replace")


def _content(variable: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(variable, path, error) from None


def _unreadable(variable: str, path: Path, error: OSError) -> _UnreadableError:
    return _UnreadableError(f"{variable} {path}: {error.strerror or error}")

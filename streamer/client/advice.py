"""Why no connection comes about: one look at what the other side speaks.

gRPC says "Socket closed" of a server that speaks TLS, or that wants a client's certificate. A
look takes a connection of its own, nothing of which is kept, and up to three seconds.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import grpc

from convert.foreign_text import fit_to_show
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamer.client.failures import Failure

_SECONDS = 3.0
# Looks that reach somebody and find nothing wrong: a server that is full sees no more of them.
_FRUITLESS_LOOKS = 3
# How the C-core words a connection that was there and came to nothing. One that is refused, or
# a host that isn't found, needs no look.
_CAME_TO_NOTHING = re.compile(
    r"failed to connect.*(Socket closed|handshake|verification check|TSI_|SSL_"
    r"|reset by peer|Broken pipe)",
    re.DOTALL | re.IGNORECASE,
)
# Of a name's addresses it reports the last one alone, which may be one where nobody listens.
_ALL_ADDRESSES = "failed to connect to all addresses"
_TARGET = re.compile(r"(?P<host>[^\s:/\[\]]+|\[[0-9a-fA-F:.%]+\]):(?P<port>[0-9]{1,5})")
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEADER_BYTES, _SETTINGS = 9, 4

_TLS = "the server speaks TLS and this client doesn't: --tls or --tls-ca (in Python, credentials)"
_CLEAR_TEXT = "the server speaks clear text, without TLS: leave out the options of TLS"
_NO_HTTP2 = "the server speaks TLS, but not HTTP/2"
_OWN_WANTED = "the server wants a certificate of the client: --tls-cert and --tls-key"
_OWN_REFUSED = "the server does not accept the client's certificate (--tls-cert)"
_PERHAPS_OWN = (
    "the server ended the connection right after the handshake of TLS, as one does that"
    " wants a certificate of the client, or another one: --tls-cert and --tls-key"
)
# How TLS's alerts end that say what a server has against a client (RFC 8446 section 6.2).
_ALERTS = {
    "CERTIFICATE_REQUIRED": _OWN_WANTED,
    "HANDSHAKE_FAILURE": _PERHAPS_OWN,  # TLS 1.2 has no alert of its own for that
    "UNKNOWN_CA": f"{_OWN_REFUSED}: its authority is unknown there",
    "CERTIFICATE_EXPIRED": f"{_OWN_REFUSED}: it has expired",
    "BAD_CERTIFICATE": _OWN_REFUSED,
    "CERTIFICATE_UNKNOWN": _OWN_REFUSED,
    "UNSUPPORTED_CERTIFICATE": _OWN_REFUSED,
}
# X509_V_ERR_..., openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _OTHER_NAMES = 9, 10, (62, 64)


class TlsCredentials(grpc.ChannelCredentials):
    """gRPC's credentials, and the PEM files that they were made of."""

    def __init__(self, ca: Path | None, certificate: Path | None, key: Path | None) -> None:
        """Read the files; OSError."""
        contents = [None if path is None else path.read_bytes() for path in (ca, key, certificate)]
        made: Any = grpc.ssl_channel_credentials(*contents)
        super().__init__(made._credentials)  # noqa: SLF001 - what the C-core's channel is given
        self.ca, self.certificate, self.key = ca, certificate, key


class Advice:
    """What is wrong with how a client connects to `target`, looked for until it is known."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self._target = _TARGET.fullmatch(target)
        self._credentials = credentials
        self._text = ""
        self._looks_left = _FRUITLESS_LOOKS

    def added_to(self, failure: Failure) -> Failure:
        """Return `failure`, with advice if a connection has come to nothing; may take seconds."""
        if self._target is None:  # another kind of address of gRPC's
            return failure
        host, port = self._target["host"].strip("[]"), int(self._target["port"])
        if failure.status is not Status.UNAVAILABLE or not _may_be_tls(failure.text, host):
            return failure
        if not self._text and self._looks_left:
            self._text = self._looked(host, port)
        return failure._replace(advice=self._text)

    def _looked(self, host: str, port: int) -> str:
        """Return what is wrong at the first address of `host` where something is."""
        end = time.monotonic() + _SECONDS
        has_reached = False
        for address in _addresses(host):
            try:
                if text := _Look(host, address, port, self._credentials, end).advice():
                    return fit_to_show(text)
                has_reached = True
            except ConnectionRefusedError:
                pass
            except OSError:  # files are gone, or nobody answers
                has_reached = True
        if has_reached:
            self._looks_left -= 1
        return ""


def _may_be_tls(text: str, host: str) -> bool:
    """Return whether a connection may have come to nothing, of those that gRPC has tried."""
    return bool(_CAME_TO_NOTHING.search(text) or (_ALL_ADDRESSES in text and _is_name(host)))


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # there is no such name, or it can't be one
        return []
    return [str(address[0]) for *_, address in found]


class _Look:
    """One look at one address of `host`, up to the time `end`."""

    def __init__(
        self,
        host: str,
        address: str,
        port: int,
        credentials: grpc.ChannelCredentials | None,
        end: float,
    ) -> None:
        self._host, self._address, self._port = host, address, port
        self._credentials = credentials
        self._end = end

    def advice(self) -> str:
        if self._credentials is None:
            return _TLS if self._speaks_tls() else ""
        try:
            with self._secure(self._context()) as peer:
                return self._after_handshake(peer)
        except ssl.SSLCertVerificationError as error:
            return self._of_certificate(error)
        except ssl.SSLError as error:
            alert = _alert(error)
            return alert or (_CLEAR_TEXT if self._speaks_clear_text() else "")
        except ConnectionError:
            return _CLEAR_TEXT if self._speaks_clear_text() else ""

    def _after_handshake(self, peer: ssl.SSLSocket) -> str:
        if peer.selected_alpn_protocol() != "h2":
            return _NO_HTTP2
        try:
            peer.sendall(_GREETING)
            return "" if peer.recv(1) else _PERHAPS_OWN
        except ConnectionError:
            return _PERHAPS_OWN

    def _of_certificate(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code == _EXPIRED:
            return "the server's certificate has expired"
        if error.verify_code == _NOT_YET_VALID:
            return "the server's certificate is not valid yet: is this machine's clock right?"
        if error.verify_code in _OTHER_NAMES:
            names = ", ".join(self._names()) or "other names"
            return f"the server's certificate is for {names}, not for {self._host}"
        return (
            "no authority that is trusted here has signed the server's certificate"
            f" ({error.verify_message}): --tls-ca is the file of the right one"
        )

    def _names(self) -> list[str]:
        context = self._context()
        context.check_hostname = False
        with self._secure(context) as peer:
            certificate: Any = peer.getpeercert() or {}
        return [name for _, name in certificate.get("subjectAltName", ())]

    def _speaks_tls(self) -> bool:
        try:
            with self._secure(_unverified()):
                return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")

    def _speaks_clear_text(self) -> bool:
        with self._connection() as peer:
            peer.sendall(_GREETING)
            answer = peer.recv(_FRAME_HEADER_BYTES)
            return len(answer) > 3 and answer[3] == _SETTINGS

    def _context(self) -> ssl.SSLContext:
        own = self._credentials
        if not isinstance(own, TlsCredentials):  # the caller's, which say nothing of themselves
            return _unverified()
        context = ssl.create_default_context(cafile=own.ca)
        context.set_alpn_protocols(["h2"])
        if own.certificate and own.key:
            context.load_cert_chain(own.certificate, own.key, password=lambda: b"")
        return context

    @contextlib.contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        seconds = max(self._end - time.monotonic(), 0.1)
        with socket.create_connection((self._address, self._port), seconds) as peer:
            yield peer

    @contextlib.contextmanager
    def _secure(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        with (
            self._connection() as plain,
            context.wrap_socket(plain, server_hostname=self._host) as peer,
        ):
            yield peer


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent but a greeting
    context.set_alpn_protocols(["h2"])
    return context


def _alert(error: ssl.SSLError) -> str:
    _, is_alert, name = (error.reason or "").partition("_ALERT_")
    if not is_alert:
        return ""
    return _ALERTS.get(name, f"the server ends TLS with {name.replace('_', ' ').lower()}")

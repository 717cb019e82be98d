"""The first bytes of a connection: whether the peer speaks HTTP/2 at all (RFC 9113 section 3.4)."""

from __future__ import annotations

import re

from streamer.engines.wire.faults import NotHttp2Error

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TLS_HANDSHAKE = b"\x16\x03"  # a record of TLS (RFC 8446 section 5.1)
_HTTP1_REQUEST = re.compile(rb"[A-Z]{3,}[ A-Z]")
_HTTP1_BEGINNING = re.compile(rb"[A-Z]{1,3}")
_HTTP1_BODY = b"This port speaks gRPC over HTTP/2 only.\n"
_HTTP1_ANSWER = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(_HTTP1_BODY), _HTTP1_BODY)
)


class Preface:
    """Holds back a peer's bytes until its preface is complete."""

    def __init__(self) -> None:
        self._seen = b""

    @property
    def is_complete(self) -> bool:
        return self._seen == _PREFACE

    def feed(self, data: bytes) -> bytes:
        """Return all bytes so far once they begin with a preface, until then none."""
        data = self._seen + data
        self._seen = data[: len(_PREFACE)]
        if _PREFACE.startswith(self._seen):
            return data if self.is_complete else b""
        if _HTTP1_BEGINNING.fullmatch(data):  # TCP cuts where it likes
            return b""
        if _HTTP1_REQUEST.match(data):
            message = "an HTTP/1 request"
            raise NotHttp2Error(message, _HTTP1_ANSWER)
        if data.startswith(_TLS_HANDSHAKE):
            message = "the peer speaks TLS, and this server doesn't"
            raise NotHttp2Error(message, b"")
        message = "the peer doesn't speak HTTP/2"
        raise NotHttp2Error(message, b"")

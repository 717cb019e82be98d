"""gRPC's header fields: metadata, timeouts and status texts, to and from HTTP/2's.

Source: "gRPC over HTTP/2" (grpc/grpc, doc/PROTOCOL-HTTP2.md). Field names and values are
bytes on the HTTP/2 side; on this side names are text, values text or, for names that end
in -bin, bytes. InvalidMetadataError if the peer's aren't that.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes

from convert.foreign_text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

Value = str | bytes
Metadata = Sequence[tuple[str, Value]]
Field = tuple[bytes, bytes]

_BINARY_SUFFIX = "-bin"
# What belongs to the protocol, not to the application.
_RESERVED = re.compile(rb":|grpc-(?!trace-bin|tags-bin|previous-rpc-attempts)|(te|content-type)$")
_NAME = re.compile(r"[0-9a-z_.-]+")
# ASCII without control characters, as the protocol has it.
_VALUE = re.compile(r"[\x20-\x7e]*")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# Printable ASCII but for the percent sign goes as it is; quote_from_bytes adds the letters.
_END_BLANK = re.compile(r"^ | $")
_MESSAGE_SAFE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")


class Metadatum(NamedTuple):
    """A key and its value, as grpcio has them."""

    key: str
    value: Value


class InvalidMetadataError(Exception):
    """A header field is not what its name says; the text is for the peer."""


def parse_metadata(fields: Iterable[Field]) -> tuple[Metadatum, ...]:
    """Return the application's metadata, in order, without the protocol's own fields."""
    return tuple(
        Metadatum(name.decode("latin-1"), value)
        for name, raw in fields
        if not _RESERVED.match(name)
        for value in _parse_values(name, raw)
    )


def _parse_values(name: bytes, raw: bytes) -> list[Value]:
    if not name.endswith(_BINARY_SUFFIX.encode()):
        # The protocol says ASCII; Latin-1 takes any byte, and leaves the judgement to others.
        return [raw.decode("latin-1")]
    try:
        return [
            base64.b64decode(part + b"=" * (-len(part) % 4), validate=True)
            for part in raw.replace(b" ", b"").split(b",")
        ]
    except binascii.Error:
        message = f"header {quoted(name.decode('latin-1'))} is not base64"
        raise InvalidMetadataError(message) from None


def format_metadata(metadata: Iterable[tuple[str, Value]]) -> list[Field]:
    """Return header fields for `metadata`; ValueError if HTTP/2 can't carry one of them."""
    return [_format_field(name, value) for name, value in metadata]


def _format_field(name: str, value: Value) -> Field:
    if not _NAME.fullmatch(name):
        message = f"metadata key {quoted(name)} is not of lower-case letters, digits and _ . -"
        raise ValueError(message)
    if name.endswith(_BINARY_SUFFIX):
        raw = value.encode() if isinstance(value, str) else value
        return name.encode(), base64.b64encode(raw).rstrip(b"=")
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip(" ")  # the protocol lets blanks at the ends be lost
    if not _VALUE.fullmatch(text):
        message = f"the value of metadata {quoted(name)} is not printable ASCII; name it ...-bin"
        raise ValueError(message)
    return name.encode(), text.encode()


def parse_timeout(raw: bytes) -> float:
    """Return the seconds that a grpc-timeout header grants."""
    match = _TIMEOUT.fullmatch(raw)
    if match is None:
        message = "grpc-timeout is not 1 to 8 digits and one of H M S m u n"
        raise InvalidMetadataError(message)
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def format_message(text: str) -> bytes:
    """Percent-encode a status text: UTF-8, and everything but printable ASCII escaped."""
    escaped = quote_from_bytes(text.encode("utf-8", "replace"), safe=_MESSAGE_SAFE)
    # HTTP/2 allows no blanks at either end of a value (RFC 9113 section 8.2.1).
    return _END_BLANK.sub("%20", escaped).encode()

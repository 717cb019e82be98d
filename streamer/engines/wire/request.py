"""The head of a call: what the header fields of a request say, or why they won't do.

In go the fields of one HEADERS block, which h2 has found to be valid HTTP/2; out comes a
RequestHead. RefusedError: what to answer instead of calling anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from streamer.engines.wire.metadata import (
    InvalidMetadataError,
    parse_metadata,
    parse_timeout,
)
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamer.engines.wire.metadata import Field, Metadatum

# application/grpc, +proto or any other message format, parameters allowed.
_CONTENT_TYPE = re.compile(rb"application/grpc(\+[^;]*)?(\s*;.*)?", re.IGNORECASE)
_FIELD_BYTES = 32  # by HTTP/2's reckoning (RFC 9113 section 6.5.2)
_HELD_FIELD_BYTES = 160  # a tuple and two short texts, beside their characters
_PATH = re.compile(rb"/[^/]+/[^/]+")


class RequestHead(NamedTuple):
    """A call that may be tried: `path` is /package.Service/Method, timeout in seconds."""

    path: str
    metadata: tuple[Metadatum, ...]
    timeout: float | None
    encoding: bytes

    @property
    def held_bytes(self) -> int:
        """Roughly what the head takes in memory."""
        fields = sum(len(key) + len(value) for key, value in self.metadata)
        return len(self.path) + fields + _HELD_FIELD_BYTES * len(self.metadata)


class RefusedError(Exception):
    """A request that gets an answer without being called.

    `http_status` is what somebody sees who doesn't speak gRPC; other refusals are gRPC
    answers with `status`, which go with HTTP status 200.
    """

    def __init__(self, status: Status, text: str, http_status: int = 200) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.http_status = http_status


def list_bytes(fields: Iterable[Field]) -> int:
    """Return how large header fields are, by HTTP/2's reckoning.

    A binary one may hold several values, between commas: each counts as a field.
    """
    return sum(
        len(name)
        + len(value)
        + _FIELD_BYTES * (1 + (value.count(b",") if name.endswith(b"-bin") else 0))
        for name, value in fields
    )


def parse_head(fields: Sequence[Field], max_bytes: int) -> RequestHead:
    """Check a request's header fields, and return what they say."""
    if (size := list_bytes(fields)) > max_bytes:
        text = f"the request's header fields take {size} bytes, more than {max_bytes}"
        raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
    values = dict(fields)  # of fields that may come once; h2 refuses a second pseudo-header
    if values.get(b":method") != b"POST":
        raise RefusedError(Status.INTERNAL, "the method must be POST", 405)
    if not _CONTENT_TYPE.fullmatch(values.get(b"content-type", b"")):
        raise RefusedError(Status.UNKNOWN, "the content-type must be application/grpc", 415)
    if values.get(b"te", b"").lower() != b"trailers":
        raise RefusedError(Status.INTERNAL, "the header te: trailers is missing")
    path = values.get(b":path", b"")
    if not _PATH.fullmatch(path):
        raise RefusedError(Status.UNIMPLEMENTED, "the path is not /service/method")
    try:
        timeout = values.get(b"grpc-timeout")
        return RequestHead(
            path.decode("latin-1"),
            parse_metadata(fields),
            None if timeout is None else parse_timeout(timeout),
            values.get(b"grpc-encoding", b"identity").lower(),
        )
    except InvalidMetadataError as error:
        raise RefusedError(Status.INTERNAL, str(error)) from None

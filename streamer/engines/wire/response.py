"""The header fields of an answer: headers, trailers, or both in one.

Source: "gRPC over HTTP/2", section Responses. ValueError for metadata that can't be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.wire.messages import ACCEPTED_ENCODINGS
from streamer.engines.wire.metadata import format_message, format_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamer.engines.wire.metadata import Field, Value
    from streamer.errors import Status

_GRPC_FIELDS: tuple[Field, ...] = (
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED_ENCODINGS),
)


def headers(metadata: Iterable[tuple[str, Value]], http_status: int = 200) -> list[Field]:
    """Return the fields that begin an answer."""
    return [(b":status", b"%d" % http_status), *_GRPC_FIELDS, *format_metadata(metadata)]


def trailers(status: Status, text: str, metadata: Iterable[tuple[str, Value]]) -> list[Field]:
    """Return the fields that end an answer."""
    fields: list[Field] = [(b"grpc-status", b"%d" % status)]
    if text:
        fields.append((b"grpc-message", format_message(text)))
    return [*fields, *format_metadata(metadata)]

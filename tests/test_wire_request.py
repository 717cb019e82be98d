"""The head of a call: which header fields make one, and what the others are told."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.request import RefusedError, parse_head
from streamer.errors import Status
from tests.memory_peer import request_fields

_ROOM = 16 << 10


def test_a_head_says_what_is_called_and_how() -> None:
    """Path, metadata, timeout and encoding, from the fields of a stock client."""
    head = parse_head(
        request_fields(
            (b"user-agent", b"grpc-python"),
            (b"grpc-timeout", b"2S"),
            (b"grpc-accept-encoding", b"identity,gzip"),
            (b"grpc-encoding", b"GZIP"),
            (b"key-bin", b"AQ"),
        ),
        _ROOM,
    )

    assert "/package.Service/Method" == head.path
    assert (("user-agent", "grpc-python"), ("key-bin", b"\1")) == head.metadata
    assert (2.0, b"gzip") == (head.timeout, head.encoding)


def test_a_head_may_say_nothing_more() -> None:
    """Without a timeout there is none; messages are not compressed."""
    head = parse_head(request_fields(), _ROOM)

    assert ((), None, b"identity") == (head.metadata, head.timeout, head.encoding)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/grpc",
        "Application/GRPC",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc;charset=utf-8",
        "application/grpc+proto ; charset=utf-8",
    ],
)
def test_any_message_format_is_taken(content_type: str) -> None:
    """The subtype after + and parameters are the application's business."""
    assert parse_head(request_fields(content_type=content_type), _ROOM)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/grpc-web", "application/grpcx", "text/html", "application/json", "x"],
)
def test_another_content_type_is_415(content_type: str | None) -> None:
    """Somebody who doesn't speak gRPC gets HTTP's own status."""
    with pytest.raises(RefusedError) as refusal:
        parse_head(request_fields(content_type=content_type), _ROOM)

    assert (Status.UNKNOWN, 415) == (refusal.value.status, refusal.value.http_status)


@pytest.mark.parametrize("method", ["GET", "PUT", "post", "HEAD", "CONNECT"])
def test_another_method_is_405(method: str) -> None:
    """GRPC calls are POST, before anything else about them is looked at."""
    with pytest.raises(RefusedError) as refusal:
        parse_head(request_fields(method=method, content_type="text/html"), _ROOM)

    assert (Status.INTERNAL, 405) == (refusal.value.status, refusal.value.http_status)


@pytest.mark.parametrize("path", ["", "/", "*", "/a", "/a/", "//a", "/a/b/c", "a/b", "/a/b/"])
def test_a_path_that_names_no_method_is_unimplemented(path: str) -> None:
    """Two parts, neither empty; the rest is for whoever knows the methods."""
    with pytest.raises(RefusedError) as refusal:
        parse_head(request_fields(path=path), _ROOM)

    assert (Status.UNIMPLEMENTED, 200) == (refusal.value.status, refusal.value.http_status)


@pytest.mark.parametrize("te", [None, "", "gzip", "trailers, gzip"])
def test_a_peer_that_takes_no_trailers_is_refused(te: str | None) -> None:
    """A proxy that drops `te` would drop the status as well."""
    with pytest.raises(RefusedError) as refusal:
        parse_head(request_fields(te=te), _ROOM)

    assert (Status.INTERNAL, 200) == (refusal.value.status, refusal.value.http_status)


fields = st.tuples(
    st.sampled_from(
        [
            b":method",
            b":path",
            b"content-type",
            b"te",
            b"grpc-timeout",
            b"grpc-encoding",
            b"key",
            b"key-bin",
        ]
    ),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"POST", b"/a/b", b"1S", b"AQ"])),
)


@given(st.lists(fields))
def test_any_fields_make_a_head_or_a_refusal(more: list[tuple[bytes, bytes]]) -> None:
    """Whatever a peer sends, no other error than RefusedError comes of it."""
    with contextlib.suppress(RefusedError):
        assert parse_head(request_fields(*more), _ROOM).path.startswith("/")

"""HEADERS frames of attacks, one call after another."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hpack import Encoder

from tests.memory_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    frame,
    prefixed,
    request_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.memory_peer import Field

STREAM = "/embedding.EmbeddingStreamService/StreamEmbedding"
ROWS = "/embedding.EmbeddingStreamService/GetEmbeddings"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_FRAME_BYTES = 16_384


def heads(
    path: str = STREAM, *more: Field, ended: bool = False, **changed: str | None
) -> Iterator[tuple[int, bytes]]:
    """Yield streams and the HEADERS that open them, few bytes each: HPACK's table holds them.

    `more` and `changed` are as for request_fields.
    """
    return heads_in_turn([request_fields(*more, path=path, **changed)], ended=ended)


def heads_in_turn(
    kinds: Sequence[Sequence[Field]], *, ended: bool = False, start: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield calls whose fields are those of one kind after another, from number `start` on."""
    encoder = Encoder()
    kinds = [*kinds[start:], *kinds[:start]]
    first = [encoder.encode(fields) for fields in kinds]
    later = [encoder.encode(fields) for fields in kinds]
    return each_head(itertools.chain(first, itertools.cycle(later)), ended=ended)


def each_head(blocks: Iterator[bytes], *, ended: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield streams and what opens them, by encoded fields."""
    flags = END_STREAM if ended else 0
    for stream_id, block in zip(itertools.count(1, 2), blocks, strict=False):
        if len(block) <= _FRAME_BYTES:
            yield stream_id, frame(HEADERS, block, flags=flags | END_HEADERS, stream_id=stream_id)
        else:
            yield stream_id, _in_frames(block, flags, stream_id)


def _in_frames(block: bytes, flags: int, stream_id: int) -> bytes:
    cuts = range(0, len(block), _FRAME_BYTES)
    return b"".join(
        frame(
            CONTINUATION if cut else HEADERS,
            block[cut : cut + _FRAME_BYTES],
            flags=(0 if cut else flags) | (END_HEADERS if cut == cuts[-1] else 0),
            stream_id=stream_id,
        )
        for cut in cuts
    )


def request(stream_id: int, message: bytes = b"") -> bytes:
    """Return DATA that is a call's one message, and its end."""
    return frame(DATA, prefixed(message), flags=END_STREAM, stream_id=stream_id)


def calls(path: str, message: bytes = b"", *more: Field) -> Iterator[tuple[int, bytes]]:
    """Yield streams and whole requests."""
    for stream_id, head in heads(path, *more):
        yield stream_id, head + request(stream_id, message)

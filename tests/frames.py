"""Frames of either form as the bytes that a peer would see, put together row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from streamer.codec.frames import PREFIX_BYTES, GatheredFrames, JoinedFrames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamer.codec.frames import Frames


def bytes_of(block: Frames) -> bytes:
    """Return what goes over the wire."""
    if isinstance(block, JoinedFrames):
        return bytes(memoryview(block.data)[block.offsets[0] : block.offsets[-1]])
    gathered = cast("GatheredFrames", block)
    heads, tails = memoryview(gathered.heads), memoryview(gathered.tails)
    offsets, width = gathered.head_offsets.tolist(), gathered.tail_bytes
    begun: dict[int, bytes] = {}
    if gathered.starts is not None and gathered.start_prefixes is not None:
        rows = zip(gathered.starts.tolist(), gathered.start_prefixes, strict=True)
        begun = {row: prefix.tobytes() for row, prefix in rows}
    out = bytearray()
    for row in range(gathered.rows):
        out += begun.get(row, b"")
        out += heads[offsets[row] : offsets[row + 1]]
        out += tails[row * width : (row + 1) * width]
    return bytes(out)


def messages_of_blocks(blocks: Iterable[Frames]) -> list[bytes]:
    """Return the messages in `blocks`, without prefixes, however blocks cut them."""
    return list(each_message(blocks))


def each_message(blocks: Iterable[Frames]) -> Iterator[bytes]:
    """Yield each message as soon as its last byte is there."""
    data = b""
    for block in blocks:
        data += bytes_of(block)
        place = 0
        while place + PREFIX_BYTES <= len(data):
            assert data[place] == 0
            begin = place + PREFIX_BYTES
            end = begin + int.from_bytes(data[place + 1 : begin], "big")
            if end > len(data):
                break
            yield data[begin:end]
            place = end
        data = data[place:]
    assert not data

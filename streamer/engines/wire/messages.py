"""Length-prefixed messages out of a request's DATA, cut anywhere, and compressed or not.

Compressed ones are unpacked when they are taken, one after another, in the thread that takes
them: however much they would become, no more than one message of the permitted size is held
beside those in use. Source: "gRPC over HTTP/2", section Length-Prefixed-Message.
"""

from __future__ import annotations

import zlib
from array import array
from typing import TYPE_CHECKING

from convert.foreign_text import quoted
from streamer.codec.frames import PREFIX_BYTES
from streamer.codec.message_run import MessageRun, runs_of
from streamer.engines.wire.request import RefusedError
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IDENTITY = b"identity"
# zlib's window bits for each: 16 more stand for the header of a gzip file.
_WINDOW_BITS = {b"deflate": zlib.MAX_WBITS, b"gzip": zlib.MAX_WBITS + 16}
ACCEPTED_ENCODINGS = b",".join([IDENTITY, *_WINDOW_BITS])


class CompressedRun(MessageRun):
    """Messages as they came; those with a true value in `packed` are compressed."""

    __slots__ = ("_encoding", "_max_bytes", "_packed")

    def __init__(
        self, run: MessageRun, packed: Sequence[int], encoding: bytes, max_bytes: int
    ) -> None:
        super().__init__(run.data, run.starts, run.ends)
        self._packed = packed
        self._encoding = encoding
        self._max_bytes = max_bytes

    def unpacked(self) -> Iterator[MessageRun]:
        """Yield the messages, some at a time, as they are asked for; RefusedError."""
        return runs_of(
            _unpacked(message, self._encoding, self._max_bytes) if packed else message
            for message, packed in zip(self, self._packed, strict=True)
        )


class MessageReader:
    """Puts the messages of one request together; none may take more than `max_bytes`."""

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of a message whose end has not come yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> MessageRun:
        """Return the messages that `data` completes; RefusedError."""
        self._buffer += data
        # A number takes 8 bytes here and 40 in a list; a message may take 5.
        starts, ends, packed = array("q"), array("q"), array("b")
        place = 0
        while len(self._buffer) - place >= PREFIX_BYTES:
            begin = place + PREFIX_BYTES
            end = begin + int.from_bytes(self._buffer[place + 1 : begin], "big")
            self._check(self._buffer[place], end - begin)
            if len(self._buffer) < end:
                break
            starts.append(begin)
            ends.append(end)
            packed.append(self._buffer[place])
            place = end
        with memoryview(self._buffer) as view:
            whole = bytes(view[:place])
        del self._buffer[:place]
        run = MessageRun(whole, starts, ends)
        return CompressedRun(run, packed, self._encoding, self._max_bytes) if any(packed) else run

    def _check(self, compressed: int, size: int) -> None:
        if compressed > 1:
            raise RefusedError(Status.INTERNAL, "a message's first byte is not 0 or 1")
        if compressed and self._encoding == IDENTITY:
            raise RefusedError(Status.INTERNAL, "a compressed message without grpc-encoding")
        if compressed and self._encoding not in _WINDOW_BITS:
            name = quoted(self._encoding.decode("latin-1"))
            accepted = ACCEPTED_ENCODINGS.decode().replace(",", ", ")
            text = f"grpc-encoding {name} is not supported; send one of {accepted}"
            raise RefusedError(Status.UNIMPLEMENTED, text)
        if size > self._max_bytes:
            text = f"a message of {size} bytes is larger than the {self._max_bytes} permitted"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)


def _unpacked(message: bytes, encoding: bytes, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        data = unpacker.decompress(message, max_bytes + 1)
    except zlib.error as error:
        text = f"a message can't be unpacked by {encoding.decode()}: {error}"
        raise RefusedError(Status.INTERNAL, text) from None
    if len(data) > max_bytes:
        text = f"a message takes more than the {max_bytes} bytes permitted when it is unpacked"
        raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
    if not unpacker.eof or unpacker.unused_data:
        text = f"a message is not one whole piece of {encoding.decode()}"
        raise RefusedError(Status.INTERNAL, text)
    return data

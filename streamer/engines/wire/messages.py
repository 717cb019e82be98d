"""Length-prefixed messages out of a request's DATA, cut anywhere.

Source: "gRPC over HTTP/2", section Length-Prefixed-Message. Compression is not offered:
a compressed message is refused, with the encodings that are accepted.
"""

from __future__ import annotations

from array import array

from streamer.codec.frames import PREFIX_BYTES
from streamer.codec.message_run import MessageRun
from streamer.engines.wire.request import RefusedError
from streamer.errors import Status, quoted

ACCEPTED_ENCODING = b"identity"


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
        starts, ends = array("q"), array("q")
        place = 0
        while len(self._buffer) - place >= PREFIX_BYTES:
            begin = place + PREFIX_BYTES
            end = begin + int.from_bytes(self._buffer[place + 1 : begin], "big")
            self._check(self._buffer[place], end - begin)
            if len(self._buffer) < end:
                break
            starts.append(begin)
            ends.append(end)
            place = end
        with memoryview(self._buffer) as view:
            whole = bytes(view[:place])
        del self._buffer[:place]
        return MessageRun(whole, starts, ends)

    def _check(self, compressed: int, size: int) -> None:
        if compressed > 1:
            raise RefusedError(Status.INTERNAL, "a message's first byte is not 0 or 1")
        if compressed and self._encoding == ACCEPTED_ENCODING:
            raise RefusedError(Status.INTERNAL, "a compressed message without grpc-encoding")
        if compressed:
            name = quoted(self._encoding.decode("latin-1"))
            text = f"grpc-encoding {name} is not supported; send identity"
            raise RefusedError(Status.UNIMPLEMENTED, text)
        if size > self._max_bytes:
            text = f"a message of {size} bytes is larger than the {self._max_bytes} permitted"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)

"""What the core knows of open calls: their requests so far, and what nobody has taken of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.wire.messages import MessageReader
from streamer.engines.wire.request import RefusedError
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

# Messages of a client stream that may wait to be taken; beyond it the window stays shut.
_UNTAKEN_BYTES = 65_536
# What a message takes in memory beside its bytes.
_MESSAGE_BYTES = 64
# Messages of the largest permitted size that a connection may have begun and not finished.
_UNFINISHED_MESSAGES = 4


class Stream:
    """One call. `has_responded`: its headers were sent; `has_message`: a whole one has come."""

    def __init__(self, encoding: bytes, max_request_bytes: int) -> None:
        self.has_responded = False
        self.has_message = False
        self._reader = MessageReader(encoding, max_request_bytes)
        self._untaken_bytes = 0
        self._withheld_window = 0

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of a message whose end has not come yet."""
        return self._reader.unfinished_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes; RefusedError."""
        messages = self._reader.feed(data)
        self._untaken_bytes += _size_of(messages)
        self.has_message = self.has_message or bool(messages)
        return messages

    def withholds(self, window: int) -> bool:
        """Whether to keep `window` from the peer until messages have been taken."""
        if self._untaken_bytes <= _UNTAKEN_BYTES:
            return False
        self._withheld_window += window
        return True

    def take(self, message: bytes) -> int:
        """Take note that a message was used; return the window that the peer gets back."""
        self._untaken_bytes -= _size_of((message,))
        if self._untaken_bytes > _UNTAKEN_BYTES:
            return 0
        window, self._withheld_window = self._withheld_window, 0
        return window


class Streams:
    """The open calls of one connection, by their stream's number."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_request_bytes = max_request_bytes
        self._streams: dict[int, Stream] = {}
        self._unfinished_bytes = 0

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def get(self, stream_id: int) -> Stream | None:
        return self._streams.get(stream_id)

    def open(self, stream_id: int, encoding: bytes) -> None:
        self._streams[stream_id] = Stream(encoding, self._max_request_bytes)

    def drop(self, stream_id: int) -> Stream | None:
        """Forget a call, and return it if it was there."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._unfinished_bytes -= stream.unfinished_bytes
        return stream

    def clear(self) -> None:
        self._streams.clear()

    def feed(self, stream_id: int, data: bytes) -> list[bytes]:
        """Return the messages of an open call that `data` completes; RefusedError."""
        stream = self._streams[stream_id]
        before = stream.unfinished_bytes
        try:
            messages = stream.feed(data)
        finally:
            self._unfinished_bytes += stream.unfinished_bytes - before
        if self._unfinished_bytes > _UNFINISHED_MESSAGES * self._max_request_bytes:
            text = "too many calls on this connection with half a request message"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
        return messages


def _size_of(messages: Iterable[bytes]) -> int:
    return sum(len(message) + _MESSAGE_BYTES for message in messages)

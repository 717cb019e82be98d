"""What the core knows of an open call: its request so far, and what nobody has taken of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.codec.frames import PREFIX_BYTES
from streamer.engines.wire.messages import MessageReader

if TYPE_CHECKING:
    from collections.abc import Iterable

# Messages of a client stream that may wait to be taken; beyond it the window stays shut.
_UNTAKEN_BYTES = 65_536


class Stream:
    """One call. `has_responded`: its headers were sent."""

    def __init__(self, encoding: bytes, max_request_bytes: int) -> None:
        self.has_responded = False
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


def _size_of(messages: Iterable[bytes]) -> int:
    return sum(len(message) + PREFIX_BYTES for message in messages)

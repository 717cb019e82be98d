"""What the core knows of open calls: what they hold of their requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.wire.flood import Work
from streamer.engines.wire.messages import IDENTITY, MessageReader
from streamer.engines.wire.request import RefusedError, parse_head
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.flood import ConnectionAccount
    from streamer.engines.wire.limits import Limits
    from streamer.engines.wire.metadata import Field
    from streamer.engines.wire.request import RequestHead

# Messages of the largest permitted size that a connection may have begun and not finished.
_UNFINISHED_MESSAGES = 4
# A message of which less has come goes on when the server holds too much of others, and so does a
# connection whose calls hold less.
_LITTLE_BYTES = 65_536
# What a call takes besides, here and in h2; 77,000 of them were 255 MB.
_CALL_BYTES = 3_300


class Held:
    """Bytes that something holds in memory: in one connection, and with them in `of_all`."""

    def __init__(self, of_all: Held | None = None) -> None:
        self.bytes = 0
        self.of_all = of_all or self

    def add(self, size: int) -> None:
        self.bytes += size
        if self.of_all is not self:
            self.of_all.add(size)

    def clear(self) -> None:
        self.add(-self.bytes)


class HeldOfAll:
    """What all connections of a server hold: `calls` with their metadata, `unfinished` messages."""

    def __init__(self) -> None:
        self.calls, self.unfinished = Held(), Held()


class Stream:
    """One call. `has_responded`: its headers were sent; `has_message`: a whole one has come.

    `held_head_bytes` is what it takes, what is kept of its header fields included.
    """

    def __init__(self, limits: Limits) -> None:
        self.has_responded = False
        self.has_message = False
        self.held_head_bytes = 0
        self._max_message_bytes = limits.max_request_bytes
        self._reader = MessageReader(IDENTITY, self._max_message_bytes)
        self._max_untaken_bytes = limits.receive_window_bytes
        self._untaken_bytes = 0
        self._withheld_window = 0

    def begin(self, head: RequestHead) -> None:
        """Take note of what the call's header fields say."""
        self.held_head_bytes = head.held_bytes + _CALL_BYTES
        self._reader = MessageReader(head.encoding, self._max_message_bytes)

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of a message whose end has not come yet."""
        return self._reader.unfinished_bytes

    def feed(self, data: bytes) -> MessageRun:
        """Return the messages that `data` completes; RefusedError."""
        messages = self._reader.feed(data)
        self._untaken_bytes += messages.held_bytes
        self.has_message = self.has_message or len(messages) > 0
        return messages

    def withholds(self, window: int) -> bool:
        """Whether to keep `window` from the peer until messages have been taken."""
        if self._untaken_bytes <= self._max_untaken_bytes:
            return False
        self._withheld_window += window
        return True

    def take(self, messages: MessageRun) -> int:
        """Take note that messages were used; return the window that the peer gets back."""
        self._untaken_bytes -= messages.held_bytes
        if self._untaken_bytes > self._max_untaken_bytes:
            return 0
        window, self._withheld_window = self._withheld_window, 0
        return window


class Streams:
    """The open calls of one connection, by their stream's number."""

    def __init__(self, limits: Limits, account: ConnectionAccount, held: HeldOfAll) -> None:
        """`held` is the server's."""
        self._limits = limits
        self._account = account
        self._streams: dict[int, Stream] = {}
        self._unfinished, self._heads = Held(held.unfinished), Held(held.calls)

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def __iter__(self) -> Iterator[int]:
        return iter(self._streams)

    @property
    def are_full(self) -> bool:
        return len(self._streams) >= self._limits.max_streams_per_connection

    def get(self, stream_id: int) -> Stream | None:
        return self._streams.get(stream_id)

    def begin(self, stream_id: int) -> Stream:
        """Take note of a call, about which nothing else is known yet."""
        stream = self._streams[stream_id] = Stream(self._limits)
        return stream

    def open(self, stream_id: int, fields: Sequence[Field]) -> RequestHead:
        """Begin a call; RefusedError, after which it is there, to be answered."""
        stream = self.begin(stream_id)
        head = parse_head(fields, self._limits.max_header_list_bytes)
        if self._heads.bytes + head.held_bytes > self._limits.max_held_head_bytes:
            text = "the calls of this connection have too much metadata together"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
        is_much = self._heads.bytes > _LITTLE_BYTES  # whoever holds little isn't at fault
        if is_much and self._heads.of_all.bytes > self._limits.max_held_call_bytes:
            text = "the server has as many open calls, with their metadata, as it takes"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
        stream.begin(head)
        self._heads.add(stream.held_head_bytes)
        return head

    def drop(self, stream_id: int, *, is_answered: bool = False) -> bool:
        """Drop a call, answered or not; return whether it existed."""
        self._account.end_call(stream_id, is_answered=is_answered)
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return False
        self._unfinished.add(-stream.unfinished_bytes)
        self._heads.add(-stream.held_head_bytes)
        return True

    def clear(self) -> None:
        self._streams.clear()
        self._unfinished.clear()
        self._heads.clear()

    def feed(self, stream_id: int, data: bytes) -> MessageRun:
        """Return the messages of an open call that `data` completes; RefusedError."""
        stream = self._streams[stream_id]
        before = stream.unfinished_bytes
        try:
            messages = stream.feed(data)
            self._account.charge(Work.MESSAGE, len(messages), stream_id)
        finally:
            self._unfinished.add(stream.unfinished_bytes - before)
        if self._unfinished.bytes > _UNFINISHED_MESSAGES * self._limits.max_request_bytes:
            text = "too many calls on this connection with half a request message"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
        if (
            stream.unfinished_bytes > _LITTLE_BYTES
            and self._unfinished.of_all.bytes > self._limits.max_unfinished_bytes
        ):
            text = "too many calls on this server with half a request message"
            raise RefusedError(Status.RESOURCE_EXHAUSTED, text)
        return messages

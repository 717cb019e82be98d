"""What a method sees of its call: grpcio's ServicerContext over the wire engine.

Methods run in threads of a pool, the call itself on the event loop; nothing here blocks
but the iteration of `requests`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, NoReturn, Protocol

import grpc

from streamer.engines.wire.messages import CompressedRun
from streamer.engines.wire.metadata import format_metadata
from streamer.engines.wire.request import RefusedError
from streamer.errors import Status, StreamerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.metadata import Metadata, Metadatum
    from streamer.engines.wire.request import RequestHead

_BAD_METADATA = "Invalid metadata"  # the words of gRPC's C-core


class CallFailedError(Exception):
    """The method's answer is this status; its text is for the peer."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class AbortedError(Exception):
    """What `abort` raises, to leave the method; grpcio raises a bare Exception."""


class CancelledError(grpc.RpcError):
    """The call is over: whoever waits for its next request waits in vain."""


class SilentClientError(StreamerError):
    """The client holds a stream open and sends nothing: others wait for its thread."""

    status = Status.CANCELLED


class Requests:
    """The messages of one call, for a thread that takes them one after another."""

    def __init__(self, taken: Callable[[MessageRun], None]) -> None:
        self._queue: queue.SimpleQueue[MessageRun | None] = queue.SimpleQueue()
        self._taken = taken
        self._is_cancelled = False

    def put(self, messages: MessageRun) -> None:
        self._queue.put(messages)

    def end(self) -> None:
        self._queue.put(None)

    def cancel(self) -> None:
        """Let go of messages that nobody has taken; whoever waits for more waits in vain."""
        self._is_cancelled = True
        self._taken = lambda _: None  # it refers to the call, which refers to this
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self.end()

    def runs(self, patience_seconds: float | None = None) -> Iterator[MessageRun]:
        """Yield messages as they come; CancelledError as soon as the call is over.

        CallFailedError if one can't be unpacked; SilentClientError if none comes for
        `patience_seconds`, though it could.
        """
        while (messages := self._next(patience_seconds)) is not None and not self._is_cancelled:
            self._taken(messages)
            yield from _unpacked(messages)
        self.end()  # for whoever asks again
        if self._is_cancelled:
            message = "the call was cancelled"
            raise CancelledError(message)

    def _next(self, patience_seconds: float | None) -> MessageRun | None:
        try:
            return self._queue.get(timeout=patience_seconds)
        except queue.Empty:
            message = f"the client has sent nothing for {patience_seconds:g} s"
            raise SilentClientError(message) from None

    def __iter__(self) -> Iterator[bytes]:
        """Yield them one by one."""
        for messages in self.runs():
            yield from messages


def _unpacked(messages: MessageRun) -> Iterator[MessageRun]:
    if not isinstance(messages, CompressedRun):
        yield messages
        return
    try:
        yield from messages.unpacked()
    except RefusedError as refusal:
        raise CallFailedError(refusal.status, refusal.text) from None


class CallControl(Protocol):
    """What a context may ask of its call; from any thread."""

    def send_headers_soon(self, metadata: Metadata) -> None: ...
    def cancel_soon(self) -> None: ...


class Context(grpc.ServicerContext):
    """One call's context, and its outcome as far as the method decides it."""

    def __init__(
        self,
        head: RequestHead,
        peer: str,
        requests: Requests,
        control: CallControl,
        seconds_left: Callable[[], float | None],
    ) -> None:
        self.requests = requests
        self.head = head
        self._peer = peer
        self._control: CallControl | None = control  # None when the call is over
        self._seconds_left = seconds_left
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] | None = []
        self._code: grpc.StatusCode | None = None
        self._details: bytes | None = None
        self._trailing: Metadata | None = None
        self._has_sent_headers = False

    def end(self) -> list[Callable[[], None]]:
        """Take note that the call is over; return the callbacks to be called."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks or [], None
        self._control = None
        return callbacks

    def is_active(self) -> bool:
        return self._callbacks is not None

    def time_remaining(self) -> float | None:  # type: ignore[override] # None: no deadline
        return self._seconds_left()

    def cancel(self) -> bool:
        if control := self._control:
            control.cancel_soon()
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        return self.head.metadata

    def peer(self) -> str:
        return self._peer

    def peer_identities(self) -> None:
        return None

    def peer_identity_key(self) -> None:
        return None

    def auth_context(self) -> dict[str, bytes]:
        return {}

    def set_compression(self, _compression: grpc.Compression) -> None:
        """Nothing is ever compressed here."""

    def disable_next_message_compression(self) -> None:
        """Nothing is ever compressed here."""

    def send_initial_metadata(self, initial_metadata: Metadata | None) -> None:
        if self._has_sent_headers:
            message = "Initial metadata no longer allowed!"
            raise ValueError(message)
        metadata = tuple(initial_metadata or ())
        try:
            format_metadata(metadata)
        except ValueError:
            raise CallFailedError(Status.INTERNAL, _BAD_METADATA) from None
        self._has_sent_headers = True
        if control := self._control:
            control.send_headers_soon(metadata)

    def ensure_headers(self) -> None:
        """Send headers without metadata, unless some were sent: a message follows."""
        if not self._has_sent_headers:
            self.send_initial_metadata(())

    def set_trailing_metadata(self, trailing_metadata: Metadata | None) -> None:
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Metadata | None:  # type: ignore[override] # as it was set
        return self._trailing

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        if code == grpc.StatusCode.OK:
            code, details = grpc.StatusCode.UNKNOWN, ""
        self.set_code(code)
        self.set_details(details)
        raise AbortedError

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.set_trailing_metadata(status.trailing_metadata)
        self.abort(status.code, status.details)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str | bytes) -> None:
        self._details = details if isinstance(details, bytes) else details.encode()

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def details(self) -> bytes | None:
        return self._details

    def outcome(self, failure: CallFailedError | None) -> tuple[Status, str, Metadata]:
        """Return the answer's status, text and trailers: what the method has set goes first."""
        status, text = (failure.status, failure.text) if failure else (Status.OK, "")
        if self._code is not None:
            status = _status(self._code)
        if self._details is not None:
            text = self._details.decode("utf-8", "replace")
        try:
            trailing = tuple(self._trailing or ())
            format_metadata(trailing)
        except Exception:  # it may be anything that a method has put there
            return Status.INTERNAL, _BAD_METADATA, ()
        return status, text, trailing


def _status(code: object) -> Status:
    """Return what a code stands for; for grpcio, too, a number is none."""
    return Status(code.value[0]) if isinstance(code, grpc.StatusCode) else Status.UNKNOWN

"""What happened on a connection, as its core tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.request import RequestHead


class PeerReady(NamedTuple):
    """The peer's preface and first SETTINGS have come."""


class CallOpened(NamedTuple):
    """A peer begins a call; its messages follow."""

    stream_id: int
    head: RequestHead


class MessagesArrived(NamedTuple):
    """Request messages, one at least; say `consumed` when they have been used."""

    stream_id: int
    messages: MessageRun


class RequestEnded(NamedTuple):
    """No more messages will come from the peer on this stream."""

    stream_id: int


class CallGone(NamedTuple):
    """The call is over: reset by the peer, or refused for its request, and answered."""

    stream_id: int


class RequestMalformed(NamedTuple):
    """A request that HTTP/2 forbids was refused; `text` says why."""

    stream_id: int
    text: str


class WindowOpened(NamedTuple):
    """The peer takes more DATA on a stream, or on every one (0)."""

    stream_id: int


class WindowLost(NamedTuple):
    """The peer doesn't give back what calls that it has cancelled took of its window."""


class PingAnswered(NamedTuple):
    """A PING of ours has come back."""

    payload: bytes


class PeerLeaving(NamedTuple):
    """The peer will open no more calls here; those under way go on."""


Event = (
    PeerReady
    | CallOpened
    | MessagesArrived
    | RequestEnded
    | CallGone
    | RequestMalformed
    | WindowOpened
    | WindowLost
    | PingAnswered
    | PeerLeaving
)

"""Clients of the wire engine's core, in memory: h2's own, and frames made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.events
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hpack import Encoder
from hyperframe.frame import Frame, GoAwayFrame

from streamer.engines.wire.connection import Connection, ConnectionFailedError
from streamer.engines.wire.data_frames import framed_pieces
from streamer.engines.wire.events import CallOpened
from streamer.engines.wire.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h2.settings import SettingCodes

    from streamer.engines.wire.events import Event

Field = tuple[bytes, bytes]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, ALTSVC = 6, 7, 8, 9, 10
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
DEFAULT_LIMITS = Limits()
REQUEST: tuple[Field, ...] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/package.Service/Method"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


def request_fields(*more: Field, **changed: str | None) -> list[Field]:
    """Return a call's header fields; `changed` by name, `path` for :path, None: without it."""
    values = dict(REQUEST)
    for name, value in changed.items():
        key = name.replace("_", "-").encode()
        key = b":" + key if b":" + key in values else key
        if value is None:
            del values[key]
        else:
            values[key] = value.encode()
    return [*values.items(), *more]


def prefixed(message: bytes, compressed: int = 0) -> bytes:
    """Return a message with gRPC's prefix."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def frame(
    kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 0, size: int | None = None
) -> bytes:
    """Return a frame of any kind; `size` is the length that it claims."""
    claimed = len(payload) if size is None else size
    header = claimed.to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big")
    return header + payload


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, increment.to_bytes(4, "big"), stream_id=stream_id)


def reset(stream_id: int) -> bytes:
    return frame(RST_STREAM, (8).to_bytes(4, "big"), stream_id=stream_id)


def handshake(settings: bytes = b"") -> bytes:
    """Return a client's first bytes: preface and SETTINGS."""
    return PREFACE + frame(SETTINGS, settings)


def requests_of(
    stream_ids: Iterable[int],
    fields: Sequence[Field] = REQUEST,
    *,
    encoder: Encoder | None = None,
    ended: bool = True,
) -> list[bytes]:
    """Return a HEADERS frame for each stream, compressed with one table."""
    encoder = encoder or Encoder()
    flags = END_HEADERS | (END_STREAM if ended else 0)
    return [
        frame(HEADERS, encoder.encode(fields), flags=flags, stream_id=stream_id)
        for stream_id in stream_ids
    ]


def frames_in(data: bytes) -> list[Frame]:
    """Return the frames that make `data`, all of it."""
    frames = []
    place = 0
    while place < len(data):
        parsed, length = Frame.parse_frame_header(memoryview(data[place : place + 9]), strict=True)
        assert place + 9 + length <= len(data)
        parsed.parse_body(memoryview(data[place + 9 : place + 9 + length]))
        frames.append(parsed)
        place += 9 + length
    return frames


def connected(limits: Limits = DEFAULT_LIMITS, settings: bytes = b"") -> Connection:
    """Return a connection that has seen a client's first bytes at time 0, and has answered."""
    connection = Connection(limits, 0.0)
    connection.receive(handshake(settings), 0.0)
    connection.control_bytes()
    return connection


def receive_all(connection: Connection, data: bytes, now: float = 0.0) -> list[Event]:
    """Let a connection handle bytes in as many turns as it takes; return what they mean."""
    events = connection.receive(data, now)
    while connection.is_behind:
        events += connection.receive(b"", now)
    return events


def goaway_after(connection: Connection, data: bytes, now: float = 0.0) -> GoAwayFrame:
    """Feed bytes that end the connection; return the GOAWAY that tells the peer."""
    with pytest.raises(ConnectionFailedError):
        receive_all(connection, data, now)
    return last_goaway(connection.control_bytes())


def last_goaway(data: bytes) -> GoAwayFrame:
    last = frames_in(data)[-1]
    assert isinstance(last, GoAwayFrame)
    return last


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def calls_of(events: list[Event]) -> list[int]:
    return [event.stream_id for event in events if isinstance(event, CallOpened)]


class MemoryPeer:
    """h2's client, joined to a connection; `heard` is what it was told, `now` the time."""

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        settings: dict[SettingCodes | int, int] | None = None,
    ) -> None:
        self.now = 0.0
        self.server = Connection(limits, self.now)
        self.client = H2Connection(H2Configuration(client_side=True))
        self.heard: list[h2.events.Event] = []
        if settings:
            self.client.local_settings.update(settings)
            self.client.local_settings.acknowledge()
            self.client.max_inbound_frame_size = self.client.local_settings.max_frame_size
        self.client.initiate_connection()

    def exchange(self) -> list[Event]:
        """Carry bytes to and fro until both sides are silent; return the server's events."""
        events: list[Event] = []
        while True:
            to_server = self.client.data_to_send()
            if to_server:
                events += receive_all(self.server, to_server, self.now)
            to_client = self.server.control_bytes()
            if to_client:
                self.heard += self.client.receive_data(to_client)
            if not to_server and not to_client:
                return events

    def call(self, *messages: bytes, ended: bool = True, fields: Sequence[Field] = REQUEST) -> int:
        """Begin a call, which isn't sent yet; return its stream."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, list(fields), end_stream=ended and not messages)
        for number, message in enumerate(messages, 1):
            is_last = ended and number == len(messages)
            self.client.send_data(stream_id, prefixed(message), end_stream=is_last)
        return stream_id

    def take(self, stream_id: int, data: bytes) -> None:
        """Let the client receive `data`, framed and accounted for as a server does it."""
        if control := self.server.control_bytes():
            self.heard += self.client.receive_data(control)
        self.server.account(stream_id, len(data))
        pieces = framed_pieces(memoryview(data), self.server.frame_bytes, stream_id)
        self.heard += self.client.receive_data(b"".join(pieces))

    def heard_of(self, kind: type[h2.events.Event]) -> list[h2.events.Event]:
        return [event for event in self.heard if isinstance(event, kind)]


def answer_of(peer: MemoryPeer, stream_id: int) -> list[dict[bytes, bytes]]:
    """Return the header blocks that a client got on a stream."""
    return [
        dict(event.headers)
        for event in peer.heard
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived)
        and event.stream_id == stream_id
    ]

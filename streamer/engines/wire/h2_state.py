"""An h2 connection made fit for a server that drains and that frames its own DATA.

All that is used of h2 beyond what it documents is used here; pyproject.toml names the
releases that were tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from h2.config import H2Configuration
from h2.connection import (
    ConnectionInputs,
    ConnectionState,
    H2Connection,
    H2ConnectionStateMachine,
)
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import InvalidBodyLengthError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamClosedBy, StreamState
from hpack import Decoder, HPACKDecodingError
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from streamer.engines.wire.request import list_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h2.connection import AllowedStreamIDs
    from hpack import HeaderTuple
    from hpack.struct import Header

    from streamer.engines.wire.limits import Limits
    from streamer.engines.wire.metadata import Field

    _Outcome = tuple[list[Frame], list[Event]]

_GOAWAY = (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)
# For h2 a server that is sent one has become a client; servers ignore it (RFC 7838 section 4).
_ALTSVC = ConnectionInputs.RECV_ALTERNATIVE_SERVICE
_OPEN = (ConnectionState.IDLE, ConnectionState.SERVER_OPEN)
_UNLIMITED = 2**31 - 1
# What a connection's window is before anybody has said anything (RFC 9113 section 6.9.2).
_DEFAULT_WINDOW = 65_535
# HPACK's default. A peer may offer more room for our headers; it would be our memory, too.
_MAX_HEADER_TABLE_BYTES = 4096
# As many make sense in one header block (RFC 7541 section 4.2): the smallest and the last one.
_MAX_TABLE_UPDATES = 2


class _StateMachine(H2ConnectionStateMachine):
    """Streams under way outlive a GOAWAY of either side (RFC 9113 section 6.8)."""

    _transitions = {  # noqa: RUF012 - as in h2
        **H2ConnectionStateMachine._transitions,  # noqa: SLF001
        **{(state, frame): (None, state) for state in _OPEN for frame in (*_GOAWAY, _ALTSVC)},
    }


class _DataFrame(DataFrame):
    """Says nothing of its content: h2 has every frame spell itself for a log, 30 us for 16 KiB."""

    def __repr__(self) -> str:
        return "DataFrame"


@dataclass(kw_only=True)
class RequestMalformed(Event):
    """A request that HTTP/2 forbids, or its rest: an error of its stream (RFC 9113 section 8.1.1).

    `text` says what is wrong with it. `flow_controlled_length` bytes of DATA came with it.
    """

    stream_id: int
    text: str
    flow_controlled_length: int = 0


class _Stream(H2Stream):
    """Tells of a malformed request where h2 would end the connection, which others may share.

    Header blocks have been decoded before they come here: HPACK's state is right.
    """

    def receive_headers(
        self,
        headers: Iterable[Header],
        end_stream: bool,  # noqa: FBT001 - as in h2
        header_encoding: bool | str | None,  # noqa: FBT001 - as in h2
    ) -> _Outcome:
        try:
            return super().receive_headers(headers, end_stream, header_encoding)
        except StreamClosedError:
            raise
        except ProtocolError as error:
            return self._malformed(error)

    def receive_data(
        self,
        data: bytes,
        end_stream: bool,  # noqa: FBT001 - as in h2
        flow_control_len: int,
    ) -> _Outcome:
        try:
            return super().receive_data(data, end_stream, flow_control_len)
        except InvalidBodyLengthError as error:
            return self._malformed(error, flow_control_len)

    def _malformed(self, error: ProtocolError, flow_controlled_length: int = 0) -> _Outcome:
        frames: list[Frame] = []
        is_new = self.state_machine.state is StreamState.IDLE
        if is_new or (self.closed and self.closed_by is None):  # by the error: nobody was told
            self.state_machine.state = StreamState.CLOSED
            self.state_machine.stream_closed_by = StreamClosedBy.SEND_RST_STREAM
            frames.append(RstStreamFrame(self.stream_id, error_code=ErrorCodes.PROTOCOL_ERROR))
        return frames, [
            RequestMalformed(
                stream_id=self.stream_id,
                text=str(error),
                flow_controlled_length=flow_controlled_length,
            )
        ]


class _Decoder(Decoder):
    """Refuses header blocks that do nothing but change the size of their table.

    `decoded_bytes` is how large the fields of the last block are, by HTTP/2's reckoning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.decoded_bytes = 0
        self._updates = 0

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:  # noqa: FBT001, FBT002 - as in hpack
        self._updates = 0
        fields = super().decode(data, raw)
        self.decoded_bytes = list_bytes(cast("Iterable[Field]", fields))
        return fields

    def _update_encoding_context(self, data: bytes | memoryview) -> int:
        self._updates += 1
        if self._updates > _MAX_TABLE_UPDATES:
            message = "too many changes of the table's size"
            raise HPACKDecodingError(message)
        return super()._update_encoding_context(data)


class ServerConnection(H2Connection):
    """h2's, with what a server needs besides."""

    # h2 remembers how each stream was closed, 65,536 of them by default, 7 MB a connection.
    # HEADERS of a stream that was closed longer ago than this end the connection.
    MAX_CLOSED_STREAMS = 1024

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self.decoder = self._own_decoder = _Decoder()
        self.decoded: list[tuple[int, int]] = []
        self._frame_dispatch_table[_DataFrame] = self._frame_dispatch_table[DataFrame]

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        stream.__class__ = _Stream
        return stream

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if type(frame) is DataFrame:
            frame.__class__ = _DataFrame
        return super()._receive_frame(frame)

    def _receive_headers_frame(self, frame: HeadersFrame) -> _Outcome:
        frame.flags.discard("PRIORITY")  # which means nothing here (RFC 9113 section 5.3.2)
        try:
            return super()._receive_headers_frame(frame)
        finally:
            self.decoded.append((frame.stream_id, self._own_decoder.decoded_bytes))

    def take_decoded(self) -> list[tuple[int, int]]:
        """Return whose header blocks were decoded, and how large each was; each once."""
        decoded, self.decoded = self.decoded, []
        return decoded

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is due when the peer sends GOAWAY: HPACK's table has counted with it."""


def new_h2_connection() -> ServerConnection:
    """Return a server's connection; nothing is sent yet."""
    connection = ServerConnection(
        H2Configuration(
            client_side=False,
            # 4,000 crumbs of cookies in 16 KiB took 44 ms to join, and counted as one field.
            normalize_inbound_headers=False,
            # Ours are made by format_metadata; what peers send is still checked.
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.state_machine = _StateMachine()
    return connection


def initiate(connection: H2Connection, limits: Limits) -> None:
    """Make the server's preface: SETTINGS that advertise `limits`."""
    connection.decoder.max_header_list_size = limits.hard_header_list_bytes
    advertised = {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams_per_connection,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
        SettingCodes.INITIAL_WINDOW_SIZE: limits.receive_window_bytes,
        SettingCodes.MAX_FRAME_SIZE: limits.max_frame_bytes,
    }
    # As h2 does itself with the settings that a connection is made with.
    connection.max_inbound_frame_size = limits.max_frame_bytes
    connection.local_settings = Settings(client=False, initial_values=advertised)
    connection.initiate_connection()
    if limits.receive_window_bytes > _DEFAULT_WINDOW:
        connection.increment_flow_control_window(limits.receive_window_bytes - _DEFAULT_WINDOW)
    # For h2 one stream too many is the end of all. A peer may open it in good faith before
    # it has seen our SETTINGS; Connection refuses that stream alone.
    enforced = {**advertised, SettingCodes.MAX_CONCURRENT_STREAMS: _UNLIMITED}
    connection.local_settings = Settings(client=False, initial_values=enforced)


def limit_header_table(connection: H2Connection) -> None:
    """Take no more than the usual room for the table that our headers are compressed with."""
    encoder = connection.encoder
    encoder.header_table_size = min(encoder.header_table_size, _MAX_HEADER_TABLE_BYTES)


def forget_unknown_settings(connection: H2Connection) -> None:
    """Ignore settings that HTTP/2 has no meaning for (RFC 9113 section 6.5.2).

    h2 keeps each of the 65,536 that there may be, at 800 bytes, for as long as the connection.
    """
    settings = connection.remote_settings
    for code in [code for code in settings if not isinstance(code, SettingCodes)]:
        del settings[code]


def can_send(connection: H2Connection, stream_id: int) -> bool:
    """Whether h2 lets a stream send: not if its reset is among the bytes it has just read."""
    stream = connection.streams.get(stream_id)
    return stream is not None and not stream.closed


def lower_windows(connection: H2Connection, stream_id: int, data_bytes: int) -> None:
    """Account for DATA as send_data does, which took 0.57 ms a MiB in frames of 16 KiB.

    Our framing takes 0.03 ms, and nothing of the bytes goes through h2.
    """
    connection.outbound_flow_control_window -= data_bytes
    connection.streams[stream_id].outbound_flow_control_window -= data_bytes


def let_go(connection: H2Connection) -> None:
    """Make an end of a connection that nobody uses any more.

    It keeps methods of its own in a table: without this it would wait for the collector.
    """
    connection._frame_dispatch_table.clear()  # noqa: SLF001

"""An h2 connection made fit for a server that drains and that frames its own DATA.

All that is used of h2 beyond what it documents is used here; pyproject.toml names the
releases that were tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import (
    ConnectionInputs,
    ConnectionState,
    H2Connection,
    H2ConnectionStateMachine,
)
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame

if TYPE_CHECKING:
    from h2.events import Event
    from hyperframe.frame import Frame

    from streamer.engines.wire.limits import Limits

_GOAWAY = (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)
# For h2 a server that is sent one has become a client; servers ignore it (RFC 7838 section 4).
_ALTSVC = ConnectionInputs.RECV_ALTERNATIVE_SERVICE
_OPEN = (ConnectionState.IDLE, ConnectionState.SERVER_OPEN)
_UNLIMITED = 2**31 - 1
# What a connection's window is before anybody has said anything (RFC 9113 section 6.9.2).
_DEFAULT_WINDOW = 65_535
# HPACK's default. A peer may offer more room for our headers; it would be our memory, too.
_MAX_HEADER_TABLE_BYTES = 4096


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


class _H2Connection(H2Connection):
    # h2 remembers how each stream was closed, 65,536 of them by default, 7 MB a connection.
    # Frames of a stream that was closed longer ago than this end the connection.
    MAX_CLOSED_STREAMS = 4096

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self._frame_dispatch_table[_DataFrame] = self._frame_dispatch_table[DataFrame]

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if type(frame) is DataFrame:
            frame.__class__ = _DataFrame
        return super()._receive_frame(frame)

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is due when the peer sends GOAWAY: HPACK's table has counted with it."""


def new_h2_connection() -> H2Connection:
    """Return a server's connection; nothing is sent yet."""
    connection = _H2Connection(
        H2Configuration(
            client_side=False,
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


def was_opened(connection: H2Connection, stream_id: int) -> bool:
    """Whether the HEADERS that open a stream have been handled."""
    return stream_id <= connection.highest_inbound_stream_id


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

"""A connection's window that the peer doesn't give back, for DATA of calls that it has cancelled.

RFC 9113 section 6.9.1 wants such DATA acknowledged; haproxy 2.6 throws it away. Its window for a
connection is 64 KiB: after one cancelled call nothing may be left of it, and the next call of
that client would wait for ever. Such a connection is to be left in peace (GOAWAY), so that the
peer opens another one.

A peer may acknowledge late: it is asked by a PING, which it answers after all DATA before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h2.connection import H2Connection

# Many peers acknowledge when half of the window is used: less than this was lost.
_LOST_SHARE = 0.75


class LostWindow:
    """What is known of one connection's window. `is_asked`: a PING is on its way."""

    def __init__(self, connection: H2Connection) -> None:
        self._connection = connection
        self._largest = connection.outbound_flow_control_window
        self.is_asked = False

    def opened(self) -> None:
        """Take note that the peer has opened it."""
        self._largest = max(self._largest, self._connection.outbound_flow_control_window)

    def is_lost(self, open_streams: Iterable[int]) -> bool:
        """Whether most of it is used by none of the streams that are open."""
        connection = self._connection
        initial = connection.remote_settings.initial_window_size
        in_use = sum(
            max(initial - stream.outbound_flow_control_window, 0)
            for stream_id in open_streams
            if (stream := connection.streams.get(stream_id)) is not None
        )
        used = self._largest - connection.outbound_flow_control_window
        return used - in_use >= _LOST_SHARE * self._largest

"""What a peer may ask of the server: each limit, its default, and the reason for it.

No clock: whoever calls says what time it is, in seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from streamer.engines.keepalive import ConnectionAge, Keepalive


class Limits(NamedTuple):
    """Bounds on one server and its peers; README.md says which variables set them."""

    # An idle connection takes about 50 KB and a file descriptor, of which a process
    # commonly has 1024.
    max_connections: int = 512
    # Twice the hundred that most clients keep to. A stream that waits takes a block.
    max_streams_per_connection: int = 256
    # Streams of embeddings in all connections together, 1 MiB each at the worst: whoever opens
    # many and takes nothing doesn't fill memory. Health checks don't count.
    max_streams: int = 512
    # Calls that wait for a thread of one kind. Each holds what it was sent, also when it is
    # over, until a thread comes by. h2load has a thousand health checks under way.
    max_waiting_calls: int = 4096
    # What is advertised; a call with more is refused. The default of gRPC's own C-core
    # (16 KiB as hard limit).
    max_header_list_bytes: int = 16 << 10
    # A RequestParams takes less than 100 bytes. A connection may hold four unfinished ones.
    max_request_bytes: int = 64 << 10
    # The same in all connections together; peers that send rows of a few KB never notice.
    max_unfinished_bytes: int = 256 << 20
    # Open calls and their metadata in all connections together: room for 15,000 without any. It
    # is Python's garbage collector that bounds it: it takes 8 ms to look at a thousand calls,
    # and everybody waits.
    max_held_call_bytes: int = 48 << 20
    # What a client stream may send ahead of whoever takes its messages. HTTP/2's default:
    # requests here are single messages; a receiver of uploads wants more.
    receive_window_bytes: int = 65_535
    # The longest frame that is taken: HTTP/2's default.
    max_frame_bytes: int = 16_384
    # From accept to the peer's first SETTINGS, TLS included; and from the headers of a
    # call with one request message to that message. Seconds on a very bad line.
    handshake_seconds: float = 20
    # A connection without a call. Clients reconnect by themselves with their next call.
    idle_seconds: float = 900
    # A stream whose peer takes nothing. A batch server may be writing to its database
    # meanwhile, but hardly for longer than this.
    # And an upload, or another stream of requests, that sends nothing, though it may: it holds a
    # thread that others wait for.
    stall_seconds: float = 300
    # How much work without progress is borne, as a multiple of flood.py's buckets.
    flood_tolerance: float = 1.0
    keepalive: Keepalive = Keepalive()
    age: ConnectionAge = ConnectionAge()
    # None: behind a proxy all clients have its address. Peers at a socket file have none.
    max_connections_per_address: int | None = None

    def for_uploads(self, *, max_message_bytes: int, window_bytes: int) -> Limits:
        """Return the limits of a receiver whose peers send much.

        A MiB of theirs takes 4.3 ms in frames of 16 KiB, 1.7 ms of 64 KiB, 1.4 ms of 256 KiB.
        """
        return self._replace(
            max_request_bytes=max_message_bytes,
            receive_window_bytes=window_bytes,
            max_frame_bytes=65_536,
        )

    @property
    def hard_header_list_bytes(self) -> int:
        """What header fields h2 decodes, so that one call alone is refused for too many.

        More ends the connection. Decoding takes up to 40 ms, during which everybody waits.
        """
        return 16 * self.max_header_list_bytes

    @property
    def max_header_block_bytes(self) -> int:
        """How long an encoded header block may be before it ends the connection.

        hpack copies what is left of a block for every literal in it: 8,192 empty ones in a
        block of 96 KiB take 0.1 s. Envoy, with 60 KiB by default, passes on less than this.
        """
        return 6 * self.max_header_list_bytes

    @property
    def max_held_head_bytes(self) -> int:
        """What one connection's open calls and their metadata take in memory.

        2.5 MiB by default: room for 256 calls with a token of 4 KiB, or 100 with one of 16 KiB.
        """
        return 160 * self.max_header_list_bytes

"""A client that only counts: handshake by h2, then recv_into and nothing else.

    python -m benchmarks.draining_client TARGET RPC [--help]

Windows are as large as HTTP/2 has them, so that the server never waits; frame headers are
followed to find the end of each stream, but no message is looked at. So it is fast enough to
find out what a server can do: a grpcio client stops at 15,000 messages a second. With RPC
"raw" it reads from benchmarks.raw_server, in the same way but for the frames.

Prints one [bytes, seconds, seconds to the first DATA byte] a repeat as JSON; the bytes are
those of DATA frames, without their headers, of all streams together.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

import h2.config
import h2.connection
from h2.settings import SettingCodes

from proto import embedding_stream_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

_SERVICE = "embedding.EmbeddingStreamService"
# 256 KiB to 4 MiB made no difference, at the raw server's speed either.
_BUFFER_BYTES = 1 << 20
# What the raw server says first: how many bytes it is going to send each time.
RAW_SIZE = struct.Struct(">Q")
_MAX_WINDOW = 2**31 - 1
# Well before the connection's window, which all of its streams share, is used up.
_GIVE_BACK_BYTES = 1 << 30
# Length (3 bytes) and type, then flags; the stream's number follows (RFC 9113 section 4.1).
_HEADER = struct.Struct(">IB4x")
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM = _ACK = 0x1
_SETTINGS_ACK = b"\0\0\0\4\1\0\0\0\0"
_PING_ACK = b"\0\0\x08\6\1\0\0\0\0"
_WINDOW_UPDATE = b"\0\0\4\x08\0\0\0\0\0"


class Draining:
    """One connection, on which a stream at a time is opened and read to its end.

    `buffer` is where bytes are received; connections of one thread may share it.
    """

    def __init__(
        self, target: str, buffer: memoryview, frame_bytes: int, ca: str | None = None
    ) -> None:
        self._socket = _connect(target, ca)
        self._scheme = "https" if ca else "http"
        self._target = target
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._h2.update_settings(
            {
                SettingCodes.INITIAL_WINDOW_SIZE: _MAX_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: frame_bytes,
            }
        )
        self._h2.increment_flow_control_window(_MAX_WINDOW - 65_535)
        self._socket.sendall(self._h2.data_to_send())
        self._buffer = buffer
        self._partial = b""
        self._to_skip = 0
        self._to_give_back = 0
        self.data_bytes = 0
        self.ended = True

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def open(self, rpc: str, request: bytes) -> None:
        """Begin a call."""
        stream_id = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"), (":scheme", self._scheme), (":path", f"/{_SERVICE}/{rpc}"),
            (":authority", self._target), ("content-type", "application/grpc"), ("te", "trailers"),
        ]  # fmt: skip
        self._h2.send_headers(stream_id, headers)
        message = b"\0" + len(request).to_bytes(4, "big") + request
        self._h2.send_data(stream_id, message, end_stream=True)
        self._socket.sendall(self._h2.data_to_send())
        self.data_bytes = 0
        self.ended = False

    def read(self) -> None:
        """Receive once; count DATA bytes, and note the end of the stream."""
        buffer, kept = self._buffer, len(self._partial)
        buffer[:kept] = self._partial
        count = self._socket.recv_into(buffer[kept:])
        if not count:
            message = "the server closed the connection"
            raise ConnectionError(message)
        size = kept + count
        place = self._to_skip
        data_bytes = 0
        # 14,000 times a stream of 230 MB in frames of 16 KiB: no calls in here for DATA.
        while place + _HEADER.size <= size:
            length_and_kind, flags = _HEADER.unpack_from(buffer, place)
            length = length_and_kind >> 8
            end = place + _HEADER.size + length
            if length_and_kind & 0xFF == _DATA:
                data_bytes += length
                self.ended |= bool(flags & _END_STREAM)
            elif end <= size:
                self._follow(length_and_kind & 0xFF, flags, bytes(buffer[end - length : end]))
            else:
                break
            place = end
        self._partial = bytes(buffer[place:size])
        self._to_skip = max(place - size, 0)
        self.data_bytes += data_bytes
        self._to_give_back += data_bytes
        if self._to_give_back > _GIVE_BACK_BYTES:
            self._give_back()

    def _follow(self, kind: int, flags: int, payload: bytes) -> None:
        """Do what a frame without rows demands."""
        if kind in (_RST_STREAM, _GOAWAY):
            message = f"the server reset the stream or left: {payload!r}"
            raise ConnectionError(message)
        if kind == _HEADERS:
            self.ended |= bool(flags & _END_STREAM)
        elif kind == _SETTINGS and not flags & _ACK:
            self._socket.sendall(_SETTINGS_ACK)
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_PING_ACK + payload)

    def _give_back(self) -> None:
        """Open the connection's window again, behind h2's back: it sees no DATA."""
        self._socket.sendall(_WINDOW_UPDATE + self._to_give_back.to_bytes(4, "big"))
        self._to_give_back = 0


def _connect(target: str, ca: str | None) -> socket.socket:
    host, _, port = target.rpartition(":")
    peer = socket.create_connection((host, int(port)))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if ca is None:
        return peer
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(peer, server_hostname="localhost")


def _drain(connections: Sequence[Draining], rpc: str, request: bytes) -> list[float]:
    """Read one stream of each connection, all at once, to their ends."""
    begin = time.perf_counter()
    for connection in connections:
        connection.open(rpc, request)
    first = 0.0
    waiting = list(connections)
    while waiting:
        readable = waiting if len(waiting) == 1 else select.select(waiting, (), ())[0]
        for connection in readable:
            connection.read()
            if not first and connection.data_bytes:
                first = time.perf_counter() - begin
        waiting = [connection for connection in waiting if not connection.ended]
    seconds = time.perf_counter() - begin
    return [sum(connection.data_bytes for connection in connections), seconds, first]


def _drain_raw(peer: socket.socket, size: int, buffer: memoryview) -> list[float]:
    begin = time.perf_counter()
    peer.sendall(b"\0")
    total, first = 0, 0.0
    while total < size:
        count = peer.recv_into(buffer)
        if not count:
            message = "the server closed the connection"
            raise ConnectionError(message)
        first = first or time.perf_counter() - begin
        total += count
    return [total, time.perf_counter() - begin, first]


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.draining_client")
    parser.add_argument("target", help="HOST:PORT")
    parser.add_argument("rpc", help="GetEmbeddings, StreamEmbedding or raw")
    parser.add_argument("--chunk-size", type=int, default=0)
    parser.add_argument("--frame-bytes", type=int, default=2**24 - 1, help="at most, of DATA")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1, help="at once, a connection each")
    parser.add_argument("--ca", help="PEM file; switches on TLS")
    options = parser.parse_args()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    if options.rpc == "raw":
        with _connect(options.target, options.ca) as peer:
            (size,) = RAW_SIZE.unpack(peer.recv(RAW_SIZE.size))
            found = [_drain_raw(peer, size, buffer) for _ in range(options.repeats)]
    else:
        request = pb.RequestParams(chunk_size=options.chunk_size).SerializeToString()
        connections = [
            Draining(options.target, buffer, options.frame_bytes, options.ca)
            for _ in range(options.streams)
        ]
        found = [_drain(connections, options.rpc, request) for _ in range(options.repeats)]
        for connection in connections:
            connection.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()

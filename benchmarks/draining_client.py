"""A client that only counts: handshake by h2, then recv_into and nothing else.

    python -m benchmarks.draining_client TARGET RPC CHUNK_SIZE FRAME_BYTES REPEATS STREAMS [CA]

Windows are as large as HTTP/2 has them, so that the server never waits; frame headers are
followed to find the end of each stream, but no message is looked at. So it is fast enough to
find out what a server can do: a grpcio client stops at 15,000 messages a second. With
RPC "raw", whatever comes until the end of the connection is counted, HTTP/2 or not.

Prints one [bytes, seconds, seconds to the first DATA byte] a repeat as JSON; the bytes are
those of DATA frames, without their headers.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time

import h2.config
import h2.connection
from h2.settings import SettingCodes

from proto import embedding_stream_pb2 as pb

_SERVICE = "embedding.EmbeddingStreamService"
_BUFFER_BYTES = 1 << 20
_MAX_WINDOW = 2**31 - 1
_HEADER_BYTES = 9
_DATA, _HEADERS, _RST_STREAM, _GOAWAY = 0, 1, 3, 7
_END_STREAM = 0x1


class Draining:
    """One connection, on which streams are opened and read to their end."""

    def __init__(self, target: str, frame_bytes: int, ca: str | None = None) -> None:
        host, _, port = target.rpartition(":")
        self._socket: socket.socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ca is not None:
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(["h2"])
            self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
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
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._partial = b""
        self._skip = 0
        self._taken_since_update = 0

    def close(self) -> None:
        self._socket.close()

    def open(self, rpc: str, request: bytes) -> int:
        """Begin a call and return its stream."""
        stream_id = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"), (":scheme", "http"), (":path", f"/{_SERVICE}/{rpc}"),
            (":authority", self._target), ("content-type", "application/grpc"), ("te", "trailers"),
        ]  # fmt: skip
        self._h2.send_headers(stream_id, headers)
        message = b"\0" + len(request).to_bytes(4, "big") + request
        self._h2.send_data(stream_id, message, end_stream=True)
        self._socket.sendall(self._h2.data_to_send())
        return stream_id

    def drain(self, streams: int) -> tuple[int, float]:
        """Read until `streams` streams have ended; return DATA bytes and time of the first."""
        total, first = 0, 0.0
        while streams:
            count = self._socket.recv_into(self._buffer)
            if not count:
                message = "the server closed the connection"
                raise ConnectionError(message)
            data_bytes, ended = self._follow(self._buffer[:count])
            if data_bytes and not first:
                first = time.perf_counter()
            total += data_bytes
            streams -= ended
        return total, first

    def _follow(self, data: memoryview) -> tuple[int, int]:
        """Return how many DATA bytes and ends of streams are in `data`."""
        data_bytes = ended = 0
        place = self._skip
        if self._partial:
            missing = _HEADER_BYTES - len(self._partial)
            header, place = self._partial + bytes(data[:missing]), missing
            self._partial = b""
            counted, ends, length = self._header(header)
            data_bytes, ended, place = counted, ends, place + length
        size = len(data)
        while place + _HEADER_BYTES <= size:
            counted, ends, length = self._header(data[place : place + _HEADER_BYTES])
            data_bytes += counted
            ended += ends
            place += _HEADER_BYTES + length
        if place < size:
            self._partial = bytes(data[place:])
            place = size
        self._skip = place - size
        return data_bytes, ended

    def _header(self, header: bytes | memoryview) -> tuple[int, int, int]:
        length = header[0] << 16 | header[1] << 8 | header[2]
        kind = header[3]
        if kind in (_RST_STREAM, _GOAWAY):
            message = "the server reset the stream or left"
            raise ConnectionError(message)
        is_end = kind in (_DATA, _HEADERS) and header[4] & _END_STREAM
        if kind != _DATA:
            return 0, int(bool(is_end)), length
        self._taken_since_update += length
        if self._taken_since_update > 1 << 30:
            self._give_back()
        return length, int(bool(is_end)), length

    def _give_back(self) -> None:
        """Open the connection's window again, behind h2's back: it sees no DATA."""
        increment = self._taken_since_update.to_bytes(4, "big")
        self._socket.sendall(b"\0\0\4\x08\0\0\0\0\0" + increment)
        self._taken_since_update = 0


def _drain_raw(target: str, repeats: int) -> list[list[float]]:
    host, _, port = target.rpartition(":")
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    found = []
    for _ in range(repeats):
        with socket.create_connection((host, int(port))) as peer:
            begin = time.perf_counter()
            total, first = 0, 0.0
            while count := peer.recv_into(buffer):
                first = first or time.perf_counter()
                total += count
            found.append([total, time.perf_counter() - begin, first - begin])
    return found


def main() -> None:
    target, rpc, chunk_size, frame_bytes, repeats, streams, *ca = sys.argv[1:]
    if rpc == "raw":
        print(json.dumps(_drain_raw(target, int(repeats))))
        return
    request = pb.RequestParams(chunk_size=int(chunk_size)).SerializeToString()
    connection = Draining(target, int(frame_bytes), *ca)
    found = []
    for _ in range(int(repeats)):
        begin = time.perf_counter()
        for _ in range(int(streams)):
            connection.open(rpc, request)
        total, first = connection.drain(int(streams))
        found.append([total, time.perf_counter() - begin, first - begin])
    connection.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()

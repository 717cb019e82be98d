"""A sender that is not the bottleneck: UploadEmbeddings in blocks, by h2 over a plain socket.

    python -m benchmarks.upload_blocks TARGET FILE

Rows are encoded before the clock starts. Prints rows, seconds and what the receiver says.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset

_ROWS_AT_ONCE = 4096


def upload(target: str, blocks: list[bytes]) -> pb.UploadResult:
    """Send length-prefixed messages in one call; return its result."""
    host, _, port = target.rpartition(":")
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    connection.send_headers(stream, [
        (":method", "POST"), (":scheme", "http"), (":authority", target),
        (":path", "/embedding.EmbeddingUploadService/UploadEmbeddings"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ])  # fmt: skip
    answer = b""
    with socket.create_connection((host, int(port))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = [memoryview(block) for block in reversed(blocks)]
        has_ended = False
        while not has_ended:
            while waiting and (window := connection.local_flow_control_window(stream)):
                block = waiting.pop()
                size = min(window, connection.max_outbound_frame_size, len(block))
                connection.send_data(stream, bytes(block[:size]))
                if size < len(block):
                    waiting.append(block[size:])
                peer.sendall(connection.data_to_send())
            if not waiting and not _is_closed(connection, stream):
                connection.end_stream(stream)
            peer.sendall(connection.data_to_send())
            received = peer.recv(1 << 16)
            if not received:
                message = "the receiver closed the connection"
                raise ConnectionError(message)
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    answer += event.data
                has_ended |= isinstance(event, h2.events.StreamEnded)
    return pb.UploadResult.FromString(answer[5:])


def _is_closed(connection: h2.connection.H2Connection, stream: int) -> bool:
    """Whether our side has said that it ends."""
    return connection.streams[stream].state_machine.state.name.startswith("HALF_CLOSED_LOCAL")


def main() -> None:
    target, path = sys.argv[1:]
    opened = Dataset(Path(path)).current()
    blocks = [
        bytes(memoryview(opened.rows.encode(batch.slice(start, _ROWS_AT_ONCE)).data))
        for batch in opened.store.rows_after(None).slices
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE)
    ]
    begin = time.perf_counter()
    result = upload(target, blocks)
    seconds = time.perf_counter() - begin
    print(json.dumps([opened.store.info.rows, seconds, result.success_count]))


if __name__ == "__main__":
    main()

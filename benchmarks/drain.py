"""A client process that reads streams and counts: grpcio, messages left undecoded.

    python -m benchmarks.drain TARGET RPC CHUNK_SIZE REPEATS STREAMS

Prints one [messages, bytes, seconds, seconds to the first message] a repeat as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import grpc

from proto import embedding_stream_pb2 as pb

_SERVICE = "embedding.EmbeddingStreamService"


def drain(channel: Any, rpc: str, request: bytes) -> list[float]:
    """Read one stream to its end."""
    begin = time.perf_counter()
    messages = message_bytes = 0
    first = 0.0
    for message in channel.unary_stream(f"/{_SERVICE}/{rpc}")(request):
        first = first or time.perf_counter() - begin
        messages += 1
        message_bytes += len(message)
    return [messages, message_bytes, time.perf_counter() - begin, first]


def main() -> None:
    target, rpc, chunk_size, repeats, streams = sys.argv[1:]
    request = pb.RequestParams(chunk_size=int(chunk_size)).SerializeToString()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options) as channel:
        grpc.channel_ready_future(channel).result(30)
        others = [
            threading.Thread(target=drain, args=(channel, rpc, request))
            for _ in range(int(streams) - 1)
        ]
        for other in others:
            other.start()
        print(json.dumps([drain(channel, rpc, request) for _ in range(int(repeats))]))
        for other in others:
            other.join()


if __name__ == "__main__":
    main()

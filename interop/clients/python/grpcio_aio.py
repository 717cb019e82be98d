"""Reads one stream with grpcio's asyncio API: TARGET GetEmbeddings|StreamEmbedding."""

from __future__ import annotations

import asyncio
import sys

import grpc

from interop.clients.python.report import Report
from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc

_OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


async def main(target: str, rpc: str) -> None:
    report = Report()
    async with grpc.aio.insecure_channel(target, _OPTIONS) as channel:
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        if rpc == "StreamEmbedding":
            async for chunk in stub.StreamEmbedding(pb.RequestParams()):
                for row in chunk.rows:
                    report.add(row)
        else:
            async for row in stub.GetEmbeddings(pb.RequestParams()):
                report.add(row)
    report.print()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

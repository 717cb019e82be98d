"""Reads one stream with grpcio's blocking API: TARGET GetEmbeddings|StreamEmbedding."""

from __future__ import annotations

import sys

import grpc

from interop.clients.python.report import Report
from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc

_OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


def main(target: str, rpc: str) -> None:
    report = Report()
    with grpc.insecure_channel(target, _OPTIONS) as channel:
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        if rpc == "StreamEmbedding":
            for chunk in stub.StreamEmbedding(pb.RequestParams()):
                for row in chunk.rows:
                    report.add(row)
        else:
            for row in stub.GetEmbeddings(pb.RequestParams()):
                report.add(row)
    report.print()


if __name__ == "__main__":
    main(*sys.argv[1:])

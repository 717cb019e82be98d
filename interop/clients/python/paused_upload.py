"""Uploads two rows to TARGET, and waits for a line of input between them.

Says `waiting` before that; prints how many rows were stored, or how the call ended.
"""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING

import grpc

from interop.clients.python.behind_proxy import status_of
from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 300


def main(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.EmbeddingUploadServiceStub(channel)
        try:
            result = stub.UploadEmbeddings(_rows(), timeout=_SECONDS)
        except grpc.RpcError as error:
            print(status_of(error))
        else:
            print(f"{result.success_count} rows")


def _rows() -> Iterator[pb.Embedding]:
    yield _row("a")
    print("waiting", flush=True)
    sys.stdin.readline()
    yield _row("b")


def _row(name: str) -> pb.Embedding:
    return pb.Embedding(id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), vector=[0.5] * 384)


if __name__ == "__main__":
    main(*sys.argv[1:])

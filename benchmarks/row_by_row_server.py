"""The baseline server: what the system before this one did, at every step.

    python -m benchmarks.row_by_row_server SOURCE.pkl

The pickle is read on every call, made a DataFrame, walked with iterrows, each row made a
dict, each float converted, each row a message object.
"""

from __future__ import annotations

import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pandas as pd

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator


class RowByRow(pb_grpc.EmbeddingStreamServiceServicer):
    def __init__(self, source: Path) -> None:
        self._source = source

    def GetEmbeddings(  # noqa: N802
        self, _request: pb.RequestParams, _context: Any
    ) -> Iterator[pb.Embedding]:
        with self._source.open("rb") as file:
            frame = pd.DataFrame(pickle.load(file))
        for _, row in frame.iterrows():
            fields = row.to_dict()
            yield pb.Embedding(
                id=str(fields["id"]),
                company_name=fields["company_name"],
                exp_years=int(fields["exp_years"]),
                english_level=fields["english_level"],
                primary_keyword=fields["primary_keyword"],
                vector=[float(value) for value in fields["job_post_vectors"]],
            )

    def StreamEmbedding(  # noqa: N802
        self, _request: pb.RequestParams, context: Any
    ) -> Iterator[pb.RowChunk]:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the baseline has rows only")
        yield pb.RowChunk()


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_EmbeddingStreamServiceServicer_to_server(RowByRow(Path(sys.argv[1])), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

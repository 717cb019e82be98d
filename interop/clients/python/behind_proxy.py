"""Reads one stream of rows with grpcio's blocking API, in the ways that proxies find hard.

Prints as JSON how many rows came, the SHA-256 of the RowChunk that all of them make, whatever
messages they came in, and how the call ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVICE = "/embedding.EmbeddingStreamService"
_SECONDS = 200  # for a call; all but one, which is silent for 75, take less than 20 alone
_PAUSE_SECONDS = 0.02
# No more than this is asked for while nobody reads.
_SMALL_WINDOW = 16 << 10


def main(arguments: list[str]) -> None:
    options = _parsed(arguments)
    settings: list[tuple[str, int]] = [("grpc.max_receive_message_length", 16 << 20)]
    if options.slow:
        settings += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", _SMALL_WINDOW)]
    rows = 0
    digest = hashlib.sha256()
    status = "OK"
    with _channel(options.target, options.ca, settings) as channel:
        try:
            _cancel(channel, options.cancel, after_row=False)
            _cancel(channel, options.cancel_later, after_row=True)
            for message, count in _messages_in_some_try(channel, options):
                digest.update(message)
                if options.wait and not rows:
                    print("waiting", flush=True)
                    sys.stdin.readline()
                if options.slow and rows // options.slow != (rows + count) // options.slow:
                    time.sleep(_PAUSE_SECONDS)
                rows += count
        except grpc.RpcError as error:
            status = status_of(error)
    print(json.dumps({"rows": rows, "digest": digest.hexdigest(), "status": status}))


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("rpc", choices=("GetEmbeddings", "StreamEmbedding"))
    parser.add_argument("--chunk-rows", type=int, default=0)
    parser.add_argument("--after", default="", help="the id to begin behind")
    parser.add_argument("--ca", type=Path, help="use TLS, and trust this certificate")
    parser.add_argument(
        "--slow", type=int, metavar="ROWS",
        help=f"small windows, and a pause of {_PAUSE_SECONDS} s after every so many rows",
    )  # fmt: skip
    parser.add_argument(
        "--wait", action="store_true",
        help="after the first message say `waiting`, and wait for a line of input",
    )  # fmt: skip
    parser.add_argument(
        "--tries", type=int, default=1, help="of a call that is UNAVAILABLE at once"
    )
    for option, when in ("--cancel", "at once"), ("--cancel-later", "when a row has come"):
        parser.add_argument(
            option, type=int, default=0, metavar="CALLS",
            help=f"first begin so many calls on the same channel, and cancel each {when}",
        )  # fmt: skip
    return parser.parse_args(arguments)


def _channel(target: str, ca: Path | None, settings: list[tuple[str, int]]) -> grpc.Channel:
    if ca is None:
        return grpc.insecure_channel(target, settings)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca.read_bytes()), settings)


def _cancel(channel: grpc.Channel, calls: int, *, after_row: bool) -> None:
    stub = pb_grpc.EmbeddingStreamServiceStub(channel)
    for _ in range(calls):
        call = stub.GetEmbeddings(pb.RequestParams(), timeout=_SECONDS)
        if after_row:
            next(call)
        call.cancel()


def status_of(error: grpc.RpcError) -> str:
    """Return how a call ended that raised `error`."""
    assert isinstance(error, grpc.Call)
    return f"{error.code().name}: {error.details()}"


def _messages_in_some_try(
    channel: grpc.Channel, options: argparse.Namespace
) -> Iterator[tuple[bytes, int]]:
    """Yield messages; a call that is UNAVAILABLE before its first one is tried again."""
    for left in reversed(range(options.tries)):
        messages = _messages(channel, options)
        try:
            first = next(messages, None)
        except grpc.RpcError as error:
            if not left or not status_of(error).startswith("UNAVAILABLE"):
                raise
            time.sleep(_PAUSE_SECONDS)
            continue
        if first is not None:
            yield first
            yield from messages
        return


def _messages(channel: grpc.Channel, options: argparse.Namespace) -> Iterator[tuple[bytes, int]]:
    """Yield each message, as (a part of) a RowChunk, and how many rows it has."""
    request = pb.RequestParams(last_processed_uuid=options.after, chunk_size=options.chunk_rows)
    # As bytes: whatever is in them is compared.
    method: grpc.UnaryStreamMultiCallable[bytes, bytes]
    method = channel.unary_stream(f"{_SERVICE}/{options.rpc}")
    for message in method(request.SerializeToString(), timeout=_SECONDS):
        if options.rpc == "GetEmbeddings":
            row = pb.Embedding.FromString(message)
            yield pb.RowChunk(rows=[row]).SerializeToString(), 1
        else:
            yield message, len(pb.RowChunk.FromString(message).rows)


if __name__ == "__main__":
    main(sys.argv[1:])

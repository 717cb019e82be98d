"""A grpcio server whose streaming RPCs follow a script, right or wrong, call by call.

    with ScriptedServer(rows) as server:
        server.script = [[Headers(remaining=8), Rows(0, 3), Fail(Status.UNAVAILABLE)], [Sound()]]

Call n does `script[n]`, then ends with OK; a call more than the script has is refused for
good. `server.calls` holds what each call asked for, and how it ended.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus

from proto import embedding_stream_pb2 as pb
from streamer.client.reading import Rpc
from streamer.errors import Status
from tests.datasets import FINGERPRINT, make_batch, messages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

DETAILS = "grpc-status-details-bin"
_SERVICE = "embedding.EmbeddingStreamService"
# Less than a call's own deadline, which would end it, too.
_SOON_SECONDS = 60.0
# grpc.aio now and then loses the headers of an answer that ends at once without a message.
_HEADERS_SECONDS = 0.05
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Headers(NamedTuple):
    """Send these response headers; what is None is left out."""

    remaining: int | str | None = None
    fingerprint: str | None = FINGERPRINT
    dimension: int | None = None
    rows: int | None = None
    found: bool | None = None


class Rows(NamedTuple):
    """Send the rows from `first` up to `end`, as one chunk or one by one."""

    first: int
    end: int


class Raw(NamedTuple):
    """Send a message of these bytes."""

    message: bytes


class Wait(NamedTuple):
    """Send nothing before `event` is set, or the call is over."""

    event: threading.Event


class Fail(NamedTuple):
    """End with `status`, and with RetryInfo if `retry_seconds` is given."""

    status: Status = Status.UNAVAILABLE
    text: str = "scripted"
    retry_seconds: float | None = None
    trailers: tuple[tuple[str, bytes], ...] = ()


class Sound(NamedTuple):
    """Send headers and the rows after the checkpoint, `limit` of them, as a sound server does."""

    limit: int | None = None
    chunk_rows: int = 2
    has_headers: bool = True
    fingerprint: str = FINGERPRINT


Action = Headers | Rows | Raw | Wait | Fail | Sound


@dataclass
class Call:
    """What a call asked for; `over`: it ended on the wire; `finished`: its script was done."""

    rpc: Rpc
    after: str
    chunk_size: int
    metadata: dict[str, str | bytes]
    seconds: float | None
    over: threading.Event = field(default_factory=threading.Event)
    finished: bool = False
    messages: int = 0
    has_headers: bool = False

    def is_broken_off(self) -> bool:
        """Wait until the call is over; return whether its script wasn't done."""
        return self.over.wait(_SOON_SECONDS) and not self.finished


class ScriptedServer:
    """Answers calls as `script` says. `rows` are the dataset."""

    def __init__(self, rows: Sequence[pb.Embedding], *, port: int = 0) -> None:
        self.rows = list(rows)
        self.ids = [row.id for row in self.rows]
        self.script: list[list[Action]] = []
        self.calls: list[Call] = []
        options = [("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)]
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=options)
        handlers = {rpc.value: self._handler(rpc) for rpc in Rpc}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, handlers),)
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.target = f"127.0.0.1:{self.port}"

    def play(self, *script: Sequence[Action]) -> None:
        """Forget former calls and begin a script."""
        self.calls = []
        self.script = [list(actions) for actions in script]

    def asked_after(self) -> list[int]:
        """Return for each call how many rows the caller said it had."""
        return [self.ids.index(call.after) + 1 if call.after else 0 for call in self.calls]

    def message(self, rpc: Rpc, first: int, end: int) -> list[bytes]:
        rows = self.rows[first:end]
        if rpc is Rpc.CHUNKS:
            return [pb.RowChunk(rows=rows).SerializeToString()]
        return [row.SerializeToString() for row in rows]

    def _handler(self, rpc: Rpc) -> Any:
        def answer(request: pb.RequestParams, context: Any) -> Iterator[bytes]:
            seconds = context.time_remaining()
            metadata = dict(context.invocation_metadata())
            call = Call(rpc, request.last_processed_uuid, request.chunk_size, metadata, seconds)
            number = len(self.calls)
            self.calls.append(call)
            if not context.add_callback(call.over.set):
                call.over.set()
            if number >= len(self.script):
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the script is over")
            for action in self.script[number]:
                for message in self._do(action, call, context):
                    call.messages += 1
                    yield message
            self._let_headers_arrive(call)
            call.finished = not call.over.is_set()

        return grpc.unary_stream_rpc_method_handler(answer, pb.RequestParams.FromString, None)

    def _do(self, action: Action, call: Call, context: Any) -> Iterator[bytes]:
        if isinstance(action, Headers):
            self._send_headers(action, call, context)
        elif isinstance(action, Rows):
            yield from self.message(call.rpc, *action)
        elif isinstance(action, Raw):
            yield action.message
        elif isinstance(action, Wait):
            while not (action.event.wait(0.01) or call.over.is_set()):
                pass
        elif isinstance(action, Sound):
            yield from self._sound(action, call, context)
        else:
            self._let_headers_arrive(call)
            call.finished = True
            self._fail(action, context)

    def _sound(self, action: Sound, call: Call, context: Any) -> Iterator[bytes]:
        first = sum(id_ <= call.after for id_ in self.ids)
        end = len(self.ids)
        if action.has_headers:
            found = not call.after or call.after in self.ids
            dimension = len(self.rows[0].vector) if self.rows else 1
            headers = Headers(end - first, action.fingerprint, dimension, end, found)
            self._send_headers(headers, call, context)
        if action.limit is not None:
            end = min(end, first + action.limit)
        step = call.chunk_size or action.chunk_rows
        for start in range(first, end, step):
            yield from self.message(call.rpc, start, min(end, start + step))

    def _send_headers(self, headers: Headers, call: Call, context: Any) -> None:
        call.has_headers = True
        values = {
            "dataset-fingerprint": headers.fingerprint,
            "dataset-rows": headers.rows,
            "dataset-dimension": headers.dimension,
            "rows-remaining": headers.remaining,
            "checkpoint-found": None if headers.found is None else str(headers.found).lower(),
        }
        context.send_initial_metadata(
            tuple((key, str(value)) for key, value in values.items() if value is not None)
        )

    def _let_headers_arrive(self, call: Call) -> None:
        if call.has_headers and not call.messages:
            time.sleep(_HEADERS_SECONDS)

    def _fail(self, action: Fail, context: Any) -> None:
        trailers = list(action.trailers)
        if action.retry_seconds is not None:
            details = retry_details(action.retry_seconds, action.status)
            trailers.append((DETAILS, details))
        context.set_trailing_metadata(tuple(trailers))
        context.abort(_CODES[action.status], action.text)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown()


def retry_details(seconds: float, status: Status = Status.UNAVAILABLE) -> bytes:
    """Return a google.rpc.Status with RetryInfo, as it stands in the trailers."""
    detail = AnyMessage()
    delay = Duration(seconds=int(seconds), nanos=round((seconds - int(seconds)) * 1e9))
    detail.Pack(RetryInfo(retry_delay=delay))
    return bytes(RpcStatus(code=int(status), details=[detail]).SerializeToString())


def embeddings(count: int, *, dimension: int = 2, seed: int = 0) -> list[pb.Embedding]:
    """Return `count` rows in order."""
    batch = make_batch(count, dimension=dimension, seed=seed)
    return [pb.Embedding(**row) for row in messages_of(batch)]


def rows_of(batches: Sequence[pa.RecordBatch]) -> list[pb.Embedding]:
    """Return record batches that a client gave, as the messages they came from."""
    return [pb.Embedding(**row) for batch in batches for row in messages_of(batch)]

"""Methods as the engine runs them: generators of Frames, advanced in a pool's threads.

Two kinds: those of EmbeddingService, which yield whole blocks, and those of ordinary
servicers, by way of grpcio's own handler objects, message by message. Exceptions leave
the generators as CallFailedError.
"""

from __future__ import annotations

import contextlib
import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import grpc
import numpy as np
import pyarrow as pa

from streamer.codec.frames import JoinedFrames, prefixes
from streamer.engines.wire.context import (
    AbortedError,
    CallFailedError,
    CancelledError,
    SilentClientError,
)
from streamer.errors import Status, StreamerError, answer_for
from streamer.service import VERSION_HEADER, Caller, parse_request

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from proto import embedding_stream_pb2 as pb
    from streamer.codec.frames import Frames
    from streamer.codec.message_run import MessageRun
    from streamer.engines.wire.context import Context
    from streamer.service import Answer

_log = logging.getLogger(__name__)


class Pool(Enum):
    """Whose threads a method uses, so that none waits for another kind's."""

    BLOCKS = auto()  # encoding: much work, never blocked
    CALLS = auto()  # one message in, and quick: health checks
    STREAMS = auto()  # may wait for the peer: reflection
    UPLOADS = auto()  # as those; whoever holds the others keeps no upload waiting
    CALLBACKS = auto()  # those of contexts, for which methods wait in the others


class Handler(NamedTuple):
    """A method. `begin` makes the generator that is its answer.

    `takes_stream`: it begins with the call; others begin when their one request is there.
    `gives_one`: its first block is its last.
    `pushes`: the generator yields nothing; messages go, from any thread, to the callback
    that is the second argument of `begin`, and None ends them.
    """

    begin: Callable[..., Generator[Frames, None, None]]
    pool: Pool
    takes_stream: bool = False
    gives_one: bool = False
    pushes: bool = False

    @property
    def is_quick(self) -> bool:
        """Whether it is one of those that all wait for the same few threads."""
        return self.pool is Pool.CALLS and not self.pushes


def block_handler(
    method: Callable[[pb.RequestParams, Caller], Answer], *, gathers: bool
) -> Handler:
    """Return the handler of a method of EmbeddingService."""

    def begin(context: Context) -> Generator[Frames, None, None]:
        caller = _caller(context)._replace(takes_parts=True, takes_gathered=gathers)
        with _failures_as_statuses(caller):
            answer = method(parse_request(_only_request(context)), caller)
            context.send_initial_metadata(answer.headers)
            with contextlib.closing(answer.frames) as blocks:
                yield from blocks

    return Handler(begin, Pool.BLOCKS)


def upload_handler(
    method: Callable[[Iterator[MessageRun], Caller], pb.UploadResult], patience_seconds: float
) -> Handler:
    """Return the handler of a method of UploadService; it waits so long for a message."""

    def begin(context: Context) -> Generator[Frames, None, None]:
        caller = _caller(context)
        with _failures_as_statuses(caller):
            result = method(context.requests.runs(patience_seconds), caller)
            context.send_initial_metadata((VERSION_HEADER,))
            yield _one_frame(result.SerializeToString())

    return Handler(begin, Pool.UPLOADS, takes_stream=True, gives_one=True)


def _caller(context: Context) -> Caller:
    metadata = {
        key: value for key, value in context.invocation_metadata() if isinstance(value, str)
    }
    return Caller(context.peer(), metadata, context.time_remaining)


@contextlib.contextmanager
def _failures_as_statuses(caller: Caller) -> Iterator[None]:
    """Turn what our own services raise into what the peer is told."""
    try:
        yield
    except CallFailedError:
        raise
    except CancelledError:
        _log.info("call from %s: cancelled or gone", caller.peer)
        raise CallFailedError(Status.CANCELLED, "the call was cancelled") from None
    except Exception as error:
        status, text = answer_for(error)
        if isinstance(error, StreamerError):
            _log.warning("call from %s refused: %s: %s", caller.peer, status.name, text)
        else:
            _log.exception("call from %s failed", caller.peer)
        raise CallFailedError(status, text) from None


def servicer_handler(handler: grpc.RpcMethodHandler[Any, Any], patience_seconds: float) -> Handler:
    """Return the handler of a method that a generated add_...Servicer_to_server made.

    If it takes a stream, it waits so long for a message.
    """
    behaviour = _behaviour(handler)
    takes_stream, gives_stream = handler.request_streaming, handler.response_streaming

    def begin(
        context: Context, *push: Callable[[Frames | None], None]
    ) -> Generator[Frames, None, None]:
        def send(response: Any) -> None:  # noqa: ANN401
            push[0](None if response is None else frames(response))

        def frames(response: Any) -> JoinedFrames:  # noqa: ANN401
            framed = _frames(handler, response)
            context.ensure_headers()
            return framed

        with _failures_as_grpcio_has_them(context):
            request = (
                _requests(handler, context, patience_seconds)
                if takes_stream
                else _request(handler, context)
            )
            if push:
                behaviour(request, context, send)
            elif gives_stream:
                responses = behaviour(request, context)
                with _failures_as_grpcio_has_them(context, "iterating responses"):
                    while (response := next(responses, None)) is not None:
                        yield frames(response)
            else:
                framed = frames(behaviour(request, context))
                if context.code() in (None, grpc.StatusCode.OK):
                    yield framed

    pushes = gives_stream and getattr(behaviour, "experimental_non_blocking", False)
    may_wait = takes_stream or (gives_stream and not pushes)
    return Handler(
        begin,
        Pool.STREAMS if may_wait else Pool.CALLS,
        takes_stream=takes_stream,
        gives_one=not gives_stream,
        pushes=pushes,
    )


def _behaviour(handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[..., Any]:
    kinds: dict[tuple[bool, bool], Callable[..., Any] | None] = {
        (False, False): handler.unary_unary,
        (False, True): handler.unary_stream,
        (True, False): handler.stream_unary,
        (True, True): handler.stream_stream,
    }
    return cast("Callable[..., Any]", kinds[handler.request_streaming, handler.response_streaming])


@contextlib.contextmanager
def _failures_as_grpcio_has_them(
    context: Context, doing: str = "calling application"
) -> Iterator[None]:
    """Turn what a servicer raises into a status."""
    try:
        yield
    except (CallFailedError, GeneratorExit):
        raise
    except CancelledError:
        raise CallFailedError(Status.CANCELLED, "the call was cancelled") from None
    except AbortedError:
        raise CallFailedError(Status.UNKNOWN, "RPC Aborted") from None
    except SilentClientError as silence:
        _log.warning("call from %s ended: %s", context.peer(), silence)
        raise CallFailedError(silence.status, str(silence)) from None
    except Exception as error:
        _log.exception("call from %s failed", context.peer())
        raise CallFailedError(Status.UNKNOWN, f"Exception {doing}: {error}") from None


def _only_request(context: Context) -> bytes:
    message = next(iter(context.requests), None)
    if message is None:
        text = f"{context.head.path} takes one request message, not none"
        raise CallFailedError(Status.UNIMPLEMENTED, text)
    return message


def _request(handler: grpc.RpcMethodHandler[Any, Any], context: Context) -> Any:  # noqa: ANN401
    return _parsed(handler, _only_request(context), context)


def _requests(
    handler: grpc.RpcMethodHandler[Any, Any], context: Context, patience_seconds: float
) -> Iterator[Any]:
    for messages in context.requests.runs(patience_seconds):
        for message in messages:
            yield _parsed(handler, message, context)


def _parsed(handler: grpc.RpcMethodHandler[Any, Any], message: bytes, context: Context) -> Any:  # noqa: ANN401
    if handler.request_deserializer is None:
        return message
    try:
        return handler.request_deserializer(message)
    except Exception as error:  # the peer's fault: a line will do
        _log.warning("call from %s: its request can't be deserialized: %r", context.peer(), error)
        text = "Exception deserializing request!"
        raise CallFailedError(Status.INTERNAL, text) from None


def _frames(handler: grpc.RpcMethodHandler[Any, Any], response: Any) -> JoinedFrames:  # noqa: ANN401
    try:
        message = handler.response_serializer(response) if handler.response_serializer else response
        return _one_frame(message)
    except Exception:
        _log.exception("a response could not be serialized")
        text = "Failed to serialize response!"
        raise CallFailedError(Status.INTERNAL, text) from None


def _one_frame(message: bytes) -> JoinedFrames:
    data = prefixes(np.array([len(message)])).tobytes() + message
    return JoinedFrames(pa.py_buffer(data), np.array([0, len(data)]), 1)

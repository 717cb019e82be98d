"""The server's side of gRPC's interoperability cases, and servicers made of functions.

What the methods do is said in grpc/grpc, doc/interop-test-descriptions.md, section Server.
"""
# ruff: noqa: N802 - methods have the names that the proto gives them

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc

from tests.grpc_testing import interop_pb2 as pb
from tests.grpc_testing import interop_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class InteropService(pb_grpc.TestServiceServicer):
    """Answers as its requests say; UnimplementedCall is left out."""

    def EmptyCall(self, _request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        _echo_metadata(context)
        return pb.Empty()

    def UnaryCall(
        self, request: pb.SimpleRequest, context: grpc.ServicerContext
    ) -> pb.SimpleResponse:
        _echo_metadata(context)
        _refuse_unknown_type(request, context)
        _echo_status(request, context)
        return pb.SimpleResponse(payload=_payload(request.response_size))

    def StreamingOutputCall(
        self, request: pb.StreamingOutputCallRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        _echo_metadata(context)
        yield from _responses(request, context, _ended(context))

    def StreamingInputCall(
        self,
        request_iterator: Iterator[pb.StreamingInputCallRequest],
        context: grpc.ServicerContext,
    ) -> pb.StreamingInputCallResponse:
        _echo_metadata(context)
        size = sum(len(request.payload.body) for request in request_iterator)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(
        self,
        request_iterator: Iterator[pb.StreamingOutputCallRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        _echo_metadata(context)
        ended = _ended(context)
        for request in request_iterator:
            yield from _responses(request, context, ended)
            if request.HasField("response_status"):
                return


def servicer(**methods: Any) -> pb_grpc.TestServiceServicer:
    """Return a servicer whose `methods`, by name, are these functions; others are left out."""
    made = pb_grpc.TestServiceServicer()
    for name, method in methods.items():
        if not hasattr(made, name):
            raise AttributeError(name)
        setattr(made, name, method)
    return made


def _echo_metadata(context: grpc.ServicerContext) -> None:
    metadata = context.invocation_metadata()
    initial = tuple((key, value) for key, value in metadata if key == ECHO_INITIAL)
    trailing = tuple((key, value) for key, value in metadata if key == ECHO_TRAILING)
    if initial:
        context.send_initial_metadata(initial)
    if trailing:
        context.set_trailing_metadata(trailing)


def _refuse_unknown_type(
    request: pb.SimpleRequest | pb.StreamingOutputCallRequest, context: grpc.ServicerContext
) -> None:
    if request.response_type not in pb.PayloadType.values():
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no such type: {request.response_type}")


def _echo_status(
    request: pb.SimpleRequest | pb.StreamingOutputCallRequest, context: grpc.ServicerContext
) -> None:
    if request.HasField("response_status"):
        context.set_code(_CODES[request.response_status.code])
        context.set_details(request.response_status.message)


def _ended(context: grpc.ServicerContext) -> threading.Event:
    ended = threading.Event()
    if not context.add_callback(ended.set):
        ended.set()
    return ended


def _responses(
    request: pb.StreamingOutputCallRequest, context: grpc.ServicerContext, ended: threading.Event
) -> Iterator[pb.StreamingOutputCallResponse]:
    _refuse_unknown_type(request, context)
    for parameters in request.response_parameters:
        if parameters.interval_us:
            ended.wait(parameters.interval_us / 1e6)
        yield pb.StreamingOutputCallResponse(payload=_payload(parameters.size))
    _echo_status(request, context)


def _payload(size: int) -> pb.Payload:
    return pb.Payload(type=pb.COMPRESSABLE, body=bytes(size))

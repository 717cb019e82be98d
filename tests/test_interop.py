"""gRPC's interoperability cases, and the calls near them, with grpcio's own clients.

The cases are those of grpc/grpc, doc/interop-test-descriptions.md; a docstring that begins
with a case's name and a colon is that case.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from streamer.engines.wire import WireServer
from streamer.engines.wire.limits import Limits
from tests.grpc_testing import interop_pb2 as pb
from tests.grpc_testing import interop_pb2_grpc as pb_grpc
from tests.interop_service import ECHO_INITIAL, ECHO_TRAILING, InteropService, servicer
from tests.wire_peer import DEADLINES_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Register = Callable[[Any], None]  # adds services to a server

ENGINES = ["grpcio", "wire"]

only_wire = pytest.mark.parametrize(
    "host",
    [pytest.param("wire", marks=pytest.mark.skipif("wire" not in ENGINES, reason="no wire"))],
    indirect=True,
)

_TIMEOUT = 120  # seconds; no call here comes near it
_LIMIT_BYTES = 4 << 20
_SERVICE = "/grpc.testing.TestService/"
_SIZES = (31415, 9, 2653, 58979)
_STATUS = "test status message"
_SPECIAL_STATUS = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
_EMPTY = pb.Empty()
_NOT_PROTOBUF = b"\xff\xff"  # a tag that doesn't end


@contextlib.contextmanager
def _grpcio(register: Register) -> Iterator[int]:
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port
        server.stop(0).wait()


@contextlib.contextmanager
def _wire(register: Register) -> Iterator[int]:

    server = WireServer(host="127.0.0.1", port=0, limits=Limits(max_request_bytes=4 << 20))
    register(server)
    server.start()
    yield server.port
    server.stop(0)


_HOSTS: dict[str, Callable[[Register], AbstractContextManager[int]]] = {
    "grpcio": _grpcio,
    "wire": _wire,
}


@pytest.fixture(params=ENGINES)
def host(request: pytest.FixtureRequest) -> Iterator[Callable[[Register], str]]:
    """Start a server with the services that a function registers; returns its address."""
    with contextlib.ExitStack() as servers:

        def start(register: Register) -> str:
            port = servers.enter_context(_HOSTS[request.param](register))
            return f"127.0.0.1:{port}"

        yield start


@pytest.fixture
def connect(host: Callable[[Register], str]) -> Iterator[Callable[[Register], grpc.Channel]]:
    """Like `host`, but returns a channel."""
    with contextlib.ExitStack() as channels:
        yield lambda register: channels.enter_context(grpc.insecure_channel(host(register)))


def _register_interop(server: grpc.Server) -> None:
    pb_grpc.add_TestServiceServicer_to_server(InteropService(), server)


@pytest.fixture
def channel(connect: Callable[[Register], grpc.Channel]) -> grpc.Channel:
    return connect(_register_interop)


@pytest.fixture
def stub(channel: grpc.Channel) -> pb_grpc.TestServiceStub:
    return pb_grpc.TestServiceStub(channel)


@pytest.fixture
def serve(
    connect: Callable[[Register], grpc.Channel],
) -> Callable[..., pb_grpc.TestServiceStub]:
    """Start a server whose methods are the functions given; returns a client's stub."""

    def start(**methods: Any) -> pb_grpc.TestServiceStub:
        made = servicer(**methods)
        return pb_grpc.TestServiceStub(
            connect(lambda server: pb_grpc.add_TestServiceServicer_to_server(made, server))
        )

    return start


@pytest.fixture
def requests() -> Iterator[queue.SimpleQueue[Any]]:
    """Give a stream's requests, sent as they are put; None is the end."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    yield waiting
    waiting.put(None)


def _failure(call: Callable[[], Any]) -> tuple[str, str | None]:
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value.code().name, failure.value.details()


def _drain(call: Any) -> tuple[list[Any], str, str]:
    """Return all responses of a stream, then how it ended."""
    responses: list[Any] = []
    with contextlib.suppress(grpc.RpcError):
        responses.extend(call)  # keeps those before an error
    return responses, call.code().name, call.details()


def _unary_request(size: int = 271828, response_size: int = 314159) -> pb.SimpleRequest:
    return pb.SimpleRequest(
        response_type=pb.COMPRESSABLE,
        response_size=response_size,
        payload=pb.Payload(body=bytes(size)),
    )


def _stream_request(size: int, *sizes: int, interval_us: int = 0) -> pb.StreamingOutputCallRequest:
    return pb.StreamingOutputCallRequest(
        response_type=pb.COMPRESSABLE,
        response_parameters=[
            pb.ResponseParameters(size=response_size, interval_us=interval_us)
            for response_size in sizes
        ],
        payload=pb.Payload(body=bytes(size)),
    )


def _zeros(*sizes: int) -> list[pb.StreamingOutputCallResponse]:
    return [
        pb.StreamingOutputCallResponse(payload=pb.Payload(type=pb.COMPRESSABLE, body=bytes(size)))
        for size in sizes
    ]


# The cases.


def test_empty_message_is_answered(stub: pb_grpc.TestServiceStub) -> None:
    """empty_unary: messages may have zero bytes."""
    assert pb.Empty() == stub.EmptyCall(_EMPTY, timeout=_TIMEOUT)


def test_large_message_is_answered(stub: pb_grpc.TestServiceStub) -> None:
    """large_unary: messages may be larger than frames and windows."""
    response = stub.UnaryCall(_unary_request(), timeout=_TIMEOUT)

    assert pb.Payload(type=pb.COMPRESSABLE, body=bytes(314159)) == response.payload


def test_one_request_has_many_responses(stub: pb_grpc.TestServiceStub) -> None:
    """server_streaming: all responses arrive, in their order."""
    call = stub.StreamingOutputCall(_stream_request(0, *_SIZES), timeout=_TIMEOUT)

    assert (_zeros(*_SIZES), "OK", "") == _drain(call)


def test_many_requests_have_one_response(stub: pb_grpc.TestServiceStub) -> None:
    """client_streaming: the response comes after the last request."""
    requests = (
        pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(size)))
        for size in (27182, 8, 1828, 45904)
    )
    response = stub.StreamingInputCall(requests, timeout=_TIMEOUT)

    assert 74922 == response.aggregated_payload_size


def test_requests_and_responses_alternate(
    stub: pb_grpc.TestServiceStub, requests: queue.SimpleQueue[Any]
) -> None:
    """ping_pong: each request is answered before the next one is sent."""
    call = stub.FullDuplexCall(iter(requests.get, None), timeout=_TIMEOUT)
    responses = []
    for size, response_size in zip((27182, 8, 1828, 45904), _SIZES, strict=True):
        requests.put(_stream_request(size, response_size))
        responses.append(next(call))
    requests.put(None)

    assert _zeros(*_SIZES) == responses
    assert ([], "OK", "") == _drain(call)


def test_stream_may_be_empty_both_ways(stub: pb_grpc.TestServiceStub) -> None:
    """empty_stream: no request, no response, and a good end."""
    assert ([], "OK", "") == _drain(stub.FullDuplexCall(iter(()), timeout=_TIMEOUT))


def test_call_is_cancelled_before_its_first_request(
    stub: pb_grpc.TestServiceStub, requests: queue.SimpleQueue[Any]
) -> None:
    """cancel_after_begin: the call has begun and nothing was sent."""
    call: Any = stub.StreamingInputCall.future(iter(requests.get, None), timeout=_TIMEOUT)
    call.cancel()

    assert call.cancelled()
    assert "CANCELLED" == call.code().name


def test_call_is_cancelled_after_its_first_response(
    stub: pb_grpc.TestServiceStub, requests: queue.SimpleQueue[Any]
) -> None:
    """cancel_after_first_response: the call is in the midst of its streams."""
    call = stub.FullDuplexCall(iter(requests.get, None), timeout=_TIMEOUT)
    requests.put(_stream_request(27182, 31415))
    first = next(call)
    call.cancel()

    assert _zeros(31415) == [first]
    assert "CANCELLED" == _drain(call)[1]


def test_deadline_ends_a_call_that_waits(
    stub: pb_grpc.TestServiceStub, requests: queue.SimpleQueue[Any]
) -> None:
    """timeout_on_sleeping_server: the server waits for more requests, the client doesn't."""
    requests.put(_stream_request(27182))
    call = stub.FullDuplexCall(iter(requests.get, None), timeout=0.001)

    assert ([], "DEADLINE_EXCEEDED") == _drain(call)[:2]


_ECHO = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))


def test_unary_call_echoes_metadata(stub: pb_grpc.TestServiceStub) -> None:
    """custom_metadata: text comes back in the headers, bytes in the trailers."""
    response, call = stub.UnaryCall.with_call(_unary_request(), metadata=_ECHO, timeout=_TIMEOUT)

    assert 314159 == len(response.payload.body)
    assert _ECHO[0] in call.initial_metadata()
    assert _ECHO[1] in call.trailing_metadata()


def test_stream_echoes_metadata(stub: pb_grpc.TestServiceStub) -> None:
    """custom_metadata: the same on a stream in both directions."""
    request = _stream_request(271828, 314159)
    call = stub.FullDuplexCall(iter([request]), metadata=_ECHO, timeout=_TIMEOUT)

    assert (_zeros(314159), "OK", "") == _drain(call)
    assert _ECHO[0] in call.initial_metadata()
    assert _ECHO[1] in call.trailing_metadata()


def test_unary_call_ends_with_the_status_asked_for(stub: pb_grpc.TestServiceStub) -> None:
    """status_code_and_message: code and text arrive as they were set."""
    request = pb.SimpleRequest(response_status=pb.EchoStatus(code=2, message=_STATUS))

    assert ("UNKNOWN", _STATUS) == _failure(lambda: stub.UnaryCall(request, timeout=_TIMEOUT))


def test_stream_ends_with_the_status_asked_for(stub: pb_grpc.TestServiceStub) -> None:
    """status_code_and_message: the same on a stream in both directions."""
    request = pb.StreamingOutputCallRequest(response_status=pb.EchoStatus(code=2, message=_STATUS))
    call = stub.FullDuplexCall(iter([request]), timeout=_TIMEOUT)

    assert ([], "UNKNOWN", _STATUS) == _drain(call)


def test_status_text_may_have_any_character(stub: pb_grpc.TestServiceStub) -> None:
    """special_status_message: white space and Unicode survive."""
    request = pb.SimpleRequest(response_status=pb.EchoStatus(code=2, message=_SPECIAL_STATUS))

    assert ("UNKNOWN", _SPECIAL_STATUS) == _failure(
        lambda: stub.UnaryCall(request, timeout=_TIMEOUT)
    )


def test_method_left_out_is_unimplemented(stub: pb_grpc.TestServiceStub) -> None:
    """unimplemented_method: the generated servicer sets the status, then raises."""
    assert ("UNIMPLEMENTED", "Method not implemented!") == _failure(
        lambda: stub.UnimplementedCall(_EMPTY, timeout=_TIMEOUT)
    )


def test_unknown_service_is_unimplemented(channel: grpc.Channel) -> None:
    """unimplemented_service: the server has no such service."""
    stub = pb_grpc.UnimplementedServiceStub(channel)

    assert "UNIMPLEMENTED" == _failure(lambda: stub.UnimplementedCall(_EMPTY, timeout=_TIMEOUT))[0]


# Near them: methods, requests and sizes.


@pytest.mark.parametrize("path", [f"{_SERVICE}NoSuchCall", "/grpc.testing.TestService", "/"])
def test_unknown_path_is_unimplemented(channel: grpc.Channel, path: str) -> None:
    """A path that names no method, of a service there is or of none, is answered."""
    call: Any = channel.unary_unary(path)

    assert "UNIMPLEMENTED" == _failure(lambda: call(b"", timeout=_TIMEOUT))[0]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_status_arrives(stub: pb_grpc.TestServiceStub, code: grpc.StatusCode) -> None:
    """All the codes of gRPC, after responses have been sent."""
    request = _stream_request(0, 1, 2)
    request.response_status.code = code.value[0]
    call = stub.StreamingOutputCall(request, timeout=_TIMEOUT)

    assert (_zeros(1, 2), code.name, "") == _drain(call)


def test_abort_comes_before_any_response(stub: pb_grpc.TestServiceStub) -> None:
    """A request that is refused at once has no response, unary or streaming."""
    text = "no such type: 7"
    stream = pb.StreamingOutputCallRequest(response_type=7)  # type: ignore[arg-type]
    unary = pb.SimpleRequest(response_type=7)  # type: ignore[arg-type]

    assert ("INVALID_ARGUMENT", text) == _failure(lambda: stub.UnaryCall(unary, timeout=_TIMEOUT))
    assert ([], "INVALID_ARGUMENT", text) == _drain(
        stub.StreamingOutputCall(stream, timeout=_TIMEOUT)
    )


def test_each_response_is_sent_when_it_is_made(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """Not at the end of the stream: the next one is made when the client has it."""
    taken = threading.Semaphore(1)

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        while taken.acquire(timeout=_TIMEOUT):
            yield pb.StreamingOutputCallResponse()

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )
    for _ in range(3):
        next(call)
        taken.release()
    call.cancel()
    taken.release()


def test_stream_far_larger_than_any_window_arrives(stub: pb_grpc.TestServiceStub) -> None:
    """A client that begins late gets all, in order."""
    sizes = [100_000 + number for number in range(100)]
    call = stub.StreamingOutputCall(_stream_request(0, *sizes), timeout=_TIMEOUT)
    call.initial_metadata()

    assert sizes == [len(response.payload.body) for response in call]
    assert "OK" == call.code().name


def test_calls_share_a_channel(stub: pb_grpc.TestServiceStub) -> None:
    """Many calls at once, more than the server has threads, get each its own response."""
    sizes = range(1000, 1100)
    calls = [
        stub.UnaryCall.future(_unary_request(size, size + 1), timeout=_TIMEOUT) for size in sizes
    ]

    assert [size + 1 for size in sizes] == [len(call.result().payload.body) for call in calls]


def test_streams_share_a_channel(stub: pb_grpc.TestServiceStub) -> None:
    """Streams at once that are read in turns get each its own responses."""
    calls = [
        stub.StreamingOutputCall(_stream_request(0, *[30_000 + n] * 10), timeout=_TIMEOUT)
        for n in range(5)
    ]
    turns = list(zip(*calls, strict=True))

    assert [[30_000 + n for n in range(5)]] * 10 == [
        [len(response.payload.body) for response in turn] for turn in turns
    ]


def test_request_of_the_largest_size_is_served(stub: pb_grpc.TestServiceStub) -> None:
    """4 MiB, the limit of gRPC where none is set, is within it."""
    request = pb.SimpleRequest(payload=pb.Payload(body=bytes(_LIMIT_BYTES - 10)))
    response = stub.UnaryCall(request, timeout=_TIMEOUT)

    assert _LIMIT_BYTES == request.ByteSize()
    assert _zeros(0)[0].payload == response.payload


def test_too_large_request_is_refused(stub: pb_grpc.TestServiceStub) -> None:
    """The call fails with RESOURCE_EXHAUSTED; the connection and its other calls go on."""
    large = pb.Payload(body=bytes(_LIMIT_BYTES - 9))  # one byte more
    requests = [pb.StreamingInputCallRequest(), pb.StreamingInputCallRequest(payload=large)]
    unary = pb.SimpleRequest(payload=large)

    assert "RESOURCE_EXHAUSTED" == _failure(lambda: stub.UnaryCall(unary, timeout=_TIMEOUT))[0]
    assert (
        "RESOURCE_EXHAUSTED"
        == (_failure(lambda: stub.StreamingInputCall(iter(requests), timeout=_TIMEOUT))[0])
    )
    assert pb.Empty() == stub.EmptyCall(_EMPTY, timeout=_TIMEOUT)


@pytest.mark.parametrize("method", ["UnaryCall", "StreamingOutputCall"])
def test_request_that_is_no_message_is_an_internal_error(
    channel: grpc.Channel, method: str
) -> None:
    """Bytes that the deserializer refuses end the call, and no servicer is called."""
    call: Any = channel.unary_stream(f"{_SERVICE}{method}")

    assert ([], "INTERNAL", "Exception deserializing request!") == _drain(
        call(_NOT_PROTOBUF, timeout=_TIMEOUT)
    )


# grpcio answers the same, and then may never come to the end of its stop (1.85).
@only_wire
@pytest.mark.parametrize("method", ["StreamingInputCall", "FullDuplexCall"])
def test_bad_request_among_good_ones_is_an_internal_error(
    channel: grpc.Channel, method: str
) -> None:
    """The servicer has seen the requests before it; those after it are of no account."""
    call: Any = channel.stream_stream(f"{_SERVICE}{method}")

    assert ([], "INTERNAL", "Exception deserializing request!") == _drain(
        call(iter([b"", _NOT_PROTOBUF, b""]), timeout=_TIMEOUT)
    )


@pytest.mark.parametrize("method", ["UnaryCall", "StreamingOutputCall"])
def test_missing_request_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    """A client that ends its stream without the one request called another method."""
    call: Any = channel.stream_stream(f"{_SERVICE}{method}")

    assert ([], "UNIMPLEMENTED") == _drain(call(iter(()), timeout=_TIMEOUT))[:2]


def test_compressed_request_is_answered(stub: pb_grpc.TestServiceStub) -> None:
    """One message, or a stream of them (client_compressed_unary, client_compressed_streaming)."""
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        options: Any = {"compression": compression, "timeout": _TIMEOUT}
        response = stub.UnaryCall(_unary_request(20_000, 30_000), **options)
        bodies = [b"a" * 20_000, b"", b"b" * 30]
        requests = [pb.StreamingInputCallRequest(payload=pb.Payload(body=body)) for body in bodies]
        total = stub.StreamingInputCall(iter(requests), **options)

        assert 30_000 == len(response.payload.body)
        assert 20_030 == total.aggregated_payload_size


# Near them: what a servicer is told and may say.


def test_servicer_reads_the_metadata(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """Text is str, -bin keys have bytes, the same key twice is both, in their order."""
    seen: list[tuple[str, str | bytes]] = []

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        seen.extend((key, value) for key, value in context.invocation_metadata())
        return pb.Empty()

    sent = (
        ("a", "1"), ("k-bin", b"\x00\xff,"), ("a", "2, 3"), ("k-bin", b""), ("none", ""),
        ("long", "x" * 5000),
    )  # fmt: skip
    serve(EmptyCall=empty_call).EmptyCall(_EMPTY, metadata=sent, timeout=_TIMEOUT)
    by_key = {key: [value for other, value in seen if other == key] for key, _ in seen}

    assert "grpc-python/" in str(by_key.pop("user-agent"))
    assert {
        "a": ["1", "2, 3"],
        "k-bin": [b"\x00\xff,", b""],
        "none": [""],
        "long": ["x" * 5000],
    } == by_key


def test_metadata_has_keys_and_values(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """Each item is a pair, and has names for its two parts."""
    seen: list[tuple[Any, ...]] = []

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        metadata: Any = context.invocation_metadata()
        seen.extend((*item, item.key, item.value) for item in metadata)
        return pb.Empty()

    serve(EmptyCall=empty_call).EmptyCall(_EMPTY, metadata=(("k", "v"),), timeout=_TIMEOUT)

    assert ("k", "v", "k", "v") in seen


@only_wire
@pytest.mark.parametrize("calls_at_once", [1, 20])
def test_metadata_up_to_the_limit_may_come_with_every_call(
    stub: pb_grpc.TestServiceStub, calls_at_once: int
) -> None:
    """12 KB, each time others, of the 16 KiB that are advertised."""
    for first in range(0, 60, calls_at_once):
        calls: list[Any] = [
            stub.EmptyCall.future(
                _EMPTY, metadata=(("k", f"{number}{'v' * 12_000}"),), timeout=_TIMEOUT
            )
            for number in range(first, first + calls_at_once)
        ]

        assert [pb.Empty()] * calls_at_once == [call.result() for call in calls]


def test_servicer_knows_its_peer(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """The address is in gRPC's form."""
    peers = []

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        peers.append(context.peer())
        return pb.Empty()

    serve(EmptyCall=empty_call).EmptyCall(_EMPTY, timeout=_TIMEOUT)

    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", peers[0])


def test_servicer_knows_the_time_left(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """The client's timeout arrives; without one, there is no end in sight."""
    times: list[float | None] = []

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        times.append(context.time_remaining())
        return pb.Empty()

    stub = serve(EmptyCall=empty_call)
    stub.EmptyCall(_EMPTY, timeout=_TIMEOUT)
    stub.EmptyCall(_EMPTY)
    with_timeout, without = times

    assert with_timeout is not None
    assert _TIMEOUT / 2 < with_timeout < _TIMEOUT + 1  # grpcio's clocks differ by some 0.1 s
    assert without is None or without > 365 * 86400


def test_headers_arrive_before_the_first_response(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """Metadata that is sent early doesn't wait for a message; it is sent once."""
    arrived = threading.Event()
    second: list[Exception] = []

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        context.send_initial_metadata((("k", "v"), ("k-bin", b"\x00\xff")))
        assert arrived.wait(_TIMEOUT)
        try:
            context.send_initial_metadata((("k", "other"),))
        except ValueError as error:
            second.append(error)
        yield pb.StreamingOutputCallResponse()

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )
    headers = list(call.initial_metadata())
    arrived.set()

    assert {("k", "v"), ("k-bin", b"\x00\xff")} <= set(headers)
    assert ([pb.StreamingOutputCallResponse()], "OK", "") == _drain(call)
    assert 1 == len(second)


def test_headers_can_not_follow_a_response(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """The first message takes the headers along; ValueError afterwards."""
    late: list[Exception] = []

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        yield pb.StreamingOutputCallResponse()
        try:
            context.send_initial_metadata((("k", "v"),))
        except ValueError as error:
            late.append(error)

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )

    assert "OK" == _drain(call)[1]
    assert 1 == len(late)


def test_abort_ends_a_stream_that_has_begun(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """The client gets what was sent, then status, text and trailers; abort doesn't return."""
    raised = threading.Event()

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        yield from _zeros(1, 2)
        context.set_trailing_metadata((("k", "v"), ("k-bin", b"\x00\xff")))
        try:
            context.abort(grpc.StatusCode.ABORTED, "why ☺")
        finally:
            raised.set()
        yield pb.StreamingOutputCallResponse()

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )

    assert (_zeros(1, 2), "ABORTED", "why ☺") == _drain(call)
    assert {("k", "v"), ("k-bin", b"\x00\xff")} == set(call.trailing_metadata())
    assert raised.wait(_TIMEOUT)


class _Status(grpc.Status):
    code = grpc.StatusCode.DATA_LOSS
    details = "lost"
    trailing_metadata = (("k", "v"),)


def test_abort_takes_a_whole_status(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """abort_with_status sends code, text and trailers of one object."""

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        context.abort_with_status(_Status())

    call: Any = serve(EmptyCall=empty_call).EmptyCall.future(_EMPTY, timeout=_TIMEOUT)

    assert ("DATA_LOSS", "lost") == _failure(call.result)
    assert [("k", "v")] == list(call.trailing_metadata())


def test_abort_outlives_the_servicer_catching_it(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """The status stands, whatever is returned or raised afterwards."""

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        with contextlib.suppress(Exception):
            context.abort(grpc.StatusCode.ABORTED, "why")
        return pb.Empty()

    def unary_call(_request: pb.SimpleRequest, context: grpc.ServicerContext) -> Any:
        try:
            context.abort(grpc.StatusCode.ABORTED, "why")
        except Exception as error:
            other = "other"
            raise ValueError(other) from error

    stub = serve(EmptyCall=empty_call, UnaryCall=unary_call)

    assert ("ABORTED", "why") == _failure(lambda: stub.EmptyCall(_EMPTY, timeout=_TIMEOUT))
    assert ("ABORTED", "why") == _failure(
        lambda: stub.UnaryCall(pb.SimpleRequest(), timeout=_TIMEOUT)
    )


def test_abort_with_ok_is_unknown(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """An aborted call never looks like a good one."""

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        context.abort(grpc.StatusCode.OK, "why")

    stub = serve(EmptyCall=empty_call)

    assert ("UNKNOWN", "") == _failure(lambda: stub.EmptyCall(_EMPTY, timeout=_TIMEOUT))


def _raise(error: Exception) -> Any:
    raise error


def _answer(*steps: Callable[[Any], Any]) -> Callable[[Any, Any], pb.Empty]:
    """Return a method that does something with its context, then answers."""

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        for step in steps:
            step(context)
        return pb.Empty()

    return empty_call


_NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (_answer(lambda c: c.send_initial_metadata(None)), "OK"),
        (_answer(lambda c: c.set_trailing_metadata(None)), "OK"),
        (_answer(lambda c: c.set_code(grpc.StatusCode.OK)), "OK"),
        (_answer(lambda c: c.abort(5, "why")), ("UNKNOWN", "why")),
        (_answer(lambda c: c.set_code(5), lambda c: c.set_details("why")), ("UNKNOWN", "why")),
        (_answer(lambda c: c.set_code(99)), ("UNKNOWN", "")),
        (
            _answer(lambda c: c.abort(grpc.StatusCode.ABORTED, None)),
            (
                "ABORTED",
                "Exception calling application: 'NoneType' object has no attribute 'encode'",
            ),
        ),
        (
            _answer(lambda c: c.send_initial_metadata((("A B", "1"),))),
            ("INTERNAL", "Invalid metadata"),
        ),
        (
            _answer(lambda c: c.set_trailing_metadata((("x", "a\nb"),))),
            ("INTERNAL", "Invalid metadata"),
        ),
        (
            lambda _request, context: context.set_code(_NOT_FOUND),
            ("NOT_FOUND", "Failed to serialize response!"),
        ),
    ],
    ids=[
        "no headers", "no trailers", "OK", "abort(5)", "set_code(5)", "set_code(99)",
        "abort without text", "bad headers", "bad trailers", "code and no response",
    ],
)  # fmt: skip
def test_what_a_servicer_says_is_taken_the_same_way(
    serve: Callable[..., pb_grpc.TestServiceStub],
    method: Callable[[Any, Any], Any],
    expected: str | tuple[str, str],
) -> None:
    """Right or wrong, a servicer gets the same from every server."""
    call: Any = serve(EmptyCall=method).EmptyCall.future(_EMPTY, timeout=_TIMEOUT)

    if expected == "OK":
        assert _EMPTY == call.result()
    else:
        assert expected == _failure(call.result)


def test_servicer_reads_what_it_has_set(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """Code and text are None at first; then the code that was set, and the text's bytes."""
    seen: list[Any] = []

    def look(context: Any) -> None:
        seen.append((context.code(), context.details(), context.trailing_metadata()))

    def say(context: Any) -> None:
        context.set_code(_NOT_FOUND)
        context.set_details("why ☺")
        context.set_trailing_metadata((("k", "v"),))

    stub = serve(EmptyCall=_answer(look, say, look))

    assert ("NOT_FOUND", "why ☺") == _failure(lambda: stub.EmptyCall(_EMPTY, timeout=_TIMEOUT))
    assert [(None, None, None), (_NOT_FOUND, "why ☺".encode(), (("k", "v"),))] == seen


def _yield_and_raise(error: Exception) -> Iterator[Any]:
    yield pb.StreamingOutputCallResponse()
    raise error


def test_exception_in_a_servicer_is_unknown(
    serve: Callable[..., pb_grpc.TestServiceStub], caplog: pytest.LogCaptureFixture
) -> None:
    """The call fails, the log has the traceback, and the server goes on."""
    unary, stream = ValueError("unary"), ValueError("stream")
    stub = serve(
        UnaryCall=lambda _request, _context: _raise(unary),
        StreamingOutputCall=lambda _request, _context: _yield_and_raise(stream),
        EmptyCall=lambda request, _context: request,
    )

    assert "UNKNOWN" == (_failure(lambda: stub.UnaryCall(pb.SimpleRequest(), timeout=_TIMEOUT))[0])
    responses, code, _ = _drain(
        stub.StreamingOutputCall(pb.StreamingOutputCallRequest(), timeout=_TIMEOUT)
    )
    assert (1, "UNKNOWN") == (len(responses), code)
    assert pb.Empty() == stub.EmptyCall(_EMPTY, timeout=_TIMEOUT)
    assert [unary, stream] == [record.exc_info[1] for record in caplog.records if record.exc_info]


def test_clients_are_sent_the_text_of_exceptions(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """Which says whether the call or its iterator failed, and with what."""
    stub = serve(
        UnaryCall=lambda _request, _context: _raise(ValueError("unary")),
        StreamingOutputCall=lambda _request, _context: _yield_and_raise(ValueError("stream")),
    )
    call = stub.StreamingOutputCall(pb.StreamingOutputCallRequest(), timeout=_TIMEOUT)

    assert ("UNKNOWN", "Exception calling application: unary") == _failure(
        lambda: stub.UnaryCall(pb.SimpleRequest(), timeout=_TIMEOUT)
    )
    assert ("UNKNOWN", "Exception iterating responses: stream") == _drain(call)[1:]


def test_status_set_before_an_exception_is_sent(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """Code, text and trailers that were set take the place of the exception's."""

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("not here")
        context.set_trailing_metadata((("k", "v"),))
        raise ValueError

    call: Any = serve(EmptyCall=empty_call).EmptyCall.future(_EMPTY, timeout=_TIMEOUT)

    assert ("NOT_FOUND", "not here") == _failure(call.result)
    assert [("k", "v")] == list(call.trailing_metadata())


@pytest.mark.parametrize("response", [None, "text"])
def test_response_that_is_no_message_is_an_internal_error(
    serve: Callable[..., pb_grpc.TestServiceStub], response: Any
) -> None:
    """What the serializer refuses isn't sent."""
    stub = serve(EmptyCall=lambda _request, _context: response)

    assert ("INTERNAL", "Failed to serialize response!") == _failure(
        lambda: stub.EmptyCall(_EMPTY, timeout=_TIMEOUT)
    )


# Near them: calls that end early.


def test_cancelled_call_is_inactive(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """The callback is called, is_active turns, and callbacks added later are refused."""
    ended = threading.Event()
    seen: queue.SimpleQueue[tuple[bool, bool]] = queue.SimpleQueue()

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        seen.put((context.is_active(), context.add_callback(ended.set)))
        context.send_initial_metadata(())
        ended.wait(_TIMEOUT)
        seen.put((context.is_active(), context.add_callback(ended.clear)))
        yield pb.StreamingOutputCallResponse()

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )
    call.initial_metadata()
    call.cancel()

    assert (True, True) == seen.get(timeout=_TIMEOUT)
    assert (False, False) == seen.get(timeout=_TIMEOUT)
    assert ended.is_set()


def test_deadline_ends_the_servers_side_too(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """A servicer hears of a deadline that has passed while it works."""
    ended = threading.Event()
    active: list[bool] = []

    def empty_call(_request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        begun.set()
        context.add_callback(ended.set)
        active.append(ended.wait(_TIMEOUT) and context.is_active())
        done.set()
        return pb.Empty()

    begun, done = threading.Event(), threading.Event()
    stub = serve(EmptyCall=empty_call)

    for seconds in DEADLINES_SECONDS:
        timed_out = partial(stub.EmptyCall, _EMPTY, timeout=seconds)
        assert "DEADLINE_EXCEEDED" == _failure(timed_out)[0]
        if begun.is_set():
            break
    assert done.wait(_TIMEOUT)
    assert [False] == active


def test_callbacks_are_called_at_a_good_end(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """Once each, when the call is over; one that fails doesn't keep the others from it."""
    called: queue.SimpleQueue[str] = queue.SimpleQueue()

    def empty_call(request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        context.add_callback(lambda: called.put("first"))
        context.add_callback(lambda: _raise(ValueError()))
        context.add_callback(lambda: called.put(f"last, active: {context.is_active()}"))
        return request

    serve(EmptyCall=empty_call).EmptyCall(_EMPTY, timeout=_TIMEOUT)

    assert "first" == called.get(timeout=_TIMEOUT)
    assert "last, active: False" == called.get(timeout=_TIMEOUT)
    assert called.empty()


# grpcio's iterator may also just end (1.85): what it hears first is a matter of chance.
@only_wire
def test_requests_of_a_cancelled_call_raise(
    serve: Callable[..., pb_grpc.TestServiceStub],
    requests: queue.SimpleQueue[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The iterator raises RpcError; a servicer that lets it pass fills no log."""
    begun = threading.Event()
    seen: queue.SimpleQueue[Exception] = queue.SimpleQueue()

    def streaming_input_call(
        request_iterator: Iterator[pb.StreamingInputCallRequest], _context: grpc.ServicerContext
    ) -> pb.StreamingInputCallResponse:
        try:
            for _ in request_iterator:
                begun.set()
        except Exception as error:
            seen.put(error)
            raise
        return pb.StreamingInputCallResponse()

    stub = serve(
        StreamingInputCall=streaming_input_call, EmptyCall=lambda request, _context: request
    )
    requests.put(pb.StreamingInputCallRequest())
    call: Any = stub.StreamingInputCall.future(iter(requests.get, None), timeout=_TIMEOUT)
    assert begun.wait(_TIMEOUT)
    call.cancel()

    assert isinstance(seen.get(timeout=_TIMEOUT), grpc.RpcError)
    assert pb.Empty() == stub.EmptyCall(_EMPTY, timeout=_TIMEOUT)
    assert [] == [record for record in caplog.records if record.exc_info]


def test_cancelled_call_closes_its_generator(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """A response generator is left by its `finally`, not forgotten where it yields."""
    closed = threading.Event()

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        try:
            while True:
                yield pb.StreamingOutputCallResponse()
        finally:
            closed.set()

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )
    next(call)
    call.cancel()

    assert closed.wait(_TIMEOUT)


def test_stream_is_pulled_no_faster_than_it_is_read(
    serve: Callable[..., pb_grpc.TestServiceStub],
) -> None:
    """A client that stops reading stops the generator; it goes on when the client does."""
    made: list[int] = []

    def streaming_output_call(
        _request: pb.StreamingOutputCallRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.StreamingOutputCallResponse]:
        for number in range(100):
            made.append(number)
            yield _zeros(1_000_000)[0]

    call = serve(StreamingOutputCall=streaming_output_call).StreamingOutputCall(
        pb.StreamingOutputCallRequest(), timeout=_TIMEOUT
    )
    next(call)
    before = 0
    while before < len(made):  # until it makes no more
        before = len(made)
        time.sleep(0.1)
    rest = sum(1 for _ in call)

    assert before < 50
    assert 99 == rest


def test_servicer_may_answer_before_all_requests_are_in(
    serve: Callable[..., pb_grpc.TestServiceStub], requests: queue.SimpleQueue[Any]
) -> None:
    """The call ends well while its client has not ended its stream."""

    def streaming_input_call(
        request_iterator: Iterator[pb.StreamingInputCallRequest], _context: grpc.ServicerContext
    ) -> pb.StreamingInputCallResponse:
        size = len(next(request_iterator).payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    stub = serve(StreamingInputCall=streaming_input_call)
    requests.put(pb.StreamingInputCallRequest(payload=pb.Payload(body=b"four")))
    response = stub.StreamingInputCall(iter(requests.get, None), timeout=_TIMEOUT)

    assert 4 == response.aggregated_payload_size


def test_servicer_cancels_its_own_call(serve: Callable[..., pb_grpc.TestServiceStub]) -> None:
    """context.cancel ends the call with CANCELLED, whatever is returned."""

    def empty_call(request: pb.Empty, context: grpc.ServicerContext) -> pb.Empty:
        context.cancel()
        return request

    stub = serve(EmptyCall=empty_call)

    assert "CANCELLED" == _failure(lambda: stub.EmptyCall(_EMPTY, timeout=_TIMEOUT))[0]


# Near them: other clients, other services.


def test_asyncio_client_streams_both_ways(host: Callable[[Register], str]) -> None:
    """ping_pong, with grpc.aio."""

    async def ping_pong(address: str) -> list[int]:
        async with grpc.aio.insecure_channel(address) as channel:
            call = pb_grpc.TestServiceStub(channel).FullDuplexCall(timeout=_TIMEOUT)
            sizes = []
            for size in _SIZES:
                await call.write(_stream_request(size, size))
                response: Any = await call.read()
                sizes.append(len(response.payload.body))
            await call.done_writing()
            assert grpc.aio.EOF is await call.read()
            assert grpc.StatusCode.OK is await call.code()
            return sizes

    assert list(_SIZES) == asyncio.run(ping_pong(host(_register_interop)))


def test_asyncio_client_gets_metadata_and_status(host: Callable[[Register], str]) -> None:
    """custom_metadata and special_status_message, with grpc.aio."""
    request = pb.SimpleRequest(response_status=pb.EchoStatus(code=2, message=_SPECIAL_STATUS))

    async def fail(address: str) -> grpc.aio.AioRpcError:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await pb_grpc.TestServiceStub(channel).UnaryCall(
                    request, metadata=grpc.aio.Metadata(*_ECHO), timeout=_TIMEOUT
                )
            return failure.value

    failure = asyncio.run(fail(host(_register_interop)))

    assert (grpc.StatusCode.UNKNOWN, _SPECIAL_STATUS) == (failure.code(), failure.details())
    assert _ECHO[0] in list(failure.initial_metadata())
    assert _ECHO[1] in list(failure.trailing_metadata())


def test_standard_health_service_is_served(
    connect: Callable[[Register], grpc.Channel],
) -> None:
    """Check answers; Watch tells of each change, for as long as the client wants."""
    service = health.HealthServicer()
    channel = connect(lambda server: health_pb2_grpc.add_HealthServicer_to_server(service, server))
    stub: Any = health_pb2_grpc.HealthStub(channel)
    statuses = health_pb2.HealthCheckResponse
    request = health_pb2.HealthCheckRequest(service="jobs")

    assert "NOT_FOUND" == _failure(lambda: stub.Check(request, timeout=_TIMEOUT))[0]
    watch = stub.Watch(request, timeout=_TIMEOUT)
    assert statuses.SERVICE_UNKNOWN == next(watch).status
    service.set("jobs", statuses.SERVING)
    assert statuses.SERVING == next(watch).status
    assert statuses.SERVING == stub.Check(request, timeout=_TIMEOUT).status
    watch.cancel()
    service.set("jobs", statuses.NOT_SERVING)
    assert statuses.NOT_SERVING == stub.Check(request, timeout=_TIMEOUT).status


def test_standard_reflection_service_is_served(
    connect: Callable[[Register], grpc.Channel],
) -> None:
    """Clients find the services and the file that describes them."""
    name = pb.DESCRIPTOR.services_by_name["TestService"].full_name
    channel = connect(lambda server: reflection.enable_server_reflection([name], server))
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=name),
    ]
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, file = stub.ServerReflectionInfo(iter(requests), timeout=_TIMEOUT)

    assert [name] == [service.name for service in listed.list_services_response.service]
    assert [pb.DESCRIPTOR.serialized_pb] == list(
        file.file_descriptor_response.file_descriptor_proto
    )


class _Asked(grpc.GenericRpcHandler):
    """Knows methods as the metadata says, or fails."""

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == "/x/fails":
            raise ValueError
        known = ("known", "yes") in tuple(handler_call_details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request) if known else None


def test_generic_handlers_are_asked_for_each_call(
    connect: Callable[[Register], grpc.Channel],
) -> None:
    """They see the call's metadata, and one that fails, fails that call alone."""
    channel = connect(lambda server: server.add_generic_rpc_handlers((_Asked(),)))
    call: Any = channel.unary_unary("/x/y")
    known = (("known", "yes"),)

    assert b"a" == call(b"a", metadata=known, timeout=_TIMEOUT)
    assert "UNIMPLEMENTED" == _failure(lambda: call(b"a", timeout=_TIMEOUT))[0]
    fails: Any = channel.unary_unary("/x/fails")
    assert ("UNKNOWN", "Error in service handler!") == _failure(
        lambda: fails(b"a", timeout=_TIMEOUT)
    )
    assert b"b" == call(b"b", metadata=known, timeout=_TIMEOUT)


@only_wire
def test_request_that_is_no_message_makes_one_line_in_the_log(
    connect: Callable[[Register], grpc.Channel], caplog: pytest.LogCaptureFixture
) -> None:
    """It is the peer's doing: no traceback, however often it comes."""
    service = health.HealthServicer()
    channel = connect(lambda server: health_pb2_grpc.add_HealthServicer_to_server(service, server))
    call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")

    assert "INTERNAL" == _failure(lambda: call(_NOT_PROTOBUF, timeout=_TIMEOUT))[0]
    (record,) = [r for r in caplog.records if r.name.startswith("streamer")]
    assert record.exc_info is None
    assert "can't be deserialized" in record.getMessage()


@only_wire
def test_cancelled_call_takes_none_of_the_requests_that_wait(
    serve: Callable[..., pb_grpc.TestServiceStub], requests: queue.SimpleQueue[Any]
) -> None:
    """Messages that came and weren't taken are dropped with the call."""
    begun, cancelled = threading.Event(), threading.Event()
    taken: list[Any] = []
    ended = threading.Event()

    def streaming_input_call(
        request_iterator: Iterator[pb.StreamingInputCallRequest], context: grpc.ServicerContext
    ) -> Any:
        context.add_callback(cancelled.set)
        taken.append(next(request_iterator))
        begun.set()
        assert cancelled.wait(_TIMEOUT)
        try:
            taken.extend(request_iterator)
        finally:
            ended.set()

    stub = serve(StreamingInputCall=streaming_input_call)
    requests.put(pb.StreamingInputCallRequest())
    call: Any = stub.StreamingInputCall.future(iter(requests.get, None), timeout=_TIMEOUT)
    assert begun.wait(_TIMEOUT)
    for _ in range(20):
        requests.put(pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(1000))))
    time.sleep(0.3)
    call.cancel()

    assert ended.wait(_TIMEOUT)
    assert 1 == len(taken)

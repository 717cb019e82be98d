"""A client of HTTP/2 that does as it is told, right or wrong, frame by frame."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import numpy as np
import pyarrow as pa
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from streamer.codec.frames import JoinedFrames, prefixes
from streamer.engines.wire.engine import WireEngine
from streamer.engines.wire.limits import Limits
from streamer.service import Answer, Caller
from tests.frames import bytes_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterable, Iterator

    from proto import embedding_stream_pb2 as pb
    from streamer.engines.tls import Certificates
    from streamer.service import EmbeddingService

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM = "/embedding.EmbeddingStreamService/StreamEmbedding"
ROWS = "/embedding.EmbeddingStreamService/GetEmbeddings"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
ENHANCE_YOUR_CALM = 11
WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
# What should come at once is waited for as long as this, so that only what never comes fails
# on a busy machine; what is meant not to come has a time of its own.
PATIENCE_SECONDS = 120.0
# Deadlines of a call that is to begin before its own passes, to be tried one after another: on
# a busy machine it begins within a later one.
DEADLINES_SECONDS = tuple(0.3 * 2**tries for tries in range(9))
# How often the server looks at its clock, in these tests.
LOOKS_SECONDS = 0.05


class Peer:
    """One connection. What has come is in `data`, `trailers`, `resets`, `goaways`, `pongs`.

    `opens_windows`: give back what DATA took, as it comes. `replies`: answer at all.
    """

    def __init__(
        self,
        port: int,
        *,
        preface: bool = True,
        settings: dict[int, int] | None = None,
        receive_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        plain = socket.socket()
        if receive_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.settimeout(PATIENCE_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.connect(("127.0.0.1", port))
        self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        self.opens_windows = True
        self.replies = True
        self.is_closed = False
        self.is_greeted = False
        self.data: dict[int, bytearray] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.resets: dict[int, int] = {}
        self.goaways: list[GoAwayFrame] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.may_send = {0: WINDOW}
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._input = bytearray()
        self._next_stream_id = 1
        if preface:
            self.try_to_send([PREFACE + SettingsFrame(settings=settings or {}).serialize()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, *parts: Frame | bytes) -> None:
        whole = b"".join(p if isinstance(p, bytes) else p.serialize() for p in parts)
        self.socket.sendall(whole)

    def try_to_send(self, parts: Iterable[Frame | bytes]) -> int:
        """Send until the server has hung up, or takes no more; return how many it took."""
        sent = 0
        try:
            for part in parts:
                self.send(part)
                sent += 1
        except OSError:
            pass
        return sent

    def headers(self, path: str, *flags: str, **fields: str) -> HeadersFrame:
        """Return the HEADERS of a new call."""
        block = self._encoder.encode([
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a"),
            ("te", "trailers"), ("content-type", "application/grpc"), *fields.items(),
        ])  # fmt: skip
        frame = HeadersFrame(self._next_stream_id, block, flags=["END_HEADERS", *flags])
        self._next_stream_id += 2
        return frame

    def call(self, path: str, message: bytes = b"", **fields: str) -> int:
        """Begin a call with one request message; return its stream."""
        head = self.headers(path, **fields)
        self.send(head, request(head.stream_id, message))
        return head.stream_id

    def send_data(self, stream_id: int, data: bytes, seconds: float = PATIENCE_SECONDS) -> bool:
        """Send DATA within the server's windows; return whether it has opened them in time."""
        parts = (data[start : start + 16_384] for start in range(0, len(data), 16_384))
        for part in parts:
            if not self._take_window(stream_id, len(part), seconds):
                return False
            self.send(DataFrame(stream_id, part))
        return True

    def _take_window(self, stream_id: int, size: int, seconds: float) -> bool:
        windows = self.may_send
        windows.setdefault(stream_id, WINDOW)
        if not self.until(lambda: min(windows[0], windows[stream_id]) >= size, seconds):
            return False
        windows[0] -= size
        windows[stream_id] -= size
        return True

    def unary(self, path: str, message: bytes = b"") -> None:
        """Make a call and see it end well."""
        stream_id = self.call(path, message)
        assert self.until_ended(stream_id)
        assert "0" == self.trailers[stream_id]["grpc-status"], self.trailers[stream_id]

    def until(self, reached: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
        """Take what comes until something is so; return whether it is."""
        end = time.monotonic() + seconds
        while not reached():
            left = end - time.monotonic()
            if left <= 0 or self.is_closed:
                return False
            self.socket.settimeout(left)
            try:
                self._take(self.socket.recv(1 << 20))
            except TimeoutError:
                return False
            except OSError:
                self.is_closed = True
            finally:
                self.socket.settimeout(PATIENCE_SECONDS)
        return True

    def until_closed(self, seconds: float = PATIENCE_SECONDS) -> bool:
        return self.until(lambda: self.is_closed, seconds)

    def until_ended(self, stream_id: int, seconds: float = PATIENCE_SECONDS) -> bool:
        return self.until(lambda: stream_id in self.trailers, seconds)

    def until_received(self, stream_id: int, size: int) -> bool:
        return self.until(lambda: self.received(stream_id) >= size)

    def received(self, stream_id: int) -> int:
        return len(self.data.get(stream_id, b""))

    def open_window(self, size: int, *stream_ids: int) -> None:
        self.send(*(WindowUpdateFrame(i, size) for i in stream_ids))

    def _take(self, data: bytes) -> None:
        if not data:
            self.is_closed = True
        self._input += data
        replies: list[Frame] = []
        while len(self._input) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(bytes(self._input[:9])))
            if len(self._input) < 9 + length:
                break
            frame.parse_body(memoryview(bytes(self._input[9 : 9 + length])))
            del self._input[: 9 + length]
            replies += self._taken(frame)
        if replies and self.replies and not self.is_closed:
            self.try_to_send([b"".join(reply.serialize() for reply in replies)])

    def _taken(self, frame: Frame) -> list[Frame]:  # noqa: C901 - a case a kind of frame
        stream_id = frame.stream_id
        if isinstance(frame, DataFrame):
            self.data.setdefault(stream_id, bytearray()).extend(frame.data)
            size = frame.flow_controlled_length
            if self.opens_windows and size:
                return [WindowUpdateFrame(i, size) for i in (0, stream_id)]
        elif isinstance(frame, HeadersFrame):
            fields = self._decoder.decode(frame.data)
            if "END_STREAM" in frame.flags:
                self.trailers[stream_id] = {str(name): str(value) for name, value in fields}
        elif isinstance(frame, WindowUpdateFrame):
            self.may_send[stream_id] = self.may_send.get(stream_id, WINDOW) + frame.window_increment
        elif isinstance(frame, RstStreamFrame):
            self.resets.setdefault(stream_id, frame.error_code)  # h2 resets again what comes later
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append(frame)
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.is_greeted = True
            return [SettingsFrame(flags=["ACK"])]
        elif isinstance(frame, PingFrame) and "ACK" in frame.flags:
            self.pongs.append(frame.opaque_data)
        elif isinstance(frame, PingFrame):
            self.pings += 1
            return [PingFrame(0, frame.opaque_data, flags=["ACK"])]
        return []


def request(stream_id: int, message: bytes) -> DataFrame:
    """Return DATA that is the one message of a request."""
    return DataFrame(stream_id, framed(message), flags=["END_STREAM"])


def framed(message: bytes) -> bytes:
    """Return a length-prefixed message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def answer_bytes(service: EmbeddingService, rpc: str, params: pb.RequestParams) -> bytes:
    """Return all length-prefixed messages of an answer, encoded without a network."""
    method = service.stream_embedding if rpc == STREAM else service.get_embeddings
    answer = method(params, Caller("test", {}, lambda: None))
    return b"".join(map(bytes_of, answer.frames))


class EndlessService:
    """Sends blocks of `block_bytes` for as long as somebody takes them, with pauses between.

    `blocks` have been made, `open` generators not been closed.
    """

    def __init__(self, block_bytes: int = 1 << 20, pause_seconds: float = 0) -> None:
        self._pause_seconds = pause_seconds
        size = 16_384 - 5
        count = max(block_bytes // 16_384, 1)
        message = prefixes(np.array([size])).tobytes() + b"\x0a" + bytes(size - 1)
        self.message = message
        self._data = pa.py_buffer(message * count)
        self._offsets = np.arange(count + 1) * len(message)
        self._lock = threading.Lock()
        self.blocks = 0
        self.open = 0

    def get_embeddings(self, _request: pb.RequestParams, _caller: Caller) -> Answer:
        return Answer((), self._frames())

    stream_embedding = get_embeddings

    check_seconds = 60.0

    def check(self) -> None:
        """Find nothing in the way of calls."""

    def _frames(self) -> Generator[JoinedFrames, None, None]:
        with self._lock:
            self.open += 1
        try:
            while True:
                self.blocks += 1
                time.sleep(self._pause_seconds)
                yield JoinedFrames(self._data, self._offsets, len(self._offsets) - 1)
        finally:
            with self._lock:
                self.open -= 1


def eventually(reached: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> bool:
    """Return whether something comes true in time."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def anonymous_bytes(pid: int | str = "self") -> int:
    """Return a process's memory that no file is behind."""
    match = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


@contextlib.contextmanager
def serving(
    service: Any,
    *,
    max_workers: int = 4,
    gathers: bool = True,
    certificates: Certificates | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    **limits: Any,
) -> Iterator[WireEngine]:
    """Run a wire engine with these limits that looks at its clocks often."""
    with mock.patch("streamer.engines.wire.server._CHECK_SECONDS", LOOKS_SECONDS):
        engine = WireEngine(
            service,
            host=host,
            port=port,
            max_workers=max_workers,
            limits=Limits(**limits),
            gathers=gathers,
            certificates=certificates,
        )
        try:
            yield engine
        finally:
            engine.stop(0)

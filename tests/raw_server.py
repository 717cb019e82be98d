"""A server of HTTP/2 whose calls end as no sound server would: resets, GOAWAYs, cut bytes.

    with RawServer([cut_off, sound]) as server: ...

Call n, on whatever connection, is answered by `script[n]`, a function of a RawCall.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from proto import embedding_stream_pb2 as pb
from tests.wire_peer import PATIENCE_SECONDS, framed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from h2.errors import ErrorCodes
    from hyperframe.frame import Frame

    Answer = Callable[["RawCall"], None]

_GRPC = ((":status", "200"), ("content-type", "application/grpc"))


class RawCall:
    """One call; what is done with it goes out at once."""

    def __init__(self, plain: socket.socket, h2: H2Connection, stream_id: int) -> None:
        self._socket = plain
        self._h2 = h2
        self.stream_id = stream_id
        self.request = pb.RequestParams()

    def headers(self, *fields: tuple[str, str], ended: bool = False) -> None:
        self._h2.send_headers(self.stream_id, fields or _GRPC, end_stream=ended)
        self._flush()

    def grpc_headers(self, *fields: tuple[str, str]) -> None:
        self.headers(*_GRPC, *fields)

    def data(self, data: bytes, *, ended: bool = False) -> None:
        self._h2.send_data(self.stream_id, data, end_stream=ended)
        self._flush()

    def rows(self, rows: Sequence[pb.Embedding]) -> None:
        """Send a chunk."""
        self.data(framed(pb.RowChunk(rows=rows).SerializeToString()))

    def trailers(self, status: int = 0, *fields: tuple[str, str]) -> None:
        self.headers(("grpc-status", str(status)), *fields, ended=True)

    def reset(self, code: ErrorCodes) -> None:
        self.frame(RstStreamFrame(self.stream_id, code))

    def goaway(self, code: ErrorCodes, *, knows_the_call: bool) -> None:
        last = self.stream_id if knows_the_call else 0
        self.frame(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def frame(self, frame: Frame) -> None:
        self._socket.sendall(frame.serialize())

    def hang_up_after(self, data: bytes) -> None:
        self.data(data)
        time.sleep(0.02)  # or the C-core may throw it away unread
        self.hang_up()

    def hang_up(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


class RawServer:
    """`requests` are the ids that calls asked for rows after.

    `greets`: it says SETTINGS, after so many seconds. A port that nobody has entered yet
    listens, and takes no connection.
    """

    def __init__(
        self, script: Sequence[Answer] = (), *, greets: bool = True, greets_after: float = 0
    ) -> None:
        self._script = list(script)
        self._greets = greets
        self._greets_after = greets_after
        self.requests: list[str] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the end
            while True:
                plain, _ = self._listener.accept()
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.settimeout(PATIENCE_SECONDS)
                self.connections += 1
                self._open.append(plain)
                self._start(partial(self._serve, plain))

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, plain: socket.socket) -> None:
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        calls: dict[int, RawCall] = {}
        with contextlib.suppress(OSError, ProtocolError), plain:
            if self._greets:
                time.sleep(self._greets_after)
                h2.initiate_connection()
            while data := plain.recv(65_536):
                if not self._greets:
                    continue
                for event in h2.receive_data(data):
                    if isinstance(event, RequestReceived):
                        calls[event.stream_id] = RawCall(plain, h2, event.stream_id)
                    elif isinstance(event, DataReceived):
                        calls[event.stream_id].request.MergeFromString(event.data[5:])
                    elif isinstance(event, StreamEnded):
                        self._answer(calls[event.stream_id])
                plain.sendall(h2.data_to_send())

    def _answer(self, call: RawCall) -> None:
        with self._lock:
            number = len(self.requests)
            self.requests.append(call.request.last_processed_uuid)
        if number < len(self._script):
            self._script[number](call)
        else:
            call.headers(*_GRPC, ("grpc-status", "9"), ended=True)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for plain in self._open:
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

"""Connections that break, and servers that can't be reached; what certificates must be."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trustme
from h2.errors import ErrorCodes
from hyperframe.frame import RstStreamFrame

from streamer.client.channel import ChannelError, tls_credentials
from streamer.client.failures import NoProgressError, ServerFailedError
from tests.clients import CLIENTS, Client, connect
from tests.raw_server import RawServer
from tests.scripted_server import embeddings, rows_of
from tests.wire_peer import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from tests.raw_server import Answer, RawCall

    End = Callable[[RawCall], object]

_ROWS = embeddings(6)
_IDS = [row.id for row in _ROWS]
_ANNOUNCED = ("rows-remaining", str(len(_ROWS)))
# The client's way to say that the server isn't allowed to serve this, TLS being too weak.
_FINAL = ErrorCodes.INADEQUATE_SECURITY


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _sound(call: RawCall) -> None:
    rest = [row for row in _ROWS if row.id > call.request.last_processed_uuid]
    call.grpc_headers(("rows-remaining", str(len(rest))))
    call.rows(rest)
    call.trailers()


class _Cut:
    """Sends three rows, or none; when the caller has them, the call comes to its `end`."""

    def __init__(self, end: End, rows: int = 3, *, announces: bool = False) -> None:
        self.rows = rows
        self.taken = threading.Event()
        self._end = end
        self._fields = (_ANNOUNCED,) if announces else ()

    def __call__(self, call: RawCall) -> None:
        call.grpc_headers(*self._fields)
        if self.rows:
            call.rows(_ROWS[: self.rows])
            self.taken.wait(PATIENCE_SECONDS)
        self._end(call)


def _read(client: Client, cut: _Cut) -> list[pa.RecordBatch]:
    taken: list[pa.RecordBatch] = []
    for batch in client.batches():
        taken.append(batch)
        cut.taken.set()
    return taken


def _check_resumed(kind: str, cut: _Cut, *, connections: int | None = None) -> None:
    """Read from a server whose first call is cut, and see the second go on after its rows."""
    # Calls that find the old connection closed don't reach the server: tries, all the same.
    with (
        RawServer([cut, _sound]) as server,
        connect(kind, server.target, max_tries=50) as client,
    ):
        assert _ROWS == rows_of(_read(client, cut))
        assert ["", _IDS[cut.rows - 1] if cut.rows else ""] == server.requests
        assert connections in (None, server.connections)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("code", [code for code in ErrorCodes if code is not _FINAL])
def test_retry_stream_reset(kind: str, code: ErrorCodes, rows: int) -> None:
    """RST_STREAM of whatever kind, on a connection that goes on."""
    _check_resumed(kind, _Cut(lambda call: call.reset(code), rows), connections=1)


@pytest.mark.parametrize("code", [14, 0xDEAD])
def test_retry_stream_reset_with_an_unknown_code(kind: str, code: int) -> None:
    """A code that no standard has is a reset like the others (RFC 9113 section 7)."""
    cut = _Cut(lambda call: call.frame(RstStreamFrame(call.stream_id, code)))
    _check_resumed(kind, cut, connections=1)


def test_no_retry_of_inadequate_security(kind: str) -> None:
    """The C-core says PERMISSION_DENIED: TLS wouldn't be better the next time."""
    cut = _Cut(lambda call: call.reset(_FINAL))
    with (
        RawServer([cut, _sound]) as server,
        connect(kind, server.target) as client,
        pytest.raises(ServerFailedError, match="PERMISSION_DENIED"),
    ):
        _read(client, cut)
    assert 1 == len(server.requests)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("knows_the_call", [False, True])
@pytest.mark.parametrize(
    "code", [ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM]
)
def test_retry_goaway(kind: str, code: ErrorCodes, knows_the_call: bool, rows: int) -> None:  # noqa: FBT001
    """GOAWAY in mid-stream, then the end of the connection: the next call is on a new one."""

    def leave(call: RawCall) -> None:
        call.goaway(code, knows_the_call=knows_the_call)
        time.sleep(0.02)
        call.hang_up()

    _check_resumed(kind, _Cut(leave, rows), connections=2)


def test_call_goes_on_after_goaway(kind: str) -> None:
    """A server that drains finishes its calls: nothing is asked twice."""

    def finish(call: RawCall) -> None:
        call.goaway(ErrorCodes.NO_ERROR, knows_the_call=True)
        time.sleep(0.02)
        call.rows(_ROWS[3:])
        call.trailers()

    cut = _Cut(finish)
    # Calls that find the old connection closed don't reach the server: tries, all the same.
    with (
        RawServer([cut, _sound]) as server,
        connect(kind, server.target, max_tries=50) as client,
    ):
        assert _ROWS == rows_of(_read(client, cut))
        assert [""] == server.requests
        assert _ROWS == rows_of(list(client.batches()))
        assert 2 == server.connections


_HALF = b"\0\0\0\1\0half"
_CUTS: dict[str, End] = {
    "connection closed": lambda call: call.hang_up(),
    "END_STREAM without trailers": lambda call: call.data(b"", ended=True),
    "half a message, END_STREAM": lambda call: call.data(_HALF, ended=True),
    "half a message, closed": lambda call: call.hang_up_after(_HALF),
}


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("end", _CUTS.values(), ids=list(_CUTS))
def test_retry_of_a_stream_without_trailers(kind: str, end: End, rows: int) -> None:
    """However it was cut off: what has no status hasn't ended."""
    _check_resumed(kind, _Cut(end, rows))


@pytest.mark.parametrize("rest", [_HALF, _HALF[:3], b"\7\0\0\0\1a"])
def test_message_that_is_cut_before_ok_is_missed(kind: str, rest: bytes) -> None:
    """The C-core says OK of it; the number of rows that was announced says otherwise."""

    def end(call: RawCall) -> None:
        call.data(rest)
        call.trailers()

    _check_resumed(kind, _Cut(end, announces=True))


def _answer(status: int) -> Answer:
    return lambda call: call.headers((":status", str(status)), ended=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retry_of_a_proxys_passing_errors(kind: str, status: int) -> None:
    """As gRPC maps them (doc/http-grpc-status-mapping.md)."""
    with RawServer([_answer(status), _sound]) as server, connect(kind, server.target) as client:
        assert _ROWS == rows_of(list(client.batches()))


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 500])
def test_no_retry_of_other_http_errors(kind: str, status: int) -> None:
    """Something else listens there."""
    with (
        RawServer([_answer(status), _sound]) as server,
        connect(kind, server.target) as client,
        pytest.raises(ServerFailedError),
    ):
        list(client.batches())
    assert 1 == len(server.requests)


def test_error_after_last_row_may_be_a_reset(kind: str) -> None:
    """Or the end of the connection: with all rows there, nothing is asked again."""
    for end in (lambda call: call.reset(ErrorCodes.CANCEL), *_CUTS.values()):
        cut = _Cut(end, len(_ROWS), announces=True)
        with RawServer([cut, _sound]) as server, connect(kind, server.target) as client:
            assert _ROWS == rows_of(_read(client, cut))
            assert [""] == server.requests


def test_nothing_listening_is_no_progress(kind: str) -> None:
    """After the tries that were granted, each of which fails at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    with (
        connect(kind, target) as client,
        pytest.raises(NoProgressError, match=r"in 3 tries.*UNAVAILABLE"),
    ):
        list(client.batches())


@pytest.mark.parametrize("accepts", [False, True])
def test_server_that_never_answers_is_no_progress(kind: str, accepts: bool) -> None:  # noqa: FBT001
    """A port that listens, whether or not somebody takes the connection: it is given up."""
    server = RawServer(greets=False)
    if accepts:
        server.__enter__()
    try:
        with (
            connect(kind, server.target, max_tries=2, call_seconds=0.3) as client,
            pytest.raises(NoProgressError, match=r"in 2 tries"),
        ):
            list(client.batches())
    finally:
        server.__exit__()


def test_server_that_is_slow_to_greet_is_waited_for(kind: str) -> None:
    """A handshake of one and a half seconds is slow, not dead."""
    with RawServer([_sound], greets_after=1.5) as server, connect(kind, server.target) as client:
        assert _ROWS == rows_of(list(client.batches()))
        assert 1 == server.connections


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_certificate_and_key_belong_together(tmp_path: Path, missing: str) -> None:
    """One without the other is an error of the caller's, with exit code 2."""
    path = tmp_path / "some.pem"
    path.write_bytes(b"")
    given = {"certificate": path, "key": path, missing: None}
    with pytest.raises(ChannelError, match="belong together") as error:
        tls_credentials(**given)
    assert 2 == error.value.exit_code


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
def test_certificate_file_that_cannot_be_read_is_named(tmp_path: Path, which: str) -> None:
    """No such file, or a folder."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "some.pem")
    files = dict.fromkeys(("ca", "certificate", "key"), tmp_path / "some.pem")
    for wrong in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(ChannelError, match=f"{wrong}: ") as error:
            tls_credentials(**{**files, which: wrong})
        assert 1 == error.value.exit_code

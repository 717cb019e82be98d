"""Memory is the kernel's until it has taken it: short writes, lifetimes, files replaced."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import socket
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hyperframe.frame import RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import embedding_stream_pb2 as pb
from streamer.codec.frames import JoinedFrames
from streamer.dataset import Dataset
from streamer.engines.wire.segments import Outgoing
from streamer.service import Answer, Caller, EmbeddingService
from tests.datasets import write_dataset
from tests.wire_peer import (
    HEALTH,
    MAX_WINDOW,
    ROWS,
    STREAM,
    WINDOW,
    Peer,
    answer_bytes,
    eventually,
    framed,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from streamer.engines.wire.engine import WireEngine

_MIB = 1 << 20
_CANCEL = 8


def _outgoing(pieces: list[bytes]) -> Outgoing:
    views = [np.frombuffer(piece, np.uint8) for piece in pieces]
    table = np.array([[view.ctypes.data, len(view)] for view in views], np.int64)
    return Outgoing(table.reshape(-1, 2), views)


def _unix_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    return sender, receiver


_PAIRS = [_unix_pair, _tcp_pair]


def _sent_through(
    pair: Callable[[], tuple[socket.socket, socket.socket]], outgoing: Outgoing, read_bytes: int
) -> bytes:
    """Write to a socket whose buffers are as small as can be; return what came through."""
    sender, receiver = pair()
    with sender, receiver:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sender.settimeout(0)
        receiver.settimeout(10)
        came, taken = bytearray(), 0
        while not outgoing.is_done:
            now = outgoing.write_to(sender.fileno())
            taken += now
            if not now and len(came) < taken:
                came += receiver.recv(read_bytes)
        sender.shutdown(socket.SHUT_WR)
        while rest := receiver.recv(1 << 16):
            came += rest
    assert len(came) == taken
    return bytes(came)


_PIECES = st.lists(st.one_of(st.just(b""), st.binary(max_size=40), st.integers(0, 20_000).map(
    lambda size: np.random.default_rng(size).bytes(size)
)), max_size=60)  # fmt: skip


@pytest.mark.parametrize("pair", _PAIRS)
@settings(max_examples=40)
@given(pieces=_PIECES, read_bytes=st.sampled_from([1, 700, 5000, 100_000]))
def test_segments_come_out_joined_whatever_the_kernel_takes(
    pair: Callable[[], tuple[socket.socket, socket.socket]], pieces: list[bytes], read_bytes: int
) -> None:
    """Short writes, empty segments, slow readers: the bytes are those of all segments."""
    came = _sent_through(pair, _outgoing(pieces), max(read_bytes, sum(map(len, pieces)) // 300))

    assert b"".join(pieces) == came


@settings(max_examples=15)
@given(parts=st.lists(st.lists(st.binary(max_size=3000), min_size=1), min_size=1, max_size=5))
def test_several_outgoings_together_are_one_after_the_other(parts: list[list[bytes]]) -> None:
    """One system call for all, and each keeps its own memory alive."""
    together = Outgoing.together([_outgoing([bytes(bytearray(b)) for b in p]) for p in parts])
    gc.collect(0)  # what is new; the rest takes 20 ms an example

    assert sum(len(piece) for part in parts for piece in part) == together.nbytes
    came = _sent_through(_unix_pair, together, 100_000)

    assert b"".join(piece for part in parts for piece in part) == came


@pytest.mark.parametrize("sizes", [[1], [0, 3], [1, 0, 0, 700], [0] * 1024 + [1], [0]])
@pytest.mark.parametrize("count", [1023, 1024, 1025, 5000])
def test_more_segments_than_one_call_takes_come_out_joined(sizes: list[int], count: int) -> None:
    """The kernel takes IOV_MAX at a time."""
    random = np.random.default_rng(count)
    pieces = [random.bytes(sizes[i % len(sizes)]) for i in range(count)]

    assert b"".join(pieces) == _sent_through(_unix_pair, _outgoing(pieces), 100_000)


def test_full_socket_takes_nothing_and_a_broken_one_is_an_error() -> None:
    """EAGAIN is 0; a peer that has gone is an OSError, and no signal ends the process."""
    sender, receiver = socket.socketpair()
    with sender:
        sender.settimeout(0)
        outgoing = _outgoing([bytes(_MIB)] * 8)
        while outgoing.write_to(sender.fileno()):
            pass

        assert 0 == outgoing.write_to(sender.fileno())
        receiver.close()
        with pytest.raises(OSError) as failure:
            outgoing.write_to(sender.fileno())
    assert failure.value.errno in (errno.EPIPE, errno.ECONNRESET)
    assert not outgoing.is_done
    with pytest.raises(OSError):
        outgoing.write_to(-1)


def test_file_that_shrinks_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """What writev can't read any more ends the connection, not the process."""
    path = tmp_path / "mapped"
    path.write_bytes(bytes(_MIB))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = np.frombuffer(mapped, np.uint8)
    outgoing = Outgoing(np.array([[view.ctypes.data, len(view)]], np.int64), view)
    os.truncate(path, 0)
    sender, receiver = socket.socketpair()
    with sender, receiver, pytest.raises(OSError) as failure:
        outgoing.write_to(sender.fileno())

    assert errno.EFAULT == failure.value.errno


class _Owner:
    """Something whose end can be seen."""


def test_owners_live_as_long_as_what_is_outgoing() -> None:
    """Half sent, whoever made the bytes may forget them; sent and dropped, they are gone."""
    owner = _Owner()
    seen = weakref.ref(owner)
    data = np.frombuffer(np.random.default_rng(0).bytes(_MIB), np.uint8)
    outgoing = Outgoing(np.array([[data.ctypes.data, len(data)]], np.int64), (owner, data))
    expected = bytes(data)
    del owner, data
    gc.collect()
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.settimeout(0)
        receiver.settimeout(10)
        came = bytearray()
        while not outgoing.is_done:
            assert seen() is not None
            if not outgoing.write_to(sender.fileno()):
                came += receiver.recv(1 << 16)
        sender.shutdown(socket.SHUT_WR)
        while rest := receiver.recv(1 << 16):
            came += rest
    del outgoing

    assert expected == bytes(came)
    assert seen() is None


class _Tracked(JoinedFrames):
    """Frames whose end can be seen."""

    __slots__ = ("__weakref__",)


class _TrackedService:
    """Sends blocks of noise, each in memory of its own, and sees which are alive."""

    def __init__(self, blocks: int = 40, block_bytes: int = 700_001) -> None:
        self._blocks = blocks
        self._block_bytes = block_bytes
        self._seen: list[weakref.ref[_Tracked]] = []

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(seen() is not None for seen in self._seen)

    def block(self, number: int) -> bytes:
        return framed(np.random.default_rng(number).bytes(self._block_bytes))

    def expected(self) -> bytes:
        return b"".join(map(self.block, range(self._blocks)))

    def get_embeddings(self, _request: pb.RequestParams, _caller: Caller) -> Answer:
        return Answer((), self._frames())

    stream_embedding = get_embeddings

    check_seconds = 60.0

    def check(self) -> None:
        """Find nothing in the way of calls."""

    def _frames(self) -> Generator[JoinedFrames, None, None]:
        for number in range(self._blocks):
            # Freed at once when its last owner goes: using it after that is no secret.
            memory = np.frombuffer(self.block(number), np.uint8).copy()
            frames = _Tracked(pa.py_buffer(memory), np.array([0, len(memory)]), 1)
            self._seen.append(weakref.ref(frames))
            yield frames
            del frames, memory


@pytest.fixture
def service() -> _TrackedService:
    return _TrackedService()


@pytest.fixture
def server(service: _TrackedService) -> Iterator[WireEngine]:
    with serving(service) as server:
        server._server._listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        yield server


def _greedy(port: int) -> Peer:
    """Return a peer with a small socket and open windows: writes are short."""
    peer = Peer(port, settings={4: MAX_WINDOW}, receive_bytes=2048)
    peer.open_window(MAX_WINDOW - WINDOW, 0)
    peer.opens_windows = False
    return peer


def test_slow_reader_gets_every_byte_and_few_blocks_wait_for_it(
    server: WireEngine, service: _TrackedService
) -> None:
    """A block is made when the one before is on its way, and gone when it was taken."""
    with _greedy(server.port) as peer:
        stream_id = peer.call(STREAM)
        for part in range(1, 5):
            assert peer.until_received(stream_id, part * 700_000)
            time.sleep(0.05)
            assert 1 <= service.alive <= 3
        assert peer.until_ended(stream_id)
        assert service.expected() == bytes(peer.data[stream_id])
        assert eventually(lambda: not service.alive)


def test_reset_in_mid_block_leaves_the_connection_sound(
    server: WireEngine, service: _TrackedService
) -> None:
    """The frame that was being written is finished, and the next call's bytes are right."""
    with _greedy(server.port) as peer:
        for _ in range(5):
            first = peer.call(STREAM)
            assert peer.until_received(first, 100_000)
            peer.send(RstStreamFrame(first, _CANCEL))
            peer.unary(HEALTH)
        second = peer.call(STREAM)

        assert peer.until_ended(second)
        assert service.expected() == bytes(peer.data[second])
        assert eventually(lambda: not service.alive)


@pytest.mark.parametrize("how", ["close", "reset", "stop"])
def test_connection_closed_in_mid_write_lets_go_of_everything(
    server: WireEngine, service: _TrackedService, how: str
) -> None:
    """No block outlives the connection that it was for."""
    with _greedy(server.port) as peer:
        stream_ids = [peer.call(STREAM) for _ in range(3)]
        assert peer.until_received(stream_ids[0], 100_000)
        assert service.alive
        if how == "stop":
            server.stop(0)
        if how == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert eventually(lambda: not service.alive)


def _is_mapped(inode: int) -> bool:
    gc.collect()
    fields = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    return any(field[4] == str(inode) for field in fields)


@pytest.mark.parametrize("rpc", [STREAM, ROWS])
@pytest.mark.parametrize("gathers", [True, False])
def test_stream_ends_with_the_file_that_it_began_with(
    tmp_path: Path,
    rpc: str,
    gathers: bool,  # noqa: FBT001
) -> None:
    """A file replaced in mid-stream stays mapped until its last byte is sent, and no longer."""
    path, new = tmp_path / "jobs.arrow", tmp_path / "new.arrow"
    write_dataset(path, rows=20_000, dimension=100, batch_rows=3000, seed=1)
    write_dataset(new, rows=100, dimension=100, seed=2)
    inode = path.stat().st_ino
    service = EmbeddingService(
        Dataset(path, kept_head_bytes=_MIB), chunk_rows=lambda _: 300, max_message_bytes=_MIB
    )
    expected = answer_bytes(service, rpc, pb.RequestParams())
    with serving(service, gathers=gathers) as server, _greedy(server.port) as peer:
        server._server._listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        stream_id = peer.call(rpc)
        assert peer.until_received(stream_id, 10_000)
        new.replace(path)
        with Peer(server.port) as another:
            other = another.call(rpc)
            assert another.until_ended(other)
        assert _is_mapped(inode)
        while not peer.until_ended(stream_id, 0.05):
            noise = [np.random.default_rng(i).bytes(_MIB) for i in range(3)]
            del noise

        assert answer_bytes(service, rpc, pb.RequestParams()) == bytes(another.data[other])
        assert expected == bytes(peer.data[stream_id])
        assert eventually(lambda: not _is_mapped(inode))


@pytest.mark.parametrize("rpc", [STREAM, ROWS])
def test_connection_closed_in_mid_write_unmaps_a_file_that_was_replaced(
    tmp_path: Path, rpc: str
) -> None:
    """Nothing of the old file is left when the last peer that was reading it has gone."""
    path, new = tmp_path / "jobs.arrow", tmp_path / "new.arrow"
    write_dataset(path, rows=20_000, dimension=100, seed=1)
    write_dataset(new, rows=100, dimension=100, seed=2)
    inode = path.stat().st_ino
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=16 * _MIB)
    with serving(service) as server:
        with _greedy(server.port) as peer:
            stream_id = peer.call(rpc)
            assert peer.until_received(stream_id, 10_000)
            new.replace(path)
            answer_bytes(service, rpc, pb.RequestParams())
            assert _is_mapped(inode)

        assert eventually(lambda: not _is_mapped(inode))

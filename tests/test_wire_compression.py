"""Compressed requests: read on both engines, and no larger than messages may be."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hyperframe.frame import DataFrame
from hypothesis import given
from hypothesis import strategies as st

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc
from streamer.dataset import Dataset
from streamer.engines.wire.messages import CompressedRun, MessageReader
from streamer.engines.wire.request import RefusedError
from streamer.errors import Status
from streamer.service import EmbeddingService
from streamer.upload_service import UploadService
from tests.datasets import make_batch, messages_of, write_dataset
from tests.engines import ENGINES, STARTERS
from tests.memory_peer import prefixed
from tests.wire_peer import ROWS, Peer, framed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.codec.message_run import MessageRun
    from streamer.engines.hosting import RunningEngine
    from streamer.row_check import CheckedRows, RejectedRow

_SECONDS = 60.0
_MIB = 1 << 20
_PACK: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}
_STOCK = [grpc.Compression.Gzip, grpc.Compression.Deflate]


def _taken(run: MessageRun) -> list[bytes]:
    """Return the messages as a method gets them."""
    if isinstance(run, CompressedRun):
        return [message for part in run.unpacked() for message in part]
    return list(run)


# What is read


@given(
    st.sampled_from(sorted(_PACK)),
    st.lists(st.tuples(st.booleans(), st.binary(max_size=60))),
    st.lists(st.integers(0, 3000)),
)
def test_compressed_messages_are_what_they_were(
    encoding: bytes, messages: list[tuple[bool, bytes]], cuts: list[int]
) -> None:
    """Among uncompressed ones, in order, wherever their DATA is cut."""
    data = b"".join(
        prefixed(_PACK[encoding](message), 1) if packed else prefixed(message)
        for packed, message in messages
    )
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = MessageReader(encoding, 100)

    assert [message for _, message in messages] == [
        message
        for start, stop in pairwise(bounds)
        for message in _taken(reader.feed(data[start:stop]))
    ]


@pytest.mark.parametrize("encoding", sorted(_PACK))
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda packed: packed[:-1], Status.INTERNAL),
        (lambda packed: packed + b"more", Status.INTERNAL),
        (lambda packed: packed + packed, Status.INTERNAL),
        (lambda packed: packed[:2] + b"\xff" * 20, Status.INTERNAL),
        (lambda _: b"", Status.INTERNAL),
        (lambda _: b"plain", Status.INTERNAL),
    ],
)
def test_what_cannot_be_unpacked_is_refused(
    encoding: bytes, change: Callable[[bytes], bytes], status: Status
) -> None:
    """Cut off, followed by something, or something else entirely."""
    message = change(_PACK[encoding](b"a message" * 5))
    run = MessageReader(encoding, 100).feed(prefixed(message, 1))
    with pytest.raises(RefusedError) as refusal:
        _taken(run)

    assert status == refusal.value.status


# Bombs: little that becomes much


@pytest.mark.parametrize("encoding", sorted(_PACK))
@pytest.mark.parametrize("excess", [0, 1, 64 * _MIB])
def test_a_message_may_be_as_large_as_an_uncompressed_one(encoding: bytes, excess: int) -> None:
    """A byte more is refused, and of what is more nothing is unpacked."""
    packed = _PACK[encoding](bytes(_MIB + excess))
    run = MessageReader(encoding, _MIB).feed(prefixed(packed, 1))
    tracemalloc.start()
    try:
        if excess:
            with pytest.raises(RefusedError) as refusal:
                _taken(run)
            assert Status.RESOURCE_EXHAUSTED == refusal.value.status
        else:
            assert [_MIB] == [len(message) for message in _taken(run)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * _MIB


def test_many_bombs_are_unpacked_one_after_another() -> None:
    """However many have come, a message's size is held, and what nobody takes isn't unpacked."""
    run = MessageReader(b"gzip", _MIB).feed(prefixed(gzip.compress(bytes(_MIB)), 1) * 200)
    assert isinstance(run, CompressedRun)
    assert run.held_bytes < _MIB
    tracemalloc.start()
    try:
        assert 200 == sum(len(part) for part in run.unpacked())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * _MIB


# Both engines


class _Sink:
    dimension: int | None = None

    def __init__(self) -> None:
        self.rows = 0

    def write(self, rows: CheckedRows) -> list[RejectedRow]:
        self.rows += rows.batch.num_rows if rows.batch else 0
        return []


_Servers = tuple[str, "RunningEngine", "RunningEngine"]


@pytest.fixture(scope="module", params=ENGINES)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Servers]:
    """Return the engine, a server of rows and a receiver."""
    path = tmp_path_factory.mktemp("data") / "jobs.arrow"
    write_dataset(path, rows=50)
    rows = EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=_MIB)
    uploads = UploadService(lambda: contextlib.nullcontext(_Sink()), block_bytes=1 << 14)
    with contextlib.ExitStack() as running:
        started = []
        for service in (rows, uploads):
            server = STARTERS[request.param](service, max_message_bytes=64 << 10)
            running.callback(server.stop, 0)
            started.append(server)
        yield request.param, started[0], started[1]


@pytest.mark.parametrize("compression", _STOCK)
def test_a_stock_client_may_compress_its_requests(
    servers: _Servers, compression: grpc.Compression
) -> None:
    """One message, or a stream of them."""
    _, rows, receiver = servers
    batch = make_batch(3000, dimension=24)
    messages = [pb.Embedding(**row) for row in messages_of(batch)]
    with grpc.insecure_channel(rows.address, compression=compression) as channel:
        stub = pb_grpc.EmbeddingStreamServiceStub(channel)
        after = "0" * 8 + "-0000-0000-0000-" + "0" * 12
        chunks = stub.StreamEmbedding(pb.RequestParams(last_processed_uuid=after), timeout=_SECONDS)
        assert 50 == sum(len(chunk.rows) for chunk in chunks)
    with grpc.insecure_channel(receiver.address, compression=compression) as channel:
        result = pb_grpc.EmbeddingUploadServiceStub(channel).UploadEmbeddings(
            iter(messages), timeout=_SECONDS
        )

    assert (3000, 3000) == (result.total_count, result.success_count)


def _failure(action: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        action()
    error: Any = raised.value
    return str(error.code().name)


@pytest.mark.parametrize("compression", _STOCK)
def test_bombs_are_refused(servers: _Servers, compression: grpc.Compression) -> None:
    """A message of 32 MiB that came as 32 KiB; the connection goes on."""
    _, rows, receiver = servers
    options = [("grpc.max_send_message_length", -1)]
    bomb = "x" * (32 * _MIB)
    with (
        grpc.insecure_channel(rows.address, options, compression) as to_rows,
        grpc.insecure_channel(receiver.address, options, compression) as to_receiver,
    ):
        stream = pb_grpc.EmbeddingStreamServiceStub(to_rows).StreamEmbedding
        upload = pb_grpc.EmbeddingUploadServiceStub(to_receiver).UploadEmbeddings
        request = pb.RequestParams(last_processed_uuid=bomb)
        row = pb.Embedding(company_name=bomb)
        good = pb.Embedding(id="01890000-0000-7000-8000-000000000000", vector=[1.0])

        assert "RESOURCE_EXHAUSTED" == _failure(lambda: list(stream(request, timeout=_SECONDS)))
        assert "RESOURCE_EXHAUSTED" == _failure(lambda: upload(iter([row]), timeout=_SECONDS))
        assert list(stream(pb.RequestParams(), timeout=_SECONDS))
        assert 2 == upload(iter([good] * 2), timeout=_SECONDS).success_count


@pytest.mark.parametrize("servers", ["wire"], indirect=True)  # the C-core says INTERNAL
def test_other_encodings_are_refused_with_those_that_are_read(servers: _Servers) -> None:
    """As gRPC's doc/compression.md has it: UNIMPLEMENTED, and grpc-accept-encoding."""
    _, rows, _ = servers
    with Peer(rows.port) as peer:
        head = peer.headers(ROWS, **{"grpc-encoding": "br"})
        message = b"\1" + framed(b"whatever")[1:]
        peer.send(head, DataFrame(head.stream_id, message, flags=["END_STREAM"]))
        assert peer.until_ended(head.stream_id, _SECONDS)
        fields = peer.trailers[head.stream_id]

    assert "12" == fields["grpc-status"]
    accepted = {each.strip() for each in fields["grpc-accept-encoding"].split(",")}
    assert {"identity", "deflate", "gzip"} == accepted

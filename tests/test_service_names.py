"""The names that the services answer under, on both engines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from proto import embedding_stream_pb2 as pb
from streamer.dataset import Dataset
from streamer.service import EmbeddingService
from streamer.upload_service import UploadService
from tests.datasets import write_dataset
from tests.engines import ENGINES, STARTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.row_check import CheckedRows, RejectedRow

_SECONDS = 60.0
_ROWS = 20
_ALIASES = ["com.alpha.backend.grpc", "x"]
_PACKAGES = ["embedding.", "", "com.alpha.backend.grpc.", "x."]


class _Sink:
    dimension: int | None = None

    def write(self, _rows: CheckedRows) -> list[RejectedRow]:
        return []


@pytest.fixture(scope="module", params=ENGINES)
def channels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any]]:
    """Return channels to a server of rows and to a receiver."""
    path = tmp_path_factory.mktemp("data") / "jobs.arrow"
    write_dataset(path, rows=_ROWS)
    rows = EmbeddingService(Dataset(path), chunk_rows=lambda _: 300, max_message_bytes=1 << 20)
    uploads = UploadService(lambda: contextlib.nullcontext(_Sink()), block_bytes=1024)
    with contextlib.ExitStack() as running:
        channels = []
        for service in (rows, uploads):
            server = STARTERS[request.param](service, alias_packages=_ALIASES)
            running.callback(server.stop, 0)
            channels.append(running.enter_context(grpc.insecure_channel(server.address)))
        yield channels[0], channels[1]


@pytest.mark.parametrize("package", _PACKAGES)
def test_the_services_answer_in_every_package(channels: tuple[Any, Any], package: str) -> None:
    """The proto's own, none, as the design's snippet has it, and those of SERVICE_ALIASES."""
    rows, uploads = channels
    request = pb.RequestParams().SerializeToString()
    get = rows.unary_stream(f"/{package}EmbeddingStreamService/GetEmbeddings")
    stream = rows.unary_stream(f"/{package}EmbeddingStreamService/StreamEmbedding")
    upload = uploads.stream_unary(f"/{package}EmbeddingUploadService/UploadEmbeddings")
    row = pb.Embedding(id="01890000-0000-7000-8000-000000000000", vector=[1.0])

    assert _ROWS == len(list(get(request, timeout=_SECONDS)))
    (chunk,) = stream(request, timeout=_SECONDS)
    assert _ROWS == len(pb.RowChunk.FromString(chunk).rows)
    result = upload(iter([row.SerializeToString()] * 3), timeout=_SECONDS)
    assert 3 == pb.UploadResult.FromString(result).success_count


def test_other_packages_are_unknown(channels: tuple[Any, Any]) -> None:
    """A package answers because somebody has said so."""
    method = channels[0].unary_stream("/com.alpha.EmbeddingStreamService/GetEmbeddings")
    with pytest.raises(grpc.RpcError) as refusal:
        list(method(b"", timeout=_SECONDS))

    code: Any = refusal.value
    assert "UNIMPLEMENTED" == code.code().name


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_what_it_lists(channels: tuple[Any, Any], version: str) -> None:
    """In both of its versions, itself included; of aliases there is no descriptor."""
    ask = channels[0].stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )

    def answers(**request: Any) -> Any:
        requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
        (answer,) = ask(requests, timeout=_SECONDS)
        return answer

    def file(**request: Any) -> bytes:
        (found,) = answers(**request).file_descriptor_response.file_descriptor_proto
        return bytes(found)

    listed = answers(list_services="").list_services_response.service
    names = {service.name for service in listed}
    assert names == {
        "embedding.EmbeddingStreamService", "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    for name in names:
        description = file(file_containing_symbol=name)
        described = descriptor_pb2.FileDescriptorProto.FromString(description)
        assert description == file(file_by_filename=described.name)
        assert name in {f"{described.package}.{service.name}" for service in described.service}
        types = {method.input_type for service in described.service for method in service.method}
        assert all(each.startswith(f".{described.package}.") for each in types)

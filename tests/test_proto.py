"""The generated code is that of the contract, and the contract keeps its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from proto import embedding_stream_pb2 as pb
from proto.generate import generate

_PROTO = Path(pb.__file__).parent
_GENERATED = sorted(path.name for path in _PROTO.glob("embedding_stream_pb2*"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    generate(out)
    return out / "proto"


@pytest.mark.parametrize("name", _GENERATED)
def test_generated_code_is_fresh(fresh: Path, name: str) -> None:
    """Generating again gives what is committed; if it doesn't: make proto."""
    assert (fresh / name).read_text() == (_PROTO / name).read_text()


def test_every_generated_file_is_committed(fresh: Path) -> None:
    """Nothing that the generator makes is missing."""
    assert sorted(path.name for path in fresh.iterdir()) == _GENERATED


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("RequestParams", "last_processed_uuid:1:string chunk_size:2:int32"),
        (
            "Embedding",
            (
                "id:1:string company_name:2:string exp_years:3:int32 english_level:4:string "
                "primary_keyword:5:string vector:6:float*"
            ),
        ),
        ("RowChunk", "rows:1:message*"),
        (
            "UploadResult",
            "total_count:1:int32 success_count:2:int32 failed_count:3:int32 failed_ids:4:string*",
        ),
    ],
)
def test_field_numbers_never_change(message: str, fields: str) -> None:
    """Programs out there rely on these names, numbers and types."""
    kinds = {9: "string", 5: "int32", 2: "float", 11: "message"}
    found = [
        f"{field.name}:{field.number}:{kinds[field.type]}{'*' if field.is_repeated else ''}"
        for field in pb.DESCRIPTOR.message_types_by_name[message].fields
    ]

    assert fields == " ".join(found)


def test_services_have_their_methods() -> None:
    """The three RPCs, their messages and what streams."""
    methods = {
        method.full_name: (
            method.input_type.name, method.client_streaming,
            method.output_type.name, method.server_streaming,
        )
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }  # fmt: skip

    expected = {
        "embedding.EmbeddingStreamService.GetEmbeddings": (
            "RequestParams", False, "Embedding", True,
        ),
        "embedding.EmbeddingStreamService.StreamEmbedding": (
            "RequestParams", False, "RowChunk", True,
        ),
        "embedding.EmbeddingUploadService.UploadEmbeddings": (
            "Embedding", True, "UploadResult", False,
        ),
    }  # fmt: skip
    assert expected == methods


def test_java_gets_files_of_its_own() -> None:
    """java_multiple_files and java_package are set."""
    options = text_format.MessageToString(pb.DESCRIPTOR.GetOptions())

    assert "java_multiple_files: true" in options
    assert "java_package:" in options

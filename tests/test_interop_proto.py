"""The interop services are gRPC's own, and their generated code is that of the proto."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.grpc_testing import interop_pb2 as pb
from tests.grpc_testing.generate import generate

_FOLDER = Path(pb.__file__).parent
_GENERATED = sorted(path.name for path in _FOLDER.glob("interop_pb2*"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    generate(out)
    return out / "tests" / "grpc_testing"


def test_generated_interop_code_is_fresh(fresh: Path) -> None:
    """Generating again gives the same files; if not: python -m tests.grpc_testing.generate ."""
    assert _GENERATED == sorted(path.name for path in fresh.iterdir())
    assert {name: (fresh / name).read_text() for name in _GENERATED} == {
        name: (_FOLDER / name).read_text() for name in _GENERATED
    }


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("Empty", ""),
        ("Payload", "type:1:enum body:2:bytes"),
        ("EchoStatus", "code:1:int32 message:2:string"),
        (
            "SimpleRequest",
            (
                "response_type:1:enum response_size:2:int32 payload:3:message "
                "response_status:7:message"
            ),
        ),
        ("SimpleResponse", "payload:1:message"),
        ("StreamingInputCallRequest", "payload:1:message"),
        ("StreamingInputCallResponse", "aggregated_payload_size:1:int32"),
        ("ResponseParameters", "size:1:int32 interval_us:2:int32"),
        (
            "StreamingOutputCallRequest",
            (
                "response_type:1:enum response_parameters:2:message* payload:3:message "
                "response_status:7:message"
            ),
        ),
        ("StreamingOutputCallResponse", "payload:1:message"),
    ],
)
def test_interop_messages_have_their_numbers(message: str, fields: str) -> None:
    """Names, numbers and types are those of grpc/grpc, src/proto/grpc/testing."""
    kinds = {5: "int32", 9: "string", 11: "message", 12: "bytes", 14: "enum"}
    found = [
        f"{field.name}:{field.number}:{kinds[field.type]}{'*' if field.is_repeated else ''}"
        for field in pb.DESCRIPTOR.message_types_by_name[message].fields
    ]

    assert fields == " ".join(found)

"""The reflection service in both of its versions, whose messages are the same bytes.

grpcio-reflection has v1alpha alone. v1 differs in the name of the package: it is made of
v1alpha's descriptor and answered by the same servicer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "grpc.reflection.v1.ServerReflection"
_FILE = "grpc/reflection/v1/reflection.proto"


def add_reflection(server: Any, names: Sequence[str]) -> None:  # noqa: ANN401
    """Let clients find out the services `names`, and reflection's own two.

    `server` is whatever generated functions can add servicers to.
    """
    _describe_v1()
    servicer = reflection.ReflectionServicer((*names, _NAME, reflection.SERVICE_NAME))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in (_NAME, reflection.SERVICE_NAME)
        ]
    )


def _describe_v1() -> None:
    """Add v1's descriptor to those that the servicer knows, unless it is there."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(_NAME)
    except KeyError:
        alpha = FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        text = text_format.MessageToString(alpha).replace(".v1alpha", ".v1")
        file = text_format.Parse(text, FileDescriptorProto())
        file.name = _FILE
        pool.Add(file)

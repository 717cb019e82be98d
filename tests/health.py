"""Asks the standard health service, in its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    import grpc

_SECONDS = 60.0
_Status = health_pb2.HealthCheckResponse


def checked(channel: grpc.Channel, name: str) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=_SECONDS)
    return _Status.ServingStatus.Name(answer.status)


class Watch:
    """What Watch tells of a name, one change after another."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=_SECONDS)

    def next(self) -> str:
        return _Status.ServingStatus.Name(next(self._call).status)

    def cancel(self) -> None:
        self._call.cancel()

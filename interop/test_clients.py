"""Clients that nobody here wrote read the whole dataset, and every bit of it is right.

Each is a process of its own, made with another gRPC implementation or another of its APIs
(`interop/clients`). It reads one stream from a real server and prints how many rows came and
their digest, which has to be that of the dataset file (`interop/dataset.py`).
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from interop.toolchains import ROOT

if TYPE_CHECKING:
    from interop.dataset import Dataset
    from interop.servers import Server

# The toolchain, which is a fixture, and the client.
_CLIENTS = (
    ("python", "grpcio_sync"),
    ("python", "grpcio_aio"),
    ("node", "grpc_js"),
    ("java", "BlockingClient"),
    ("java", "AsyncClient"),
    ("java", "RequestingClient"),
    ("cpp", "cpp_sync"),
)
# The slowest takes half a minute for the whole dataset.
_CLIENT_SECONDS = 240


class Client(NamedTuple):
    """A built client; TARGET and RPC complete its command line."""

    name: str
    command: list[str]


@pytest.fixture(params=_CLIENTS, ids="-".join)
def client(request: pytest.FixtureRequest) -> Client:
    toolchain, name = request.param
    return Client(name, request.getfixturevalue(toolchain)[name])


@pytest.mark.parametrize("rpc", ["GetEmbeddings", "StreamEmbedding"])
def test_client_reads_every_row(
    dataset: Dataset, server: Server, client: Client, rpc: str, rates: list[str]
) -> None:
    """The rows and their digest are those of the file, whoever reads them."""
    done = subprocess.run(
        [*client.command, server.target, rpc],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=_CLIENT_SECONDS,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rate = report["rows"] / max(report["seconds"], 0.001)
    rates.append(f"{server.engine:8} {rpc:16} {client.name:17} {rate:>9,.0f} rows/s")
    assert (len(dataset.ids), dataset.digest) == (report["rows"], report["digest"])

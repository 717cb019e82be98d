"""h2load, nghttp2's load generator, asks for the server's health: many calls, connections, streams.

h2load knows nothing of gRPC and counts any HTTP 200 as success. A gRPC error is one, too, but
has no message, hence the look at the bytes of the bodies.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NoReturn

from interop.toolchains import MissingToolchainError, require_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from interop.servers import Server

_CALLS = 4000
_CONNECTIONS = 8
_STREAMS = 16  # at once, of a connection
_SECONDS = 120
# gRPC's length-prefixed messages: a HealthCheckRequest without fields, and the answer SERVING.
_REQUEST = bytes(5)
_ANSWER_BYTES = len(b"\0\0\0\0\x02" + b"\x08\x01")


def test_every_health_check_is_answered(
    server: Server, folder: Path, rates: list[str], missing: Callable[[object], NoReturn]
) -> None:
    """No call of thousands fails, is cut off, or says anything but SERVING."""
    try:
        h2load = require_command("h2load")
    except MissingToolchainError as error:
        missing(error)
    body = folder / "health_check_request"
    body.write_bytes(_REQUEST)

    done = subprocess.run(
        [
            h2load, f"--requests={_CALLS}", f"--clients={_CONNECTIONS}",
            f"--max-concurrent-streams={_STREAMS}", f"--data={body}",
            "--header=content-type: application/grpc", "--header=te: trailers",
            f"http://{server.target}/grpc.health.v1.Health/Check",
        ],
        capture_output=True, text=True, check=False, timeout=_SECONDS,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)[,\n]", done.stdout)}
    assert counts["succeeded"] == counts["done"] == _CALLS, done.stdout
    assert counts["failed"] == counts["errored"] == counts["timeout"] == 0, done.stdout
    data_bytes = re.search(r"\((\d+)\) data", done.stdout)
    assert data_bytes, done.stdout
    assert int(data_bytes[1]) == _CALLS * _ANSWER_BYTES, done.stdout
    per_second = re.search(r"([\d.]+) req/s", done.stdout)
    assert per_second, done.stdout
    rates.append(f"{server.engine:8} Health/Check     h2load            {per_second[1]:>9} calls/s")

"""Clients that mean well, each in a process of its own, beside an attack.

    python -m tests.attacks.honest HOST:PORT health|stream --pause-ms N [--chunk-rows N]

`health` asks for the server's health, `stream` reads all rows, again and again. For each line on
standard input it prints a line of JSON: what has happened since the one before. It waits for a
check that began after the question, and a whole stream that began after the question before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[2]
# Longer than anybody waits for a health check, so that a late answer is seen as one.
_CALL_SECONDS = 60.0
_AFTER_FAILURE_SECONDS = 0.05


class Seen(NamedTuple):
    """What a client has seen of the server: how long its calls took, rows of each, failures."""

    milliseconds: list[float]
    rows: list[int]
    failures: list[str]

    def percentile(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class HonestClient:
    """A client process."""

    def __init__(
        self,
        target: str,
        kind: str,
        *,
        pause_ms: float,
        chunk_rows: int = 300,
        ca: Path | None = None,
    ) -> None:
        """`ca`: the server speaks TLS, with a certificate that this PEM file vouches for."""
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.attacks.honest", target, kind,
                "--pause-ms", str(pause_ms), "--chunk-rows", str(chunk_rows),
                *(["--ca", str(ca)] if ca else []),
            ],
            cwd=_ROOT, env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.seen()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def seen(self) -> Seen:
        """Return what has happened since the last time."""
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.poll() is None, "an honest client has died"
        print(file=self._process.stdin, flush=True)
        return Seen(*json.loads(self._process.stdout.readline()))


class _Worker:
    """Makes one call after another in a thread."""

    def __init__(self, call: Callable[[], int], pause_seconds: float) -> None:
        self._call = call
        self._pause_seconds = pause_seconds
        self._changed = threading.Condition()
        self._seen = Seen([], [], [])
        self._ended = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            begin = time.perf_counter()
            rows, failure = 0, ""
            try:
                rows = self._call()
            except grpc.RpcError as error:
                failure = f"{error.code().name}: {error.details()}"
            seconds = time.perf_counter() - begin
            with self._changed:
                self._ended += 1
                self._seen.milliseconds.append(seconds * 1000)
                self._seen.rows.append(rows)
                if failure:
                    self._seen.failures.append(failure)
                self._changed.notify_all()
            time.sleep(max(self._pause_seconds, _AFTER_FAILURE_SECONDS if failure else 0))

    def seen(self, whole_calls: int) -> Seen:
        """Wait for the end of so many calls, and return all since the last time."""
        with self._changed:
            enough = self._ended + whole_calls
            self._changed.wait_for(lambda: self._ended >= enough)
            seen, self._seen = self._seen, Seen([], [], [])
            return seen


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.attacks.honest")
    parser.add_argument("target")
    parser.add_argument("kind", choices=["health", "stream"])
    parser.add_argument("--pause-ms", type=float, required=True)
    parser.add_argument("--chunk-rows", type=int, required=True)
    parser.add_argument("--ca", type=Path)
    options = parser.parse_args()
    pause_seconds = options.pause_ms / 1000
    unlimited = [("grpc.max_receive_message_length", -1)]
    if options.ca is None:
        channel = grpc.insecure_channel(options.target, unlimited)
    else:
        trusted = grpc.ssl_channel_credentials(options.ca.read_bytes())
        own_name = ("grpc.ssl_target_name_override", "localhost")
        channel = grpc.secure_channel(options.target, trusted, [*unlimited, own_name])
    health: Any = health_pb2_grpc.HealthStub(channel)
    streams: Any = rpc.EmbeddingStreamServiceStub(channel)

    def check() -> int:
        health.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS)
        return 0

    def read() -> int:
        rows = 0
        request = pb.RequestParams(chunk_size=options.chunk_rows)
        for chunk in streams.StreamEmbedding(request, timeout=_CALL_SECONDS):
            rows += len(chunk.rows)
            time.sleep(pause_seconds)
        return rows

    is_health = options.kind == "health"
    worker = _Worker(check if is_health else read, pause_seconds if is_health else 0)
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(worker.seen(2 if is_health else 1)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

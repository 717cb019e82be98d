"""Servers of the same rows, side by side, and how to read streams from each of them."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, NamedTuple, Self

from benchmarks.measure import Pass, count_bytes, module, passes, run_python, serving, streamer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.conftest import Certificate
    from benchmarks.measure import Server
    from benchmarks.peers import Peers

# The largest that HTTP/2 knows, and the default of all clients.
LARGE, SMALL = 2**24 - 1, 2**14
ROWS_A_CHUNK = 300
_ROWS, _CHUNKS = "GetEmbeddings", "StreamEmbedding"
_KEPT_HEAD_BYTES = 32 << 20  # HEAD_CACHE_SIZE's default
# Read from a fast server at a time; slow ones have fewer, or a run would take all day.
_STREAMS = 5


class Lane(NamedTuple):
    """A server and a client: `read` reads that many streams, one after the other."""

    server: Server
    read: Callable[[int], list[Pass]]
    streams: int


class Speed:
    """What was measured in one lane."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.first_byte_seconds: list[float] = []
        self.stream_bytes = 0
        self._cpu_seconds = 0.0

    def add(self, found: list[Pass], cpu_seconds: float) -> None:
        self.seconds += [stream.seconds for stream in found]
        self.first_byte_seconds += [stream.first_byte_seconds for stream in found]
        (self.stream_bytes,) = {stream.data_bytes for stream in found}
        self._cpu_seconds += cpu_seconds

    @property
    def cpu_seconds(self) -> float:
        """What a stream cost the server; the kernel counts in hundredths of all of them."""
        return max(self._cpu_seconds, 0.01) / len(self.seconds)


class Lanes:
    """Lanes by name; `missing` says why there is none of a name."""

    def __init__(self, dataset: Path) -> None:
        self.missing: dict[str, str] = {}
        self._dataset = dataset
        self._lanes: dict[str, Lane] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def add_wire(self) -> None:
        """Add the wire engine as it is by default, without kept heads, and joined."""
        wire = self._start(streamer(self._dataset))
        anew = self._start(streamer(self._dataset, HEAD_CACHE_SIZE="0"))
        for frames, frame_bytes in (("16 MB", LARGE), ("16 KB", SMALL)):
            self._add_rows(f"wire, gathered, {frames}", wire, frame_bytes)
            self._add_rows(f"wire, gathered, {frames}, heads encoded anew", anew, frame_bytes)
        for name, kept_bytes in (("", _KEPT_HEAD_BYTES), (", heads encoded anew", 0)):
            command = module("benchmarks.joined_server", str(self._dataset), str(kept_bytes))
            self._add_rows(f"wire, joined{name}", self._start(serving(*command)))
        self._add_chunks("wire, chunks", wire)

    def add_grpcio(self) -> None:
        grpcio = self._start(streamer(self._dataset, "grpcio"))
        self._add_rows("grpcio", grpcio, streams=1)
        self._add_chunks("grpcio, chunks", grpcio)

    def add_raw(self) -> None:
        """Add sendall of the same bytes."""
        raw = self._start(serving(*module("benchmarks.raw_server", str(self._dataset))))
        self._add("raw", raw, functools.partial(_count, raw.target, "raw", ()))

    def add_tls(self, certificate: Certificate | None) -> None:
        """Add the wire engine and sendall, both over TLS."""
        if certificate is None:
            self.missing |= dict.fromkeys(("wire, TLS", "raw TLS"), "there is no openssl")
            return
        chain, key = map(str, certificate)
        command = module("benchmarks.raw_server", str(self._dataset), chain, key)
        raw = self._start(serving(*command))
        self._add("raw TLS", raw, functools.partial(_count, raw.target, "raw", ("--ca", chain)))
        wire = self._start(streamer(self._dataset, TLS_CERT=chain, TLS_KEY=key))
        options = ("--ca", chain)
        self._add("wire, TLS", wire, functools.partial(_count, wire.target, _ROWS, options))

    def add_flight(self) -> None:
        """Add Arrow Flight, with a client of its own."""
        flight = self._start(serving(*module("benchmarks.flight_server", str(self._dataset))))

        def read(streams: int) -> list[Pass]:
            run = run_python("-m", "benchmarks.flight_client", flight.target, str(streams))
            return passes(run.out)

        self._add("Arrow Flight", flight, read)

    def add_peers(self, peers: Peers, row_dump: Path) -> None:
        """Add servers made with gRPC's implementations for C++ and Java."""
        for name, language, program in (
            ("C++ gRPC", "cpp", "row_server"),
            ("grpc-java", "java", "RowServer"),
        ):
            if language in peers.missing:
                self.missing[name] = peers.missing[language]
                continue
            server = self._start(serving(*peers.commands[program], str(row_dump)))
            self._add_rows(name, server, streams=2)

    def race(self, rounds: int) -> dict[str, Speed]:
        """Read from all lanes in turn, `rounds` times, so that noise meets all of them alike."""
        for lane in self._lanes.values():
            lane.read(_STREAMS if lane.streams > 1 else 1)  # warm: caches, heads, compilers
        speeds = {name: Speed() for name in self._lanes}
        for _ in range(rounds):
            for name, lane in self._lanes.items():
                before = lane.server.cpu_seconds()
                found = lane.read(lane.streams)
                speeds[name].add(found, lane.server.cpu_seconds() - before)
        return speeds

    def _start(self, server: AbstractContextManager[Server]) -> Server:
        return self._stack.enter_context(server)

    def _add(
        self, name: str, server: Server, read: Callable[[int], list[Pass]], streams: int = _STREAMS
    ) -> None:
        self._lanes[name] = Lane(server, read, streams)

    def _add_rows(
        self, name: str, server: Server, frame_bytes: int = LARGE, streams: int = _STREAMS
    ) -> None:
        options = ("--frame-bytes", str(frame_bytes))
        self._add(name, server, functools.partial(_count, server.target, _ROWS, options), streams)

    def _add_chunks(self, name: str, server: Server) -> None:
        options = ("--chunk-size", str(ROWS_A_CHUNK))
        self._add(name, server, functools.partial(_count, server.target, _CHUNKS, options))


def _count(target: str, rpc: str, options: tuple[str, ...], streams: int) -> list[Pass]:
    return count_bytes(target, rpc, "--repeats", str(streams), *options)

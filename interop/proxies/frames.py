"""Counts the HTTP/2 frames between a proxy and a server: a relay in between, in clear text.

The prices of streamer/engines/wire rest on such counts; `--proxy-frames FILE` writes them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER_BYTES = 9
_PREFACE_BYTES = 24
_KINDS = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
    "WINDOW_UPDATE", "CONTINUATION",
)  # fmt: skip
_WITH_ANSWERS = ("SETTINGS", "PING")
_ACK = 0x1


class FrameCounts:
    """Frames since the last `take`: from the proxy by kind, and the bytes of the server's DATA."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        with self._lock:
            self._counts[name] += count

    def take(self) -> Counter[str]:
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return taken


@contextlib.contextmanager
def relayed(target: str, counts: FrameCounts) -> Iterator[str]:
    """Relay connections to `target`, counting their frames; yield HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, target, counts), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)  # which closing doesn't, while accept waits


def _accept(listener: socket.socket, target: str, counts: FrameCounts) -> None:
    with contextlib.suppress(OSError):
        while True:
            proxy, _ = listener.accept()
            counts.add("connections")
            threading.Thread(target=_connect, args=(proxy, target, counts), daemon=True).start()


def _connect(proxy: socket.socket, target: str, counts: FrameCounts) -> None:
    host, _, port = target.rpartition(":")
    with proxy, socket.create_connection((host, int(port))) as server:
        back = threading.Thread(
            target=_relay, args=(server, proxy, _FromServer(counts)), daemon=True
        )
        back.start()
        _relay(proxy, server, _FromProxy(counts))
        back.join()


def _relay(source: socket.socket, sink: socket.socket, counted: _Frames) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            counted.feed(data)
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Frames:
    """Follows the frames of one direction."""

    def __init__(self, counts: FrameCounts, to_skip: int) -> None:
        self.counts = counts
        self._held = b""
        self._to_skip = to_skip

    def feed(self, data: bytes) -> None:
        data = self._held + data
        place = self._to_skip
        while len(data) - place >= _HEADER_BYTES:
            header = data[place : place + _HEADER_BYTES]
            length = int.from_bytes(header[:3], "big")
            self.count(header, length)
            place += _HEADER_BYTES + length
        self._to_skip = max(place - len(data), 0)
        self._held = data[place:]

    def count(self, header: bytes, length: int) -> None:
        raise NotImplementedError


class _FromProxy(_Frames):
    def __init__(self, counts: FrameCounts) -> None:
        super().__init__(counts, _PREFACE_BYTES)

    def count(self, header: bytes, length: int) -> None:
        kind, flags, on_stream = header[3], header[4], any(header[5:])
        name = _KINDS[kind] if kind < len(_KINDS) else "unknown"
        if name == "WINDOW_UPDATE":
            name += " of a stream" if on_stream else " of the connection"
        elif name in _WITH_ANSWERS and flags & _ACK:
            name += " answer"
        self.counts.add(name)
        if name == "DATA":
            self.counts.add("bytes of DATA", length)


class _FromServer(_Frames):
    def __init__(self, counts: FrameCounts) -> None:
        super().__init__(counts, 0)

    def count(self, header: bytes, length: int) -> None:
        name = _KINDS[header[3]]
        self.counts.add(f"server: {name}")
        if name == "DATA":
            self.counts.add("server: bytes of DATA", length)

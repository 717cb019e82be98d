"""What attacks are made with: raw connections that send as fast as the server reads.

An attack is a function that takes an Attacker, opens connections through it and floods them.
A flood ends when its frames are at their end, when the server ends the connection, or when the
attacker may send no more: `max_frames` have been sent, or `seconds` are over.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import select
import socket
import ssl
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.memory_peer import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    window_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MAX_WINDOW = 2**31 - 1
_HEADER_BYTES = 9
_READ_BYTES = 1 << 18
# Frames are handed to the kernel in pieces of about this size.
_PIECE_BYTES = 32 << 10
_LOOK_SECONDS = 0.05
_CONNECT_SECONDS = 60.0
# A busy server needs long to come to the end of what the kernel holds for it: it is waited for
# as long as this, to see how it ends. Much more than this isn't put into the kernel.
_LAST_WORDS_SECONDS = 10.0
_SEND_BUFFER_BYTES = 128 << 10
_LAST_PING = b"and now?"
# For the end of a connection that can't be asked whether it lives.
_MUTE_SECONDS = 0.5
# SO_LINGER without any time: close() resets the connection.
_NO_LINGER = struct.pack("ii", 1, 0)
_ESTABLISHED = 1  # a state of TCP's, in Linux
_NAMES_OF_CODES = {
    0: "NO_ERROR", 1: "PROTOCOL_ERROR", 3: "FLOW_CONTROL_ERROR", 5: "STREAM_CLOSED",
    6: "FRAME_SIZE_ERROR", 7: "REFUSED_STREAM", 8: "CANCEL", 9: "COMPRESSION_ERROR",
    11: "ENHANCE_YOUR_CALM",
}  # fmt: skip


# What a socket says that can't be written or read now; with TLS either may need the other.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Attack(NamedTuple):
    """`tries` is one sentence: what the attack hopes for.

    `enough_frames` are as many as tests send: fewer of those that are dear to handle.
    """

    name: str
    tries: str
    run: Callable[[Attacker], None]
    enough_frames: int


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str, tries: str, *, enough_frames: int = 2000
) -> Callable[[Callable[[Attacker], None]], Attack]:
    """Enter a function into the catalogue."""

    def entered(run: Callable[[Attacker], None]) -> Attack:
        assert name not in ATTACKS
        ATTACKS[name] = made = Attack(name, tries, run, enough_frames)
        return made

    return entered


class Line:
    """One connection to the server under attack, and what the server has said on it.

    `listens`: what comes is read. `takes`: windows are given back as DATA comes. `is_mute`:
    it sends nothing by itself, neither answers nor PING, which a header block doesn't allow.
    """

    def __init__(
        self,
        port: int,
        *,
        listens: bool,
        takes: bool,
        receive_bytes: int | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.listens = listens
        self.is_mute = False
        self.is_over = False
        self.has_ponged = False
        self.unsent = bytearray()
        self.frames = 0
        self.goaway: tuple[int, str] | None = None
        self.resets: Counter[int] = Counter()
        self.answers = 0
        self.heard: set[int] = set()  # streams with HEADERS or DATA of the server's
        self.received: set[int] = set()  # streams with DATA
        self._takes = takes
        self._partial = b""
        plain = socket.socket()
        if receive_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(_CONNECT_SECONDS)
        plain.connect(("127.0.0.1", port))
        self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        self._socket.settimeout(0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self, *, by_reset: bool) -> None:
        if by_reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._socket.close()

    def write(self) -> None:
        """Hand the kernel as much of `unsent` as it takes."""
        try:
            del self.unsent[: self._socket.send(self.unsent)]
        except _NOT_NOW:
            return
        except OSError:
            while self.listens and self.read():
                pass  # the last words
            self.is_over = True

    def read(self) -> bool:
        """Take what has come; return whether there may be more."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except _NOT_NOW:
            return False
        except OSError:
            data = b""
        if not data:
            self.is_over = True
            return False
        data = self._partial + data
        place = 0
        while len(data) - place >= _HEADER_BYTES:
            end = place + _HEADER_BYTES + int.from_bytes(data[place : place + 3], "big")
            if end > len(data):
                break
            self._take(data[place:end])
            place = end
        self._partial = data[place:]
        return True

    def _take(self, whole: bytes) -> None:
        """Take note of a frame, and answer it if it must be."""
        kind, flags, payload = whole[3], whole[4], whole[_HEADER_BYTES:]
        stream_id = int.from_bytes(whole[5:9], "big")
        if kind == DATA:
            self.heard.add(stream_id)
            self.received.add(stream_id)
            if self._takes and payload:
                self._reply(window_update(0, len(payload)))
                self._reply(window_update(stream_id, len(payload)))
        elif kind == HEADERS:
            self.heard.add(stream_id)
            self.answers += bool(flags & END_STREAM)
        elif kind == RST_STREAM:
            self.resets[int.from_bytes(payload, "big")] += 1
        elif kind == GOAWAY and self.goaway is None:
            self.goaway = int.from_bytes(payload[4:8], "big"), payload[8:].decode("latin-1")
        elif kind == PING and flags & ACK:
            self.has_ponged |= payload == _LAST_PING
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._reply(frame(kind, payload if kind == PING else b"", flags=ACK))

    def _reply(self, data: bytes) -> None:
        if not self.is_mute:
            self.unsent += data

    @property
    def end(self) -> str:
        """How it stands with the connection."""
        if not self.listens:
            state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            self.is_over |= state != _ESTABLISHED
        if self.goaway is not None:
            code, text = self.goaway
            return f"GOAWAY {_NAMES_OF_CODES.get(code, code)} {re.sub('[0-9]+', 'N', text)}".strip()
        if self.is_over:
            return "closed"
        return "lives, much unread" if self.unsent and not self.has_ponged else "lives"


class Attacker:
    """Opens connections to one server, and counts what is sent and how it ends."""

    def __init__(
        self, port: int, *, max_frames: int, seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self.frames = 0
        self.connections = 0
        self.answers = 0
        self.resets: Counter[int] = Counter()
        self.ends: Counter[str] = Counter()
        self.frames_of_first = 0  # sent on the first connection that was flooded
        self._port = port
        self._tls = tls
        self._lines: list[Line] = []
        self._max_frames = max_frames
        self._end = time.monotonic() + seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for line in self._lines:
            line.close(by_reset=True)

    @property
    def outcome(self) -> str:
        """What was sent and what came of it."""
        ends = ", ".join(
            end if count == 1 else f"{end} ({count:,} times)"
            for end, count in self.ends.most_common(3)
        )
        resets = "".join(
            f"; {count:,} RST_STREAM {_NAMES_OF_CODES.get(code, code)}"
            for code, count in self.resets.most_common(2)
        )
        answers = f"; {self.answers:,} answers" if self.answers else ""
        return f"{ends}{resets}{answers}"

    def run(self, attack: Attack, *, again: bool = False) -> None:
        """Make an attack; `again`: from the beginning, for as long as more may be sent."""
        while True:
            attack.run(self)
            self.hang_up()
            if not (again and self.may_go_on):
                return

    @property
    def may_go_on(self) -> bool:
        return self.frames_left > 0 and self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    @property
    def frames_left(self) -> int:
        return self._max_frames - self.frames

    def connect(
        self,
        settings: Mapping[int, int] | None = None,
        *,
        first: bytes | None = None,
        listens: bool = True,
        takes: bool = False,
        receive_bytes: int | None = None,
    ) -> Line:
        """Open a connection and send preface and SETTINGS; `first` instead if that is given."""
        line = Line(
            self._port, listens=listens, takes=takes, receive_bytes=receive_bytes, tls=self._tls
        )
        self.connections += 1
        self._lines.append(line)
        pairs = (settings or {}).items()
        greeting = PREFACE + frame(SETTINGS, b"".join(struct.pack(">HI", *pair) for pair in pairs))
        line.is_mute = first is not None
        line.unsent += greeting if first is None else first
        line.write()
        return line

    def flood(self, line: Line, parts: Iterable[bytes]) -> None:
        """Send what `parts` yields, each of them one or more frames."""
        self.flood_all({line: parts})

    def flood_all(self, floods: Mapping[Line, Iterable[bytes]]) -> None:
        """Flood several connections at once."""
        sources: dict[Line, Iterator[bytes]] = {line: iter(p) for line, p in floods.items()}
        while sources and self.may_go_on:
            for line in self._look(sources):
                if not line.unsent:
                    most = max(self.frames_left // len(sources), 1)
                    piece, frames = _piece(sources[line], most)
                    line.unsent += piece
                    line.frames += frames
                    self.frames += frames
                    if not piece:
                        del sources[line]
                        continue
                line.write()
            sources = {line: source for line, source in sources.items() if not line.is_over}

    def wait(self, reached: Callable[[], bool]) -> None:
        """Listen until something is so, all connections are over, or the time is."""
        while self.may_go_on and not reached() and not all(line.is_over for line in self._lines):
            self._look(())

    def hold(self, seconds: float) -> None:
        """Keep the connections open for a while, and read what comes."""
        end = min(time.monotonic() + seconds, self._end)
        while (left := end - time.monotonic()) > 0:
            self._look((), min(left, _LOOK_SECONDS))

    def hang_up(self, *, at_once: bool = False, by_reset: bool = False) -> None:
        """Close the connections; not `at_once`: when the server has handled what was sent."""
        if not at_once:
            self._await_last_words()
        for line in self._lines:
            if not self.ends:
                self.frames_of_first = line.frames
            self.ends[line.end] += 1
            self.answers += line.answers
            self.resets += line.resets
            line.close(by_reset=by_reset)
        self._lines.clear()

    def _await_last_words(self) -> None:
        listening = [line for line in self._lines if line.listens]
        asked = [line for line in listening if not line.is_mute and not line.is_over]
        for line in asked:
            line.unsent += frame(PING, _LAST_PING)
        seconds = _LAST_WORDS_SECONDS if asked else _MUTE_SECONDS
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(
            line.is_over or line.has_ponged for line in asked or listening
        ):
            self._look(())

    def _look(self, floods: Iterable[Line], seconds: float = _LOOK_SECONDS) -> Iterable[Line]:
        """Read what has come, write replies; return which of `floods` could be written to."""
        open_lines = [line for line in self._lines if not line.is_over]
        wanting = {line for line in open_lines if line.unsent or line in floods}
        readable, writable, _ = select.select(
            [line for line in open_lines if line.listens], wanting, (), seconds
        )
        for line in readable:
            while line.read():
                pass
        for line in writable:
            if line not in floods and not line.is_over:
                line.write()
        return [line for line in writable if line in floods and not line.is_over]


def _piece(parts: Iterator[bytes], most: int) -> tuple[bytes, int]:
    """Return the next parts together, not more than `most`, and how many frames they are."""
    piece = bytearray()
    for part in itertools.islice(parts, most):
        piece += part
        if len(piece) >= _PIECE_BYTES:
            break
    frames = place = 0
    while place < len(piece):
        place += _HEADER_BYTES + int.from_bytes(piece[place : place + 3], "big")
        frames += 1
    return bytes(piece), frames

"""Attacks by connections, and by what isn't HTTP/2."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING

from tests.attacks.attacker import Attacker, attack
from tests.attacks.heads import HEALTH, calls
from tests.memory_peer import GOAWAY, PREFACE, SETTINGS, frame

if TYPE_CHECKING:
    from collections.abc import Callable

# Fewer than MAX_CONNECTIONS, so that others may still connect.
_HELD = 400
_TOO_MANY = 700
_RUN = 200


def _one_after_another(attacker: Attacker, first: bytes, *, by_reset: bool = False) -> None:
    for _ in range(_RUN):
        if not attacker.may_go_on:
            return
        attacker.connect(first=first)
        attacker.frames += 1
        attacker.hang_up(at_once=True, by_reset=by_reset)


def _held(attacker: Attacker, first: bytes) -> None:
    for _ in range(_HELD):
        attacker.connect(first=first)
    attacker.hold(5.0)


_GREETING = PREFACE + frame(SETTINGS)
_CALL = next(calls(HEALTH))[1]


def _client_hello() -> bytes:
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError


@attack("connections, opened and closed", "accepting takes time and file descriptors")
def opened_and_closed(attacker: Attacker) -> None:
    _one_after_another(attacker, b"")


@attack("connections, opened and reset", "accepting takes time and file descriptors")
def opened_and_reset(attacker: Attacker) -> None:
    _one_after_another(attacker, _GREETING, by_reset=True)


@attack("connections with a preface each", "all that a connection needs is made for nothing")
def prefaces(attacker: Attacker) -> None:
    _one_after_another(attacker, _GREETING)


@attack("connections with a call each", "each health check comes on a connection of its own")
def a_call_each(attacker: Attacker) -> None:
    _one_after_another(attacker, _GREETING + _CALL)


@attack("connections that leave", "each says GOAWAY after its call")
def leaving(attacker: Attacker) -> None:
    _one_after_another(attacker, _GREETING + _CALL + frame(GOAWAY, bytes(8)))


@attack("HTTP/1 requests", "each is answered by HTTP/1, and its connection ended")
def http1(attacker: Attacker) -> None:
    _one_after_another(attacker, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@attack("TLS on a port without", "each is hung up on")
def client_hellos(attacker: Attacker) -> None:
    _one_after_another(attacker, _client_hello())


@attack("garbage", "random bytes, after a preface or without")
def garbage(attacker: Attacker) -> None:
    numbers = random.Random(attacker.connections)
    for _ in range(_RUN):
        if not attacker.may_go_on:
            return
        first = numbers.choice([b"", PREFACE, _GREETING, _GREETING + _CALL])
        attacker.connect(first=first + numbers.randbytes(3000))
        attacker.frames += 1
        attacker.hold(0.01)
        attacker.hang_up(at_once=True)


_SILENT: list[tuple[str, str, Callable[[], bytes]]] = [
    ("connections without a word", "each holds a file descriptor and what belongs to it", bytes),
    ("connections with half a preface", "each is waited for", lambda: PREFACE[:12]),
    ("connections with a preface only", "each is waited for", lambda: PREFACE),
    ("connections without calls", "each is greeted and kept", lambda: _GREETING),
]


def _enter(name: str, tries: str, first: Callable[[], bytes]) -> None:
    @attack(name, tries)
    def held(attacker: Attacker) -> None:
        _held(attacker, first())


for _silent in _SILENT:
    _enter(*_silent)


@attack("connections too many", "more than MAX_CONNECTIONS: those that are there go on")
def too_many(attacker: Attacker) -> None:
    for _ in range(_TOO_MANY):
        attacker.connect(first=_GREETING)
    attacker.hold(2.0)

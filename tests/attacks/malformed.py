"""Attacks by requests that HTTP/2 or gRPC doesn't allow."""

from __future__ import annotations

import itertools

from tests.attacks.attacker import Attacker, attack
from tests.attacks.heads import HEALTH, heads, heads_in_turn
from tests.memory_peer import Field, request_fields, reset

_FIRST = (b":method", b"POST")

# What RFC 9113 section 8 calls malformed: each is an error of its stream.
MALFORMED: dict[str, list[Field]] = {
    "space before a value": request_fields((b"key", b" value"), path=HEALTH),
    "space after a value": request_fields((b"key", b"value "), path=HEALTH),
    "tab after a value": request_fields((b"key", b"value\t"), path=HEALTH),
    "NUL in a value": request_fields((b"key", b"a\0b"), path=HEALTH),
    "LF in a value": request_fields((b"key", b"a\nb"), path=HEALTH),
    "CR in a value": request_fields((b"key", b"a\rb"), path=HEALTH),
    "no :authority": request_fields(path=HEALTH, authority=None),
    ":authority and another host": request_fields((b"host", b"other"), path=HEALTH),
    "te: gzip": request_fields(path=HEALTH, te="gzip"),
    "connection": request_fields((b"connection", b"close"), path=HEALTH),
    "keep-alive": request_fields((b"keep-alive", b"timeout=5"), path=HEALTH),
    "proxy-connection": request_fields((b"proxy-connection", b"close"), path=HEALTH),
    "transfer-encoding": request_fields((b"transfer-encoding", b"chunked"), path=HEALTH),
    "upgrade": request_fields((b"upgrade", b"h2c"), path=HEALTH),
    "content-length that isn't so": request_fields((b"content-length", b"7"), path=HEALTH),
    "content-length that is no number": request_fields((b"content-length", b"x"), path=HEALTH),
    "empty :path": request_fields(path=""),
    "no :path": request_fields(path=None),
    "no :method": request_fields(path=HEALTH, method=None),
    "no :scheme": request_fields(path=HEALTH, scheme=None),
    "two :method": [_FIRST, *request_fields(path=HEALTH)],
    "unknown pseudo-header": [(b":key", b"value"), *request_fields(path=HEALTH)],
    "pseudo-header of a response": [(b":status", b"200"), *request_fields(path=HEALTH)],
    "pseudo-header after others": [*request_fields(path=HEALTH, method=None), _FIRST],
    "upper case in a name": request_fields((b"Key", b"value"), path=HEALTH),
    "space in a name": request_fields((b"a key", b"value"), path=HEALTH),
    "empty name": request_fields((b"", b"value"), path=HEALTH),
}

# What HTTP/2 allows and gRPC doesn't.
NO_GRPC: dict[str, list[Field]] = {
    "GET": request_fields(path=HEALTH, method="GET"),
    "no te": request_fields(path=HEALTH, te=None),
    "another content-type": request_fields(path=HEALTH, content_type="text/html"),
    "path without a method": request_fields(path="/health"),
    "timeout that is no number": request_fields((b"grpc-timeout", b"1"), path=HEALTH),
    "base64 that is none": request_fields((b"key-bin", b"!"), path=HEALTH),
}


def _requests(attacker: Attacker, kinds: dict[str, list[Field]], *, then_reset: bool) -> None:
    """Send requests of all kinds in turn; each connection begins with another one."""
    fields = list(kinds.values())
    for start in range(len(fields)):
        source = heads_in_turn(fields, ended=True, start=start)
        parts = (head + (reset(i) if then_reset else b"") for i, head in source)
        share = max(attacker.frames_left // (len(fields) - start), 1)
        attacker.flood(attacker.connect(), itertools.islice(parts, share))
        attacker.hang_up()


@attack("malformed requests", "each is refused; refusing is work")
def malformed(attacker: Attacker) -> None:
    _requests(attacker, MALFORMED, then_reset=False)


@attack("malformed requests, cancelled", "each is refused and cancelled besides")
def malformed_and_reset(attacker: Attacker) -> None:
    _requests(attacker, MALFORMED, then_reset=True)


@attack("requests that aren't gRPC", "each is answered with why it won't do")
def no_grpc(attacker: Attacker) -> None:
    _requests(attacker, NO_GRPC, then_reset=False)


@attack(
    "names that answers quote",
    "6,000 bytes of a name that is at fault, in each call",
    enough_frames=200,
)
def quoted_name(attacker: Attacker) -> None:
    name = b"k" * 6000 + b"-bin"
    attacker.flood(
        attacker.connect(), (head for _, head in heads(HEALTH, (name, b"!"), ended=True))
    )

"""Opcodes that push numbers, text and bytes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.names import opcode_name
from convert.pickle_reader.spans import LONG_BYTES, Raw, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.pickle_reader.state import State

    Handler = Callable[[State, int], int]

# Python imports a codec when it is first used; none is to be imported while a pickle is read.
for _codec in ("raw-unicode-escape", "unicode_escape"):
    b"a".decode(_codec)

# Bytes of a line of protocol 0, and of an integer.
_MAX_LINE_BYTES = 1 << 20
_MAX_INTEGER_BYTES = 1 << 16
# Bytes that are no array's numbers: dates have 10, UUIDs 16.
_SHORT_BYTES = 16


def number_of(layout: str) -> Handler:
    read = struct.Struct(layout).unpack_from
    size = struct.calcsize(layout)

    def push(machine: State, pos: int) -> int:
        machine.stack.append(read(machine.data, pos + 1)[0])
        return pos + 1 + size

    return push


def counted(layout: str, push: Callable[[State, int, int], object]) -> Handler:
    """Handle an opcode that has a size, and then so many bytes, which `push` is told of."""
    read = struct.Struct(layout).unpack_from
    width = struct.calcsize(layout)

    def handle(machine: State, pos: int) -> int:
        size: int = read(machine.data, pos + 1)[0]
        begin = pos + 1 + width
        if not 0 <= size <= machine.end - begin:
            name = opcode_name(machine.data[pos])
            message = f"{name} of {size} bytes where {machine.end - begin} are left"
            raise DamagedPickle(message, pos)
        machine.stack.append(push(machine, begin, size))
        if size > LONG_BYTES:
            machine.skipped += size
        return begin + size

    return handle


def text_at(machine: State, begin: int, size: int) -> object:
    text = Text(begin, size)
    return text if size > LONG_BYTES else text.read(machine.data)


def bytes_at(machine: State, begin: int, size: int) -> object:
    raw = Raw(begin, size)
    return raw if size > _SHORT_BYTES else raw.read(machine.data)


def bytearray_at(machine: State, begin: int, size: int) -> object:
    raw = Raw(begin, size)
    return raw if size > _SHORT_BYTES else bytearray(raw.read(machine.data))


def old_text_at(machine: State, begin: int, size: int) -> object:
    return str(machine.data[begin : begin + size], "ascii")


def integer_at(machine: State, begin: int, size: int) -> object:
    if size > _MAX_INTEGER_BYTES:
        message = f"an integer of {size} bytes"
        raise UnsupportedPickle(message, begin)
    return int.from_bytes(machine.data[begin : begin + size], "little", signed=True)


def line_at(machine: State, begin: int) -> tuple[bytes, int]:
    """Return the line from `begin` on, and where it ends."""
    look = 128
    while True:
        line, newline, _ = bytes(machine.data[begin : begin + look]).partition(b"\n")
        if newline:
            return line, begin + len(line) + 1
        if begin + look >= machine.end:
            raise IndexError
        if look >= _MAX_LINE_BYTES:
            message = f"a line of more than {_MAX_LINE_BYTES} bytes"
            raise UnsupportedPickle(message, begin)
        look *= 8


def line_of(parse: Callable[[bytes], object]) -> Handler:
    def push(machine: State, pos: int) -> int:
        line, after = line_at(machine, pos + 1)
        try:
            machine.stack.append(parse(line))
        except ValueError:
            message = f"{opcode_name(machine.data[pos])} of {line[:40]!r}"
            raise DamagedPickle(message, pos) from None
        return after

    return push


def parse_integer(line: bytes) -> int | bool:
    return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line)


def parse_long(line: bytes) -> int:
    return int(line.removesuffix(b"L"))


def parse_string(line: bytes) -> str:
    if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
        raise ValueError
    return line[1:-1].decode("unicode_escape").encode("latin-1").decode("ascii")


def parse_unicode(line: bytes) -> str:
    return line.decode("raw-unicode-escape")

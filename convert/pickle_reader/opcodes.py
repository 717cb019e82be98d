"""What the opcodes do that `convert.pickle_reader.machine` doesn't do itself.

HANDLERS has a function for each of 256 bytes: it is given the machine and the offset of
the opcode, and returns the offset behind it. IndexError and struct.error mean that the
stack or the file ended too early.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from convert.pickle_reader import calls, containers, literals
from convert.pickle_reader.containers import pop_mark, refuse_runs
from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.floats import FRAME_BYTES, check_frame
from convert.pickle_reader.literals import counted, line_at, line_of, number_of
from convert.pickle_reader.names import opcode_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.pickle_reader.state import State

    Handler = Callable[[State, int], int]

_MAX_PROTOCOL = 5
_NO_ROWS = "rows that are no rows"


# The stack.


def _constant(value: object) -> Handler:
    def push(machine: State, pos: int) -> int:
        machine.stack.append(value)
        return pos + 1

    return push


def _pop(machine: State, pos: int) -> int:
    if not machine.stack:
        return _pop_to_mark(machine, pos)
    if machine.stack.pop() is machine.root:
        raise UnsupportedPickle(_NO_ROWS, pos)
    refuse_runs(machine, machine.stack[-1:], pos)
    return pos + 1


def _pop_to_mark(machine: State, pos: int) -> int:
    items = pop_mark(machine)
    if items and items[0] is machine.root:
        raise UnsupportedPickle(_NO_ROWS, pos)
    return pos + 1


def _dup(machine: State, pos: int) -> int:
    if machine.stack[-1] is machine.root:
        message = "the list of rows refers to itself"
        raise UnsupportedPickle(message, pos)
    machine.stack.append(machine.stack[-1])
    return pos + 1


# The memo.


def _put(machine: State, index: int, pos: int) -> None:
    value = machine.stack[-1]
    if machine.is_again:
        machine.live[index] = value
    else:
        machine.memo.put(index, machine.size, value, pos)
        machine.irregular = machine.memo.next_irregular(machine.size + 1)
    machine.size += 1


def _put_numbered(layout: str) -> Handler:
    read = struct.Struct(layout).unpack_from
    width = struct.calcsize(layout)

    def put(machine: State, pos: int) -> int:
        _put(machine, read(machine.data, pos + 1)[0], pos)
        return pos + 1 + width

    return put


def _put_line(machine: State, pos: int) -> int:
    line, after = line_at(machine, pos + 1)
    _put(machine, _index(line, pos), pos)
    return after


def _get_line(machine: State, pos: int) -> int:
    line, after = line_at(machine, pos + 1)
    index = _index(line, pos)
    if index in machine.live:
        value = machine.live[index]
    else:
        value = machine.recall(index, machine.size, pos)
    machine.stack.append(value)
    return after


def _index(line: bytes, pos: int) -> int:
    if not line.isdigit() or len(line) > 18:
        message = f"memo entry {line[:40]!r}"
        raise DamagedPickle(message, pos)
    return int(line)


# What is no value.


def _protocol(machine: State, pos: int) -> int:
    version = machine.data[pos + 1]
    if version > _MAX_PROTOCOL:
        message = f"pickle protocol {version}"
        raise UnsupportedPickle(message, pos)
    return pos + 2


def _frame(machine: State, pos: int) -> int:
    check_frame(machine.data, pos, machine.end)
    return pos + FRAME_BYTES


def _refuse(what: str) -> Handler:
    def refuse(_machine: State, pos: int) -> int:
        raise UnsupportedPickle(what, pos)

    return refuse


def _nonsense(machine: State, pos: int) -> int:
    message = f"{opcode_name(machine.data[pos])} is no opcode"
    raise DamagedPickle(message, pos)


def _nothing(_machine: State, pos: int) -> int:
    return pos + 1


_OUTSIDE = "it refers to data outside of it (a persistent id)"
_EXTENSION = "an extension code, whose meaning isn't in the file"

_BY_OPCODE: dict[bytes, Handler] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    # values
    b"N": _constant(None),
    b"\x88": _constant(bool(1)),
    b"\x89": _constant(bool(0)),
    b"J": number_of("<i"),
    b"M": number_of("<H"),
    b"I": line_of(literals.parse_integer),
    b"L": line_of(literals.parse_long),
    b"F": line_of(float),
    b"\x8a": counted("<B", literals.integer_at),
    b"\x8b": counted("<i", literals.integer_at),
    b"X": counted("<I", literals.text_at),
    b"\x8d": counted("<Q", literals.text_at),
    b"V": line_of(literals.parse_unicode),
    b"S": line_of(literals.parse_string),
    b"U": counted("<B", literals.old_text_at),
    b"T": counted("<i", literals.old_text_at),
    b"C": counted("<B", literals.bytes_at),
    b"B": counted("<I", literals.bytes_at),
    b"\x8e": counted("<Q", literals.bytes_at),
    b"\x96": counted("<Q", literals.bytearray_at),
    # containers
    b"l": containers.make_list,
    b"d": containers.make_dict,
    b"s": containers.set_item,
    b")": _constant(()),
    b"t": containers.make_tuple,
    b"\x85": containers.tuple_of(1),
    b"\x86": containers.tuple_of(2),
    b"\x87": containers.tuple_of(3),
    b"\x8f": containers.empty_set,
    b"\x90": containers.append_items,
    b"\x91": containers.make_frozenset,
    # names
    b"c": calls.find_named,
    b"\x93": calls.stack_global,
    b"R": calls.reduce,
    b"\x81": calls.reduce,
    b"\x92": calls.new_with_keywords,
    b"i": calls.inst,
    b"o": calls.obj,
    b"b": calls.build,
    # memo and stack
    b"q": _put_numbered("<B"),
    b"r": _put_numbered("<I"),
    b"p": _put_line,
    b"g": _get_line,
    b"0": _pop,
    b"1": _pop_to_mark,
    b"2": _dup,
    b"\x98": _nothing,  # READONLY_BUFFER
    # what is never read
    b"\x97": _refuse("a buffer outside of it"),
    b"P": _refuse(_OUTSIDE),
    b"Q": _refuse(_OUTSIDE),
    b"\x82": _refuse(_EXTENSION),
    b"\x83": _refuse(_EXTENSION),
    b"\x84": _refuse(_EXTENSION),
}
HANDLERS: list[Handler] = [_BY_OPCODE.get(bytes([code]), _nonsense) for code in range(256)]

"""Opcodes that name, call and fill what isn't plain data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.containers import check_is_own, pop_mark, unfit
from convert.pickle_reader.errors import DamagedPickle, PickleReaderError, UnsupportedPickle
from convert.pickle_reader.literals import line_at
from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.spans import Lump, Raw
from convert.pickle_reader.stand_ins import Known, StandIn, is_opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from convert.pickle_reader.state import State


# What a line of text isn't, should the file be no pickle but, say, a table as text.
_NAME = re.compile(r"[\w.<>]*")
_MEMOIZE = 0x94


def find_named(machine: State, pos: int) -> int:
    line, after = line_at(machine, pos + 1)
    module = str(line, "utf-8")
    line, after = line_at(machine, after)
    name = str(line, "utf-8")
    if not (_NAME.fullmatch(module) and _NAME.fullmatch(name)):
        message = "where the name of a class belongs is other text"
        raise DamagedPickle(message, pos)
    found = machine.find_global(module, name, pos)
    machine.stack.append(found)
    return after


def stack_global(machine: State, pos: int) -> int:
    name = machine.stack.pop()
    module = machine.stack.pop()
    if not isinstance(module, str) or not isinstance(name, str):
        message = f"{kind_of(module if isinstance(name, str) else name)} for the name of a class"
        raise UnsupportedPickle(message, pos)
    machine.stack.append(machine.find_global(module, name, pos))
    return pos + 1


def _whole(machine: State, items: list[Any]) -> list[Any]:
    """Return a list without Lumps."""
    if not any(type(item) is Lump for item in items):
        return items
    return [
        single
        for item in items
        for single in (machine.read_lump(item) if type(item) is Lump else (item,))
    ]


def _call(machine: State, function: object, args: object, pos: int) -> None:
    if not isinstance(function, Known):
        raise unfit(function, pos)
    if not isinstance(args, tuple):
        raise unfit(args, pos)
    if any(type(arg) is list for arg in args):
        args = tuple([_whole(machine, arg) if type(arg) is list else arg for arg in args])
    try:
        made = function.call(args, machine.data)
    except PickleReaderError as error:  # of values, which don't know where they are
        raise type(error)(error.message, pos) from None
    except Exception as error:
        # Wrong arguments fail in any way that a wrong value can.
        message = f"{function.name}: {error or type(error).__name__}"
        raise DamagedPickle(message, pos) from error
    machine.stack.append(made)


def reduce(machine: State, pos: int) -> int:
    args = machine.stack.pop()
    _call(machine, machine.stack.pop(), args, pos)
    return _followed(machine, pos + 1)


def _followed(machine: State, pos: int) -> int:
    """Return where the arrays end that are written like the one on the stack."""
    made = machine.stack[-1]
    if type(made) is not Array or type(made.content) is not Raw or machine.is_again:
        return pos
    if machine.data[pos] == _MEMOIZE and machine.irregular < 0:
        machine.live[machine.size] = made
        machine.size += 1
        pos += 1
    return machine.vectors.follow(made, pos)


def new_with_keywords(machine: State, pos: int) -> int:
    keywords = machine.stack.pop()
    is_skipped = len(machine.stack) > 1 and is_opaque(machine.stack[-2])
    if type(keywords) is not dict or (keywords and not is_skipped):
        message = "keyword arguments"
        raise UnsupportedPickle(message, pos)
    return reduce(machine, pos)


def inst(machine: State, pos: int) -> int:
    after = find_named(machine, pos)
    function = machine.stack.pop()
    _call(machine, function, tuple(pop_mark(machine)), pos)
    return after


def obj(machine: State, pos: int) -> int:
    function, *args = pop_mark(machine) or [None]
    _call(machine, function, tuple(args), pos)
    return pos + 1


def build(machine: State, pos: int) -> int:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if not isinstance(target, StandIn):
        message = f"a state for {kind_of(target)}"
        raise UnsupportedPickle(message, pos)
    check_is_own(machine, target, pos)
    try:
        target.build(state, machine.data)
    except PickleReaderError as error:
        raise type(error)(error.message, pos) from None
    except Exception as error:
        message = f"the state of {kind_of(target)}: {error or type(error).__name__}"
        raise DamagedPickle(message, pos) from error
    return _followed(machine, pos + 1)

"""Opcodes that make and fill lists, tuples, dicts and sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.keys import checked_keys
from convert.pickle_reader.stand_ins import Opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.pickle_reader.state import State


def append(machine: State, target: Any, value: Any, pos: int) -> None:  # noqa: ANN401
    """Append to a list, or to what is skipped."""
    append_all(machine, target, [value], pos)


def append_all(machine: State, target: Any, values: list[Any], pos: int) -> None:  # noqa: ANN401
    """Append to a list, or to what is skipped."""
    if isinstance(target, Opaque):
        return
    if type(target) is not list:
        raise unfit(target, pos)
    check_is_own(machine, target, pos)
    target += values


def set_items(machine: State, target: Any, items: list[Any], pos: int) -> None:  # noqa: ANN401
    """Put keys and values, which take turns in `items`, into a dict, or what is skipped."""
    if isinstance(target, Opaque):
        return
    if type(target) is not dict:
        raise unfit(target, pos)
    check_is_own(machine, target, pos)
    keys = items[::2]
    if 2 * len(keys) != len(items):
        message = "a key without a value"
        raise DamagedPickle(message, pos)
    for key in keys:
        if type(key) is not str:
            keys = checked_keys(keys, machine.data, pos)
            break
    target.update(zip(keys, items[1::2], strict=True))


def check_is_own(machine: State, target: object, pos: int) -> None:
    if machine.copies and id(target) in machine.copies:
        message = "a change of what was read long before"
        raise UnsupportedPickle(message, pos)


def unfit(target: object, pos: int) -> DamagedPickle:
    """Return the error for an opcode that can do nothing with `target`."""
    return DamagedPickle(f"an opcode that does nothing to {kind_of(target)}", pos)


def refuse_runs(machine: State, values: list[Any], pos: int) -> None:
    """Refuse to take one of `values` from the stack that stands for several."""
    if machine.has_run(values):
        message = "arrays that are put into a list and taken out of it again"
        raise UnsupportedPickle(message, pos)


def append_items(machine: State, pos: int) -> int:
    items = pop_mark(machine)
    target = machine.stack[-1]
    if isinstance(target, Opaque):
        return pos + 1
    if type(target) is not set:
        raise unfit(target, pos)
    check_is_own(machine, target, pos)
    target.update(checked_keys(items, machine.data, pos))
    return pos + 1


def set_item(machine: State, pos: int) -> int:
    value = machine.stack.pop()
    key = machine.stack.pop()
    set_items(machine, machine.stack[-1], [key, value], pos)
    return pos + 1


def pop_mark(machine: State) -> list[Any]:
    items = machine.stack
    machine.stack = machine.marks.pop()[0]
    return items


def make_list(machine: State, pos: int) -> int:
    items = pop_mark(machine)
    if not items and not machine.stack and not machine.marks and not machine.has_root:
        machine.root, machine.has_root = items, True
    machine.stack.append(items)
    return pos + 1


def make_dict(machine: State, pos: int) -> int:
    items = pop_mark(machine)
    made: dict[Any, Any] = {}
    set_items(machine, made, items, pos)
    machine.stack.append(made)
    return pos + 1


def make_frozenset(machine: State, pos: int) -> int:
    items = pop_mark(machine)
    machine.stack.append(frozenset(checked_keys(items, machine.data, pos)))
    return pos + 1


def empty_set(machine: State, pos: int) -> int:
    machine.stack.append(set())
    return pos + 1


def make_tuple(machine: State, pos: int) -> int:
    items = pop_mark(machine)
    machine.stack.append(tuple(items))
    return pos + 1


def tuple_of(count: int) -> Callable[[State, int], int]:
    def make(machine: State, pos: int) -> int:
        items = machine.stack[-count:]
        if len(items) < count:
            raise IndexError
        refuse_runs(machine, items, pos)
        machine.stack[-count:] = [tuple(items)]
        return pos + 1

    return make

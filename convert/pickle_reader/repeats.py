"""Arrays that are written like the one before them, byte for byte but for their numbers.

A column of arrays is the same 20 opcodes again and again. Once that was seen, the next
arrays are found by comparing bytes, which takes a tenth of the time.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.spans import Raw

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer
    from convert.pickle_reader.state import State

# Opcodes that do the same each time and change nothing that was there before, with the
# number of values that they take from the stack; each puts one there.
_TAKEN = {
    **dict.fromkeys(("BINGET", "LONG_BINGET", "EMPTY_TUPLE", "NEWTRUE", "NEWFALSE"), 0),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "SHORT_BINUNICODE", "BINUNICODE"), 0),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), 0),
    "TUPLE1": 1,
    "TUPLE2": 2,
    "TUPLE3": 3,
    "REDUCE": 2,
    "BUILD": 2,
}
# Arrays in a row, before the machine looks at memory and progress again.
_MAX_ARRAYS = 1024
# Bytes of opcodes around the numbers; NumPy's are 40.
_MAX_BYTES = 100
# Ways of writing that are looked at; a column has one, or two.
_MAX_LEARNED = 100


class Repeats:
    """Looks for arrays of one machine; `follow` is told of each that it made."""

    def __init__(self) -> None:
        # Where the array before ended, and on which stack.
        self._pos = 0
        self._stack: list[Any] = []
        self._depth = 0
        # What is written before and behind the numbers of this array.
        self._head = b""
        self._tail = b""
        self._array = Array()
        self._array_bytes = -1
        self._learned = 0
        # How many entries of the memo are set on the way, and which of them is the array,
        # or the array before it; -1 if none is.
        self._entries = 0
        self._own_entry = -1
        self._last_entry = -1

    def follow(self, state: State, array: Array, pos: int) -> int:
        """Push the arrays that follow `array`, which ends at `pos`; return where they end."""
        content: Any = array.content
        if (
            self._stack is state.stack
            and len(self._stack) == self._depth + 1
            and self._pos <= content.offset
            and self._learned < _MAX_LEARNED
            and not self._is_like(array, content.size)
        ):
            self._learn(state.data, array, pos)
        if self._array_bytes >= 0:
            after = self._repeat(state, array, pos)
            if after > pos and state.marks and not state.has_root:
                # What isn't held of them can be read again from here.
                _, size, begin = state.marks[-1]
                state.memo.mark(begin, size)
            pos = after
        self._pos, self._stack, self._depth = pos, state.stack, len(state.stack)
        return pos

    def _is_like(self, array: Array, size: int) -> bool:
        known = self._array
        return (
            size == self._array_bytes
            and array.dtype == known.dtype
            and array.shape == known.shape
            and array.is_fortran == known.is_fortran
        )

    def _learn(self, data: Buffer, array: Array, pos: int) -> None:
        """Remember how `array` was written, which ends at `pos`, if it can be repeated."""
        self._learned += 1
        content: Any = array.content
        head = bytes(data[self._pos : content.offset])
        tail = bytes(data[content.offset + content.size : pos])
        if len(head) + len(tail) > _MAX_BYTES:
            return
        written = bytes(data[self._pos : pos]) + b"."
        names = [opcode.name for opcode, _, _ in pickletools.genops(written)][:-1]
        made = _place_of_reduce(names)
        if made < 0:
            return
        self._head, self._tail = head, tail
        self._array, self._array_bytes = array, content.size
        self._entries = names.count("MEMOIZE")
        is_kept = names[made + 1 : made + 2] == ["MEMOIZE"]
        self._own_entry = names[:made].count("MEMOIZE") if is_kept else -1
        self._last_entry = 0 if names[0] == "MEMOIZE" else -1

    def _repeat(self, state: State, last: Array, pos: int) -> int:
        data, head, tail, known = state.data, self._head, self._tail, self._array
        for _ in range(_MAX_ARRAYS):
            offset = pos + len(head)
            end = offset + self._array_bytes + len(tail)
            if (
                end > state.end
                or data[pos:offset] != head
                or data[offset + self._array_bytes : end] != tail
                or state.is_irregular_within(self._entries)
            ):
                break
            if self._last_entry >= 0:
                state.live[state.size + self._last_entry] = last
            content = Raw(offset, self._array_bytes)
            last = Array(known.shape, known.dtype, content, is_fortran=known.is_fortran)
            if self._own_entry >= 0:
                state.live[state.size + self._own_entry] = last
            state.stack.append(last)
            state.size += self._entries
            state.skipped += self._array_bytes
            pos = end
        return pos


def _place_of_reduce(names: list[str]) -> int:
    """Return which opcode makes the array; -1 if there is more than what makes one.

    The opcodes may only work on what they pushed themselves; the first may memoize what
    is there.
    """
    depth, marks, made = 0, [], -1
    for place, name in enumerate(names):
        if name == "MARK":
            marks.append(depth)
        elif name == "TUPLE" and marks:
            depth = marks.pop() + 1
        elif name == "MEMOIZE" and (depth or not place):
            pass
        elif name in _TAKEN and depth - _TAKEN[name] >= (marks[-1] if marks else 0):
            depth += 1 - _TAKEN[name]
            if name == "REDUCE":
                if made >= 0 or depth != 1 or marks:
                    return -1
                made = place
            elif name == "BUILD" and (place != len(names) - 1 or made < 0):
                return -1
        else:
            return -1
    return made if depth == 1 and not marks else -1

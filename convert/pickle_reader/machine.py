"""The loop over the opcodes.

`Machine.run` is pickle's virtual machine without its powers: what a name stands for
comes from a table, long values become spans. A list at the bottom of the stack is the
list of rows: they are yielded in pieces, and forgotten.
"""

from __future__ import annotations

import gc
import struct
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.alike.rows import RowsAlike
from convert.pickle_reader.containers import append_all, set_items
from convert.pickle_reader.errors import DamagedPickle, UnsupportedPickle
from convert.pickle_reader.floats import Floats
from convert.pickle_reader.names import opcode_name
from convert.pickle_reader.opcodes import HANDLERS
from convert.pickle_reader.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Items of a batch that are worth a Lump.
_LUMP_ITEMS = 256
# Bytes of file between looks at memory and progress.
_PAUSE_BYTES = 1 << 18
# Lists in lists in lists that wait for their items; each takes 300 bytes.
_MAX_MARKS = 1000

_MARK, _BINFLOAT, _BININT1, _BINGET, _LONG_BINGET, _STOP = b"(GKhj."
_EMPTY_LIST, _APPEND, _APPENDS, _SETITEMS, _EMPTY_DICT = b"]aeu}"
_SHORT_BINUNICODE, _MEMOIZE = b"\x8c\x94"


class Machine(State):
    """Runs a pickle from a state on."""

    def run(self, advance: Callable[[int], None]) -> Iterator[list[Any]]:
        """Yield rows in pieces; `advance` is told how many more bytes were read."""
        # The collector would look at all rows again and again, for cycles that there aren't.
        was_enabled = gc.isenabled()
        gc.disable()
        told = 0

        def tell(pos: int) -> None:
            nonlocal told
            advance(pos - told)
            told = pos

        try:
            for piece in self._run(tell):
                tell(self.pos)
                if was_enabled:
                    gc.enable()
                yield piece
                gc.disable()
        except (IndexError, struct.error):
            if self.pos + 9 >= self.end:
                message = "the file ends too early"
            else:
                message = f"{opcode_name(self.data[self.pos])} has nothing to work on"
            raise DamagedPickle(message, min(self.pos, self.end)) from None
        except UnicodeError:
            message = "text in another encoding than it should be"
            raise DamagedPickle(message, self.pos) from None
        finally:
            if was_enabled:
                gc.enable()

    def _run(self, tell: Callable[[int], None]) -> Iterator[list[Any]]:  # noqa: C901, PLR0912, PLR0915 - one loop, for speed
        data, end, live, marks = self.data, self.end, self.live, self.marks
        stack, pos, size = self.stack, self.pos, self.size
        floats, alike = Floats(self), RowsAlike(self)
        row_begin = -1  # where a row begins whose way of writing isn't known yet
        try:
            while True:
                pause = min(pos + _PAUSE_BYTES, end)
                while pos < pause:
                    op = data[pos]
                    if op == _MEMOIZE:
                        if size == self.irregular:
                            self.memo.put(size, size, None, pos)
                        live[size] = stack[-1]
                        size += 1
                        pos += 1
                    elif op == _BINGET:
                        index = data[pos + 1]
                        if index in live:
                            stack.append(live[index])
                        else:
                            stack.append(self.recall(index, size, pos))
                        pos += 2
                    elif op == _SHORT_BINUNICODE:
                        begin = pos + 2
                        after = begin + data[pos + 1]
                        if after > end:
                            raise IndexError
                        text = str(data[begin:after], "utf-8", "surrogatepass")
                        stack.append(text)
                        pos = after
                        if data[pos] == _MEMOIZE and size != self.irregular:  # nearly always
                            live[size] = text
                            size += 1
                            pos += 1
                    elif op == _MARK:
                        if not marks and self.is_between_rows(stack):
                            self.note_rows(pos, size)
                            self._rows_on_stack = 0
                        pos += 1
                        marks.append((stack, size, pos))
                        stack = []
                    elif op == _BININT1:
                        stack.append(data[pos + 1])
                        pos += 2
                    elif op == _LONG_BINGET:
                        index = int.from_bytes(data[pos + 1 : pos + 5], "little")
                        if index in live:
                            stack.append(live[index])
                        else:
                            stack.append(self.recall(index, size, pos))
                        pos += 5
                    elif op == _BINFLOAT:
                        pos = floats.push(stack, pos)
                    elif op == _APPENDS:
                        items = stack
                        stack, first, begin = marks.pop()
                        target = stack[-1]
                        if target is self.root and self.are_rows(items):
                            pos += 1
                            self.pos, self.stack, self.size = pos, stack, size
                            yield items[1:] if items and items[0] is target else items
                            self.let_go_rows(first)
                        elif self.is_again or (
                            len(items) < _LUMP_ITEMS and not self.has_run(items)
                        ):
                            append_all(self, target, items, pos)
                            pos += 1
                        else:
                            self.pos = pos
                            items = self.lump(items, first, begin, size)
                            append_all(self, target, items, pos)
                            pos += 1
                    elif op == _SETITEMS:
                        items = stack
                        stack = marks.pop()[0]
                        set_items(self, stack[-1], items, pos)
                        pos += 1
                        if row_begin >= 0 and len(marks) == 1:
                            alike.learn(row_begin, pos, stack[-1])
                            row_begin = -1
                    elif op == _EMPTY_DICT:
                        if pos >= self.next_checkpoint and self.is_between_rows(stack):
                            self.pos, self.size = pos, size
                            if self.is_again:
                                yield []
                            else:
                                self.note_rows(pos, size)
                            if self.has_piece(stack):
                                items, stack = stack, [self.root]
                                self.stack = stack
                                yield items[1:] if items[0] is self.root else items
                                self.let_go_rows(marks[0][1])
                        if len(marks) == 1 and self.irregular < 0 and not self.is_again:
                            found = alike.follow(stack, pos, size)
                            if found is not None:
                                items, stack = [*stack, found.rows], [self.root]
                                pos = found.end
                                self.pos, self.stack, self.size = pos, stack, size
                                yield items[1:] if items[0] is self.root else items
                                self.let_go_rows(marks[0][1], found.size)
                                size = found.size
                                continue
                            row_begin = pos
                        stack.append({})
                        pos += 1
                    elif op == _EMPTY_LIST:
                        stack.append([])
                        if len(stack) == 1 and not marks and not self.has_root:
                            self.root, self.has_root = stack[0], True
                        pos += 1
                    elif op == _APPEND:
                        value = stack.pop()
                        if stack[-1] is self.root and self.are_rows([value]):
                            pos += 1
                            self.pos, self.stack, self.size = pos, stack, size
                            yield [value]
                            self.let_go_rows(0)
                            self.note_rows(pos, size)
                        else:
                            append_all(self, stack[-1], [value], pos)
                            pos += 1
                    elif op == _STOP:
                        self.check_stop(stack, pos)
                        tell(end)
                        return
                    else:
                        self.stack, self.size = stack, size
                        pos = HANDLERS[op](self, pos)
                        stack, size = self.stack, self.size
                if pos >= end:
                    raise IndexError
                tell(pos)
                if self.holds_too_much(pos) or len(marks) > _MAX_MARKS:
                    message = "more values at once than rows of embeddings have"
                    raise UnsupportedPickle(message, pos)
        finally:
            self.pos, self.stack, self.size = pos, stack, size

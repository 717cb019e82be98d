"""Rows that are written like the one before them: the same keys, texts, numbers, floats.

A list of dicts is the same opcodes again and again. Once a row was seen, a pattern finds
the next ones whole, in half the time that it takes opcode by opcode. What doesn't match,
the machine reads as ever: the pattern says nothing that the opcodes don't say.
"""

from __future__ import annotations

import pickletools
import re
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.floats import FLOAT_BYTES, FRAME_BYTES, check_frame
from convert.pickle_reader.memo import is_kept
from convert.pickle_reader.spans import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.pickle_reader.spans import Buffer
    from convert.pickle_reader.state import State

_BINGET, _LONG_BINGET, _BININT1, _NONE = b"hjKN"
_SHORT_BINUNICODE = 0x8C
_TEXT_BYTES = 3  # the opcode, its length, and MEMOIZE
# A short text that is memoized, what was memoized, a small number, nothing. The text ends
# where the next key begins; whether that is so is seen by its length.
_VALUE = rb"(\x8c.{1,256}?\x94|h.|j.{4}|K.|N)"
_VALUE_NAMES = frozenset({"SHORT_BINUNICODE", "BINGET", "LONG_BINGET", "BININT1", "NONE"})
_KEY_NAMES = frozenset({"BINGET", "LONG_BINGET"})
_FRAME = b"\x95"
_EMPTY_DICT = ord("}")
_VECTOR_NAMES = ["EMPTY_LIST", "MEMOIZE", "MARK", "BINFLOAT"]
# A row of 7,000 floats.
_MAX_ROW_BYTES = 1 << 16
_MAX_COLUMNS = 50
# Ways of writing that are looked at; a file has one, or two.
_MAX_LEARNED = 20
# Rows in a row that are unlike. One may well be: every 64 KiB a frame begins within one.
_MAX_MISSES = 8
# Rows after which a column whose rows refer to no text is taken for one to which nobody
# refers; unless something is read again so often that it isn't.
_TRIAL_ROWS = 10_000
_MOST_REREAD = 100
# What references stood for, held to be at hand: names of at most 256 bytes.
_MAX_RECALLED = 20_000


class RowsAlike:
    """Looks for rows of one machine."""

    def __init__(self) -> None:
        self._match: Callable[[Buffer, int], re.Match[bytes] | None] | None = None
        # For each column its number, its key, and the opcodes of its floats, if it has them.
        self._columns: list[tuple[int, str, bytes]] = []
        self._learned = 0
        self._misses = 0
        # Columns in which a text was referred to, by number; and what references stood for.
        self._shared: set[int] = set()
        self._rows_tried = 0
        self._recalled: dict[bytes, Any] = {}

    def learn(self, state: State, begin: int, end: int, row: dict[Any, Any]) -> None:
        """Remember how `row` was written, from `begin` to `end`, if others may be like it."""
        self._misses += 1
        is_due = self._match is None or self._misses > _MAX_MISSES
        if not is_due or self._learned == _MAX_LEARNED or end - begin > _MAX_ROW_BYTES:
            return
        self._learned += 1
        written = bytes(state.data[begin:end])
        found = _pattern(written)
        if found is None or not all(type(key) is str for key in row):
            return
        pattern, counts = found
        if len(counts) == len(row):
            groups = range(1, len(row) + 1)
            codes = [b"G" * count for count in counts]
            self._shared.clear()
            self._rows_tried = 0
            self._columns = list(zip(groups, row, codes, strict=True))
            self._match = re.compile(pattern, re.DOTALL).match

    def follow(  # noqa: C901, PLR0912, PLR0915 - one loop, for speed
        self, state: State, stack: list[Any], pos: int, size: int, end: int
    ) -> tuple[int, int]:
        """Push the rows that begin from `pos` on, up to `end`; return where they end.

        `size` is that of the memo before them; that behind them is returned, too. Texts are
        remembered as if they had been let go, but not those of a column that refers to none,
        such as ids; whatever refers to those, to a row or a list of another row reads it again.
        """
        data, match, columns = state.data, self._match, self._columns
        recalled, shared, young = self._recalled, self._shared, state.memo.young
        held = shared if self._rows_tried > _TRIAL_ROWS else range(len(columns) + 1)
        while match is not None and pos < end:
            is_due = pos >= state.next_checkpoint and data[pos] == _EMPTY_DICT
            if is_due and state.is_between_rows(stack):
                state.pos = pos
                if state.has_piece(stack):
                    break
                state.note_rows(pos, size)
            found = match(data, pos)
            if found is None:
                break
            row: dict[str, Any] = {}
            lists: dict[int, list[Run]] = {}
            entries, skipped = size + 1, 0
            for (group, key, codes), value in zip(columns, found.groups(), strict=True):
                if codes:
                    runs = _runs(state, value, found.start(group), codes)
                    if not runs:
                        return pos, size
                    row[key] = lists[entries] = runs
                    entries += 1
                    skipped += FLOAT_BYTES * len(codes)
                    continue
                code = value[0]
                if code == _SHORT_BINUNICODE:
                    if value[1] != len(value) - _TEXT_BYTES:
                        return pos, size
                    try:
                        row[key] = text = value[2:-1].decode()
                    except UnicodeDecodeError:
                        return pos, size
                    if group in held:
                        young[entries] = text
                    entries += 1
                elif code == _BININT1:
                    row[key] = value[1]
                elif code == _NONE:
                    row[key] = None
                elif value in recalled:
                    row[key] = recalled[value]
                elif (index := int.from_bytes(value[1:], "little")) in lists:
                    row[key] = lists[index]
                else:
                    shared.add(group)
                    referred = state.live.get(index, lists)
                    if referred is lists:
                        referred = state.recall(index, entries, found.start(group))
                    row[key] = referred
                    self._hold(value, referred)
                    if state.memo.times_reread > _MOST_REREAD:
                        held = range(len(columns) + 1)
            stack.append(row)
            state.skipped += skipped
            pos, size = found.end(), entries
            self._misses = 0
            self._rows_tried += 1
        return pos, size

    def _hold(self, reference: bytes, value: object) -> None:
        """Have at hand what a reference stands for, if it can't change."""
        if is_kept(value):
            if len(self._recalled) == _MAX_RECALLED:
                self._recalled.clear()
            self._recalled[reference] = value


def _runs(state: State, written: bytes, offset: int, codes: bytes) -> list[Run]:
    """Return where the floats lie that are `written` at `offset`; none if others are.

    A frame may begin among them.
    """
    before = written[::FLOAT_BYTES]
    if before == codes:
        return [Run(offset, len(codes))]
    count = len(before) - len(before.lstrip(b"G"))
    frame = FLOAT_BYTES * count
    behind = frame + FRAME_BYTES
    if written[frame : frame + 1] != _FRAME or written[behind::FLOAT_BYTES] != codes[count:]:
        return []
    check_frame(state.data, offset + frame, state.end)
    runs = [Run(offset, count), Run(offset + behind, len(codes) - count)]
    return [run for run in runs if run.count]


def _pattern(written: bytes) -> tuple[bytes, list[int]] | None:
    """Return a pattern of rows like this one, and each column's number of floats."""
    try:
        opcodes = [(op.name, place or 0) for op, _, place in pickletools.genops(written + b".")]
    except ValueError:  # it looks at what isn't looked at otherwise, as text in long text
        return None
    names = [name for name, _ in opcodes]
    places = [pos for _, pos in opcodes]
    if names[:3] != ["EMPTY_DICT", "MEMOIZE", "MARK"] or names[-2:] != ["SETITEMS", "STOP"]:
        return None
    keys: list[bytes] = []
    values: list[bytes] = []
    counts: list[int] = []
    at, last = 3, len(names) - 2
    while at < last:
        if names[at] not in _KEY_NAMES or len(keys) == _MAX_COLUMNS:
            return None
        keys.append(re.escape(written[places[at] : places[at + 1]]))
        at += 1
        if names[at : at + len(_VECTOR_NAMES)] == _VECTOR_NAMES:
            at += len(_VECTOR_NAMES) - 1
            count = names[at:].index("APPENDS") if "APPENDS" in names[at:] else 0
            if not count or names[at : at + count] != ["BINFLOAT"] * count:
                return None
            size = FLOAT_BYTES * count - 1
            values.append(rb"\]\x94\((G(?:.{%d}|.{%d}))e" % (size, size + FRAME_BYTES))
            at += count + 1
        elif names[at] in _VALUE_NAMES:
            count = 0
            values.append(_VALUE)
            at += 1 + (names[at] == "SHORT_BINUNICODE")  # and its MEMOIZE
        else:
            return None
        counts.append(count)
    if not keys:
        return None
    # Atomic groups: a text that ends elsewhere than it seemed is no reason to try again.
    parts = [b"(?>%s%s)" % part for part in zip(values, [*keys[1:], b"u"], strict=True)]
    return rb"\}\x94\(" + keys[0] + b"".join(parts), counts

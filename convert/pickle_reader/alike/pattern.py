"""How an item of a list is written: which of its bytes are always the same, and where it differs.

`row_pattern` and `array_pattern` look at the opcodes of one item that was just read. Whatever
is written with the same bytes has the same value: opcodes that refer to the memo do so by
number, and no entry of the memo is ever set twice.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from convert.pickle_reader.arrays import is_vector
from convert.pickle_reader.floats import FLOAT_BYTES
from convert.pickle_reader.numpy_values import Array

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

# Opcodes that do the same each time and change nothing that was there before, with the
# number of values that they take from the stack; each puts one there.
_TAKEN = {
    **dict.fromkeys(("BINGET", "LONG_BINGET", "EMPTY_TUPLE", "EMPTY_LIST", "NONE"), 0),
    **dict.fromkeys(("NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT"), 0),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"), 0),
    **dict.fromkeys(("BINBYTES8", "BYTEARRAY8"), 0),
    "TUPLE1": 1,
    "TUPLE2": 2,
    "TUPLE3": 3,
    "REDUCE": 2,
    "BUILD": 2,
}
_ATOMS = frozenset({"BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT"}) | {
    "BININT", "BININT1", "BININT2", "SHORT_BINUNICODE", "BINUNICODE",
}  # fmt: skip
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE"})
_FLOATS = ["EMPTY_LIST", "MEMOIZE", "MARK", "BINFLOAT"]
# Bytes of opcodes around an array's numbers; NumPy's own take 50, twice that with a dtype.
_MAX_AROUND = 300
_MAX_COLUMNS = 50


class Constant(NamedTuple):
    """Bytes that are always the same; `opcodes` are the places in them where an opcode begins."""

    content: bytes
    opcodes: tuple[int, ...] = (0,)

    def then(self, other: Constant) -> Constant:
        """Return this and behind it the other."""
        places = [len(self.content) + place for place in other.opcodes]
        return Constant(self.content + other.content, (*self.opcodes, *places))


class Atom(NamedTuple):
    """A text, a number, a reference to the memo, None, True or False."""

    head: Constant = Constant(b"", ())
    size: int = 1
    tail: Constant = Constant(b"", ())


class Floats(NamedTuple):
    """A list of `length` floats, which are `size` bytes between `head` and `tail`."""

    length: int
    size: int
    head: Constant = Constant(b"]\x94(", (0,))
    tail: Constant = Constant(b"e")


class Vector(NamedTuple):
    """An array like `array`, whose numbers are `size` bytes between `head` and `tail`.

    It sets `entries` of the memo, of which number `own` is the array, or none if that is -1.
    """

    array: Array
    size: int
    head: Constant
    tail: Constant
    entries: int
    own: int


Value: TypeAlias = "Atom | Floats | Vector"


class Column(NamedTuple):
    """A key, which sets `key_entries` of the memo, and what kind of value follows it."""

    name: str
    key: Constant
    key_entries: int
    value: Value


class _Written(NamedTuple):
    """Opcodes by name, and the bytes of each; `begin` is where they are in the file."""

    names: list[str]
    places: list[int]
    content: bytes
    begin: int

    def constant(self, first: int, last: int) -> Constant:
        begin, end = self.places[first], self.places[last]
        places = tuple(place - begin for place in self.places[first:last])
        return Constant(self.content[begin:end], places)


def row_pattern(data: Buffer, begin: int, end: int, row: dict[Any, Any]) -> list[Column] | None:
    """Return how `row` is written, a column a key; None if others can't be found by that."""
    written = _opcodes(data, begin, end)
    if written is None:
        return None
    names = written.names
    if names[:3] != ["EMPTY_DICT", "MEMOIZE", "MARK"] or names[-1] != "SETITEMS":
        return None
    begins = _values_within(names, 3, len(names) - 1)
    if begins is None or len(begins) != 2 * len(row) + 1 or not 0 < len(row) <= _MAX_COLUMNS:
        return None
    columns = []
    for (name, value), key, first, last in zip(
        row.items(), begins[::2], begins[1::2], begins[2::2], strict=False
    ):
        kind = _kind_of(written, first, last, value)
        if kind is None or type(name) is not str or names[key] not in _ATOMS:
            return None
        columns.append(
            Column(name, written.constant(key, first), names[key:first].count("MEMOIZE"), kind)
        )
    return columns


def array_pattern(data: Buffer, begin: int, end: int, array: Array) -> Vector | None:
    """Return how `array` is written, if it is a vector and nothing else is there."""
    written = _opcodes(data, begin, end)
    if written is None or _values_within(written.names, 0, len(written.names)) is None:
        return None
    return _vector(written, 0, len(written.names), array)


def _opcodes(data: Buffer, begin: int, end: int) -> _Written | None:
    content = bytes(data[begin:end])
    try:
        opcodes = [(op.name, place or 0) for op, _, place in pickletools.genops(content + b".")]
    except ValueError:  # it looks at what isn't looked at otherwise, as text in long text
        return None
    *names, _ = [name for name, _ in opcodes]
    return _Written(names, [place for _, place in opcodes], content, begin)


def _values_within(names: list[str], first: int, last: int) -> list[int] | None:
    """Return where each value begins that opcodes push, and where the last ends.

    None if they do anything else than that.
    """
    begins: list[int] = []
    marks: list[int] = []
    for place in range(first, last):
        name, least = names[place], marks[-1] if marks else 0
        if name == "MARK":
            marks.append(len(begins))
            begins.append(place)  # where a tuple begins that is made of what follows
        elif name == "TUPLE" and marks:
            del begins[marks.pop() + 1 :]
        elif name == "APPENDS" and marks and marks[-1] > sum(marks[-2:-1]):
            del begins[marks.pop() :]  # the list is what was below the mark
        elif name == "MEMOIZE" and len(begins) > least + bool(marks):
            pass
        elif name in _TAKEN and len(begins) - _TAKEN[name] >= least + bool(marks):
            taken = _TAKEN[name]
            if taken:
                del begins[len(begins) - taken + 1 :]
            else:
                begins.append(place)
        else:
            return None
    return None if marks else [*begins, last]


def _kind_of(written: _Written, first: int, last: int, value: object) -> Value | None:
    names = written.names[first:last]
    if names[0] in _ATOMS and names[1:] == ["MEMOIZE"] * (names[0] in _TEXTS):
        return Atom()
    count = len(names) - len(_FLOATS)
    if count > 0 and names == [*_FLOATS, *["BINFLOAT"] * (count - 1), "APPENDS"]:
        return Floats(count, FLOAT_BYTES * count)
    return _vector(written, first, last, value)


def _vector(written: _Written, first: int, last: int, value: Any) -> Vector | None:  # noqa: ANN401
    """Return how a vector is written whose numbers lie among these opcodes."""
    if not is_vector(value) or value.content.as_text:
        return None
    begin = value.content.offset - written.begin
    end = begin + value.content.size
    if end not in written.places[first:last] or not begin >= written.places[first]:
        return None
    numbers = written.places.index(end)
    head, tail = written.constant(first, numbers), written.constant(numbers, last)
    head = head._replace(content=head.content[: len(head.content) - value.content.size])
    if len(head.content) + len(tail.content) > _MAX_AROUND:
        return None
    names = written.names[first:last]
    if "APPENDS" in names:  # to a list that may be another one's
        return None
    own, depth = -1, 0
    for at, name in enumerate(names):
        depth += (name == "MARK") - (name == "TUPLE")
        if name == "REDUCE" and not depth and names[at + 1 : at + 2] == ["MEMOIZE"]:
            own = names[:at].count("MEMOIZE")
    return Vector(
        array=Array(value.shape, value.dtype, is_fortran=value.is_fortran),
        size=value.content.size, head=head, tail=tail,
        entries=names.count("MEMOIZE"), own=own,
    )  # fmt: skip

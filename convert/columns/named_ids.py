"""Ids made of values: the UUIDv5 of what a row has in some columns (RFC 9562 section 5.5).

The same values give the same id, in whatever file they are and of whatever type. The name that is
hashed is, for one column of text, that text in UTF-8, so that it is `uuid.uuid5(namespace, text)`
in Python. All else begins with the byte 0xFF, which no text in UTF-8 has, and has for each column
0xFF, a letter and a content that has no 0xFF either:

    t  text, in UTF-8               b  a bool: true or false
    i  a whole number: -7           x  bytes, in hex
    f  another number: its double,  u  a UUID: its canonical text
       big-endian, in hex           n  null, which NaN is, too

So different values have different names. A float without a fraction is a whole number: pandas
makes a column of ints that has nulls one of floats.
"""

from __future__ import annotations

import contextlib
import struct
import uuid
from hashlib import sha1
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convert.columns.numbered import plain_name
from convert.errors import UnreadableSourceError
from convert.foreign_text import quoted
from convert.id_text import IdKind
from convert.ids import MISSING_ID, Ids, shown_value
from convert.validation import is_null, python_values

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from convert.pickle_reader import Batch, Values

# The project's own, drawn at random once. Another one would give all rows other ids.
NAMESPACE = uuid.UUID("e15fce28-7607-425f-af74-24c96976af1a")
# Those that RFC 9562 section 6.6 lists.
KNOWN_NAMESPACES = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
}

_TEXT, _NULL = b"\xfft", b"\xffn"
_EMPTY = frozenset({_TEXT, _NULL})
_INT64 = 2**63
# Names are made for so many rows at once: of the longest texts 64 MB.
_ROWS_AT_ONCE = 256
# From there on a float's digits are not those of the number that somebody has written.
_MAX_WHOLE_FLOAT = float(_INT64)
# What identifies a row is short. Rows of a small file may share one text of any size, and all of
# it would be hashed for each of them.
_MAX_CHARS = 65_536
# Python prints no integer beyond 4,300 digits.
_MAX_INT_BITS = 14_000
_DOUBLE_BYTES = 8
_SHOWN_COLUMNS = 30


class NamedIds(NamedTuple):
    """Makes a row's id of what it has in `columns`, by the names that the source has for them."""

    columns: tuple[str, ...]
    namespace: uuid.UUID

    def needs(self, name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
        """Whether a column of that name is one of those."""
        return plain_name(name) in map(plain_name, self.columns)

    def require(self, present: Collection[Any], source: str) -> None:
        """Raise UnreadableSourceError unless there is one column of each name."""
        for column in self.columns:
            found = [name for name in present if plain_name(name) == plain_name(column)]
            if len(found) != 1:
                shown = [quoted(str(name)) for name in islice(present, _SHOWN_COLUMNS)]
                have = ", ".join(shown) or "none"
                if len(present) > len(shown):
                    have += f", and {len(present) - len(shown):,} others"
                how_many = "several columns" if found else "no column"
                message = (
                    f"{source}: --id-from: there is {how_many} {quoted(column)} (columns: {have})"
                )
                raise UnreadableSourceError(message)

    def ids(self, batch: Batch) -> Ids:
        """Return the ids of some rows, of which every column may have none."""
        by_name = {plain_name(name): values for name, values in batch.columns.items()}
        none = [None] * batch.rows
        columns = [_listed(by_name.get(plain_name(column), none)) for column in self.columns]
        hashed: list[bytes] = []
        problems: dict[int, str] = {}
        for begin in range(0, batch.rows, _ROWS_AT_ONCE):
            names = names_of([values[begin : begin + _ROWS_AT_ONCE] for values in columns])
            problems.update(
                {begin + row: name for row, name in enumerate(names) if isinstance(name, str)}
            )
            hashed += [
                sha1(self.namespace.bytes + name, usedforsecurity=False).digest()
                if isinstance(name, bytes) else bytes(20)
                for name in names
            ]  # fmt: skip
        ids = np.frombuffer(b"".join(hashed), np.uint8).reshape(-1, 20)[:, :16].copy()
        ids[:, 6] = ids[:, 6] & 0x0F | 0x50  # version 5
        ids[:, 8] = ids[:, 8] & 0x3F | 0x80  # variant 10
        return Ids(ids, IdKind.UUID, problems)

    def shown(self, row: Mapping[Any, Any]) -> str:
        """Return what a row's id is made of, for a message."""
        by_name = {plain_name(name): value for name, value in row.items()}
        return ", ".join(shown_value(by_name.get(plain_name(column))) for column in self.columns)


NAMED_NOTHING = NamedIds((), NAMESPACE)


def as_option(column: str) -> str:
    """Return what --id-from is given for one column."""
    if set(column) & set(',"\r\n'):
        doubled = column.replace('"', '""')
        return f'"{doubled}"'
    return column


def names_of(columns: Sequence[list[Any]]) -> list[bytes | str]:
    """Return what is hashed for each row, or, as text, why it has no name."""
    items = [_items(values) for values in columns]
    if len(items) > 1:
        return list(map(_joined, zip(*items, strict=True)))
    return [
        item if isinstance(item, str)
        else MISSING_ID if item in _EMPTY
        else item.removeprefix(_TEXT)
        for item in items[0]
    ]  # fmt: skip


def _joined(items: tuple[bytes | str, ...]) -> bytes | str:
    reason = next((item for item in items if isinstance(item, str)), None)
    if reason is None and _EMPTY.issuperset(items):
        reason = MISSING_ID
    return reason or b"".join(items)  # type: ignore[arg-type] # none of them is a reason


def _items(values: list[Any]) -> list[bytes | str]:
    """Return what each value adds to its row's name, or why it can't."""
    kinds = set(map(type, values))
    if kinds == {int} and -_INT64 < min(values) <= max(values) < _INT64:
        return [b"\xffi%d" % value for value in values]
    if kinds == {str} and max(map(len, values)) <= _MAX_CHARS:
        with contextlib.suppress(UnicodeEncodeError):
            return [_TEXT + value.encode() for value in values]
    return list(map(_item, values))


def _item(value: Any) -> bytes | str:  # noqa: ANN401
    """Return what a value adds to a name, or why it can't."""
    item: bytes | None = None
    match value:
        case str() | bytes() | bytearray() if len(value) > _MAX_CHARS:
            return f"{shown_value(value)} is too long for an id: at most {_MAX_CHARS:,} are hashed"
        case str():
            try:
                return _TEXT + value.encode()
            except UnicodeEncodeError:  # lone surrogates
                return f"{quoted(value)} is not valid Unicode"
        case bool() | np.bool_():
            item = b"\xffbtrue" if value else b"\xffbfalse"
        case _ if is_null(value):
            item = _NULL
        case bytes() | bytearray():
            item = b"\xffx" + value.hex().encode()
        case uuid.UUID():
            item = b"\xffu" + str(value).encode()
        case _:
            item = _number_item(value)
    return item or f"{shown_value(value)} instead of text, a number, a bool, bytes or a UUID"


def _number_item(value: Any) -> bytes | None:  # noqa: ANN401
    """Return what a number adds to a name; None of what is none, or has no exact form here."""
    if isinstance(value, np.timedelta64):  # to NumPy an integer
        return None
    if isinstance(value, int | np.integer):
        number = int(value)
        return b"\xffi%d" % number if number.bit_length() <= _MAX_INT_BITS else None
    if isinstance(value, float | np.floating) and (
        getattr(value, "itemsize", _DOUBLE_BYTES) <= _DOUBLE_BYTES
    ):
        double = float(value)
        if double.is_integer() and abs(double) < _MAX_WHOLE_FLOAT:
            return b"\xffi%d" % int(double)
        return b"\xfff" + struct.pack(">d", double).hex().encode()
    return None


def _listed(values: Values) -> list[Any]:
    if (
        isinstance(values, np.ndarray)
        and values.dtype.kind in "iufb"
        and (values.dtype.itemsize <= _DOUBLE_BYTES)
    ):
        listed: list[Any] = values.tolist()  # Python's numbers, of equal value
        return listed
    return python_values(values)

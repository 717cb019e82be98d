"""Keys of dicts and members of sets: plain values that are hashed in no time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from convert.pickle_reader.errors import UnsupportedPickle
from convert.pickle_reader.floats import view_floats
from convert.pickle_reader.spans import Raw, Run, Text
from convert.pickle_reader.stand_ins import Opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.pickle_reader.spans import Buffer

_PLAIN = frozenset({str, bytes, float, bool, type(None), dt.date, dt.datetime})
_MAX_INTEGER = 1 << 64
# A tuple's hash isn't kept: each look at a key of tuples of tuples hashes all of them.
_MAX_TUPLE = 16
# Keys that aren't text can be made to collide.
_MAX_ODD_KEYS = 1000
_MAX_KEY_BYTES = 1 << 16


def checked_keys(values: Sequence[Any], data: Buffer, offset: int) -> list[Any]:
    """Return `values` as they can be used for keys."""
    keys = [
        value if type(value) is str else _checked(value, data, offset)
        for value in _without_runs(values, data)
    ]
    if sum(type(key) is tuple for key in keys) > _MAX_ODD_KEYS:
        message = f"more than {_MAX_ODD_KEYS} tuples as keys"
        raise UnsupportedPickle(message, offset)
    return keys


def _without_runs(values: Sequence[Any], data: Buffer) -> Sequence[Any]:
    if not any(type(value) is Run for value in values):
        return values
    return [
        single
        for value in values
        for single in (
            view_floats(data, value.offset, value.count).tolist()
            if type(value) is Run
            else (value,)
        )
    ]


def _checked(value: Any, data: Buffer, offset: int) -> Any:  # noqa: ANN401
    kind = type(value)
    if (
        kind in _PLAIN
        or isinstance(value, Opaque)
        or (kind is int and -_MAX_INTEGER < value < _MAX_INTEGER)
    ):
        return value
    if kind in (Text, Raw) and value.size <= _MAX_KEY_BYTES:
        return value.read(data)
    value = tuple(_without_runs(value, data)) if kind is tuple else value
    if (
        kind is tuple
        and len(value) <= _MAX_TUPLE
        and all(type(part) in _PLAIN or type(part) is int for part in value)
    ):
        return tuple([_checked(part, data, offset) for part in value])
    message = f"{kind_of(value)} as a key or member of a set"
    raise UnsupportedPickle(message, offset)

"""Values of Python's own classes, made from checked arguments."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from convert.pickle_reader.errors import UnsupportedPickle
from convert.pickle_reader.keys import checked_keys
from convert.pickle_reader.spans import Raw, Text
from convert.pickle_reader.stand_ins import Known, Opaque, StandIn, is_opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

_MAX_DIGITS = 1 << 16


class UUID(uuid.UUID, StandIn):
    """A UUID, zero until the state says its number."""

    def __init__(self, args: tuple[Any, ...], data: Buffer) -> None:
        del args, data
        super().__init__(int=0)

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        del data
        number = state["int"]
        if type(number) is not int or not 0 <= number < 1 << 128:
            message = "a UUID of no 128-bit number"
            raise ValueError(message)
        object.__setattr__(self, "int", number)


def date(args: tuple[Any, ...], _data: Buffer) -> dt.date:
    (state,) = args
    return dt.date(*_year_month_day(state, 4))


def _year_month_day(state: object, size: int) -> tuple[int, int, int]:
    high, low, month, day, *_ = _numbers(state, size)
    return high * 256 + low, month, day


def _numbers(state: object, size: int) -> bytes:
    """Return the packed state of a date or time; Python 2 wrote it as text."""
    if isinstance(state, str):
        state = state.encode("latin-1")
    if not isinstance(state, bytes) or len(state) != size:
        message = f"a date or time made of {kind_of(state)}"
        raise ValueError(message)
    return state


def datetime(args: tuple[Any, ...], _data: Buffer) -> dt.datetime:
    state, *zone = args
    hour, minute, second, *rest = _numbers(state, 10)[4:]
    year, month, day = _year_month_day(state, 10)
    # The highest bit of the month is the fold (PEP 495).
    return dt.datetime(
        year, month & 127, day, hour, minute, second, int.from_bytes(rest, "big"),
        tzinfo=_zone(*zone), fold=month >> 7,
    )  # fmt: skip


def time(args: tuple[Any, ...], _data: Buffer) -> dt.time:
    state, *zone = args
    hour, minute, second, *rest = _numbers(state, 6)
    return dt.time(
        hour & 127, minute, second, int.from_bytes(rest, "big"),
        tzinfo=_zone(*zone), fold=hour >> 7,
    )  # fmt: skip


def _zone(zone: object = None) -> dt.timezone | None:
    """Return a zone of a fixed offset; the rules of others aren't in the pickle."""
    if isinstance(zone, Opaque):
        return None
    if zone is not None and not isinstance(zone, dt.timezone):
        message = f"a time zone made of {kind_of(zone)}"
        raise TypeError(message)
    return zone


def timedelta(args: tuple[Any, ...], _data: Buffer) -> dt.timedelta:
    if not all(type(arg) is int for arg in args):
        message = "numbers that are none"
        raise TypeError(message)
    return dt.timedelta(*args)


def timezone(args: tuple[Any, ...], _data: Buffer) -> dt.timezone:
    offset, *name = args
    if not isinstance(offset, dt.timedelta) or not all(isinstance(n, str) for n in name):
        message = "no offset"
        raise TypeError(message)
    return dt.timezone(offset, *name)


def attribute(args: tuple[Any, ...], _data: Buffer) -> Known:
    """Stand for `getattr`, which names a member of an Enum, or what makes a time zone.

    Either is skipped like the class whose attribute it is.
    """
    owner, _name = args
    if not is_opaque(owner):
        name = type(owner).__name__ if isinstance(owner, Opaque) else "builtins.getattr"
        message = f"the pickle names {name}, which no embeddings pickle needs"
        raise UnsupportedPickle(message, 0)
    return cast("Known", owner)


def utc(_args: tuple[Any, ...], _data: Buffer) -> dt.timezone:
    return dt.UTC


def decimal_number(args: tuple[Any, ...], _data: Buffer) -> decimal.Decimal:
    (text,) = args
    if not isinstance(text, str) or len(text) > _MAX_DIGITS:
        message = "a number that is no text"
        raise ValueError(message)
    return decimal.Decimal(text)


def complex_number(args: tuple[Any, ...], _data: Buffer) -> complex:
    if not all(type(arg) in (int, float) for arg in args):
        message = "numbers that are none"
        raise TypeError(message)
    return complex(*args)


def make_bytearray(args: tuple[Any, ...], data: Buffer) -> Raw | bytearray:
    """Take bytes, or text and its encoding: a number would claim memory."""
    if not args:
        return bytearray()
    content, *encoding = args
    if isinstance(content, Raw):
        return content
    if isinstance(content, Text):
        content = content.read(data)
    if isinstance(content, str) and encoding and encoding[0] in ("latin-1", "latin1"):
        return bytearray(content, "latin-1")
    if isinstance(content, bytes | bytearray) and not encoding:
        return bytearray(content)
    message = f"bytes made of {kind_of(content)}"
    raise TypeError(message)


def make_bytes(args: tuple[Any, ...], data: Buffer) -> bytes | Raw:
    made = make_bytearray(args, data)
    return made if isinstance(made, Raw) else bytes(made)


def make_set(args: tuple[Any, ...], data: Buffer) -> set[Any]:
    items: list[Any] = []
    for argument in args:
        if not isinstance(argument, list):
            message = f"a set made of {kind_of(argument)}"
            raise TypeError(message)
        items = checked_keys(argument, data, 0)
    return set(items)


def make_frozenset(args: tuple[Any, ...], data: Buffer) -> frozenset[Any]:
    return frozenset(make_set(args, data))


def make_dict(args: tuple[Any, ...], data: Buffer) -> dict[Any, Any]:
    """Make an OrderedDict, of nothing or of pairs."""
    pairs: list[Any] = args[0] if args else []
    keys = checked_keys([key for key, _ in pairs], data, 0)
    return dict(zip(keys, [value for _, value in pairs], strict=True))


def default_dict(args: tuple[Any, ...], _data: Buffer) -> dict[Any, Any]:
    """Make a defaultdict, whose items come later; what makes its defaults isn't needed."""
    if len(args) > 1:
        message = "a defaultdict made of other things than its default"
        raise TypeError(message)
    return {}


def counter(args: tuple[Any, ...], _data: Buffer) -> dict[Any, Any]:
    counts, *rest = args or ({},)
    if type(counts) is not dict or rest:
        message = "a Counter made of other things than a dict"
        raise TypeError(message)
    return counts


def reconstructed(args: tuple[Any, ...], data: Buffer) -> object:
    """Make an object of a class that is skipped, as protocols 0 and 1 do."""
    kind, *_base = args
    if not is_opaque(kind):
        message = "an object of another class than protocols 0 and 1 make so"
        raise TypeError(message)
    return kind.call((), data)


def make_slice(args: tuple[Any, ...], _data: Buffer) -> slice:
    if not all(arg is None or type(arg) is int for arg in args):
        message = "bounds that are no numbers"
        raise TypeError(message)
    return slice(*args)


def timestamp(args: tuple[Any, ...], _data: Buffer) -> object:
    """Make a pandas Timestamp; its zone isn't kept."""
    value, _frequency, _zone_of, *resolution = args
    return _count_of("M8", value, *resolution)


def pandas_timedelta(args: tuple[Any, ...], _data: Buffer) -> object:
    return _count_of("m8", *args)


def _count_of(kind: str, value: object, resolution: int = 10) -> object:
    """Make a NumPy scalar; a resolution is a number of NumPy's C interface."""
    unit = {7: "s", 8: "ms", 9: "us", 10: "ns"}[resolution]
    if type(value) is not int:
        message = "a number that is none"
        raise TypeError(message)
    return np.array(value, f"{kind}[{unit}]")[()]


def nothing(_args: tuple[Any, ...], _data: Buffer) -> None:
    return None

"""Plain Python values of what the machine makes."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.arrays import unpack_arrays
from convert.pickle_reader.errors import DamagedPickle, EndlessValue, UnsupportedPickle
from convert.pickle_reader.floats import view_floats
from convert.pickle_reader.numpy_values import Array, Dtype
from convert.pickle_reader.spans import ArrayRun, Lump, Raw, Run, Text
from convert.pickle_reader.stand_ins import Inert, Known, Opaque, is_opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convert.pickle_reader.spans import Buffer

# Containers in containers; a value of a row has three.
_MAX_DEPTH = 100
_SPANS = frozenset({Run, Lump, ArrayRun})
_AS_THEY_ARE = frozenset({str, int, float, bool, type(None), bytes, bytearray, complex})


@functools.cache
def _skipped(kind: str) -> Opaque:
    """Return what stands for a value of pandas, such as a DataFrame, in a column of values."""
    made: Opaque = type(kind, (Opaque,), {})((), b"")
    return made


class Plain:
    """Makes plain values; `read_lump(lump)` returns the items of a Lump."""

    def __init__(self, data: Buffer, read_lump: Callable[[Lump], list[Any]]) -> None:
        self.offset = 0  # where the values were read, for errors
        self._data = data
        self._read_lump = read_lump

    def values(self, values: list[Any]) -> list[Any]:
        """Convert each of `values`, which holds no spans that stand for several."""
        if _AS_THEY_ARE.issuperset(map(type, values)):
            return values
        done: dict[int, Any] = {}
        return [self._value(value, done, 0) for value in values]

    def value(self, value: Any) -> Any:  # noqa: ANN401
        return self._value(value, {}, 0)

    def row(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Convert the values of a row; one without end is replaced by what is wrong with it."""
        row = {}
        for name, value in values.items():
            try:
                row[name] = self.value(value)
            except EndlessValue as error:
                row[name] = error.message
        return row

    def _value(self, value: Any, done: dict[int, Any], depth: int) -> Any:  # noqa: ANN401
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        if kind is Text or kind is Raw:
            if id(value) not in done:
                done[id(value)] = (self._read(value), value)
            return done[id(value)][0]
        if kind not in (list, tuple, dict, Array):
            return self._single(value)
        # What is referred to more than once is converted once; `value` is kept, for its id.
        if id(value) in done:
            if done[id(value)] is None:
                message = "a value that contains itself"
                raise EndlessValue(message, self.offset)
            return done[id(value)][0]
        if depth == _MAX_DEPTH:
            message = f"values in values, more than {_MAX_DEPTH} deep"
            raise EndlessValue(message, self.offset)
        done[id(value)] = None
        made = self._container(value, done, depth + 1)
        done[id(value)] = made, value
        return made

    def _single(self, value: Any) -> Any:  # noqa: ANN401
        if type(value) is Dtype:
            return value.numpy
        if isinstance(value, Inert):
            return _skipped(kind_of(value).partition(" ")[2])
        if is_opaque(value):  # a class itself
            return value.call((), self._data)
        if type(value) is Known:
            message = f"{value.name} as a value"
            raise UnsupportedPickle(message, self.offset)
        return value

    def _container(self, value: Any, done: dict[int, Any], depth: int) -> Any:  # noqa: ANN401
        if type(value) is dict:
            return {key: self._value(item, done, depth) for key, item in value.items()}
        if type(value) is Array:
            if value.content is None:
                message = "an array without a state"
                raise DamagedPickle(message, self.offset)
            if not isinstance(value.content, list):
                return value.view(self._data)
            objects = [self._value(item, done, depth) for item in self.items(value.content)]
            if len(objects) != math.prod(value.shape):  # its list was changed later
                message = f"{len(objects)} objects in an array of shape {value.shape}"
                raise DamagedPickle(message, self.offset)
            made = np.empty(len(objects), object)
            for place, item in enumerate(objects):
                made[place] = item
            return made.reshape(value.shape)
        items = [self._value(item, done, depth) for item in self.items(value)]
        return items if type(value) is list else tuple(items)

    def _read(self, span: Text | Raw) -> str | bytes:
        try:
            return span.read(self._data)
        except UnicodeError:
            message = "text in another encoding than it should be"
            raise DamagedPickle(message, span.offset) from None

    def items(self, items: Any, begin: int = 0, end: int | None = None) -> Iterator[Any]:  # noqa: ANN401
        """Yield the items of a list or tuple, from `begin` to `end`, spans expanded."""
        for item in self.packed_items(items, begin, end):
            if type(item) is ArrayRun:
                yield from unpack_arrays(item)
            else:
                yield item

    def packed_items(self, items: Any, begin: int = 0, end: int | None = None) -> Iterator[Any]:  # noqa: ANN401
        """Yield the items of a list or tuple, from `begin` to `end`, all but ArrayRuns expanded."""
        if _SPANS.isdisjoint(map(type, items)):
            yield from items[begin:end]
            return
        at = 0
        for item in items:
            kind = type(item)
            count = item.count if kind in _SPANS else 1
            first, last = max(begin - at, 0), count if end is None else min(end - at, count)
            at += count
            if first >= last:
                if end is not None and at >= end:
                    return
                continue
            if kind is Run:
                floats = view_floats(self._data, item.offset, item.count)
                yield from floats[first:last].tolist()
            elif kind is Lump:
                yield from self.packed_items(self._read_lump(item), first, last)
            elif kind is ArrayRun:
                yield item[first:last]
            else:
                yield item

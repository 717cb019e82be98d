"""What pandas pickles a DataFrame as; `convert.pickle_reader.frames` takes it apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.stand_ins import Inert, Known, Opaque, is_opaque

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

# Labels of columns, not of rows: more are not made.
_MAX_LABELS = 100_000


class Frame(Inert):
    """A DataFrame; its state holds a Blocks."""


class Blocks(Inert):
    """A BlockManager; args: blocks, [columns, index]."""


class Index(Inert):
    """Any index; args: its data. `name` is that of the column it once was, or None."""

    name: object = None


class Categorical(Inert):
    """State: a CategoricalType and the codes, an array."""


class CategoricalType(Inert):
    """State: categories, an Index."""


class ArrayBacked(Inert):
    """An extension array around one NumPy array: strings, datetimes, timedeltas."""


class Masked(Inert):
    """A nullable array; state: _data and _mask."""


class ArrowBacked(Inert):
    """An array around an Arrow array; state: _pa_array (once _data)."""


def array_backed(args: tuple[Any, ...], data: Buffer) -> Inert | Opaque:
    kind, _checksum, state = args
    if is_opaque(kind):
        return _skipped(kind, data)
    if not isinstance(kind, Known) or not (
        isinstance(kind.call, type) and issubclass(kind.call, ArrayBacked | Categorical)
    ):
        message = "an extension array of an unknown class"
        raise TypeError(message)
    made: Inert = kind.call((), data)
    if state is not None:
        made.build(state, data)
    return made


def block(args: tuple[Any, ...], _data: Buffer) -> tuple[object, object]:
    values, placement, _dimensions = args
    return values, placement


def _skipped(kind: Known, data: Buffer) -> Opaque:
    made: Any = kind.call((), data)
    return cast("Opaque", made)


def new_index(args: tuple[Any, ...], data: Buffer) -> Index | Opaque:
    kind, state = args
    if is_opaque(kind):
        return _skipped(kind, data)
    if "start" in state:  # a RangeIndex
        numbers = range(state["start"], state["stop"], state["step"])
        if len(numbers) > _MAX_LABELS:
            return Index((None,), data)  # rows, whose labels nobody asks for
        array = np.array(numbers, np.int64)
        return Index((Array(array.shape, array.dtype, array.tobytes()),), data)
    made = Index((state.get("data"),), data)
    made.name = state.get("name")
    return made

"""What pandas pickles a DataFrame as; `convert.pickle_reader.frames` takes it apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from convert.pickle_reader.numpy_values import no_call
from convert.pickle_reader.stand_ins import Inert, Known, Opaque, StandIn, is_opaque

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer


class Frame(Inert):
    """A DataFrame; its state holds a Blocks."""


class Series(Inert):
    """A Series; its state holds a SingleBlock."""


class SingleBlock(Inert):
    """A SingleBlockManager; args: a block, the index."""


class Blocks(Inert):
    """A BlockManager; args: blocks, [columns, index]."""


class Index(Inert):
    """Any index but a MultiIndex; args: its data, a range if it is a RangeIndex.

    `name` is that of the column it once was, or None.
    """

    name: object = None


class MultiIndex(Inert):
    """State: names, levels (each an Index of labels), and codes: by level, a label a row."""


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


class _NewBlock(Known, StandIn):
    """What pandas 1.3 makes a block with: new_block, the dimensions of which a state says."""

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        del state, data


def partial(args: tuple[Any, ...], data: Buffer) -> Known | Opaque:
    (function,) = args
    if is_opaque(function):
        return _skipped(function, data)
    if not isinstance(function, Known) or function.call is not no_call:
        message = "a function that isn't called"
        raise TypeError(message)
    return _NewBlock(function.name, lambda args, data: block((*args, None), data))


def block(args: tuple[Any, ...], _data: Buffer) -> tuple[object, object]:
    values, placement, _dimensions = args
    return values, placement


def _skipped(kind: Known, data: Buffer) -> Opaque:
    made: Any = kind.call((), data)
    return cast("Opaque", made)


def new_index(args: tuple[Any, ...], data: Buffer) -> Index | MultiIndex:
    kind, state = args
    if isinstance(kind, Known) and kind.call is MultiIndex:
        levels = MultiIndex((), data)
        levels.build(state, data)
        return levels
    labels = state.get("data")
    if is_opaque(kind):
        labels = _skipped(kind, data)
    elif "start" in state:
        labels = range(state["start"], state["stop"], state["step"])
    made = Index((labels,), data)
    made.name = state.get("name")
    return made

"""What stands in for the classes and functions that an embeddings pickle names.

A pickle can name any function and have it called. So nothing that a file names is ever
imported: `convert.pickle_globals` maps names to the inert builders below, and
`convert.unpickle` refuses every other name. The builders check what they are given
(pickle.UnpicklingError, ValueError, TypeError), because NumPy itself trusts a pickled
dtype's flags with raw pointers.
"""

from __future__ import annotations

import codecs
import datetime as dt
import math
import uuid
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

# Columns, not rows: more labels than that are not made.
_MAX_LABELS = 100_000
_MAX_ARROW_LENGTH = 1 << 40
_DATETIME_UNITS = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "generic"})


class Inert:
    """Keeps what the file passes to a class: `args` to construct it, `state` to fill it."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class Frame(Inert):
    """A DataFrame; its state holds a Blocks."""


class Blocks(Inert):
    """A BlockManager; args: blocks, [columns, index]."""


class Index(Inert):
    """Any index; args: its data."""


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


class Function:
    """A function that the file may call, and that nothing in the file can change.

    Without this a BUILD opcode could set attributes that outlive the pickle.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, _state: object) -> None:
        message = "a state for a function"
        raise UnpicklingError(message)


class Uuid(uuid.UUID):
    """A UUID whose state can only be a number of 128 bits."""

    def __new__(cls, *_args: object) -> Self:
        made = super().__new__(cls)
        made.__setstate__({"int": 0})
        return made

    def __setstate__(self, state: dict[str, Any]) -> None:
        number = state["int"]
        if type(number) is not int or not 0 <= number < 1 << 128:
            message = "a UUID of no 128-bit number"
            raise UnpicklingError(message)
        object.__setattr__(self, "int", number)
        object.__setattr__(self, "is_safe", uuid.SafeUUID.unknown)


class Dtype:
    """A NumPy dtype that the file can't tamper with."""

    def __init__(self, spec: object, *_flags: object) -> None:
        if not isinstance(spec, str):
            message = f"a dtype made of {type(spec).__name__}"
            raise UnpicklingError(message)
        self.numpy = np.dtype(spec)
        if self.numpy.names is not None or self.numpy.subdtype is not None:
            message = f"structured dtype {spec!r}"
            raise UnpicklingError(message)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, subdtype, names, fields, *_rest = state
        if subdtype is not None or names is not None or fields is not None:
            message = "structured dtype"
            raise UnpicklingError(message)
        if self.numpy.kind in "mM":
            unit = state[8][1][0]
            unit = unit.decode() if isinstance(unit, bytes) else unit
            if unit not in _DATETIME_UNITS:
                message = f"datetime unit {unit!r}"
                raise UnpicklingError(message)
            unit = "" if unit == "generic" else f"[{unit}]"  # generic: NaT of no unit
            self.numpy = np.dtype(f"{self.numpy.kind}8{unit}")
        elif self.numpy.kind == "U":  # its length is part of the state
            self.numpy = np.dtype(f"U{state[5] // 4}")
        elif self.numpy.kind == "S":
            self.numpy = np.dtype(f"S{state[5]}")
        if byte_order in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(byte_order)


class Array(np.ndarray[Any, np.dtype[Any]]):
    """A NumPy array that takes only a state whose size is right."""

    def __new__(cls, *_args: object) -> Self:
        message = "an array may only be made by _reconstruct or _frombuffer"
        raise UnpicklingError(message)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, data = state
        if self.size:  # other arrays may view the memory that would be freed
            message = "a second state for an array"
            raise UnpicklingError(message)
        _check_size(shape, dtype, data)
        super().__setstate__((1, shape, dtype.numpy, bool(fortran_order), data))  # type: ignore[arg-type]


def _check_size(shape: tuple[int, ...], dtype: Dtype, data: object) -> None:
    if not isinstance(shape, tuple) or any(not isinstance(n, int) or n < 0 for n in shape):
        message = f"array shape {shape!r}"
        raise UnpicklingError(message)
    size = math.prod(shape)
    if not isinstance(dtype, Dtype) or not dtype.numpy.itemsize:
        message = "an array of values without a size"
        raise UnpicklingError(message)
    if dtype.numpy.hasobject:
        fits = isinstance(data, list) and len(data) == size
    else:
        raw = isinstance(data, bytes | bytearray)
        fits = raw and len(data) == size * dtype.numpy.itemsize  # type: ignore[arg-type]
    if not fits:
        message = f"array of shape {shape} and type {dtype.numpy} with other data"
        raise UnpicklingError(message)


def reconstruct_array(subtype: object, _shape: object, _typecode: object) -> Array:
    if subtype is not Array:
        message = "an array subclass"
        raise UnpicklingError(message)
    return np.ndarray.__new__(Array, (0,), np.uint8)


def array_from_buffer(data: bytes, dtype: Dtype, shape: tuple[int, ...], order: str) -> object:
    _check_size(shape, dtype, data)
    return np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if order == "F" else "C")


def numpy_scalar(dtype: Dtype, data: object) -> object:
    if dtype.numpy.hasobject:
        return data
    _check_size((), dtype, data)
    return np.frombuffer(data, dtype.numpy)[0]  # type: ignore[call-overload]


def array_backed(cls: object, _checksum: object, state: object) -> Inert:
    if not (isinstance(cls, type) and issubclass(cls, Inert)):
        message = "an extension array of an unknown class"
        raise UnpicklingError(message)
    array = cls()
    if state is not None:
        array.__setstate__(state)
    return array


def block(values: object, placement: object, _ndim: object) -> tuple[object, object]:
    return values, placement


def new_index(_cls: object, state: dict[str, Any]) -> Index:
    if "start" in state:  # a RangeIndex
        numbers = range(state["start"], state["stop"], state["step"])
        if len(numbers) > _MAX_LABELS:
            return Index(None)  # rows, whose labels nobody asks for
        return Index(np.array(numbers, np.int64))
    return Index(state.get("data"))


def arrow_array(state: tuple[Any, ...]) -> pa.Array:
    arrow_type, length, null_count, offset, buffers, children, dictionary = state
    # Nulls without a type have no buffer that bounds their number.
    if children or dictionary is not None or pa.types.is_null(arrow_type):
        message = f"an Arrow array of type {arrow_type}"
        raise UnpicklingError(message)
    # Arrow's validation takes what it is told about the offset for granted.
    if any(type(n) is not int or not 0 <= n <= _MAX_ARROW_LENGTH for n in (length, offset)):
        message = f"an Arrow array of {length!a} values from {offset!a} on"
        raise UnpicklingError(message)
    array = pa.Array.from_buffers(arrow_type, length, buffers, null_count, offset)
    array.validate(full=True)  # the buffers are the file's: offsets, UTF-8
    return array


def arrow_chunks(chunks: list[object], arrow_type: object = None) -> pa.ChunkedArray:
    """Join Arrow arrays; Arrow itself would also take lists of anything, and not survive some."""
    if not all(isinstance(chunk, pa.Array) for chunk in chunks):
        message = "chunks that are no Arrow arrays"
        raise UnpicklingError(message)
    return pa.chunked_array(chunks, arrow_type)


def arrow_buffer(data: object) -> pa.Buffer:
    """Make a buffer that the file can't change after it was validated."""
    if not isinstance(data, bytes | bytearray):
        message = f"an Arrow buffer made of {type(data).__name__}"
        raise UnpicklingError(message)
    return pa.py_buffer(bytes(data))


def encode_bytes(text: str, encoding: str = "utf-8") -> bytes:
    """Protocol 2's way to write bytes."""
    if encoding not in ("latin1", "utf-8"):
        message = f"encoding {encoding!r}"
        raise UnpicklingError(message)
    return codecs.encode(text, encoding)


def timestamp(value: int, _freq: object, _zone: object, resolution: int = 10) -> object:
    """Make a pandas Timestamp; its resolution is a number of NumPy's C interface."""
    unit = {7: "s", 8: "ms", 9: "us", 10: "ns"}[resolution]
    return np.array(value, f"M8[{unit}]")[()]


def not_a_time(*_args: object) -> None:
    return None


def utc(*_args: object) -> dt.timezone:
    return dt.UTC

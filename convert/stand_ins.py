"""What stands in for the classes and functions that an embeddings pickle names.

A pickle can name any function and have it called. So nothing that a file names is ever
imported: GLOBALS maps the exact (module, name) pairs that pandas 1.5 to 3, NumPy 1 and
2 and pyarrow put into pickles to the inert builders below, and `convert.unpickle`
refuses every other name. The builders check what they are given (pickle.UnpicklingError,
ValueError, TypeError), because NumPy itself trusts a pickled dtype's flags with raw
pointers.
"""

from __future__ import annotations

import codecs
import datetime as dt
import decimal
import math
import uuid
from collections import OrderedDict
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

_DATETIME_UNITS = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"})


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
            self.numpy = np.dtype(f"{self.numpy.kind}8[{unit}]")
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
        _check_size(shape, dtype, data)
        super().__setstate__((1, shape, dtype.numpy, bool(fortran_order), data))  # type: ignore[arg-type]


def _check_size(shape: tuple[int, ...], dtype: Dtype, data: object) -> None:
    if not isinstance(shape, tuple) or any(not isinstance(n, int) or n < 0 for n in shape):
        message = f"array shape {shape!r}"
        raise UnpicklingError(message)
    size = math.prod(shape)
    if dtype.numpy.hasobject:
        fits = isinstance(data, list) and len(data) == size
    else:
        raw = isinstance(data, bytes | bytearray)
        fits = raw and len(data) == size * dtype.numpy.itemsize  # type: ignore[arg-type]
    if not fits:
        message = f"array of shape {shape} and type {dtype.numpy} with other data"
        raise UnpicklingError(message)


def _reconstruct(subtype: object, _shape: object, _typecode: object) -> Array:
    if subtype is not Array:
        message = "an array subclass"
        raise UnpicklingError(message)
    return np.ndarray.__new__(Array, (0,), np.uint8)


def _frombuffer(data: bytes, dtype: Dtype, shape: tuple[int, ...], order: str) -> object:
    _check_size(shape, dtype, data)
    return np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Dtype, data: object) -> object:
    if dtype.numpy.hasobject:
        return data
    _check_size((), dtype, data)
    return np.frombuffer(data, dtype.numpy)[0]  # type: ignore[call-overload]


def _unpickle_array_backed(cls: object, _checksum: object, state: object) -> Inert:
    if not (isinstance(cls, type) and issubclass(cls, Inert)):
        message = "an extension array of an unknown class"
        raise UnpicklingError(message)
    array = cls()
    if state is not None:
        array.__setstate__(state)
    return array


def _block(values: object, placement: object, _ndim: object) -> tuple[object, object]:
    return values, placement


def _new_index(_cls: object, state: dict[str, Any]) -> Index:
    return Index(state.get("data"))


def _arrow_array(state: tuple[Any, ...]) -> pa.Array:
    arrow_type, length, null_count, offset, buffers, children, dictionary = state
    if children or dictionary is not None:
        message = f"a nested Arrow array, {arrow_type}"
        raise UnpicklingError(message)
    array = pa.Array.from_buffers(arrow_type, length, buffers, null_count, offset)
    array.validate(full=True)  # the buffers are the file's: offsets, UTF-8
    return array


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Protocol 2's way to write bytes."""
    if encoding not in ("latin1", "utf-8"):
        message = f"encoding {encoding!r}"
        raise UnpicklingError(message)
    return codecs.encode(text, encoding)


def _timestamp(value: int, *_rest: object) -> object:
    return np.datetime64(value, "ns")


def _utc(*_args: object) -> dt.timezone:
    return dt.UTC


def _named(modules: str, names: dict[str, object]) -> dict[tuple[str, str], object]:
    return {(module, name): value for module in modules.split() for name, value in names.items()}


def _masked(prefix: str, *types: str) -> dict[str, object]:
    return {f"{prefix}{t}Array": Masked for t in types}


_PANDAS: dict[str, object] = {
    "DataFrame": Frame,
    "Index": Index,
    "RangeIndex": Index,
    "Categorical": Categorical,
    "CategoricalDtype": CategoricalType,
    "NA": None,
    **dict.fromkeys(("StringDtype", "ArrowDtype", "DatetimeTZDtype", "BooleanDtype"), Inert),
    **dict.fromkeys([f"{u}Int{bits}Dtype" for u in ("", "U") for bits in (8, 16, 32, 64)], Inert),
    **dict.fromkeys(("Float32Dtype", "Float64Dtype"), Inert),
}
_INTEGERS = {name: Inert for name in _PANDAS if "Int" in name}

GLOBALS: dict[tuple[str, str], Callable[..., object] | object] = {
    **_named("builtins __builtin__", {
        "bytearray": bytearray, "complex": complex, "frozenset": frozenset, "set": set,
        "slice": slice,
    }),
    **_named("_codecs", {"encode": _encode}),
    **_named("collections", {"OrderedDict": OrderedDict}),
    **_named("datetime", {
        "date": dt.date, "datetime": dt.datetime, "time": dt.time,
        "timedelta": dt.timedelta, "timezone": dt.timezone,
    }),
    **_named("decimal", {"Decimal": decimal.Decimal}),
    **_named("uuid", {"UUID": uuid.UUID, "SafeUUID": uuid.SafeUUID}),
    **_named("pytz", {"_UTC": _utc}),
    **_named("numpy", {"dtype": Dtype, "ndarray": Array}),
    **_named("numpy.core.multiarray numpy._core.multiarray", {
        "_reconstruct": _reconstruct, "scalar": _scalar,
    }),
    **_named("numpy.core.numeric numpy._core.numeric", {"_frombuffer": _frombuffer}),
    **_named("pyarrow.lib", {
        "_restore_array": _arrow_array, "chunked_array": pa.chunked_array,
        "py_buffer": pa.py_buffer, "type_for_alias": pa.type_for_alias,
    }),
    # pandas 3 pickles public names, older ones the modules that define the classes.
    **_named("pandas", _PANDAS),
    **_named("pandas.arrays", {
        "ArrowExtensionArray": ArrowBacked, "ArrowStringArray": ArrowBacked,
        "StringArray": ArrayBacked, "DatetimeArray": ArrayBacked, "TimedeltaArray": ArrayBacked,
        **_masked("", "Integer", "Floating", "Boolean"),
    }),
    **_named("pandas.core.frame", {"DataFrame": Frame}),
    **_named("pandas.core.internals.managers", {"BlockManager": Blocks}),
    **_named("pandas._libs.internals", {"_unpickle_block": _block}),
    **_named("pandas._libs.arrays", {"__pyx_unpickle_NDArrayBacked": _unpickle_array_backed}),
    **_named("pandas._libs.missing", {"NA": None}),
    **_named("pandas._libs.tslibs.nattype", {"_nat_unpickle": lambda *_: None}),
    **_named("pandas._libs.tslibs.timestamps", {"_unpickle_timestamp": _timestamp}),
    **_named("pandas.core.indexes.base", {"_new_Index": _new_index, "Index": Index}),
    **_named("pandas.core.indexes.numeric", {
        "Int64Index": Index, "UInt64Index": Index, "Float64Index": Index,
    }),
    **_named("pandas.core.indexes.range", {"RangeIndex": Index}),
    **_named("pandas.core.arrays.categorical", {"Categorical": Categorical}),
    **_named("pandas.core.arrays.string_", {"StringArray": ArrayBacked, "StringDtype": Inert}),
    **_named("pandas.core.arrays.string_arrow", {"ArrowStringArray": ArrowBacked}),
    **_named("pandas.core.arrays.arrow.array", {"ArrowExtensionArray": ArrowBacked}),
    **_named("pandas.core.arrays.arrow.dtype", {"ArrowDtype": Inert}),
    **_named("pandas.core.arrays.datetimes", {"DatetimeArray": ArrayBacked}),
    **_named("pandas.core.arrays.timedeltas", {"TimedeltaArray": ArrayBacked}),
    **_named("pandas.core.arrays.integer", {**_INTEGERS, "IntegerArray": Masked}),
    **_named("pandas.core.arrays.floating", {
        "FloatingArray": Masked, "Float32Dtype": Inert, "Float64Dtype": Inert,
    }),
    **_named("pandas.core.arrays.boolean", {"BooleanArray": Masked, "BooleanDtype": Inert}),
    **_named("pandas.core.dtypes.dtypes", {
        "ArrowDtype": Inert, "CategoricalDtype": CategoricalType, "DatetimeTZDtype": Inert,
    }),
}  # fmt: skip

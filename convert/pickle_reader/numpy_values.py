"""NumPy's dtypes, scalars and arrays, checked before NumPy sees anything of them.

NumPy trusts a pickled dtype's flags, an array's shape and the pointers in an array of
objects. Here a dtype is made of its name alone, and an array's bytes must be as many as
its shape says.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.pickle_reader.spans import ArrayRun, Lump, Raw, Run, Text
from convert.pickle_reader.stand_ins import StandIn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.pickle_reader.spans import Buffer

_DATETIME_UNITS = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "generic"})
_KINDS = frozenset("biufcmMSUOV")
_MAX_DIMENSIONS = 32
_MAX_SPEC = 16
# The latter were those of codes, before pandas 1.
ARRAY_CLASSES = (
    "numpy.ndarray",
    "pandas.core.indexes.frozen.FrozenNDArray",
    "pandas.core.base.FrozenNDArray",
)
# NumPy wants room for them, even if one of the dimensions is 0.
_MAX_ITEMS = 1 << 48


class Dtype(StandIn):
    """A dtype, as `numpy`; it takes one state, before it is used."""

    def __init__(self, args: tuple[Any, ...], _data: Buffer) -> None:
        spec = args[0]
        if not isinstance(spec, str) or len(spec) > _MAX_SPEC:
            message = "a dtype made of something else than its name"
            raise TypeError(message)
        self.numpy: np.dtype[Any] = np.dtype(spec)
        self.is_final = False
        if self.numpy.names is not None or self.numpy.subdtype is not None:
            message = f"structured dtype {spec!r}"
            raise ValueError(message)
        if self.numpy.kind not in _KINDS:
            message = f"dtype {spec!r}"
            raise ValueError(message)

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        del data
        if self.is_final:
            message = "a state for a dtype that was used"
            raise ValueError(message)
        self.is_final = True
        _, byte_order, subdtype, names, fields, *_rest = state
        if subdtype is not None or names is not None or fields is not None:
            message = "structured dtype"
            raise ValueError(message)
        if self.numpy.kind in "mM":
            self.numpy = np.dtype(f"{self.numpy.kind}8{_datetime_unit(state)}")
        elif self.numpy.kind in "US":  # its length is part of the state
            size = state[5] // 4 if self.numpy.kind == "U" else state[5]
            self.numpy = np.dtype((self.numpy.type, size))
        if byte_order in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(byte_order)


def _datetime_unit(state: tuple[Any, ...]) -> str:
    unit, number, *_ = state[8][1]
    unit = unit.decode() if isinstance(unit, bytes) else unit
    if unit not in _DATETIME_UNITS or type(number) is not int or not 0 < number < 1 << 31:
        message = f"datetime unit {unit!r}"
        raise ValueError(message)
    if unit == "generic":  # NaT of no unit
        return ""
    return f"[{unit}]" if number == 1 else f"[{number}{unit}]"


class Array(StandIn):
    """An array whose content stays in the file, or is a list of objects."""

    __slots__ = ("content", "dtype", "is_fortran", "shape")

    def __init__(
        self, shape: tuple[int, ...] = (0,), dtype: np.dtype[Any] | None = None,
        content: Raw | bytes | list[Any] | None = None, *, is_fortran: bool = False,
    ) -> None:  # fmt: skip
        self.shape = shape
        self.dtype = np.dtype(np.uint8) if dtype is None else dtype
        self.content = content
        self.is_fortran = is_fortran

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        _, shape, dtype, is_fortran, content = state
        if self.content is not None:
            message = "a second state"
            raise ValueError(message)
        self.content = _checked_content(shape, dtype, content, data)
        self.shape, self.dtype, self.is_fortran = shape, dtype.numpy, is_fortran is True

    def view(self, data: Buffer) -> NDArray[Any]:
        """Return a numeric array, in place where its bytes are in the file as they are."""
        if self.content is None or isinstance(self.content, list):
            message = "an array of objects, or of nothing"
            raise ValueError(message)
        count = math.prod(self.shape)
        if isinstance(self.content, Raw) and not self.content.as_text:
            flat = np.frombuffer(data, self.dtype, count, self.content.offset)
        elif isinstance(self.content, Raw):
            flat = np.frombuffer(self.content.read(data), self.dtype, count)
        else:
            flat = np.frombuffer(self.content, self.dtype, count)
        flat.flags.writeable = False
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


def _checked_content(shape: object, dtype: object, content: Any, data: Buffer) -> Any:  # noqa: ANN401
    """Return the content of an array, if it is as much as the shape says."""
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_DIMENSIONS
        or any(type(n) is not int or n < 0 for n in shape)
        or math.prod(n or 1 for n in shape) > _MAX_ITEMS
    ):
        message = "a shape that is none"
        raise ValueError(message)
    if not isinstance(dtype, Dtype) or not dtype.numpy.itemsize or dtype.numpy.kind == "V":
        message = "an array of values without a size"
        raise ValueError(message)
    dtype.is_final = True  # what was made of it must stay what it is
    count = math.prod(shape)
    if dtype.numpy.hasobject:
        if type(content) is list and item_count(content) == count:
            return content
    elif isinstance(content, bytes | bytearray):
        if len(content) == count * dtype.numpy.itemsize:
            return bytes(content)
    elif isinstance(content, Raw):
        size = len(content.read(data)) if content.as_text else content.size
        if size == count * dtype.numpy.itemsize:
            return content
    message = f"an array of {count} {dtype.numpy} with other data"
    raise ValueError(message)


def item_count(items: list[Any]) -> int:
    """Return how many items a list has, those that spans stand for counted."""
    return sum(item.count if type(item) in (Run, Lump, ArrayRun) else 1 for item in items)


def reconstruct_array(args: tuple[Any, ...], _data: Buffer) -> Array:
    """Make an array that waits for its state."""
    if getattr(args[0], "name", None) not in ARRAY_CLASSES:
        message = "an array subclass"
        raise ValueError(message)
    return Array()


def array_from_buffer(args: tuple[Any, ...], data: Buffer) -> Array:
    content, dtype, shape, order = args
    if isinstance(dtype, Dtype) and dtype.numpy.hasobject:
        message = "a buffer of objects"
        raise ValueError(message)
    content = _checked_content(shape, dtype, content, data)
    return Array(shape, dtype.numpy, content, is_fortran=order == "F")


def scalar(args: tuple[Any, ...], data: Buffer) -> object:
    dtype, content = args
    if isinstance(dtype, Dtype) and dtype.numpy.hasobject:
        return content
    content = _checked_content((), dtype, content, data)
    return Array((), dtype.numpy, content).view(data)[()]


def no_call(_args: tuple[Any, ...], _data: Buffer) -> object:
    message = "isn't to be called"
    raise ValueError(message)


def encode_bytes(args: tuple[Any, ...], data: Buffer) -> Raw | bytes:
    """Make bytes as protocol 2 writes them, as text."""
    text, encoding = (*args, "utf-8")[:2]
    if encoding not in ("latin1", "utf-8"):
        message = f"encoding {encoding!r}"
        raise ValueError(message)
    if isinstance(text, Text) and encoding == "latin1":
        return Raw(text.offset, text.size, as_text=True)
    text = text.read(data) if isinstance(text, Text) else text
    encoded: bytes = text.encode("latin-1" if encoding == "latin1" else "utf-8")
    return encoded

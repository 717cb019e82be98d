"""Where Arrow's memory lies: telling same from equal, and a view from a copy. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def memory_of(array: pa.Array) -> tuple[tuple[int, int], ...]:
    """Return what tells arrays on the same memory: addresses and sizes, offset and length.

    Of two arrays that are alive, equal results mean the same values of the same bytes.
    """
    buffers = tuple((b.address, b.size) if b is not None else (0, 0) for b in array.buffers())
    return (*buffers, (array.offset, len(array)))


def lies_in(buffer: pa.Buffer, outer: pa.Buffer) -> bool:
    """Whether `buffer` is a view on the memory of `outer`."""
    begin: int = outer.address
    end: int = begin + outer.size
    address: int = buffer.address
    return bool(buffer.size == 0) or (begin <= address and address + buffer.size <= end)

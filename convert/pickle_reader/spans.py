"""Values that stay where they are in the file, known by offset and size.

On the machine's stack, and inside the lists and tuples that it makes, a span stands for
what it covers: a Run for `count` floats, a Lump for `count` items of a long list. So a
list's items are its values with every span in it expanded, which `convert.pickle_reader.plain`
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import mmap

    import numpy as np
    from numpy.typing import NDArray

Buffer: TypeAlias = "bytes | mmap.mmap | memoryview"

# Bytes; shorter text and bytes are decoded at once, which costs no more than a span.
LONG_BYTES = 256


class Run:
    """Floats one after another, each the opcode G and a big-endian double: 9 bytes."""

    __slots__ = ("count", "offset")

    def __init__(self, offset: int, count: int) -> None:
        self.offset = offset
        self.count = count


class Text:
    """Text as UTF-8."""

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size

    def read(self, data: Buffer) -> str:
        """Raise UnicodeDecodeError if it isn't UTF-8; lone surrogates are let through."""
        return str(data[self.offset : self.offset + self.size], "utf-8", "surrogatepass")


class Raw:
    """Bytes; `as_text` if they are written as text of that many Latin-1 characters (protocol 2)."""

    __slots__ = ("as_text", "offset", "size")

    def __init__(self, offset: int, size: int, *, as_text: bool = False) -> None:
        self.offset = offset
        self.size = size
        self.as_text = as_text

    def read(self, data: Buffer) -> bytes:
        """Raise UnicodeError if text isn't Latin-1."""
        written = data[self.offset : self.offset + self.size]
        return str(written, "utf-8").encode("latin-1") if self.as_text else bytes(written)


class Lump:
    """Items of a list that were let go; to be read again from `offset`.

    `memo_size` is how many entries the memo had there.
    """

    __slots__ = ("count", "memo_size", "offset")

    def __init__(self, offset: int, memo_size: int, count: int) -> None:
        self.offset = offset
        self.memo_size = memo_size
        self.count = count


class ArrayRun:
    """One-dimensional arrays of one dtype that were items of a list.

    `offsets` and `counts` are int64, an entry an array; `as_text` is as in Raw, whose
    sizes are `sizes` then.
    """

    __slots__ = ("as_text", "count", "counts", "dtype", "offsets", "sizes")

    def __init__(
        self, dtype: np.dtype[Any], offsets: NDArray[np.int64], counts: NDArray[np.int64],
        sizes: NDArray[np.int64], *, as_text: bool,
    ) -> None:  # fmt: skip
        self.dtype = dtype
        self.offsets = offsets
        self.counts = counts
        self.sizes = sizes
        self.as_text = as_text
        self.count = len(offsets)

    def __getitem__(self, items: slice) -> ArrayRun:
        return ArrayRun(
            self.dtype, self.offsets[items], self.counts[items], self.sizes[items],
            as_text=self.as_text,
        )  # fmt: skip

"""A column of texts that grows on disk."""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING

import pyarrow as pa

from convert.background_file import BackgroundFile
from convert.dataset.large_text import content_of, offsets_of

if TYPE_CHECKING:
    from pathlib import Path

_OFFSET_BYTES = 8


class GrowingColumn:
    """An Arrow column of large_string, without nulls, whose two buffers are files.

    The files lie in `folder`, have no name, and are gone when the column is. `text_bytes` are
    those of UTF-8. OSError: the disk is full, or fails.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = 0
        self.text_bytes = 0
        self._offsets, self._texts = _unnamed(folder), _unnamed(folder)
        self._offsets.write((0, bytes(_OFFSET_BYTES)))
        self._mapped = pa.array([], pa.large_string())

    def __len__(self) -> int:
        return self._rows

    def append(self, texts: pa.LargeStringArray) -> None:
        """Add texts, none of them null. They are held until they are written."""
        if not len(texts):
            return
        offsets = offsets_of(texts)
        ends = offsets[1:] + (self.text_bytes - offsets[0])
        self._offsets.write((_OFFSET_BYTES * (self._rows + 1), ends.data))
        self._texts.write((self.text_bytes, content_of(texts)))
        self._rows += len(texts)
        self.text_bytes = int(ends[-1])

    def column(self) -> pa.LargeStringArray:
        """Return the texts so far, as a view on the mapped files."""
        if len(self._mapped) < self._rows:
            buffers = [
                _mapped(self._offsets, _OFFSET_BYTES * (self._rows + 1)),
                _mapped(self._texts, self.text_bytes),
            ]
            self._mapped = pa.Array.from_buffers(pa.large_string(), self._rows, [None, *buffers])
        return self._mapped


def _unnamed(folder: Path) -> BackgroundFile:
    with tempfile.TemporaryFile(dir=folder) as file:
        return BackgroundFile(file)


def _mapped(file: BackgroundFile, size: int) -> pa.Buffer:
    file.wait()
    if not size:  # nothing can't be mapped
        return pa.py_buffer(b"")
    return pa.py_buffer(mmap.mmap(file.descriptor, size, access=mmap.ACCESS_READ))

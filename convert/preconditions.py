"""What must hold of source, output and disk before anything is written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from convert.errors import OutputError, UnreadableSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from convert.options import Options
    from convert.sources.source import Source

# Bytes a row takes in the dataset besides its vector.
_ROW_BYTES = 32


class Room:
    """Looks whether the disk has room for what will be written."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.bytes_read = 0
        self._folder = folder
        self._source = source
        self._size_before = source.size

    def check(self, dimension: int, text_row_bytes: float) -> None:
        """Raise OutputError if it hasn't; `bytes_read` have the rows that the source has so far.

        `text_row_bytes` are those of the distinct texts, by row. Texts need room twice, as
        they are put in order; that there are more of them than the source has is unlikely.
        """
        size = self._source.size
        unpacked = self._size_before - size  # of these bytes no row came
        expected = self._source.rows * size / max(self.bytes_read - unpacked, 1)
        texts = min(text_row_bytes * expected, size)
        wanted = expected * (_ROW_BYTES + 4 * dimension) + 2 * texts
        free = shutil.disk_usage(self._folder).free
        if wanted > free:
            message = (
                f"{self._folder} has {free / 1e6:,.0f} MB free; about {wanted / 1e6:,.0f} MB are "
                f"needed for {expected:,.0f} rows of {dimension} floats and their texts; "
                "nothing was written"
            )
            raise OutputError(message)


def file_versions(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return times of modification (ns) and sizes."""
    try:
        return [(status.st_mtime_ns, status.st_size) for status in (p.stat() for p in paths)]
    except OSError as error:
        message = f"{error.filename}: {error.strerror or error}"
        raise UnreadableSourceError(message) from None


def refuse_source_as_output(options: Options) -> None:
    try:
        is_source = options.out.exists() and options.out.samefile(options.source)
    except OSError as error:
        message = f"{options.out}: {error.strerror or error}"
        raise OutputError(message) from None
    if is_source:
        message = f"{options.out} is the source itself; say another output with -o"
        raise OutputError(message)
    if options.source.is_dir() and options.out.parent.resolve().is_relative_to(
        options.source.resolve()
    ):
        message = f"{options.out} would be a part of its source; say an output elsewhere with -o"
        raise OutputError(message)

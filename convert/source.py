"""Files that hold rows, as batches of columns: pickles, Parquet, Arrow, folders of them.

Nothing is validated here. What a file says about itself is never executed.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Protocol

from convert.arrow_file import ArrowFile, magic_of
from convert.errors import UnreadableSourceError
from convert.pickle_file import COMPRESSED_SUFFIXES, PickleFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.pickle_reader import Batch

_PART_SUFFIXES = frozenset({".pkl", ".pickle", ".parquet", ".arrow", ".arrows", ".feather"})
_MOST_MAGIC = 8
_DIGITS = re.compile("([0-9]+)")


class Source(Protocol):
    """Rows, which can be read more than once.

    `paths` are the files that hold them, `parts` the sources that a folder is made of (else
    itself), `size` the bytes that their reading counts. As
    reading goes on, `kind` says what the source is, `columns` which names were seen, in
    order of appearance, `rows` how many rows there are so far (in column-major files all
    of them from the beginning), `globals_named` what the pickles name, and at which byte
    first.
    """

    @property
    def size(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def parts(self) -> Sequence[Source]: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> Collection[Any]: ...
    @property
    def globals_named(self) -> Mapping[str, int]: ...

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield all rows in batches; `wanted(name)` says which columns are handed out.

        `advance` is told how much more of `size` was read. UnreadableSourceError, also
        after the last batch: the file can't be read, is damaged, or is refused.
        """


def open_source(path: Path, scratch: Path) -> Source:
    """Look at what `path` is; compressed files are unpacked in the folder `scratch`.

    UnreadableSourceError: it isn't there, or can't be looked at.
    """
    try:
        if path.is_dir():
            return Folder(path, scratch)
        if path.exists() and not path.is_file():  # opening a pipe would wait
            message = f"{path} is no regular file"
            raise UnreadableSourceError(message)
        with path.open("rb") as file:
            magic = magic_of(file.read(_MOST_MAGIC))
        if magic is not None:
            return ArrowFile(path, magic)
        return PickleFile(path, scratch)
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise UnreadableSourceError(message) from None


class Folder:
    """The part files of a folder, by name, numbers in names compared as numbers."""

    def __init__(self, path: Path, scratch: Path) -> None:
        found = [part for part in path.iterdir() if _is_part(part)]
        self.paths = sorted(found, key=lambda part: (_natural(part.name), part.name))
        if not self.paths:
            message = f"the folder {path} has no {', '.join(sorted(_PART_SUFFIXES))} files"
            raise UnreadableSourceError(message)
        self.parts = [open_source(part, scratch) for part in self.paths]
        self.kind = f"a folder of {len(self.paths)} part files"
        self.rows = 0
        self.columns: dict[Any, None] = {}
        self.globals_named: dict[str, int] = {}

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows of each part."""
        self.rows = 0
        self.columns = {}
        for part in self.parts:
            before = self.rows
            for batch in part.batches(wanted, advance):
                self._look(part, before)
                yield batch
                del batch
            self._look(part, before)

    def _look(self, part: Source, rows_before: int) -> None:
        self.rows = rows_before + part.rows
        self.columns.update(dict.fromkeys(part.columns))
        for name, offset in part.globals_named.items():
            self.globals_named.setdefault(name, offset)


def _is_part(path: Path) -> bool:
    suffix = path.with_suffix("").suffix if path.suffix in COMPRESSED_SUFFIXES else path.suffix
    is_hidden = path.name.startswith((".", "_"))
    with contextlib.suppress(OSError):
        return suffix in _PART_SUFFIXES and not is_hidden and path.is_file()
    return False


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in _DIGITS.split(name)]

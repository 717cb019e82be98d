"""The files below a folder as one source.

Files are read in the order of their paths below the folder, names compared part by part, and
numbers in names as numbers. What begins with `.` or `_` is what Spark and others put beside
the data, and is skipped; so is a folder that begins so, unless it is a key (`_day=3`). Links
to folders aren't followed: they might lead back.

A folder called `REGION=1` gives all rows below it a column `REGION`, as Hive, Spark and Dask
write tables that are divided by a column's values.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from convert.errors import UnreadableSourceError
from convert.pickle_reader import Batch
from convert.sources.content import COMPRESSED_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.sources.source import Source

# The endings of names that say that a file has rows, in any case; what it is, its content says.
_SUFFIXES = frozenset(
    {
        ".pkl", ".pickle", ".p", ".parquet", ".pq", ".parq", ".arrow", ".arrows", ".feather",
        ".ftr", ".ipc", ".jsonl", ".ndjson", ".json", ".csv", ".tsv",
    }
)  # fmt: skip
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# Tables whose own log says which of the files below them count.
_LOGS = {"_delta_log": "a Delta Lake table", ".hoodie": "a Hudi table"}
_SHOWN_OTHERS = 5
_DIGITS = re.compile("([0-9]+)")


class Folder:
    """All rows of the files below `path`, each of which `open_file` opens.

    `open_file` returns None where a file that its name takes for data has no rows. Files that
    aren't read, `others`, are an error unless `ignore_others`.
    """

    def __init__(
        self, path: Path, open_file: Callable[[Path], Source | None], *, ignore_others: bool
    ) -> None:
        self.others: list[Path] = []
        self.parts: list[Source] = []
        self._path = path
        for file in self.files():
            part = open_file(file) if data_suffix(file) in _SUFFIXES and file.is_file() else None
            if part is None:
                self.others.append(file)
            else:
                keys = _keys(file.relative_to(path))
                self.parts.append(_Partition(part, keys) if keys else part)
        self._refuse_others(ignore_others=ignore_others)
        self.paths = [file for part in self.parts for file in part.paths]
        self.last_read = path
        self.kind = f"a folder of {len(self.paths)} part files"
        self.rows = 0
        self.columns: dict[Any, None] = {}
        self.globals_named: dict[str, int] = {}

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def path_columns(self) -> bytes:
        """The columns that the folders' names say, file by file."""
        columns = [part.path_columns for part in self.parts]
        return json.dumps([each.decode() for each in columns]).encode() if any(columns) else b""

    def files(self) -> Sequence[Path]:
        """Return all files that are there now, in order, but those that are skipped."""
        files = [(_order(file.relative_to(self._path)), file) for file in _files_below(self._path)]
        return [file for _, file in sorted(files)]

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
                self.last_read = part.last_read
                yield batch
                del batch
            self._look(part, before)

    def _look(self, part: Source, rows_before: int) -> None:
        self.rows = rows_before + part.rows
        self.columns.update(dict.fromkeys(part.columns))
        for name, offset in part.globals_named.items():
            self.globals_named.setdefault(name, offset)

    def _refuse_others(self, *, ignore_others: bool) -> None:
        shown = shown_files(self.others)
        if not self.parts:
            message = f"the folder {self._path} has no {', '.join(sorted(_SUFFIXES))} files"
            raise UnreadableSourceError(message + (f"; it has {shown}" if shown else ""))
        if self.others and not ignore_others:
            message = (
                f"the folder {self._path} has files that aren't read: {shown}; move them "
                "elsewhere, or leave them out with --ignore-others"
            )
            raise UnreadableSourceError(message)


class _Partition:
    """The rows of a file, with the columns that the folders above it say."""

    def __init__(self, part: Source, keys: Mapping[str, str | None]) -> None:
        self.paths = part.paths
        self.parts = (self,)
        self.last_read = part.last_read
        self.others = part.others
        self.path_columns = json.dumps(keys).encode()
        self._part = part
        self._keys = keys

    @property
    def size(self) -> int:
        return self._part.size

    @property
    def kind(self) -> str:
        return self._part.kind

    @property
    def rows(self) -> int:
        return self._part.rows

    @property
    def columns(self) -> Collection[Any]:
        return dict.fromkeys([*self._part.columns, *self._keys])

    @property
    def globals_named(self) -> Mapping[str, int]:
        return self._part.globals_named

    def files(self) -> Sequence[Path]:
        return self._part.files()

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows; a column that the file has itself is the file's."""
        keys = {key: value for key, value in self._keys.items() if wanted(key)}
        for batch in self._part.batches(wanted, advance):
            said = {key: [value] * batch.rows for key, value in keys.items()}
            yield Batch(batch.rows, {**said, **batch.columns}, self._whole_row(batch))
            del batch

    def _whole_row(self, batch: Batch) -> Callable[[int], dict[Any, Any]]:
        return lambda row: {**self._keys, **batch.row(row)}


def shown_files(files: Sequence[Path]) -> str:
    """Return the first of `files`, and how many more there are, for a message."""
    shown = ", ".join(map(_shown, files[:_SHOWN_OTHERS]))
    more = len(files) - _SHOWN_OTHERS
    return f"{shown} and {more:,} more" if more > 0 else shown


def _shown(file: Path) -> str:
    if file.is_symlink() and not file.is_file():
        return f"{file} (a link to a folder)" if file.is_dir() else f"{file} (a link to nothing)"
    return f"{file} (empty)" if file.is_file() and not file.stat().st_size else str(file)


def _files_below(folder: Path) -> Iterator[Path]:
    folders = [folder]
    while folders:
        for entry in folders.pop().iterdir():
            is_folder = entry.is_dir() and not entry.is_symlink()
            if is_folder and entry.name in _LOGS:
                message = (
                    f"{entry.parent} is {_LOGS[entry.name]}: its log says which of its files "
                    "count, and isn't read here; write its rows into a Parquet file first"
                )
                raise UnreadableSourceError(message)
            if _is_skipped(entry.name):
                continue
            if is_folder:
                folders.append(entry)
            else:
                yield entry


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def data_suffix(path: Path) -> str:
    """Return the ending of a name, before that of its compression, in lower case."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED_SUFFIXES else path
    return name.suffix.lower()


def _keys(path: Path) -> dict[str, str | None]:
    """Return the columns that the folders of a path say, in Hive's way."""
    named = (name.partition("=") for name in path.parts[:-1])
    return {
        unquote(key): None if value == _HIVE_NULL else unquote(value)
        for key, equals, value in named
        if key and equals
    }


def _order(path: Path) -> list[tuple[list[tuple[int, str]], str]]:
    return [(_natural(name), name) for name in path.parts]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in _DIGITS.split(name)]

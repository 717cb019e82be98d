"""The way into `convert.sources`: a path as a source."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from convert.arrow_file import ArrowFile
from convert.errors import UnreadableSourceError
from convert.pickle_file import PickleFile
from convert.sources.content import Content
from convert.sources.csv_file import CsvFile
from convert.sources.folder import Folder, data_suffix
from convert.sources.json_lines import JsonLines
from convert.sources.kinds import (
    ARROW,
    ARROW_STREAM,
    CSV,
    JSON_LINES,
    PARQUET,
    PICKLE,
    Kind,
    remedy_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from convert.sources.source import Source

_READERS: Mapping[Kind, Callable[[Content], Source]] = {
    PICKLE: PickleFile,
    PARQUET: ArrowFile,
    ARROW: ArrowFile,
    ARROW_STREAM: ArrowFile,
    JSON_LINES: JsonLines,
    CSV: CsvFile,
}


def open_source(path: Path, scratch: Path, *, ignore_others: bool = False) -> Source:
    """Look at what `path` is; compressed files are unpacked in the folder `scratch`.

    UnreadableSourceError: it isn't there, or isn't read here. So are files of a folder that
    aren't read, unless `ignore_others`.
    """
    try:
        if path.is_dir():
            open_part = functools.partial(_open_part, scratch=scratch)
            return Folder(path, open_part, ignore_others=ignore_others)
        if path.exists() and not path.is_file():  # opening a pipe would wait
            message = f"{path} is no regular file"
            raise UnreadableSourceError(message)
        return _reader(Content(path, scratch))
    except OSError as error:
        message = f"{error.filename or path}: {error.strerror or error}"
        raise UnreadableSourceError(message) from None


def _open_part(path: Path, scratch: Path) -> Source | None:
    content = Content(path, scratch)
    # Beside data lie settings and statistics in JSON, too.
    is_other_json = data_suffix(path) == ".json" and content.kind is not JSON_LINES
    return None if is_other_json or not content.file_bytes else _reader(content)


def _reader(content: Content) -> Source:
    kind = content.kind
    if kind.remedy is not None:
        message = f"{content.path} is {kind.what}; {remedy_for(kind.remedy, content.path)}"
        raise UnreadableSourceError(message)
    return _READERS[kind](content)

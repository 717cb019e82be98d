"""What is in a file, said without executing anything of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from convert.errors import UnreadableSourceError
from convert.fields import FieldNames
from convert.foreign_text import fit_to_show
from convert.pickle_reader import LONG_TEXTS, FloatLists, IndexName
from convert.source import open_source
from convert.sources.folder import shown_files
from convert.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.pickle_reader import Batch, Values
    from convert.report import Phases

_SHOWN_TYPES = 4
_SHOWN_GLOBALS = 40


@dataclass
class Contents:
    """What was found; `types` counts by column what its rows are, `error` is what ended it.

    `others` names the files of a folder that aren't read, `globals_named` maps what a pickle
    names to the byte at which it first does.
    """

    path: Path
    size: int = 0
    others: str = ""
    kind: str = ""
    rows: int = 0
    types: dict[Any, Counter[str]] = field(default_factory=dict)
    fields: Mapping[Any, str] = field(default_factory=dict)
    globals_named: Mapping[str, int] = field(default_factory=dict)
    error: UnreadableSourceError | None = None


def inspect(path: Path, phases: Phases) -> Contents:
    """Read all of `path`; what is wrong with it ends the reading and is told with the rest.

    UnreadableSourceError: it isn't there, or can't be opened.
    """
    source = open_source(path, Path(tempfile.gettempdir()), ignore_others=True)
    size = sum(part.stat().st_size for part in source.paths)
    contents = Contents(path, size, shown_files(source.others))
    seen: dict[object, Counter[str]] = {}
    rows = 0
    try:
        with phases.phase("read", source.size) as advance:
            for batch in source.batches(lambda _name: True, advance):
                _count_types(seen, batch, rows)
                rows += batch.rows
                del batch
    except UnreadableSourceError as error:
        contents.error = error
    contents.kind, contents.rows = source.kind, rows
    contents.globals_named = source.globals_named
    contents.types = {name: seen.get(name, Counter()) for name in source.columns}
    found = FieldNames({}).by_field(source.columns)
    contents.fields = {name: known for known, names in found.items() for name in names}
    return contents


def _count_types(seen: dict[object, Counter[str]], batch: Batch, rows_before: int) -> None:
    """Count what the rows of each column are; one that some rows lack is null in these."""
    for name, values in batch.columns.items():
        seen.setdefault(name, Counter({"None": rows_before} if rows_before else ())).update(
            _types(values)
        )
    for name in seen.keys() - batch.columns.keys():  # in other parts of a folder
        seen[name]["None"] += batch.rows


def _types(values: Values) -> Counter[str]:
    """Count what the rows of a column are."""
    if isinstance(values, FloatLists):
        sizes = Counter(values.lengths().tolist())
        types = Counter(
            {f"{size:,} x {values.dtype.name}": n for size, n in sizes.items() if size >= 0}
        )
        types.update(map(_type_name, values.others.values()))
        return types
    if isinstance(values, np.ndarray):
        return Counter({values.dtype.name: len(values)})
    if isinstance(values, pa.Array):
        kind = "str" if values.type == LONG_TEXTS else str(values.type)
        types = Counter({kind: len(values) - values.null_count})
        return types + Counter({"None": values.null_count})
    return Counter(map(_type_name, values))


def _type_name(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{' x '.join(map(str, value.shape))} x {value.dtype.name}"
    return "None" if value is None else type(value).__name__


def print_contents(contents: Contents) -> None:
    """Print what was found on standard output."""
    say(f"file      {contents.path} ({contents.size / 1e6:,.1f} MB)")
    say(f"holds     {contents.kind}")
    if contents.others:
        say(f"not read  {contents.others}")
    say(f"rows      {contents.rows:,}{' before the error' if contents.error else ''}")
    say("columns")
    width = max((len(str(name)) for name in contents.types), default=0)
    for name, types in contents.types.items():
        shown = [
            kind if count == contents.rows else f"{kind} ({count:,} rows)"
            for kind, count in types.most_common(_SHOWN_TYPES)
        ]
        if len(types) > _SHOWN_TYPES:
            shown.append(f"and {len(types) - _SHOWN_TYPES:,} others")
        used = f"  -> {contents.fields[name]}" if name in contents.fields else ""
        index = " (index)" if isinstance(name, IndexName) else ""
        say(f"  {fit_to_show(str(name)):<{width}}  {', '.join(shown)}{index}{used}")
    if contents.globals_named:
        say("names, at the byte where each comes first")
        named = sorted(contents.globals_named.items(), key=lambda item: item[1])
        for name, offset in named[:_SHOWN_GLOBALS]:
            say(f"  {name} ({offset:,})")
        if len(named) > _SHOWN_GLOBALS:
            say(f"  and {len(named) - _SHOWN_GLOBALS:,} others")

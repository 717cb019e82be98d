"""One conversion from beginning to end: read, validate, order, write."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from convert.atomic import remove_leftovers
from convert.errors import (
    DuplicateIdsError,
    InvalidRowsError,
    OutputError,
    UnreadableSourceError,
)
from convert.id_text import format_ids
from convert.ids import IdMode, Ids, generated_ids, kept_ids
from convert.order import repeated_rows, sorted_order
from convert.problems import Problems
from convert.rejects import rejects_path, writing_rejects
from convert.report import ColumnMemory, Phases, Report, source_bytes
from convert.schema import FORMAT_VERSION, TEXT_FIELDS, DatasetInfo
from convert.source import Source, read_source
from convert.validation import Column, text_column, years_column
from convert.vectors import vector_matrix
from convert.writer import Columns, write_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import stat_result
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_SHOWN_DUPLICATES = 5
_HASHED_BYTES = 1 << 20


@dataclass(frozen=True)
class Options:
    """What to convert and how.

    `ids` None: keep the source's ids if it has any, else make UUIDv7s. `id_time_ms`
    None: generated ids carry the source's modification time. `columns` maps fields to
    column names that the source has for them.
    """

    source: Path
    out: Path
    columns: Mapping[str, str]
    ids: IdMode | None = None
    id_time_ms: int | None = None
    skip_invalid: bool = False
    force: bool = False


def convert(options: Options, phases: Phases) -> Report | None:
    """Convert `options.source` to `options.out`; None if that is up to date already.

    Raises ConvertError, always before `options.out` is touched.
    """
    status = _status(options.source)
    _refuse_source_as_output(options)
    remove_leftovers(options.out)
    remove_leftovers(rejects_path(options.out))
    digest = _digest(options.source, status.st_size, phases)
    time_ms = options.id_time_ms
    if time_ms is None:
        time_ms = status.st_mtime_ns // 1_000_000
    if not options.force and _written_fingerprint(options.out) in _possible_fingerprints(
        options, digest, time_ms
    ):
        return None

    source = _read(options, status, phases)
    mode = options.ids or (IdMode.KEEP if "id" in source.fields else IdMode.UUID7)

    problems = Problems()
    with phases.phase("validate", source.rows) as advance:
        if mode is IdMode.KEEP:
            ids = kept_ids(source.fields["id"])
        else:
            ids = generated_ids(mode, source.rows, time_ms, digest)
        problems.add("id", ids.problems)
        years = _checked("exp_years", years_column(source.fields["exp_years"]), problems)
        text = {
            name: _checked(name, text_column(source.fields[name]), problems) for name in TEXT_FIELDS
        }
        vectors = vector_matrix(source.fields["vector"], advance)
        problems.add("vector", vectors.problems)
    if problems.found and not options.skip_invalid:
        raise InvalidRowsError(_refusal(source, problems))

    with phases.phase("sort", source.rows):
        order = sorted_order(ids.values)
        if problems.found:
            order = order[problems.valid_rows(source.rows)[order]]
        _refuse_duplicates(ids, order)
    if not len(order):
        message = f"not one valid row in {options.source}:\n{problems.summary()}"
        raise InvalidRowsError(message)

    info = DatasetInfo(
        fingerprint=_fingerprint(options, digest, mode, time_ms, has_ids="id" in source.fields),
        source=options.source.name,
        id_kind=ids.kind,
        rows=len(order),
        dimension=vectors.matrix.shape[1],
    )
    dictionaries = {name: column.values.dictionary_encode() for name, column in text.items()}
    columns = Columns(ids.values, years.values, dictionaries, vectors.matrix)
    with (
        phases.phase("write", len(order)) as advance,
        writing_rejects(options.out, source, problems),
    ):
        write_dataset(options.out, info, columns, order, advance)
    return Report(
        info=info,
        ids=_ids_said(mode, source),
        rejected=source.rows - len(order),
        ignored=source.ignored,
        nulls_replaced={
            "exp_years": years.nulls_replaced,
            **{name: column.nulls_replaced for name, column in text.items()},
        },
        memory=_memory(source, columns),
        seconds=phases.seconds,
    )


def _read(options: Options, before: stat_result, phases: Phases) -> Source:
    # --ids keep makes the id column a required one.
    required = {"id": "id"} if options.ids is IdMode.KEEP else {}
    columns = {**required, **options.columns}
    with phases.phase("read", before.st_size) as advance:
        source = read_source(options.source, columns, advance)
    after = _status(options.source)
    if (after.st_mtime_ns, after.st_size) != (before.st_mtime_ns, before.st_size):
        message = f"{options.source} changed while it was read; run again"
        raise UnreadableSourceError(message)
    if source.rows == 0:
        message = f"{options.source} has no rows"
        raise UnreadableSourceError(message)
    return source


def _refuse_source_as_output(options: Options) -> None:
    try:
        is_source = options.out.exists() and options.out.samefile(options.source)
    except OSError as error:
        message = f"{options.out}: {error.strerror or error}"
        raise OutputError(message) from None
    if is_source:
        message = f"{options.out} is the source itself; say another output with -o"
        raise OutputError(message)


def _status(path: Path) -> stat_result:
    try:
        return path.stat()
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise UnreadableSourceError(message) from None


def _digest(path: Path, size: int, phases: Phases) -> bytes:
    """Return the SHA-256 of the file's bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file, phases.phase("hash", size) as advance:
            while block := file.read(_HASHED_BYTES):
                digest.update(block)
                advance(len(block))
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise UnreadableSourceError(message) from None
    return digest.digest()


def _possible_fingerprints(options: Options, digest: bytes, time_ms: int) -> set[str]:
    """Return what the file may have that these options make, before the source is read.

    Whether the source has ids is not known yet; by default none are dropped.
    """
    if options.ids is None:
        modes = {IdMode.KEEP: True, IdMode.UUID7: False}
        return {
            _fingerprint(options, digest, mode, time_ms, has_ids=has_ids)
            for mode, has_ids in modes.items()
        }
    return {
        _fingerprint(options, digest, options.ids, time_ms, has_ids=has_ids)
        for has_ids in (False, True)
    }


def _fingerprint(
    options: Options, digest: bytes, mode: IdMode, time_ms: int, *, has_ids: bool
) -> str:
    shaping = {
        "format": FORMAT_VERSION,
        "source": digest.hex(),
        "columns": dict(sorted(options.columns.items())),
        "ids": mode.value,
        "source_has_ids": has_ids,
        "id_time_ms": None if mode is IdMode.KEEP else time_ms,
        "skip_invalid": options.skip_invalid,
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _written_fingerprint(out: Path) -> str | None:
    """Return the fingerprint of the file at `out`, None if it isn't a whole dataset file."""
    try:
        with pa.memory_map(str(out)) as file:
            return DatasetInfo.from_metadata(pa.ipc.open_file(file).schema.metadata).fingerprint
    except (OSError, ValueError):  # Arrow's own errors are ValueErrors
        return None


def _checked(name: str, column: Column, problems: Problems) -> Column:
    if not isinstance(column.values, pa.Array):  # Arrow splits what exceeds 2 GiB
        message = f"{name}: more than 2 GiB of text in one column"
        raise UnreadableSourceError(message)
    problems.add(name, column.problems)
    return column


def _refusal(source: Source, problems: Problems) -> str:
    invalid = int((~problems.valid_rows(source.rows)).sum())
    return (
        f"{invalid:,} of {source.rows:,} rows are invalid; nothing was written:\n"
        f"{problems.summary()}\n"
        "mend them, or leave them out with --skip-invalid, which keeps them in a file of their own"
    )


def _refuse_duplicates(ids: Ids, order: NDArray[np.int64]) -> None:
    repeated = repeated_rows(ids.values, order)
    if not len(repeated):
        return
    lines = []
    for place in repeated[:_SHOWN_DUPLICATES].tolist():
        a, b = order[place - 1], order[place]
        text = format_ids(ids.kind, ids.values[b : b + 1]).tobytes().decode()
        lines.append(f"  {text}: rows {a} and {b}")
    more = len(repeated) - len(lines)
    if more > 0:
        lines.append(f"  ... and {more:,} more")
    message = "\n".join([f"{len(repeated):,} ids are repeated; nothing was written:", *lines])
    raise DuplicateIdsError(message)


def _ids_said(mode: IdMode, source: Source) -> str:
    if mode is IdMode.KEEP:
        return f"kept from {source.names['id']!r}"
    if "id" in source.names:
        return f"generated ({mode}), those in {source.names['id']!r} dropped"
    return f"generated ({mode}): the source has no column 'id' (--column id=NAME names another)"


def _memory(source: Source, columns: Columns) -> list[ColumnMemory]:
    arrow = {
        "id": columns.ids.nbytes,
        "exp_years": columns.years.nbytes,
        "vector": columns.vectors.nbytes,
        **{name: column.nbytes for name, column in columns.text.items()},
    }
    return [
        ColumnMemory(
            field=field,
            name=source.names.get(field, "(generated)"),
            source=source_bytes(source.fields[field]) if field in source.fields else 0,
            arrow=size,
        )
        for field, size in arrow.items()
    ]

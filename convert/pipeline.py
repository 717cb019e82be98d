"""One conversion from beginning to end: read, validate, order, write."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from convert.atomic import partial, put_in_place, remove_leftovers
from convert.background_file import MOST_PENDING
from convert.columns.arrow_types import fitted
from convert.columns.id_candidates import looks_like_ids, may_hold_ids
from convert.columns.long_texts import pieces_of
from convert.columns.named_ids import NamedIds, as_option
from convert.dataset.dictionary import Dictionary
from convert.digest import Digest
from convert.errors import (
    DuplicateIdsError,
    InvalidRowsError,
    RowsError,
    UnreadableSourceError,
)
from convert.fields import COLUMN_NAMES, FieldNames
from convert.foreign_text import fit_to_show, quoted
from convert.id_text import format_ids
from convert.ids import IdMode
from convert.memory import PeakMemory, no_garbage_collection
from convert.options import Options, fingerprint, possible_fingerprints, written_fingerprint
from convert.order import is_ascending, repeated_rows, sorted_order
from convert.pickle_reader import IndexName
from convert.preconditions import Room, file_versions, refuse_source_as_output
from convert.reading import IdWishes, Reading
from convert.rejects import Rejects, rejects_path
from convert.report import ColumnMemory, Phases, Report
from convert.schema import TEXT_FIELDS, DatasetInfo
from convert.source import open_source
from convert.sources.folder import shown_files
from convert.vectors import Matrices
from convert.writer import DatasetWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from convert.pickle_reader import Batch
    from convert.reading import Shape
    from convert.sources.source import Source

_SHOWN_DUPLICATES = 5


def convert(options: Options, phases: Phases) -> Report | None:
    """Convert `options.source` to `options.out`; None if that is up to date already.

    A dry run writes nothing, and reports what would be written, or which rows are refused.
    Raises ConvertError, always before `options.out` is touched.
    """
    refuse_source_as_output(options)
    scratch = options.out.parent
    if options.dry_run:
        scratch = Path(tempfile.gettempdir())
    else:
        remove_leftovers(options.out)
        remove_leftovers(rejects_path(options.out))
    source = open_source(options.source, scratch, ignore_others=options.ignore_others)
    files, before = source.files(), file_versions(source.paths)
    time_ms = options.id_time_ms
    if time_ms is None:
        time_ms = max(time_ns for time_ns, _size in before) // 1_000_000
    with Digest(source.paths, source.path_columns) as digest:
        written = None if options.force else written_fingerprint(options.out)
        if written is not None:
            with phases.phase("hash", sum(size for _time_ns, size in before)) as advance:
                found = digest.wait(advance)
            if written in possible_fingerprints(options, found, time_ms):
                return None
        named = NamedIds(options.id_from, options.id_namespace)
        wishes = IdWishes(options.ids, time_ms, digest.wait, named)
        conversion = _Conversion(options, source, wishes, scratch)
        refusal = None
        with PeakMemory() as memory, no_garbage_collection():
            if options.dry_run:
                reading, refusal = conversion.rehearse(phases)
            else:
                with Rejects(options.out, source.size) as rejects:
                    with partial(options.out) as file:
                        kept = rejects if options.skip_invalid else None
                        reading, writer = conversion.read(file, kept, phases)
                        if (files, before) != (source.files(), file_versions(source.paths)):
                            message = f"{options.source} changed while it was read; run again"
                            raise UnreadableSourceError(message)
                        conversion.refuse_invalid(reading)
                        # There is one, as there are valid rows.
                        conversion.write(file, reading, cast("DatasetWriter", writer), phases)
                    rejects.put_in_place()
        return conversion.report(reading, refusal, memory.bytes, phases)


class _Conversion:
    def __init__(
        self, options: Options, source: Source, wishes: IdWishes, scratch: Path
    ) -> None:  # fmt: skip
        self._options = options
        self._scratch = scratch
        self._source = source
        self._wishes = wishes
        # --ids keep makes the id column a required one.
        required = {"id": "id"} if options.ids is IdMode.KEEP else {}
        self._names = FieldNames({**required, **options.columns}, options.empty)
        # Columns that may hold ids and don't: names, of a source whose ids are made.
        self._without_ids: set[Any] = set()

    def _needs(self, name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
        return self._names.may_be(name) or self._wishes.named.needs(name)

    def rehearse(self, phases: Phases) -> tuple[Reading, RowsError | None]:
        """Read all, and write nothing; return why a conversion would be refused, too."""
        reading, _ = self.read(None, None, phases)
        try:
            self.refuse_invalid(reading)
            self._order(reading)
        except RowsError as error:
            return reading, error
        return reading, None

    def read(
        self, file: IO[bytes] | None, rejects: Rejects | None, phases: Phases
    ) -> tuple[Reading, DatasetWriter | None]:
        """Write the rows into `file` in source order, those with problems into `rejects`.

        What is None isn't written.

        The first rows decide what is taken for right. Should most rows turn out to have
        vectors of another length, or ids of another kind, all is read once more.
        """
        shape = None
        while True:
            if file is not None:
                file.seek(0)
                file.truncate()
            if rejects is not None:
                rejects.clear()
            with phases.phase("read", self._source.size) as advance:
                reading, writer = self._pass(shape, file, rejects, advance)
            if not reading.rows:
                message = f"{self._options.source} has no rows"
                raise UnreadableSourceError(message)
            for part in self._source.parts:
                if part.rows:
                    self._names.require(part.columns, str(part.paths[0]))
                    self._wishes.named.require(part.columns, str(part.paths[0]))
            if reading.shape == reading.true_shape:
                break
            shape = reading.true_shape
        return reading, writer

    def refuse_invalid(self, reading: Reading) -> None:
        """Raise InvalidRowsError if rows are invalid that weren't to be skipped, or all are."""
        invalid = reading.problems.invalid_rows
        if invalid and not self._options.skip_invalid:
            message = f"{invalid:,} of {reading.rows:,} rows are invalid; nothing was written:"
        elif invalid == reading.rows:
            message = f"not one valid row in {fit_to_show(str(self._options.source))}:"
        else:
            return
        raise InvalidRowsError("\n".join([message, *self._what_to_do(reading)]))

    def _what_to_do(self, reading: Reading) -> Iterator[str]:
        yield reading.problems.summary()
        found = {reason.partition(" instead of ")[0] for reason in reading.problems.reasons}
        if classes := sorted(found & self._source.globals_named.keys()):
            yield f"objects of {', '.join(classes)} are never made: pickle text or numbers"
        if reading.foreign_ids > reading.rows // 2:
            column = self._names.by_field(self._source.columns)["id"][0]
            option = f"--ids uuid5 --id-from {shlex.quote(as_option(str(column)))}"
            yield (
                f"most ids are neither UUIDs nor ULIDs: {fit_to_show(option)} makes a UUID of each"
                " value, the same one every time"
            )
        elif not self._options.skip_invalid:
            yield (
                "mend them, or leave them out with --skip-invalid, which keeps them in a file of"
                " their own"
            )

    def _pass(
        self, shape: Shape | None, file: IO[bytes] | None, rejects: Rejects | None,
        advance: Callable[[int], None],
    ) -> tuple[Reading, DatasetWriter | None]:  # fmt: skip
        options, reading = self._options, Reading(self._wishes, shape)
        room = Room(options.out.parent, self._source)
        writer = matrices = None

        def told(count: int) -> None:
            room.bytes_read += count
            advance(count)

        for batch in self._source.batches(self._is_wanted, told):
            found_in = str(self._source.last_read)
            names = self._names.choose(batch.columns, found_in)
            batch = fitted(batch, names, found_in)  # noqa: PLW2901 - the same rows
            ready, most = reading.look(batch, names), reading.rows_at_once
            if reading.shape.mode is not IdMode.KEEP:
                self._refuse_to_make_ids(batch, names)
            if matrices is None:
                reading.dictionaries = {name: Dictionary(self._scratch) for name in TEXT_FIELDS}
                matrices = Matrices(MOST_PENDING + 1, most, reading.shape.dimension)
            texts = [names[name] for name in TEXT_FIELDS if names.get(name) in ready.columns]
            for piece in pieces_of(ready, most, texts):
                first = reading.rows
                rows, problems = reading.take(piece, names, matrices.next(piece.rows))
                if rejects is not None:
                    rejects.add(problems, first, piece.row)
                # Without --skip-invalid the first problem makes the rest a count of problems.
                is_wanted = options.skip_invalid or not reading.problems.invalid_rows
                if file is not None and is_wanted and reading.shape.dimension:
                    if writer is None:
                        room.check(reading.shape.dimension, reading.text_row_bytes)
                        writer = DatasetWriter(file, options.source.name, reading.shape.dimension)
                    writer.append(rows)
                del rows
            del batch, ready, piece  # what they hold of the file is let go before more is read
        if writer is not None:
            writer.wait()
        return reading, writer

    def _is_wanted(self, name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
        # Where the source may have to be refused, as it seems to have ids under another name.
        return self._needs(name) or (self._options.ids is None and may_hold_ids(name))

    def _refuse_to_make_ids(self, batch: Batch, names: Mapping[str, Any]) -> None:
        """Raise UnreadableSourceError if the user didn't ask for made ids and others are there."""
        if self._options.ids is not None:
            return
        for name in batch.columns.keys() - set(names.values()) - self._without_ids:
            example = looks_like_ids(batch.columns[name]) if may_hold_ids(name) else None
            if example is not None:
                what = "index" if isinstance(name, IndexName) else "column"
                message = (
                    f"{self._options.source}: there is no column 'id', but the {what} "
                    f"{quoted(str(name))} looks like ids ({quoted(example)}): keep them with "
                    f"--column {shlex.quote(f'id={name}')}, or make new ones with --ids uuid7"
                )
                raise UnreadableSourceError(message)
            self._without_ids.add(name)

    def write(
        self, file: IO[bytes], reading: Reading, writer: DatasetWriter, phases: Phases
    ) -> None:
        """Make `file` the output, or what is in it, in order and without invalid rows."""
        order = None
        if reading.ids or reading.problems.invalid_rows:
            with phases.phase("sort", reading.rows):
                order = self._order(reading)
                reading.ids.clear()
        info = self._info(reading)
        if order is not None:
            with phases.phase("reorder", info.rows) as advance:
                writer.reorder(order, advance)
        with phases.phase("write", 1):
            writer.finish(info, {n: d.column() for n, d in reading.dictionaries.items()})
            reading.dictionaries = {}  # their files are gone before the disk is waited for
            put_in_place(file, self._options.out)

    def _info(self, reading: Reading) -> DatasetInfo:
        mode, id_kind, dimension = reading.shape
        return DatasetInfo(
            fingerprint=fingerprint(
                self._options, self._wishes.seed(), mode, self._wishes.time_ms,
                has_ids=reading.has_ids,
            ),
            source=self._options.source.name,
            id_kind=id_kind,
            rows=reading.rows - reading.problems.invalid_rows,
            dimension=dimension,
            ids_made=mode.is_made,
        )  # fmt: skip

    def _order(self, reading: Reading) -> NDArray[np.integer] | None:
        """Return the valid rows in the order of their ids; None if those are all, as they are.

        DuplicateIdsError: two of them have the same id.
        """
        invalid = reading.problems.invalid_rows
        if not reading.ids:  # made ones ascend
            return np.flatnonzero(reading.problems.valid_rows(reading.rows)) if invalid else None
        ids = np.frombuffer(reading.ids, np.uint8).reshape(-1, 16)
        if not invalid and is_ascending(ids):
            return None
        order = sorted_order(ids)
        if invalid:
            order = order[reading.problems.valid_rows(reading.rows)[order]]
        self._refuse_duplicates(ids, order, reading)
        return order

    def _refuse_duplicates(
        self, ids: NDArray[np.uint8], order: NDArray[np.integer], reading: Reading
    ) -> None:
        repeated = repeated_rows(ids, order)
        if not len(repeated):
            return
        pairs = [(int(order[at - 1]), int(order[at])) for at in repeated[:_SHOWN_DUPLICATES]]
        if reading.shape.mode is IdMode.UUID5:
            shown = self._named({row for _, row in pairs})
        else:
            texts = {row: format_ids(reading.shape.id_kind, ids[row : row + 1]) for _, row in pairs}
            shown = {row: text.tobytes().decode() for row, text in texts.items()}
        lines = [f"{len(repeated):,} ids are repeated; nothing was written:"]
        lines += [f"  {shown[b]}: rows {a} and {b}" for a, b in pairs]
        if len(repeated) > len(pairs):
            lines.append(f"  ... and {len(repeated) - len(pairs):,} more")
        if reading.shape.mode is IdMode.UUID5:
            lines.append("more columns may tell them apart: --id-from COLUMN,COLUMN")
        raise DuplicateIdsError("\n".join(lines))

    def _named(self, rows: set[int]) -> dict[int, str]:
        """Read the source once more: of what the ids of some rows are made."""
        named, found, first = self._wishes.named, dict[int, str](), 0
        for batch in self._source.batches(named.needs, lambda _count: None):
            here = (row for row in rows if first <= row < first + batch.rows)
            found.update({row: named.shown(batch.row(row - first)) for row in here})
            first += batch.rows
            if len(found) == len(rows):
                break
        return found

    def report(
        self, reading: Reading, refusal: RowsError | None, peak_bytes: int, phases: Phases
    ) -> Report:
        info, invalid = self._info(reading), reading.problems.invalid_rows
        columns = self._source.columns
        names = {  # parts of a folder may have several
            field: ", ".join(map(str, found))
            for field, found in self._names.by_field(columns).items()
        }
        ids = self._ids_said(reading, names)
        if reading.shape.mode is IdMode.UUID5:
            names["id"] = ", ".join(self._wishes.named.columns)
        return Report(
            info=info,
            ids=ids,
            rejected=invalid,
            others=shown_files(self._source.others),
            ignored=[str(name) for name in columns if not self._needs(name)],
            nulls_replaced={f: n for f, n in reading.nulls_replaced.items() if f in names},
            memory=_memory(info, reading, names),
            peak_bytes=peak_bytes,
            seconds=phases.seconds,
            is_dry=self._options.dry_run,
            problems=reading.problems.summary() if invalid else "",
            refusal=refusal,
        )

    def _ids_said(self, reading: Reading, names: Mapping[str, str]) -> str:
        mode, named = reading.shape.mode, self._wishes.named
        if mode is IdMode.KEEP:
            return f"kept from {quoted(names['id'])}"
        dropped = f", those in {quoted(names['id'])} dropped" if "id" in names else ""
        if mode is IdMode.UUID5:
            columns = ", ".join(map(quoted, named.columns))
            return f"uuid5 of {columns}" + ("" if named.needs(names.get("id")) else dropped)
        if dropped:
            return f"generated ({mode}){dropped}"
        return f"generated ({mode}): the source has no column 'id' (--column id=NAME names another)"


def _memory(info: DatasetInfo, reading: Reading, names: Mapping[str, str]) -> list[ColumnMemory]:
    row_bytes = {"id": 16, "exp_years": 4, "vector": 4 * info.dimension}
    return [
        ColumnMemory(
            field=field,
            name=names.get(field, "(generated)" if field == "id" else "(empty)"),
            source=reading.source_bytes[field],
            arrow=row_bytes.get(field, 4) * info.rows,
        )
        for field in COLUMN_NAMES
    ]

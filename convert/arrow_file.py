"""A Parquet or Arrow IPC file (Feather V2), or an Arrow IPC stream, as a source."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from convert.columns.pandas_index import index_names
from convert.errors import UnreadableSourceError
from convert.foreign_text import quoted
from convert.pickle_reader import BATCH_BYTES, BATCH_ROWS, Batch, IndexName, Repeated
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from pyarrow.parquet import RowGroupMetaData

ARROW_MAGIC = b"ARROW1"
PARQUET_MAGIC = b"PAR1"
STREAM_BEGIN = b"\xff\xff\xff\xff"  # of a message; a stream has no magic bytes
_STREAM_END = STREAM_BEGIN + bytes(4)
_KINDS = {
    PARQUET_MAGIC: "a Parquet file",
    ARROW_MAGIC: "an Arrow file",
    STREAM_BEGIN: "an Arrow stream",
}


def magic_of(begin: bytes) -> bytes | None:
    """Return by which of its beginnings a file, of which these are the first bytes, is known."""
    return next((magic for magic in _KINDS if begin.startswith(magic)), None)


class ArrowFile:
    """The rows of the Parquet or Arrow file at `path`, which begins with `magic`."""

    def __init__(self, path: Path, magic: bytes) -> None:
        self.paths = (path,)
        self.parts = (self,)
        self.size = path.stat().st_size
        self.kind = _KINDS[magic]
        self.rows = 0
        self.columns: Collection[Any] = ()
        self.globals_named: Mapping[str, int] = {}
        self._path = path
        self._magic = magic

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows, every buffer checked: offsets in a forged file may point anywhere."""
        self.rows = told = 0
        try:
            read = {
                PARQUET_MAGIC: self._parquet_batches,
                ARROW_MAGIC: self._ipc_batches,
                STREAM_BEGIN: self._stream_batches,
            }
            for batch, share in read[self._magic]():
                batch.validate(full=True)
                self._refuse_rows_of_nothing(batch)
                self.rows += batch.num_rows
                before, told = told, round(self.size * share)
                advance(told - before)
                for begin in range(0, batch.num_rows, BATCH_ROWS):
                    yield _batch(batch.slice(begin, BATCH_ROWS), wanted)
        except MemoryError:
            message = f"{self._path}: reading it needs more memory than there is"
            raise UnreadableSourceError(message) from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names
            message = f"{self._path} can't be read: {error}"
            raise UnreadableSourceError(message) from error
        advance(self.size - told)

    def _parquet_batches(self) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield batches, and the share of the file that was read with each."""
        import pyarrow.parquet as pq  # noqa: PLC0415 - a tenth of a second that pickles don't need

        # Without `pre_buffer` pages are read as they are needed, not whole row groups.
        with pq.ParquetFile(self._path, memory_map=True, pre_buffer=False) as file:
            self.columns = _column_keys(file.schema_arrow)
            rows = 0
            for group in range(file.num_row_groups):
                size = _batch_rows(file.metadata.row_group(group))
                for batch in file.iter_batches(size, row_groups=[group]):
                    rows += batch.num_rows
                    yield batch, min(rows / max(file.metadata.num_rows, 1), 1)  # it may be forged

    def _ipc_batches(self) -> Iterator[tuple[pa.RecordBatch, float]]:
        with pa.memory_map(str(self._path)) as mapped, pa.ipc.open_file(mapped) as file:
            self.columns = _column_keys(file.schema)
            for number in range(file.num_record_batches):
                yield file.get_batch(number), (number + 1) / file.num_record_batches

    def _stream_batches(self) -> Iterator[tuple[pa.RecordBatch, float]]:
        with pa.memory_map(str(self._path)) as mapped, pa.ipc.open_stream(mapped) as stream:
            # Arrow takes a stream for whole that ends between two batches.
            end = max(self.size - len(_STREAM_END), 0)
            if mapped.read_at(len(_STREAM_END), end) != _STREAM_END:
                message = f"{self._path} is an Arrow stream without an end"
                raise UnreadableSourceError(message)
            self.columns = _column_keys(stream.schema)
            for batch in stream:
                yield batch, mapped.tell() / self.size

    def _refuse_rows_of_nothing(self, batch: pa.RecordBatch) -> None:
        """Raise UnreadableSourceError where no bytes bound what is made of some."""
        if batch.num_rows and not any(_has_bytes(column.type) for column in batch.columns):
            message = f"{self._path} has {batch.num_rows:,} rows without a value"
            raise UnreadableSourceError(message)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):
                items = pc.sum(column.sizes).as_py() or 0
                if items > len(column.values):
                    message = (
                        f"{self._path}: rows of {quoted(name)} share their "
                        f"{len(column.values):,} items"
                    )
                    raise UnreadableSourceError(message)


def _batch_rows(group: RowGroupMetaData) -> int:
    """Return how many rows of a Parquet file to take at once: few where they are long."""
    row_bytes: int = group.total_byte_size // max(group.num_rows, 1)
    return max(min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)), 1)


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(kind):
        return bool(kind.list_size > 0 and _has_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return any(_has_bytes(field.type) for field in kind)
    if isinstance(kind, pa.BaseExtensionType):
        return _has_bytes(kind.storage_type)
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width > 0)
    return not (pa.types.is_null(kind) or pa.types.is_run_end_encoded(kind))


def _column_keys(schema: pa.Schema) -> list[str | Repeated]:
    """Return what tells the columns apart: their names, where these do."""
    index = index_names(schema.metadata)
    seen: Counter[str] = Counter()
    keys: list[str | Repeated] = []
    for name in schema.names:
        seen[name] += 1
        key = IndexName(name) if name in index else name
        keys.append(key if seen[name] == 1 else Repeated(key, seen[name]))
    return keys


def _batch(rows: pa.RecordBatch, wanted: Callable[[Any], bool]) -> Batch:
    keys = _column_keys(rows.schema)

    def row(number: int) -> dict[Any, Any]:
        whole = rows.slice(number, 1)
        return {
            key.key if isinstance(key, Repeated) else key: python_values(column)[0]
            for key, column in zip(keys, whole.columns, strict=True)
        }

    columns = {key: rows.column(at) for at, key in enumerate(keys) if wanted(key)}
    return Batch(rows.num_rows, columns, row)

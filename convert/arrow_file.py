"""A Parquet or Arrow IPC file (Feather V2), or an Arrow IPC stream, as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from convert.columns.pandas_index import index_names
from convert.errors import UnreadableSourceError
from convert.foreign_text import quoted
from convert.pickle_reader import BATCH_BYTES, BATCH_ROWS, Batch
from convert.sources.kinds import ARROW, ARROW_STREAM, PARQUET
from convert.sources.one_file import OneFile
from convert.sources.table_batch import column_keys, table_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyarrow.parquet import RowGroupMetaData

_STREAM_END = b"\xff\xff\xff\xff" + bytes(4)


class ArrowFile(OneFile):
    """The rows of a Parquet or Arrow file."""

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows, every buffer checked: offsets in a forged file may point anywhere."""
        file = pa.BufferReader(self._content.mapped(advance))
        size = self._content.file_bytes
        self.rows = told = 0
        try:
            read = {
                PARQUET: self._parquet_batches,
                ARROW: self._ipc_batches,
                ARROW_STREAM: self._stream_batches,
            }
            for batch, share in read[self._content.kind](file):
                batch.validate(full=True)
                self._refuse_rows_of_nothing(batch)
                self.rows += batch.num_rows
                before, told = told, round(size * share)
                advance(told - before)
                for begin in range(0, batch.num_rows, BATCH_ROWS):
                    yield table_batch(batch.slice(begin, BATCH_ROWS), self.columns, wanted)
        except MemoryError:
            message = f"{self._path}: reading it needs more memory than there is"
            raise UnreadableSourceError(message) from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names
            message = f"{self._path} can't be read: {error}"
            raise UnreadableSourceError(message) from error
        advance(size - told)

    def _parquet_batches(self, file: pa.BufferReader) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield batches, and the share of the file that was read with each."""
        import pyarrow.parquet as pq  # noqa: PLC0415 - a tenth of a second that pickles don't need

        # Without `pre_buffer` pages are read as they are needed, not whole row groups.
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            self._note_columns(parquet.schema_arrow)
            rows = 0
            for group in range(parquet.num_row_groups):
                size = _batch_rows(parquet.metadata.row_group(group))
                for batch in parquet.iter_batches(size, row_groups=[group]):
                    rows += batch.num_rows
                    yield batch, min(rows / max(parquet.metadata.num_rows, 1), 1)  # may be forged

    def _ipc_batches(self, file: pa.BufferReader) -> Iterator[tuple[pa.RecordBatch, float]]:
        with pa.ipc.open_file(file) as arrow:
            self._note_columns(arrow.schema)
            for number in range(arrow.num_record_batches):
                yield arrow.get_batch(number), (number + 1) / arrow.num_record_batches

    def _stream_batches(self, file: pa.BufferReader) -> Iterator[tuple[pa.RecordBatch, float]]:
        size = file.size()
        with pa.ipc.open_stream(file) as stream:
            # Arrow takes a stream for whole that ends between two batches.
            if file.read_at(len(_STREAM_END), max(size - len(_STREAM_END), 0)) != _STREAM_END:
                message = f"{self._path} is an Arrow stream without an end"
                raise UnreadableSourceError(message)
            self._note_columns(stream.schema)
            for batch in stream:
                yield batch, file.tell() / size

    def _note_columns(self, schema: pa.Schema) -> None:
        self.columns = column_keys(schema.names, index_names(schema.metadata))

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

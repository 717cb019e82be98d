"""Maps a dataset file and proves it sound before anything else looks into it.

`map_dataset` is the only place where bytes of a file become Arrow arrays. What it
returns may be used without further checks: the schema is that of `convert.schema`,
every buffer lies in the map, every offset and index is in bounds, text is UTF-8, there
are no nulls, and the ids ascend. Whether the vectors are finite is left to `verify`,
because that alone would read the whole file.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.id_text import halves
from convert.schema import DICTIONARY_TEXT, LARGE_DICTIONARY_TEXT, DatasetInfo, dataset_schema
from streamer.buffers import lies_in, memory_of
from streamer.errors import DatasetNotFoundError, InvalidDatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = b"ARROW1"
_STREAM_MARKER = b"\xff\xff\xff\xff"
_ADVICE = "make it again with `python -m convert --force`"


class MappedDataset(NamedTuple):
    """A sound dataset; `batches` are views on the mapped file and keep it mapped."""

    info: DatasetInfo
    schema: pa.Schema
    batches: list[pa.RecordBatch]


def map_dataset(path: Path) -> MappedDataset:
    """Map the file at `path`, read-only.

    Raises DatasetNotFoundError or InvalidDatasetError, saying what is wrong with it.
    """
    try:
        return _checked(_map(path))
    except InvalidDatasetError as error:
        message = f"dataset file {path.name}: {error}; {_ADVICE}"
        raise InvalidDatasetError(message) from error.__cause__


def _map(path: Path) -> pa.Buffer:
    try:
        with path.open("rb") as file:
            return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        message = f"there is no dataset file {path.name}; {_ADVICE}"
        raise DatasetNotFoundError(message) from None
    except OSError as error:
        message = f"it can't be read ({error.strerror or error})"
        raise InvalidDatasetError(message) from error
    except ValueError:
        message = "it is empty"
        raise InvalidDatasetError(message) from None


def _checked(file: pa.Buffer) -> MappedDataset:
    _check_format(file)
    try:
        reader = pa.ipc.open_file(file)
        info = DatasetInfo.from_metadata(reader.schema.metadata)
        _check_schema(reader.schema, info)
        batches = list(_sound_batches(reader, file))
    except (pa.ArrowException, ValueError, OSError) as error:
        message = f"it is damaged ({error})"
        raise InvalidDatasetError(message) from error
    _check_order(batches)
    rows = sum(batch.num_rows for batch in batches)
    if rows != info.rows:
        message = f"it has {rows} rows where its metadata says {info.rows}"
        raise InvalidDatasetError(message)
    return MappedDataset(info, reader.schema, batches)


def _check_format(file: pa.Buffer) -> None:
    data = memoryview(file)
    begin, end = bytes(data[: len(_MAGIC)]), bytes(data[-len(_MAGIC) :])
    if begin.startswith(_STREAM_MARKER):
        message = "it is in the Arrow stream format, not the file format"
        raise InvalidDatasetError(message)
    if begin != _MAGIC:
        message = "it is not an Arrow file"
        raise InvalidDatasetError(message)
    if end != _MAGIC:
        message = "it has no footer, so it was cut off or not written to its end"
        raise InvalidDatasetError(message)


def _check_schema(schema: pa.Schema, info: DatasetInfo) -> None:
    expected = dataset_schema(info.dimension, {})
    if schema.names != expected.names:
        message = f"its columns are {schema.names}, not {expected.names}"
        raise InvalidDatasetError(message)
    for field, wanted in zip(schema, expected, strict=True):
        if not _fits(field.type, wanted.type):
            message = f"column {field.name} is {field.type}, not {wanted.type}"
            raise InvalidDatasetError(message)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(wanted):  # whatever the item's name and nullability
        return bool(
            pa.types.is_fixed_size_list(found)
            and found.value_type == wanted.value_type
            and found.list_size == wanted.list_size
        )
    if wanted == DICTIONARY_TEXT:
        return found in (wanted, LARGE_DICTIONARY_TEXT, DICTIONARY_TEXT.value_type)
    return bool(found == wanted)


def _sound_batches(
    reader: pa.ipc.RecordBatchFileReader, file: pa.Buffer
) -> Iterator[pa.RecordBatch]:
    sound: set[object] = set()
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        batch.validate()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            _check_column(name, column, file, sound)
        if batch.num_rows == 0:
            message = f"record batch {number} is empty"
            raise InvalidDatasetError(message)
        yield batch


def _check_column(name: str, column: pa.Array, file: pa.Buffer, sound: set[object]) -> None:
    array = column.storage if isinstance(column, pa.ExtensionArray) else column
    if not all(lies_in(buffer, file) for buffer in array.buffers() if buffer is not None):
        message = f"column {name} is compressed, so that it can't be used where it lies"
        raise InvalidDatasetError(message)
    has_nulls = array.null_count > 0
    if pa.types.is_dictionary(array.type):
        dictionary = array.dictionary
        if memory_of(dictionary) not in sound:  # all batches share it
            dictionary.validate(full=True)
            has_nulls |= dictionary.null_count > 0
            sound.add(memory_of(dictionary))
        _check_indices(name, array)
    elif pa.types.is_fixed_size_list(array.type):
        has_nulls |= array.values.null_count > 0
    else:
        array.validate(full=True)
    if has_nulls:
        message = f"column {name} has nulls"
        raise InvalidDatasetError(message)


def _check_indices(name: str, array: pa.DictionaryArray) -> None:
    bounds = pc.min_max(array.indices)
    lowest, highest = bounds["min"].as_py(), bounds["max"].as_py()
    if lowest is not None and not 0 <= lowest <= highest < len(array.dictionary):
        message = f"column {name} points outside its dictionary"
        raise InvalidDatasetError(message)


def _check_order(batches: list[pa.RecordBatch]) -> None:
    previous: tuple[np.uint64, np.uint64] | None = None
    for number, batch in enumerate(batches):
        high, low = halves(id_matrix(batch))
        ascends = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
        if previous is not None and (high[0], low[0]) <= previous:
            ascends = np.zeros(1, np.bool_)
        if not ascends.all():
            message = f"its ids don't ascend in record batch {number}"
            raise InvalidDatasetError(message)
        previous = high[-1], low[-1]


def id_matrix(batch: pa.RecordBatch) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """View the ids of a batch as uint8 (rows, 16); copies nothing."""
    storage = batch.column("id").storage
    raw = np.frombuffer(storage.buffers()[1], np.uint8)
    rows = len(storage)
    return raw[16 * storage.offset : 16 * (storage.offset + rows)].reshape(rows, 16)

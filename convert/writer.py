"""Writes the dataset file of `convert.schema`: sorted, aligned, and all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from convert.atomic import replacing
from convert.schema import (
    ALIGNMENT_BYTES,
    BATCH_ROWS,
    PADDING_KEY,
    TEXT_FIELDS,
    DatasetInfo,
    dataset_schema,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


class Columns(NamedTuple):
    """Validated columns in source order; `text` maps TEXT_FIELDS to dictionary columns.

    ids: uint8 (rows, 16). years: int32. vectors: float32 (rows, dimension).
    """

    ids: NDArray[np.uint8]
    years: pa.Array
    text: Mapping[str, pa.Array]
    vectors: NDArray[np.float32]


def write_dataset(
    out: Path,
    info: DatasetInfo,
    columns: Columns,
    order: NDArray[np.int64],
    advance: Callable[[int], None],
) -> None:
    """Write the rows `order` of `columns` to `out`, which is replaced in one step.

    `advance` is told how many more rows are written. OutputError: the file system
    refuses; `out` is then as it was.
    """
    schema = dataset_schema(info.dimension, info.to_metadata())
    batch_metadata = None
    if len(order):
        schema, batch_metadata = _aligned(_batch(columns, order[:1], schema))
    with replacing(out) as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(0, len(order), BATCH_ROWS):
            rows = order[start : start + BATCH_ROWS]
            writer.write_batch(_batch(columns, rows, schema), batch_metadata)
            advance(len(rows))


def _batch(columns: Columns, rows: NDArray[np.int64], schema: pa.Schema) -> pa.RecordBatch:
    """Gather `rows` into a record batch whose buffers are padded to ALIGNMENT_BYTES."""
    ids = _padded(pa.binary(16), len(rows), columns.ids[rows])
    arrays = {
        "id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
        "exp_years": _padded(pa.int32(), len(rows), columns.years.to_numpy()[rows]),
        "vector": pa.FixedSizeListArray.from_arrays(
            _padded(pa.float32(), len(rows) * columns.vectors.shape[1], columns.vectors[rows]),
            type=schema.field("vector").type,
        ),
    }
    for name in TEXT_FIELDS:
        column = columns.text[name]
        indices = _padded(pa.int32(), len(rows), column.indices.to_numpy()[rows])
        arrays[name] = pa.DictionaryArray.from_arrays(indices, column.dictionary)
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _padded(arrow_type: pa.DataType, length: int, values: NDArray[np.generic]) -> pa.Array:
    return pa.Array.from_buffers(arrow_type, length, [None, _padded_buffer(values)])


def _padded_buffer(values: NDArray[np.generic]) -> pa.Buffer:
    """Return the bytes of `values`, zero-padded: pyarrow pads to 8 bytes of its own accord."""
    if values.nbytes % ALIGNMENT_BYTES == 0:
        return pa.py_buffer(np.ascontiguousarray(values))
    padded = np.zeros(-(-values.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES, np.uint8)
    padded[: values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return pa.py_buffer(padded)


def _aligned(probe: pa.RecordBatch) -> tuple[pa.Schema, dict[bytes, bytes]]:
    """Return metadata, for the schema of `probe` and for every batch, that aligns a file.

    pyarrow aligns to 8 bytes and has no setting for it. The bodies of the batches are
    padded already; spaces in a batch's metadata round its header up, and spaces in the
    schema's metadata move the first batch, and all the others with it.
    """
    schema = probe.schema.with_metadata({**probe.schema.metadata, **_spaces(0)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for _ in range(2):
            writer.write_batch(probe.replace_schema_metadata(schema.metadata), _spaces(0))
    file = sink.getvalue()
    reader = pa.ipc.open_file(file)
    ids = [reader.get_batch(i).column("id").storage.buffers()[1] for i in range(2)]
    first, second = (buffer.address - file.address for buffer in ids)
    in_batch = (first - second) % ALIGNMENT_BYTES
    in_schema = -(first + in_batch) % ALIGNMENT_BYTES
    padded = probe.schema.with_metadata({**probe.schema.metadata, **_spaces(in_schema)})
    return padded, _spaces(in_batch)


def _spaces(count: int) -> dict[bytes, bytes]:
    return {PADDING_KEY: b" " * count}

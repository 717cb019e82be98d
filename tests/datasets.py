"""Small dataset files for tests, with record batches as short as a test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from convert.id_text import IdKind
from convert.schema import TEXT_FIELDS, DatasetInfo, dataset_schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FINGERPRINT = "0123456789abcdef" * 4


def ascending_ids(rows: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return distinct random ids in unsigned byte order, uint8 (rows, 16)."""
    random = np.random.default_rng(seed)
    ids = {random.bytes(16) for _ in range(rows)}
    while len(ids) < rows:
        ids.add(random.bytes(16))
    return np.frombuffer(b"".join(sorted(ids)), np.uint8).reshape(rows, 16)


def make_batch(
    rows: int = 10,
    *,
    dimension: int = 4,
    seed: int = 0,
    ids: NDArray[np.uint8] | None = None,
    text: Sequence[str] | None = None,
) -> pa.RecordBatch:
    """Return one sound record batch of a dataset, with the metadata of one."""
    random = np.random.default_rng(seed)
    ids = ascending_ids(rows, seed) if ids is None else ids
    words = list(text) if text is not None else ["", "Acme", "한빛소프트", "Zeta & Söhne"]
    dictionary = pa.array(words, pa.string())
    storage = pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(ids.tobytes())])
    floats = pa.array(random.standard_normal(rows * dimension, np.float32))
    info = DatasetInfo(FINGERPRINT, "jobs.pkl", IdKind.UUID, rows, dimension)
    schema = dataset_schema(dimension, info.to_metadata())
    arrays: dict[str, pa.Array] = {
        "id": pa.ExtensionArray.from_storage(pa.uuid(), storage),
        "exp_years": pa.array(random.integers(-2, 300, rows), pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(floats, type=schema.field("vector").type),
    }
    for name in TEXT_FIELDS:
        indices = pa.array(random.integers(0, len(words), rows), pa.int32())
        arrays[name] = pa.DictionaryArray.from_arrays(indices, dictionary)
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def with_info(batch: pa.RecordBatch, **changes: object) -> pa.RecordBatch:
    """Return `batch` with other values in its metadata, keys without their prefix."""
    metadata = dict(batch.schema.metadata)
    for key, value in changes.items():
        metadata[f"embedding-stream.{key.replace('_', '-')}".encode()] = str(value).encode()
    return batch.replace_schema_metadata(metadata)


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """Return `batch` with another column of that name, of whatever type."""
    arrays = [column if field == name else batch.column(field) for field in batch.schema.names]
    changed = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
    return changed.replace_schema_metadata(batch.schema.metadata)


def write_file(
    path: Path, batch: pa.RecordBatch, *, batch_rows: int | None = None, **options: Any
) -> Path:
    """Write `batch` as an Arrow file, cut into record batches of `batch_rows` rows."""
    step = batch_rows or max(batch.num_rows, 1)
    with pa.ipc.new_file(path, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for start in range(0, batch.num_rows, step):
            writer.write_batch(batch.slice(start, step))
    return path


def write_dataset(
    path: Path, *, rows: int = 10, batch_rows: int | None = None, **options: Any
) -> pa.RecordBatch:
    """Write a sound dataset file and return what is in it."""
    batch = make_batch(rows, **options)
    write_file(path, batch, batch_rows=batch_rows)
    return batch


def id_texts(batch: pa.RecordBatch) -> list[str]:
    """Return the ids of `batch` as the runtime's own UUID class prints them."""
    return [str(value.as_py()) for value in batch.column("id")]


def messages_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of `batch` as the fields of Embedding messages."""
    return [{**row, "id": str(row["id"])} for row in batch.to_pylist()]

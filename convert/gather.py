"""A dataset file in source order, rewritten in the order of its ids."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from convert.schema import TEXT_FIELDS, DatasetInfo
from convert.writer import NARROW, DatasetWriter, Rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Rows that are held: 6 MB of vectors at 384 floats.
_GATHERED_ROWS = 4096


def write_in_order(
    unordered: Path,
    order: NDArray[np.int64],
    info: DatasetInfo,
    out: IO[bytes],
    advance: Callable[[int], None],
) -> None:
    """Write the rows `order` of the dataset file `unordered` into `out`.

    The file is mapped: what is held of it is one record batch. `advance` is told how many
    more rows were written.
    """
    with pa.memory_map(str(unordered)) as mapped, pa.ipc.open_file(mapped) as file:
        parts = [_rows(file.get_batch(number)) for number in range(file.num_record_batches)]
        dictionaries = {name: file.get_batch(0).column(name).dictionary for name in TEXT_FIELDS}
        writer = DatasetWriter(out, info.source, info.dimension)
        for begin in range(0, len(order), _GATHERED_ROWS):
            rows = order[begin : begin + _GATHERED_ROWS]
            writer.append(_gathered(parts, rows))
            advance(len(rows))
        writer.finish(info, dictionaries)


def _rows(batch: pa.RecordBatch) -> Rows:
    """View the columns of a record batch."""
    narrow = {}
    for name, dtype in NARROW.items():
        column = batch.column(name)
        storage = column.storage if name == "id" else getattr(column, "indices", column)
        size = batch.num_rows * storage.type.bit_width // 8
        values = np.frombuffer(storage.buffers()[1], dtype, size // np.dtype(dtype).itemsize)
        narrow[name] = values.reshape(-1, 16) if name == "id" else values
    return Rows(narrow, batch.column("vector").flatten().to_numpy().reshape(batch.num_rows, -1))


def _gathered(parts: list[Rows], rows: NDArray[np.int64]) -> Rows:
    """Copy `rows` out of `parts`, which have as many rows each, but for the last."""
    part_of, place_of = np.divmod(rows, len(parts[0].vectors))
    by_part = np.argsort(part_of, kind="stable")
    bounds = np.searchsorted(part_of[by_part], np.arange(len(parts) + 1))

    def gather(columns: list[NDArray[Any]]) -> NDArray[Any]:
        out = np.empty((len(rows), *columns[0].shape[1:]), columns[0].dtype)
        for column, begin, end in zip(columns, bounds[:-1], bounds[1:], strict=True):
            to = by_part[begin:end]
            out[to] = column[place_of[to]]
        return out

    narrow = {name: gather([part.narrow[name] for part in parts]) for name in NARROW}
    return Rows(narrow, gather([part.vectors for part in parts]))

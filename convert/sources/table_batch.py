"""Rows of an Arrow table as a batch, whose columns needn't all have names of their own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from convert.pickle_reader import Batch, IndexName, Repeated
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    import pyarrow as pa


def column_keys(names: Iterable[str], index: Collection[str] = ()) -> list[str | Repeated]:
    """Return what tells columns of these names apart: the names, where these do.

    Those in `index` are names of a DataFrame's index.
    """
    seen: Counter[str] = Counter()
    keys: list[str | Repeated] = []
    for name in names:
        seen[name] += 1
        key = IndexName(name) if name in index else name
        keys.append(key if seen[name] == 1 else Repeated(key, seen[name]))
    return keys


def table_batch(
    rows: pa.RecordBatch, keys: Collection[Any], wanted: Callable[[Any], bool]
) -> Batch:
    """Return rows whose columns are called `keys`, in their order."""

    def row(number: int) -> dict[Any, Any]:
        whole = rows.slice(number, 1)
        return {
            key.key if isinstance(key, Repeated) else key: python_values(column)[0]
            for key, column in zip(keys, whole.columns, strict=True)
        }

    columns = {key: rows.column(at) for at, key in enumerate(keys) if wanted(key)}
    return Batch(rows.num_rows, columns, row)

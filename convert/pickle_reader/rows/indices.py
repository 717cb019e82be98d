"""A DataFrame's index, as columns.

A named index, and each named level of a MultiIndex, is a column of that name. Without a name
it is `index`, a level `index_0`, `index_1` ... by its place. What merely numbers the rows
(an unnamed RangeIndex from 0) is no column. A column of the frame has precedence over an
index of its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.blocks import Level
from convert.pickle_reader.columns import IndexName
from convert.pickle_reader.errors import UnsupportedPickle
from convert.pickle_reader.keys import checked_keys
from convert.pickle_reader.pandas_values import Index, MultiIndex

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from convert.pickle_reader.spans import Buffer


def index_columns(
    index: object, taken: Collection[Any], data: Buffer
) -> Iterator[tuple[IndexName, Index | Level]]:
    """Yield the name and the values of each level; `taken` are the names of the columns.

    Raise anything if the index is damaged or forged.
    """
    if isinstance(index, MultiIndex):
        codes = index.state.get("codes", index.state.get("labels"))  # before pandas 0.24
        levels = zip(index.state["names"], codes, index.state["levels"], strict=True)
        for place, (name, code, labels) in enumerate(levels):
            yield _name(name, data) or IndexName(f"index_{place}"), Level(code, labels)
    elif isinstance(index, Index) and not _is_row_number(index):
        yield (
            _name(index.name, data) or IndexName("index_0" if "index" in taken else "index"),
            index,
        )


def _is_row_number(index: Index) -> bool:
    labels = index.args[0]
    return index.name is None and isinstance(labels, range) and labels == range(len(labels))


def _name(name: object, data: Buffer) -> IndexName | None:
    """Return the name of an index, None if it has none that a column could have."""
    if name is None:
        return None
    try:
        (plain,) = checked_keys([name], data, 0)
    except UnsupportedPickle:
        return None
    return IndexName(plain)

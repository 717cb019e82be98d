"""Shapes of DataFrames as older versions of pandas pickle them."""

from __future__ import annotations

import copyreg
import functools
import io
import operator
import pickle
import sys
from typing import Any

import pandas as pd
from pandas.core.arrays.categorical import Categorical

from tests.shapes.catalogue import MATRIX, Shape, content, converted, frame, refused

BlockManager: Any = type(pd.DataFrame()._mgr)
_NEW_OBJECT: Any = vars(copyreg)["__newobj__"]
_NEW_BLOCK: Any = sys.modules["pandas.core.internals.blocks"].new_block


class _OldPickler(pickle.Pickler):
    """Writes what pandas of a version wrote, in protocol 2, which names classes in plain text."""

    def __init__(self, file: io.BytesIO, version: tuple[int, int]) -> None:
        super().__init__(file, 2)
        self._version = version

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            manager = "_mgr" if self._version >= (1, 1) else "_data"
            state = {manager: value._mgr, "_typ": "dataframe", "_metadata": []}
            return _NEW_OBJECT, (pd.DataFrame,), state
        if isinstance(value, BlockManager) and self._version < (1, 3):
            return _NEW_OBJECT, (BlockManager,), _state_of(value)
        if isinstance(value, BlockManager):
            return BlockManager, (tuple(map(_Block, value.blocks)), value.axes)
        if isinstance(value, _Block):
            block = value.block
            return functools.partial(_NEW_BLOCK, ndim=2), (
                _values_of(block),
                block.mgr_locs.indexer,
            )
        if isinstance(value, Categorical) and self._version < (1, 3):
            state = {"_dtype": value.dtype, "_codes": value.codes}
            return _NEW_OBJECT, (Categorical,), state
        if isinstance(value, pd.MultiIndex) and self._version < (0, 24):
            levels = {
                "levels": list(value.levels),
                "labels": list(value.codes),
                "sortorder": None,
                "names": list(value.names),
            }
            return sys.modules["pandas.core.indexes.base"]._new_Index, (pd.MultiIndex, levels)
        return NotImplemented


_values_of = operator.attrgetter("values")


class _Block:
    def __init__(self, block: Any) -> None:
        self.block = block


def _state_of(manager: Any) -> tuple[Any, ...]:
    blocks = manager.blocks
    items = [manager.items[block.mgr_locs.indexer] for block in blocks]
    held = {
        "axes": list(manager.axes),
        "blocks": [
            {"values": _values_of(block), "mgr_locs": block.mgr_locs.indexer} for block in blocks
        ],
    }
    return list(manager.axes), [_values_of(block) for block in blocks], items, {"0.14.1": held}


def _names_of(version: tuple[int, int]) -> dict[bytes, bytes]:
    """Return what classes were called then, by what they are called now."""
    index = b"pandas.core.indexes." if version >= (0, 20) else b"pandas.indexes."
    names = {
        b"pandas\nDataFrame": b"pandas.core.frame\nDataFrame",
        b"pandas\nIndex": index + b"base\nIndex",
        b"pandas.core.indexes.base\n_new_Index": index + b"base\n_new_Index",
        b"pandas\nRangeIndex": index + b"range\nRangeIndex",
        b"pandas\nMultiIndex": index + b"multi\nMultiIndex",
        b"pandas\nCategorical\n": b"pandas.core.arrays.categorical\nCategorical\n",
        b"pandas\nCategoricalDtype": b"pandas.core.dtypes.dtypes\nCategoricalDtype",
    }
    if version < (0, 23):
        names[b"pandas.core.internals.managers\nBlockManager"] = (
            b"pandas.core.internals\nBlockManager"
        )
        names[b"pandas\nCategorical\n"] = b"pandas.core.categorical\nCategorical\n"
    return names


def pickled_by(version: tuple[int, int], table: pd.DataFrame) -> bytes:
    """Return `table` as that version of pandas pickled it."""
    file = io.BytesIO()
    _OldPickler(file, version).dump(table)
    dumped = file.getvalue()
    for now, then in _names_of(version).items():
        dumped = dumped.replace(b"c" + now, b"c" + then)
    return dumped


def _table(**columns: Any) -> pd.DataFrame:
    return frame(**columns).astype(
        dict.fromkeys(("id", "company_name", "english_level", "primary_keyword"), object)
    )


_TABLES = {
    "a DataFrame": _table(),
    "a DataFrame of lists": _table(job_post_vectors=MATRIX.tolist()),
    "a DataFrame by ids": _table().set_index("id"),
    "a DataFrame of categories": _table().astype({"english_level": "category"}),
    "a DataFrame of levels": _table().set_index(["id", "company_name"]),
    "a DataFrame of dates": _table(published=pd.Timestamp(2024, 1, 2)),
}
SHAPES: list[Shape] = [
    *(
        converted(
            f"{name} of pandas {'.'.join(map(str, version))}",
            content(pickled_by(version, table)),
            rows=lambda _path: frame(),
        )
        for version in ((0, 19), (0, 22), (0, 25), (1, 0), (1, 1), (1, 2), (1, 3))
        for name, table in _TABLES.items()
    ),
    *(
        refused(
            f"a DataFrame of {writer} that is another",
            content(pickled_by(version, _table()).replace(b"0.14.1", b"0.13.1")),
            words=[f"one of {writer}", "Read it with that version", "Parquet"],
        )
        for version, writer in (((1, 0), "pandas before 1.1"), ((1, 2), "pandas 1.1 or 1.2"))
    ),
]

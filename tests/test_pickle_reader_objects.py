"""Object columns of more rows than one batch of a pickler has, with floats among the values."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from convert.pickle_reader import open_pickle

_NAN = float("nan")
_KINDS: dict[str, list[Any]] = {
    "floats in twos": ["a", 1.0, 2.5],
    "missing text": ["text", _NAN, _NAN],
    "one by one": ["a", 1.5],
    "many floats": ["a", *[0.5] * 700],
    "years": [1.0, "2y", 3.0, None],
    "floats alone": [0.25],
}


def _column(content: object, protocol: int) -> list[Any]:
    found: list[Any] = []
    for batch in open_pickle(pickle.dumps(content, protocol)).batches():
        values: Any = batch.columns["Z"]
        found += list(values)
        assert [batch.row(row)["Z"] for row in (0, batch.rows - 1)] == pytest.approx(
            [found[-batch.rows], found[-1]], nan_ok=True
        )
    return found


@pytest.mark.parametrize("rows", [999, 1000, 1001, 4096, 4097, 5000, 9003])
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_floats_among_objects_are_read_at_any_size(kind: str, rows: int, protocol: int) -> None:
    """NaN is what pandas writes for missing text; runs of floats end anywhere."""
    values = (_KINDS[kind] * rows)[:rows]
    frame = pd.DataFrame({"Z": pd.Series(values, dtype=object)})
    found = _column(frame, protocol)

    assert [repr(value) for value in values] == [repr(value) for value in found]


def test_an_object_matrix_has_each_columns_values() -> None:
    """A block of several object columns, runs of floats across their bounds."""
    rows = 5000
    table = {name: ([name, 1.0, 2.0, 3.0] * rows)[:rows] for name in "XYZ"}
    block = np.array(list(table.values()), object)
    frame = pd.DataFrame(block.T, columns=list("XYZ"), dtype=object)

    assert table["Z"] == _column(frame, 4)

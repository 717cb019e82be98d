"""What an entry of the catalogue is, and small sources to make entries of.

An entry is made by `converted` or by `refused`:

    converted("ids in an index", pickled(frame().set_index("id")), rows=reset)
    converted("another name", pickled(frame()), "--column", "vector=emb", rows=...)
    refused("a matrix", pickled(MATRIX), words=["DataFrame"])

`write(folder)` writes the source into an empty folder and returns its path, which may be that of a
folder in it. What must come out is said by `rows(path)`: the table that pandas reads from the file,
with columns of the documented names (see `p.FIELDS`; "vector" is one, too). A table without an id
column is compared without ids, in the order of its rows.
"""

from __future__ import annotations

import pickle
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TEXT_FIELDS = ("company_name", "english_level", "primary_keyword")


class Shape(NamedTuple):
    """One entry; a source that is refused has no `rows`, but `words` that the refusal has."""

    name: str
    write: Callable[[Path], Path]
    options: tuple[str, ...]
    rows: Callable[[Path], pd.DataFrame] | None
    words: Sequence[str]


def read_pickle(path: Path) -> pd.DataFrame:
    """Return what is in a pickled DataFrame or list of dicts."""
    return pd.DataFrame(pd.read_pickle(path))


def converted(
    name: str,
    write: Callable[[Path], Path],
    *options: str,
    rows: Callable[[Path], pd.DataFrame] | pd.DataFrame = read_pickle,
) -> Shape:
    """Return the entry of a source that is converted with these options of the command.

    `rows` may be a table, where pandas can't read the file, or reads something else.
    """
    read = rows if callable(rows) else lambda _path: rows
    return Shape(name, write, options, read, ())


def refused(name: str, write: Callable[[Path], Path], *options: str, words: Sequence[str]) -> Shape:
    """Return the entry of a source that ends the command with an error that has these `words`."""
    return Shape(name, write, options, None, words)


# Sources of six rows.

ROWS = 6
_CHANCE = np.random.default_rng(14)
IDS = [str(uuid.UUID(bytes=_CHANCE.bytes(16), version=4)) for _ in range(ROWS)]
MATRIX = _CHANCE.standard_normal((ROWS, 4)).astype(np.float32)
TEXTS: dict[str, list[Any]] = {
    "company_name": ["회사 가", "회사 나", "Acme", "Acme", "Ünïted", ""],
    "exp_years": [1, 2, 3, 4, 5, 6],
    "english_level": ["basic", "upper"] * 3,
    "primary_keyword": ["Java"] * ROWS,
}


def frame(**columns: Any) -> pd.DataFrame:
    """Return a sound table of six rows; `columns` are others, or replace some, None drops one."""
    all_columns = {"id": IDS, **TEXTS, "job_post_vectors": list(MATRIX), **columns}
    return pd.DataFrame(
        {name: values for name, values in all_columns.items() if values is not None}
    )


def records(**columns: Any) -> list[dict[str, Any]]:
    """Return the same rows as dicts, their vectors as lists."""
    table = frame(**{"job_post_vectors": MATRIX.tolist(), **columns})
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def pickled(value: object, name: str = "source.pkl", protocol: int = 4) -> Callable[[Path], Path]:
    """Return what writes `value` into a folder as a pickle."""
    return content(pickle.dumps(value, protocol), name)


def content(data: bytes, name: str = "source.pkl") -> Callable[[Path], Path]:
    """Return what writes `data` into a folder."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return write


# What is compared.


def expected_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what the dataset must hold of a table that pandas read; null is "", or 0."""
    table = table.rename(columns={"job_post_vectors": "vector"})
    columns: dict[str, list[Any]] = {
        **{name: ["" if pd.isna(v) else v for v in table[name]] for name in TEXT_FIELDS},
        "exp_years": [0 if pd.isna(v) else int(v) for v in table["exp_years"]],
        "vector": [np.asarray(v, np.float32).tolist() for v in table["vector"]],
    }
    if "id" in table.columns:
        columns["id"] = [str(value).lower() for value in table["id"]]
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return sorted(rows, key=lambda row: str(row["id"])) if "id" in columns else rows


def rows_written(out: Path, *, with_ids: bool) -> list[dict[str, Any]]:
    """Return the rows of a dataset as `expected_rows` does."""
    rows = p.rows_of(out)
    return rows if with_ids else [{k: v for k, v in row.items() if k != "id"} for row in rows]

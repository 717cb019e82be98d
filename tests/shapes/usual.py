"""The shapes that have always been read: lists of dicts and DataFrames, Parquet, Arrow, folders."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.feather
import pyarrow.parquet

from tests.shapes.catalogue import (
    MATRIX,
    content,
    converted,
    frame,
    pickled,
    read_pickle,
    records,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _parquet(folder: Path) -> Path:
    frame().to_parquet(folder / "source.parquet")
    return folder / "source.parquet"


def _feather(folder: Path) -> Path:
    table = pyarrow.Table.from_pandas(frame(), preserve_index=False)
    pyarrow.feather.write_feather(table, folder / "source.feather", "uncompressed")
    return folder / "source.feather"


def _folder(folder: Path) -> Path:
    frame()[:2].to_pickle(folder / "part-2.pkl")
    frame()[2:].to_parquet(folder / "part-10.parquet")
    return folder


def _read_folder(folder: Path) -> pd.DataFrame:
    first, second = folder / "part-2.pkl", folder / "part-10.parquet"
    return pd.concat([read_pickle(first), pd.read_parquet(second)])


def _compressed(pack: Callable[[bytes], bytes], ending: str) -> Callable[[Path], Path]:
    return content(pack(pickle.dumps(records())), f"source.pkl{ending}")


SHAPES = [
    converted("a list of dicts with lists of floats", pickled(records())),
    converted("a list of dicts with arrays", pickled(frame().to_dict("records"))),
    *(converted(f"protocol {number}", pickled(records(), protocol=number)) for number in range(6)),
    converted("a DataFrame of arrays", pickled(frame())),
    converted("a DataFrame of lists of floats", pickled(frame(job_post_vectors=MATRIX.tolist()))),
    converted(
        "a DataFrame of arrays of float64",
        pickled(frame(job_post_vectors=list(MATRIX.astype("f8")))),
    ),
    converted(
        "names of the team's own pickle",
        pickled(
            frame().rename(
                columns={
                    "company_name": "Company Name",
                    "exp_years": "Exp Years",
                    "english_level": "English Level",
                    "primary_keyword": "Primary Keyword",
                }
            )
        ),
        rows=frame(),
    ),
    converted("rows without ids", pickled(frame(id=None))),
    converted(
        "nulls in text and years",
        pickled(
            frame(company_name=[None, "a", None, "b", "c", "d"], exp_years=[None, 1, 2, 3, 4, 5])
        ),
    ),
    converted(
        "years like 2y and no_exp",
        pickled(frame(exp_years=["2y", "no_exp", "3", 4, 5.0, "6y"])),
        rows=frame(exp_years=[2, 0, 3, 4, 5, 6]),
    ),
    converted(
        "a column that nobody needs", pickled(frame(Position="x", Moment=pd.Timestamp(2024, 1, 1)))
    ),
    converted(
        "a DataFrame with its ids as its index",
        pickled(frame().set_index("id")),
        rows=lambda path: pd.read_pickle(path).reset_index(),
    ),
    converted("Parquet", _parquet, rows=pd.read_parquet),
    converted("Feather", _feather, rows=pd.read_feather),
    converted("a folder of two kinds of files", _folder, rows=_read_folder),
    converted("a pickle in gzip", _compressed(gzip.compress, ".gz")),
    converted("a pickle in bzip2", _compressed(bz2.compress, ".bz2")),
    converted("a pickle in xz", _compressed(lzma.compress, ".xz")),
    refused("an empty list", pickled([]), words=["has no rows"]),
    refused("a DataFrame without rows", pickled(frame()[:0]), words=["has no rows"]),
    refused(
        "vectors of several lengths",
        pickled(frame(job_post_vectors=[[1.0], *MATRIX.tolist()[1:]])),
        words=["row 0: vector: 1 values, not 4"],
    ),
]

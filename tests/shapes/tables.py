"""Shapes of what a pickle holds as a whole: dicts and tuples of columns, matrices, lists."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tests.shapes.catalogue import (
    IDS,
    MATRIX,
    ROWS,
    TEXTS,
    Shape,
    converted,
    frame,
    pickled,
    refused,
)

if TYPE_CHECKING:
    from pathlib import Path

_FRAME = frame(job_post_vectors=None)
_COLUMNS: dict[str, Any] = {"id": IDS, **TEXTS}
_EMB = ("--column", "vector=embeddings")


def _expected(_path: Path) -> pd.DataFrame:
    return frame()


def _dict(name: str, value: Any, *options: str, protocol: int = 4) -> Shape:
    return converted(name, pickled(value, protocol=protocol), *options, rows=_expected)


_TABLES = [
    *(
        _dict(f"a dict of lists and {name}", {**_COLUMNS, "embeddings": vectors}, *_EMB)
        for name, vectors in {
            "a matrix": MATRIX,
            "a matrix of float64": MATRIX.astype("f8"),
            "a matrix by columns": np.asfortranarray(MATRIX),
            "a matrix of big endian": MATRIX.astype(">f4"),
            "a matrix of objects": MATRIX.astype(object),
            "a list of lists": MATRIX.tolist(),
            "a list of arrays": list(MATRIX),
            "a tuple of tuples": tuple(map(tuple, MATRIX.tolist())),
            "an array of arrays": frame()["job_post_vectors"].to_numpy(),
            "a Series of arrays": frame()["job_post_vectors"],
        }.items()
    ),
    *(
        _dict(
            f"a dict of lists and a matrix, protocol {number}",
            {**_COLUMNS, "embeddings": MATRIX},
            *_EMB,
            protocol=number,
        )
        for number in (2, 3, 5)
    ),
    _dict(
        "a dict of arrays",
        {name: np.array(values) for name, values in {**_COLUMNS, "vector": MATRIX}.items()},
    ),
    _dict("a dict of Series", {name: frame()[name] for name in frame()}),
    _dict(
        "a dict of an Index and Series",
        {name: frame().set_index("id")[name] for name in frame() if name != "id"}
        | {"id": frame().set_index("id").index},
    ),
    _dict(
        "a dict of categories and strings",
        {
            **_COLUMNS,
            "company_name": pd.Series(TEXTS["company_name"], dtype="category"),
            "primary_keyword": pd.array(["Java"] * ROWS, dtype="string"),
            "vector": MATRIX,
        },
    ),
    _dict(
        "a dict of columns and what all rows have",
        {
            **_COLUMNS,
            "english_level": TEXTS["english_level"],
            "primary_keyword": "Java",
            "vector": MATRIX,
            "model": "ada",
            "epoch": 3,
            "about": {"a": 1},
        },
    ),
    _dict("a dict of a DataFrame and a matrix", {"df": _FRAME, "embeddings": MATRIX}, *_EMB),
    _dict("a dict of a matrix and a DataFrame", {"embeddings": MATRIX, "df": _FRAME}, *_EMB),
    _dict(
        "a dict of a DataFrame by ids and a matrix",
        {"df": _FRAME.set_index("id"), "embeddings": MATRIX},
        *_EMB,
    ),
    _dict("a dict of a DataFrame", {"data_frame": frame()}),
    _dict("a dict of a DataFrame and notes", {"df": frame(), "model": "ada", "dimension": 4}),
    _dict("a tuple of a DataFrame and a matrix", (_FRAME, MATRIX), "--column", "vector=1"),
    _dict(
        "a tuple of columns",
        (IDS, *TEXTS.values(), MATRIX),
        "--column",
        "id=0",
        "--column",
        "company_name=1",
        "--column",
        "exp_years=2",
        "--column",
        "english_level=3",
        "--column",
        "primary_keyword=4",
        "--column",
        "vector=5",
    ),
    *(
        converted(
            f"a tuple of texts, a matrix and years, protocol {number}",
            pickled((TEXTS["company_name"], MATRIX, TEXTS["exp_years"]), protocol=number),
            *("--column", "company_name=0", "--column", "vector=1", "--column", "exp_years=2"),
            *("--column", "english_level=0", "--column", "primary_keyword=0"),
            rows=lambda _path: frame(
                id=None, english_level=TEXTS["company_name"], primary_keyword=TEXTS["company_name"]
            ),
        )
        for number in (2, 4)
    ),
    _dict("an OrderedDict of columns", collections.OrderedDict({**_COLUMNS, "vector": MATRIX})),
]
_REFUSED = [
    refused(
        "a dict of other things",
        pickled({"weights": MATRIX, "epoch": 3}),
        words=["'weights': a NumPy array of 6 x 4 float32", "'epoch': an int", "pd.DataFrame("],
    ),
    refused(
        "a dict of columns of other lengths",
        pickled({"texts": IDS[1:], "vector": MATRIX}),
        words=["'texts': a list of 5", "'vector': a NumPy array of 6 x 4"],
    ),
    refused(
        "a dict of a DataFrame of another length",
        pickled({"df": _FRAME[1:], "vector": MATRIX}),
        words=["'df': a DataFrame", "'vector': a NumPy array of 6 x 4"],
    ),
    refused(
        "a dict of vectors by id",
        pickled({f"id {n}": [0.5, 1.5] for n in range(2000)}),
        words=[
            "a dict of 2,000",
            "'id 0': a list of 2",
            "and 1,994 more",
            "list(content.values())",
        ],
    ),
    refused(
        "a dict of two DataFrames of other lengths",
        pickled({"train": frame(), "test": frame()[1:]}),
        words=["'train': a DataFrame"],
    ),
    refused(
        "a dict of two DataFrames", pickled({"train": frame(), "test": frame()}), words=["id: "]
    ),
    refused(
        "a dict of one list of dicts",
        pickled({"rows": frame().to_dict("records")}),
        words=["'rows': a list of 6"],
    ),
    refused("an empty dict", pickled({}), words=["a dict of 0"]),
    refused(
        "a matrix",
        pickled(MATRIX),
        words=["a NumPy array of 6 x 4 float32", "pd.DataFrame({'vector': list(content)"],
    ),
    refused(
        "a list of vectors",
        pickled(MATRIX.tolist()),
        words=["a list of 6", "a list of 4", "pd.DataFrame({'vector': list(content)"],
    ),
    refused("a list of arrays", pickled(list(MATRIX)), words=["a NumPy array of 4 float32"]),
    refused("a list of texts", pickled(IDS), words=["a list of 6", "text of 36 characters"]),
    refused(
        "a list of DataFrames",
        pickled([frame()[:2], frame()[2:]]),
        words=["a list of 2 DataFrames", "pd.concat"],
    ),
    refused(
        "a list of texts and a matrix", pickled([IDS, MATRIX]), words=["a list of 2", "a list of 6"]
    ),
    refused(
        "rows and a matrix",
        pickled((frame().to_dict("records"), MATRIX)),
        words=["a tuple of 2", "a list of 6 dicts"],
    ),
    refused("a Series", pickled(frame()["job_post_vectors"]), words=["a Series", "reset_index()"]),
    refused("a number", pickled(3), words=["an int"]),
    refused("a text", pickled("not rows"), words=["text of 8 characters"]),
]
SHAPES: list[Shape] = [*_TABLES, *_REFUSED]

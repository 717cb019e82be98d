"""Shapes of values and of their names: vectors, years, fields that are missing, problems."""

from __future__ import annotations

import json
import unicodedata
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests import pickles as p
from tests.shapes.catalogue import (
    MATRIX,
    ROWS,
    Shape,
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


def _parquet(table: pd.DataFrame | pa.Table) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "source.parquet"
        arrow = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table)
        pq.write_table(arrow, path)
        return path

    return write


def _csv(table: pd.DataFrame) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        table.to_csv(folder / "source.csv", index=False)
        return folder / "source.csv"

    return write


# Vectors as text.


def _as_text(vectors: list[str]) -> pd.DataFrame:
    return frame(job_post_vectors=vectors)


def _parsed(path: Path) -> pd.DataFrame:
    table = frame()
    read = (
        pd.read_parquet(path) if path.suffix == ".parquet" else pd.DataFrame(pd.read_pickle(path))
    )
    texts = read["job_post_vectors"]
    return table.assign(job_post_vectors=[json.loads(text) for text in texts])


_JSON = [json.dumps(vector) for vector in MATRIX.tolist()]
_PGVECTOR = [text.replace(" ", "") for text in _JSON]
_LONG = np.linspace(-1, 1, 1200, dtype=np.float32)
_VECTORS_AS_TEXT = [
    converted("vectors as JSON", pickled(_as_text(_JSON)), rows=_parsed),
    converted("vectors as pgvector prints them", pickled(_as_text(_PGVECTOR)), rows=_parsed),
    converted(
        "vectors as JSON in a list of dicts", pickled(records(job_post_vectors=_JSON)), rows=_parsed
    ),
    converted("vectors as JSON in Parquet", _parquet(_as_text(_JSON)), rows=_parsed),
    converted(
        "vectors as JSON, as categories",
        pickled(frame(job_post_vectors=pd.Categorical([_JSON[0]] * ROWS))),
        rows=_parsed,
    ),
    converted(
        "vectors as text in some rows",
        pickled(records(job_post_vectors=[*_JSON[:3], *MATRIX[3:].tolist()])),
        rows=frame(),
    ),
    *(
        converted(
            f"vectors as text, {name}",
            pickled(_as_text(texts)),
            rows=frame(job_post_vectors=list(matrix)),
        )
        for name, matrix, texts in (
            ("as NumPy prints them", MATRIX.round(3), [str(v) for v in MATRIX.round(3)]),
            (
                "as NumPy prints them, in several lines",
                np.tile(_LONG[:400], (ROWS, 1)).round(3),
                [str(v) for v in np.tile(_LONG[:400], (ROWS, 1)).round(3)],
            ),
            (
                "as NumPy prints whole numbers",
                np.tile(np.array([1.0, -2, 0]), (ROWS, 1)),
                [str(np.array([1.0, -2, 0]))] * ROWS,
            ),
            ("as repr of arrays", MATRIX.round(3), [repr(v) for v in MATRIX.round(3)]),
            ("as tuples print", MATRIX, [str(tuple(v)) for v in MATRIX.tolist()]),
            ("as PostgreSQL prints arrays", MATRIX, ["{" + text[1:-1] + "}" for text in _PGVECTOR]),
            ("as a matrix of one row", MATRIX, [f"[{text}]" for text in _JSON]),
            (
                "with exponents",
                np.tile([1e-7, 1e10, -2.5e-3], (ROWS, 1)),
                ["[1e-07, 1E+10, -2.5e-3]"] * ROWS,
            ),
        )
    ),
    refused(
        "vectors that NumPy shortened",
        pickled(_as_text([str(_LONG)] * ROWS)),
        words=["NumPy", "...", "6 x vector"],
    ),
    *(
        refused(
            f"vectors as text: {text}",
            pickled(_as_text([*_JSON[1:], text])),
            words=[f"row 5: vector: {why}"],
        )
        for text, why in (
            ("[0.1, 0.2, 0.3, x]", "'[0.1, 0.2, 0.3, x]' is not a list of numbers"),
            ("[0.1,,0.2,0.3]", "'[0.1,,0.2,0.3]' is not"),
            ("[0.1, 0.2 0.3, 0.4]", "'[0.1, 0.2 0.3, 0.4]' is not"),
            ("0.1,0.2,0.3,0.4", "'0.1,0.2,0.3,0.4' is not"),
            ("[0.1, 0.2, 0.3", "'[0.1, 0.2, 0.3' is not"),
            ("[0.1, 0.2, 0.3, NaN]", "NaN"),
            ("[0.1, 0.2, 0.3, -Infinity]", "infinity"),
            ("[0.1, 0.2, 0.3, 1e999]", "infinity"),
            ("[0.1, 0.2, 0.3, 1e39]", "a value is too large for float32"),
            ("[0.1, 0.2, 0.3, null]", "a value is missing"),
            ("[0.1, 0.2]", "2 values, not 4"),
            ("[[0.1, 0.2], [0.3, 0.4]]", "'[[0.1, 0.2], [0.3, 0.4]]' is not"),
            ("[]", "missing vector"),
            ("", "missing vector"),
            ("벡터", "'벡터' is not a list of numbers"),
        )
    ),
]

_ROUNDED = np.tile(_LONG[:300], (ROWS, 1)).round(3)
_VECTORS_AS_TEXT += [
    converted(
        "vectors in CSV, as NumPy prints them in several lines",
        _csv(frame(job_post_vectors=list(_ROUNDED))),
        rows=frame(job_post_vectors=list(_ROUNDED)),
    ),
    converted(
        "vectors in CSV, as lists of NumPy's numbers print",
        _csv(frame(job_post_vectors=list(map(list, MATRIX)))),
        rows=frame(),
    ),
    refused(
        "vectors in CSV, shortened by NumPy",
        _csv(frame(job_post_vectors=[_LONG] * ROWS)),
        words=["6 x vector: ... was shortened by NumPy", "v.tolist()"],
    ),
]

# Matrices of one row.

_ONE_ROW = [
    converted(
        "vectors of shape (1, D)",
        pickled(frame(job_post_vectors=[v.reshape(1, -1) for v in MATRIX])),
        rows=frame(),
    ),
    converted(
        "vectors of shape (1, D) in a list of dicts",
        pickled(
            [
                {**row, "job_post_vectors": v.reshape(1, -1)}
                for row, v in zip(records(), MATRIX, strict=True)
            ]
        ),
        rows=frame(),
    ),
    converted(
        "vectors that are a list in a list",
        pickled(records(job_post_vectors=[[v] for v in MATRIX.tolist()])),
        rows=frame(),
    ),
    converted(
        "vectors that are a list in a list, in Parquet",
        _parquet(frame(job_post_vectors=[[v] for v in MATRIX.tolist()])),
        rows=frame(),
    ),
    refused(
        "vectors of shape (D, 1)",
        pickled(frame(job_post_vectors=[v.reshape(-1, 1) for v in MATRIX])),
        words=["6 x vector: a matrix of 4 x 1 instead of a vector; v.ravel()"],
    ),
    refused(
        "vectors of shape (2, D)",
        pickled(frame(job_post_vectors=[v.reshape(2, -1) for v in MATRIX])),
        words=["6 x vector: a matrix of 2 x 2 instead of a vector"],
    ),
]

# One column a dimension.


def _wide(
    matrix: Any = MATRIX, names: str = "emb_{}", first: int = 0, **columns: Any
) -> pd.DataFrame:
    labels = [names.format(number) for number in range(first, first + matrix.shape[1])]
    return frame(job_post_vectors=None, **columns).join(pd.DataFrame(matrix, columns=labels))


def _joined(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else read_pickle(path)
    numbered = [name for name in table.columns if name not in frame().columns]
    numbered.sort(key=lambda name: int("".join(filter(str.isdigit, str(name)))))
    vectors: Any = list(table[numbered].to_numpy())
    return table.assign(job_post_vectors=vectors)


_TWELVE = np.random.default_rng(3).standard_normal((ROWS, 12)).astype("f4")
_EMB = ("--column", "vector=emb_*")
_A_COLUMN_A_DIMENSION = [
    converted("a column a dimension", pickled(_wide()), *_EMB, rows=_joined),
    converted(
        "a column a dimension, numbers as numbers", pickled(_wide(_TWELVE)), *_EMB, rows=_joined
    ),
    converted(
        "a column a dimension, in another order",
        pickled(_wide(_TWELVE)[[*reversed(_wide(_TWELVE).columns)]]),
        *_EMB,
        rows=_joined,
    ),
    converted("a column a dimension, from 1 on", pickled(_wide(first=1)), *_EMB, rows=_joined),
    converted(
        "a column a dimension, with zeros",
        pickled(_wide(_TWELVE, "emb_{:03}")),
        *_EMB,
        rows=_joined,
    ),
    converted(
        "a column a dimension, named by its number",
        pickled(frame(job_post_vectors=None).join(pd.DataFrame(_TWELVE))),
        "--column",
        "vector=*",
        rows=_joined,
    ),
    converted(
        "a column a dimension, float64 and whole numbers",
        pickled(_wide(MATRIX.astype("f8")).assign(emb_4=range(ROWS))),
        *_EMB,
        rows=_joined,
    ),
    converted("a column a dimension, in Parquet", _parquet(_wide(_TWELVE)), *_EMB, rows=_joined),
    converted(
        "a column a dimension, in a list of dicts",
        pickled(_wide(_TWELVE).to_dict("records")),
        *_EMB,
        rows=_joined,
    ),
    refused(
        "a column a dimension, one missing",
        pickled(_wide(_TWELVE).drop(columns=["emb_3", "emb_7"])),
        *_EMB,
        words=["'emb_*'", "up to number 11, none of 3, 7"],
    ),
    refused(
        "a column a dimension, one twice",
        pickled(_wide().assign(emb_01=0.5)),
        *_EMB,
        words=["'emb_1' and 'emb_01' have the same number 1"],
    ),
    refused(
        "a column a dimension, a value missing",
        pickled(
            [
                {**row, "emb_2": None} if n == 3 else row
                for n, row in enumerate(_wide().to_dict("records"))
            ]
        ),
        *_EMB,
        words=["row 3: vector: a value is missing"],
    ),
    refused(
        "a column a dimension, a value missing in Parquet",
        _parquet(_wide().assign(emb_2=pd.Series([1, None, 2, 3, 4, 5], dtype="Int64"))),
        *_EMB,
        words=["row 1: vector: a value is missing"],
    ),
    converted(
        "a column a dimension, in CSV",
        _csv(_wide(_TWELVE)),
        *_EMB,
        rows=frame(job_post_vectors=list(_TWELVE)),
    ),
    refused(
        "a column a dimension, one value no number in CSV",
        _csv(_wide().assign(emb_2=["1", "2", "x", "3", "4", "5"])),
        *_EMB,
        words=["1 of 6 rows are invalid", "row 2: vector: a value is not a number"],
    ),
    refused(
        "a column a dimension, a value missing in CSV",
        _csv(_wide().assign(emb_2=[1, 2, np.nan, 3, 4, 5])),
        *_EMB,
        words=["1 of 6 rows are invalid", "row 2: vector: a value is missing"],
    ),
    refused(
        "a column a dimension, NaN",
        pickled(_wide().assign(emb_2=[1, 2, np.nan, 3, 4, 5])),
        *_EMB,
        words=["row 2: vector: NaN"],
    ),
    refused(
        "a column a dimension, not said",
        pickled(_wide()),
        words=[
            "there is no column 'job_post_vectors' or 'vector' for vector",
            "--column 'vector=emb_*'",
        ],
    ),
    refused(
        "a column a dimension, none so called",
        pickled(frame()),
        *_EMB,
        words=["there is no column 'emb_*' for vector", "job_post_vectors"],
    ),
]

# Years.

_YEARS = {
    "5.0": 5,
    "3+": 3,
    " 7 ": 7,
    "10 years": 10,
    "1 Year": 1,
    "2y": 2,
    "2 yrs": 2,
    "no_exp": 0,
    "3.": 3,
    "04": 4,
    "5+ years": 5,
    "12Y": 12,
}
_YEARS_SHAPES = [
    *(
        converted(
            f"years like {text!r}",
            pickled(frame(exp_years=[text, "1", "2", "3", "4", "5"])),
            rows=frame(exp_years=[years, 1, 2, 3, 4, 5]),
        )
        for text, years in _YEARS.items()
    ),
    *(
        refused(
            f"years like {text!r}",
            pickled(frame(exp_years=["1", "2", text, "3", "4", "5"])),
            words=[f"row 2: exp_years: '{text}' is not a number of years"],
        )
        for text in ("5.5", "3-5", "--1", "<1", "경력 3년", "five", "5 months", "1,000", "", "+3")
    ),
    refused(
        "years that are Korean in every row",
        pickled(frame(exp_years=["경력 3년"] * ROWS)),
        words=["row 0: exp_years: '경력 3년' is not a number of years", "6 x exp_years"],
    ),
]

# Fields without a column.

_EMPTY = [
    converted(
        "no years",
        pickled(frame(exp_years=None)),
        "--empty",
        "exp_years",
        rows=lambda path: pd.read_pickle(path).assign(exp_years=0),
    ),
    converted(
        "no texts at all",
        pickled(frame(company_name=None, english_level=None, primary_keyword=None)),
        "--empty",
        "company_name",
        "--empty",
        "english_level",
        "--empty",
        "primary_keyword",
        rows=lambda path: pd.read_pickle(path).assign(
            company_name="", english_level="", primary_keyword=""
        ),
    ),
    converted("--empty for a field that is there", pickled(frame()), "--empty", "exp_years"),
    refused(
        "no years, not said",
        pickled(frame(exp_years=None)),
        words=["1 field has no column", "for exp_years", "--empty exp_years: 0 in every row"],
    ),
    refused(
        "two fields without a column",
        pickled(frame(exp_years=None, english_level=None)),
        words=[
            "2 fields have no column",
            "for exp_years",
            "for english_level",
            "--empty english_level",
            "'primary_keyword'",
        ],
    ),
    refused(
        "fields called otherwise",
        pickled(
            frame(
                exp_years=None, company_name=None, ExpYears=1, **{"회사": "x", "company name ": "x"}
            )
        ),
        words=[
            "nearest: 'ExpYears' (--column exp_years=ExpYears",
            "nearest: 'company name ' (--column 'company_name=company name '",
            "'회사'",
        ],
    ),
    refused(
        "no vectors",
        pickled(frame(job_post_vectors=None, embeddings=list(MATRIX))),
        words=["nearest: 'embeddings' (--column vector=embeddings)"],
    ),
    refused(
        "other rows altogether",
        pickled([{"a": 1}]),
        words=["5 fields have no column", "its columns: 'a'"],
    ),
]

# Problems.


def _many_years_and_one_vector() -> pd.DataFrame:
    tables = [
        frame(id=[str(uuid.UUID(int=6 * n + k)) for k in range(ROWS)], exp_years=["x"] * ROWS)
        for n in range(5)
    ]
    last = frame(job_post_vectors=[np.full(4, np.nan), *MATRIX[1:]])
    return pd.concat([*tables, last], ignore_index=True)


_PROBLEMS = [
    refused(
        "one rare problem",
        pickled(_many_years_and_one_vector()),
        words=[
            "30 x exp_years: ... is not",
            "1 x vector: NaN",
            "row 30: vector: NaN",
            "row 0: exp_years: 'x'",
        ],
    ),
    refused(
        "Korean where years belong, in names, too",
        pickled(frame(exp_years=None, 경력="삼년").assign(exp_years="신입")),
        words=["'신입' is not a number of years"],
    ),
]

# Names.


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def _twice(name: str) -> pa.Table:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    return table.append_column(name, pa.array(["x"] * ROWS)).append_column(
        name, pa.array(["y"] * ROWS)
    )


def _arrow(table: pa.Table) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with (
            pa.OSFile(str(folder / "source.arrow"), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
        return folder / "source.arrow"

    return write


_KOREAN = ["가", "나", "다", "라", "마", "바"]
_NAMES = [
    refused(
        "rows of a class with a Korean name",
        content(p.pickled(p.list_of(p.called(p.named("회사", "직무"))))),
        words=["회사.직무"],
    ),
    converted(
        "a name that is decomposed in the file",
        pickled(frame(company_name=None, **{_decomposed("회사명"): _KOREAN})),
        "--column",
        "company_name=회사명",
        rows=frame(company_name=_KOREAN),
    ),
    converted(
        "a name that is decomposed in the option",
        pickled(frame(company_name=None, Zoë="x")),
        "--column",
        f"company_name={_decomposed('Zoë')}",
        rows=frame(company_name="x"),
    ),
    *(
        converted(
            f"a column that nobody needs twice, in {kind}",
            write(_twice("Position")),
            rows=frame(),
        )
        for kind, write in (("Parquet", _parquet), ("Arrow", _arrow))
    ),
    *(
        refused(
            f"a column that is needed twice, in {kind}",
            write(_twice("company_name")),
            words=["company_name: 3 columns are called 'company_name'"],
        )
        for kind, write in (("Parquet", _parquet), ("Arrow", _arrow))
    ),
]

SHAPES: list[Shape] = [
    *_VECTORS_AS_TEXT, *_ONE_ROW, *_A_COLUMN_A_DIMENSION, *_YEARS_SHAPES, *_EMPTY, *_PROBLEMS,
    *_NAMES,
]  # fmt: skip

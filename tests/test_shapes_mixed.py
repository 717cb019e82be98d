"""Shapes in random combination: what holds the rows, the vectors, the ids, and in which file.

tests/shapes has each shape once; here each meets all others. What must come out are the values of
which the source was made.
"""

from __future__ import annotations

import gzip
import json
import pickle
import tempfile
import unicodedata
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import pickles as p
from tests.shapes.catalogue import expected_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_YEARS: dict[str, Callable[[int], Any]] = {
    "int": int,
    "float": float,
    "text": str,
    "text of a float": lambda years: f"{years}.0",
    "y": lambda years: f"{years}y",
    "plus": lambda years: f"{years}+ years",
}
_VECTORS: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "lists": lambda matrix: matrix.tolist(),
    "float32": list,
    "float64": lambda matrix: list(matrix.astype(np.float64)),
    "(1, D)": lambda matrix: [row.reshape(1, -1) for row in matrix],
    "lists in lists": lambda matrix: [[row] for row in matrix.tolist()],
    "JSON": lambda matrix: [json.dumps(row) for row in matrix.tolist()],
    "pgvector": lambda matrix: [json.dumps(row, separators=(",", ":")) for row in matrix.tolist()],
    "str of a list of NumPy's": lambda matrix: [str(list(row)) for row in matrix],
}
# What a part of a folder may call the fields, and what all parts do that a --column is given for.
_KNOWN = {
    "company_name": ["company_name", "Company Name"],
    "exp_years": ["exp_years", "Exp Years"],
    "english_level": ["english_level", "English Level"],
    "primary_keyword": ["primary_keyword", "Primary Keyword"],
    "vector": ["job_post_vectors", "vector"],
}
_KOREAN = ["회사명", unicodedata.normalize("NFD", "회사명")]
_ASKED = {
    "company_name": {"회사명": _KOREAN},
    "vector": {"embeddings": ["embeddings"], "emb_*": ["emb_*"]},
}


# Forms of vectors that CSV can't say: it would have what NumPy prints, which is rounded.
_ARRAYS = {"float32", "float64", "(1, D)"}


class _Part(NamedTuple):
    """The bytes of a file, how its name ends, and the rows that it must become."""

    content: bytes
    ending: str
    rows: pd.DataFrame


@st.composite
def _parts(draw: st.DrawFn, number: int, dimension: int, names: dict[str, str]) -> _Part:
    """Draw the content of a file whose columns are called `names`."""
    count = draw(st.integers(1, 5))
    numbers = st.floats(-1e6, 1e6, width=32)
    matrix = np.array(
        draw(st.lists(numbers, min_size=count * dimension, max_size=count * dimension)), np.float32
    ).reshape(count, dimension)

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {row}")) for row in range(count)]
    years = column(st.integers(0, 50))
    rows = pd.DataFrame(
        {
            "id": ids,
            "company_name": column(st.one_of(_PLAIN_TEXT, st.none())),
            "exp_years": years,
            "english_level": column(_PLAIN_TEXT),
            "primary_keyword": column(st.sampled_from(["Java", "경력", ""])),
            "vector": matrix.tolist(),
        }
    )
    write_years = _YEARS[draw(st.sampled_from(sorted(_YEARS)))]
    columns = {
        "id": ids,
        names["company_name"]: rows["company_name"].tolist(),
        names["exp_years"]: list(map(write_years, years)),
        names["english_level"]: rows["english_level"].tolist(),
        names["primary_keyword"]: rows["primary_keyword"].tolist(),
    }
    form = draw(st.sampled_from(sorted(_VECTORS)))
    vector = {names["vector"]: _VECTORS[form](matrix)}
    if names["vector"] == "emb_*":
        order = draw(st.permutations(range(dimension)))
        vector = {f"emb_{number}": matrix[:, number] for number in order}
    elif form not in _ARRAYS and draw(st.booleans()):
        return _Part(*_table_file(draw, pd.DataFrame({**columns, **vector})), rows)
    protocol = draw(st.sampled_from([2, 3, 4, 5]))
    content = pickle.dumps(_held(draw, columns, vector), protocol)
    is_packed = draw(st.booleans())
    return _Part(gzip.compress(content, 1) if is_packed else content, "pkl", rows)


def _held(draw: st.DrawFn, columns: dict[str, Any], vector: dict[str, Any]) -> Any:
    """Draw what holds the columns."""
    frame = pd.DataFrame({**columns, **vector})
    kind = draw(
        st.sampled_from(
            ["records", "frame", "index", "columns", "frame in a dict", "frame and more"]
        )
    )
    if kind == "records":
        values = zip(*frame.to_dict("list").values(), strict=True)
        return [dict(zip(frame, row, strict=True)) for row in values]
    if kind == "frame":
        return frame
    if kind == "index":
        return frame.set_index(draw(st.sampled_from(["id", ["id", frame.columns[1]]])))
    if kind == "columns":
        return {**columns, **vector}
    if kind == "frame in a dict":
        return {"df": frame}
    return {"df": pd.DataFrame(columns), **vector}


def _table_file(draw: st.DrawFn, table: pd.DataFrame) -> tuple[bytes, str]:
    """Draw what a table is written as, whose vectors aren't arrays; return its bytes and ending."""
    ending = draw(st.sampled_from(["parquet", "csv", "jsonl"]))
    if ending == "parquet":
        return table.to_parquet(), ending
    if ending == "csv":
        return table.to_csv(index=False).encode(), ending
    lines = [json.dumps(row, ensure_ascii=False) for row in table.to_dict("records")]
    return "\n".join(lines).encode(), ending


@settings(max_examples=40)
@given(st.data())
def test_any_combination_of_shapes_becomes_the_values_that_it_was_made_of(
    data: st.DataObject,
) -> None:
    """Of one file, or of a folder of several, each with its own shapes."""
    dimension = data.draw(st.integers(2, 4))
    asked = {
        field: data.draw(st.sampled_from(sorted(names)))
        for field, names in _ASKED.items()
        if data.draw(st.booleans())
    }
    names = {
        **_KNOWN,
        **{field: _ASKED[field][name] for field, name in asked.items()},
    }
    parts = [
        data.draw(
            _parts(n, dimension, {f: data.draw(st.sampled_from(k)) for f, k in names.items()})
        )
        for n in range(data.draw(st.integers(1, 3)))
    ]
    rows = pd.concat([part.rows for part in parts])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        for number, part in enumerate(parts):
            (source / f"part-{number}.{part.ending}").write_bytes(part.content)
        if len(parts) == 1 and data.draw(st.booleans()):
            (source,) = source.iterdir()
        out = Path(folder, "out.arrow")
        p.convert_file(source, out, columns=asked)

        assert expected_rows(rows) == p.rows_of(out)

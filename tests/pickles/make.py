"""Pickles one small table in every way that a pandas version has of holding it.

python make.py PREFIX FOLDER writes FOLDER/PREFIX-KIND-pPROTOCOL.pkl for each kind that the
installed pandas knows, protocols 4 and 5 in turn.
"""

from __future__ import annotations

import datetime as dt
import pickle
import sys
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_ROWS = 6
_IDS = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"row{row}")) for row in range(_ROWS)]
_COLUMNS: dict[str, list[Any]] = {
    "id": _IDS,
    "company_name": ["Acme", "한빛소프트", "Acme", "", "Zeta", "Ünïcode"],
    "exp_years": [5, 0, 2, 3, 1, 10],
    "english_level": ["basic", "pre", "upper", "fluent", "no_english", "basic"],
    "primary_keyword": ["Java", "Python", "Java", "QA", "QA", "Go"],
}
_VECTORS = np.arange(3 * _ROWS, dtype=np.float32).reshape(_ROWS, 3) / np.float32(7)
_TEXT = ("company_name", "english_level", "primary_keyword")


def _frame(vectors: object = None, **columns: object) -> Any:
    vectors = list(_VECTORS) if vectors is None else vectors
    table: Any = {**_COLUMNS, **columns, "job_post_vectors": vectors}
    return pd.DataFrame(table)


def _with_types(**types: object) -> Any:
    table: Any = types
    return _frame().astype(table)


def _with_extras() -> Any:
    frame = _frame()
    days = pd.to_datetime(["2023-01-01"] * _ROWS)
    frame["Published"] = days
    frame["Published UTC"] = days.tz_localize("UTC")
    frame["Remote"] = [True, False] * 3
    frame["Day"] = [dt.date(2024, 1, 1)] * _ROWS
    frame["Number"] = 1
    frame["Took"] = pd.to_timedelta([1] * _ROWS)
    return frame


def _with_skipped() -> Any:
    """Columns and an index that a conversion has to skip."""
    days = pd.date_range("2023-01-01", periods=_ROWS)
    frame = _frame()
    frame["Published"] = days.tz_localize("Europe/Kiev")
    frame["Seen"] = days.tz_localize(zoneinfo.ZoneInfo("Europe/Kiev"))
    frame["Stamp"] = pd.Series(list(frame["Published"]), dtype=object)
    frame["Month"] = pd.period_range("2023-01", periods=_ROWS, freq="M")
    frame["Range"] = pd.interval_range(0, _ROWS)
    frame["Rare"] = pd.arrays.SparseArray([0, 0, 1, 0, 0, 2])
    frame["Band"] = pd.cut(np.arange(_ROWS), 3)
    frame["Due"] = pd.Categorical(days)
    return frame.set_index(days)


def _indexed_by(*arrays: Any) -> Any:
    return _frame().set_index(pd.MultiIndex.from_arrays(arrays))


def _frames() -> dict[str, Any]:
    """Return the table by the kind of its columns."""
    years: list[Any] = [n or None for n in _COLUMNS["exp_years"]]
    frames = {
        "object64": _frame([row.astype(np.float64) for row in _VECTORS]),
        "object32": _frame(),
        "lists": _frame(_VECTORS.tolist()),
        "categorical": _with_types(**dict.fromkeys(_TEXT, "category")),
        "years_nullable": _frame(exp_years=pd.Series(years, dtype="Int64")),
        "string": _with_types(**dict.fromkeys(("id", *_TEXT), "string")),
        "string_pyarrow": _with_types(**dict.fromkeys(("id", *_TEXT), "string[pyarrow]")),
        "extras": _with_extras(),
        "indexed": _frame().set_index(pd.Index(list("abcdef"))),
        "filtered": _frame().iloc[[0, 2, 4]],
    }
    for name in ("int8", "int16", "int64", "Int64", "float64"):
        frames[f"years_{name}"] = _with_types(exp_years=name)
    if hasattr(pd, "ArrowDtype"):
        import pyarrow as pa  # noqa: PLC0415 - only these columns need it

        frames["arrowdtype"] = _with_types(
            company_name=pd.ArrowDtype(pa.string()), exp_years=pd.ArrowDtype(pa.int32())
        )
        frames["listed"] = _with_types(
            company_name=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
            job_post_vectors=pd.ArrowDtype(pa.list_(pa.float32())),
        )
    frames["skipped"] = _with_skipped()
    frames["keyed"] = _frame().set_index("id")
    frames["multi"] = _indexed_by(list("aabbcc"), pd.timedelta_range("1h", periods=_ROWS))
    return frames


def _records() -> list[dict[str, Any]]:
    table = {**_COLUMNS, "job_post_vectors": _VECTORS.tolist()}
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def main() -> None:
    prefix, folder = sys.argv[1:]
    for number, (kind, source) in enumerate({"records": _records(), **_frames()}.items()):
        protocol = 4 + number % 2
        path = Path(folder) / f"{prefix}-{kind}-p{protocol}.pkl"
        path.write_bytes(pickle.dumps(source, protocol))


if __name__ == "__main__":
    main()

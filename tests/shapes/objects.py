"""Shapes of objects: rows of classes, and objects in columns that are needed, or aren't."""

from __future__ import annotations

import collections
import enum
import pickle
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tests.shapes.catalogue import (
    MATRIX,
    ROWS,
    Shape,
    content,
    converted,
    frame,
    pickled,
    records,
    refused,
)


class _Level(enum.Enum):
    BASIC = "basic"


class Row(NamedTuple):
    id: str
    company_name: str
    vector: list[float]


@dataclass
class DataRow:
    id: str
    vector: list[float]


@dataclass(slots=True)
class SlottedRow:
    id: str
    vector: list[float]


class PlainRow:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class ModelRow:
    """Pickled as pydantic's models are, from version 2 on."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            "__dict__": {"id": "a"},
            "__pydantic_fields_set__": {"id"},
            "__pydantic_extra__": None,
        }


class Table(pd.DataFrame):
    """A subclass, as geopandas has one."""


class Rows(collections.UserDict[str, Any]):
    pass


def _default_dicts(factory: Any) -> list[Any]:
    return [collections.defaultdict(factory, row) for row in records()]


def _with_attributes() -> pd.DataFrame:
    table = frame()
    table.attrs["made by"] = Path("make.py")
    table.attrs["level"] = _Level.BASIC
    return table


def _old_rows(protocol: int) -> list[PlainRow]:
    del protocol
    return [PlainRow(**row) for row in records()]


_OBJECTS = [
    _Level.BASIC,
    PurePosixPath("a/b"),
    PlainRow(a=1),
    Row("a", "b", [0.5]),
    DataRow("a", [1.0]),
    np.random.default_rng(1),
    SlottedRow,
    int,
]
_ROWS: dict[str, tuple[list[Any], str, str]] = {
    "namedtuples": (
        [Row("a", "b", v) for v in MATRIX.tolist()],
        "Row",
        "[row._asdict() for row in rows]",
    ),
    "dataclasses": (
        [DataRow("a", v) for v in MATRIX.tolist()],
        "DataRow",
        "[vars(row) for row in rows]",
    ),
    "dataclasses with slots": (
        [SlottedRow("a", v) for v in MATRIX.tolist()],
        "SlottedRow",
        "[dataclasses.asdict(row) for row in rows]",
    ),
    "a class": ([PlainRow(**row) for row in records()], "PlainRow", "[vars(row) for row in rows]"),
    "pydantic's models": (
        [ModelRow() for _ in range(3)],
        "ModelRow",
        "[row.model_dump() for row in rows]",
    ),
}

_READ = [
    *(
        converted(f"rows that are {name}", pickled(rows), rows=lambda _path: frame())
        for name, rows in {
            "defaultdicts of int": _default_dicts(int),
            "defaultdicts of nothing": _default_dicts(None),
            "defaultdicts of a function of others": _default_dicts(dataclass),
            "OrderedDicts": [collections.OrderedDict(row) for row in records()],
            "Counters": [collections.Counter(row) for row in records()],
        }.items()
    ),
    *(
        converted(
            f"rows that are defaultdicts, protocol {number}",
            pickled(_default_dicts(list), protocol=number),
            rows=lambda _path: frame(),
        )
        for number in (2, 3, 5)
    ),
    *(
        converted(
            f"{type(value).__name__} {at} in a column that nobody needs, {shape}",
            pickled(table),
            rows=lambda _path: frame(),
        )
        for at, value in enumerate(_OBJECTS)
        for shape, table in {
            "a DataFrame": frame().assign(other=pd.Series([value] * ROWS, dtype=object)),
            "a list of dicts": [
                {**row, "other": value, "more": [value, {"a": value}]} for row in records()
            ],
        }.items()
    ),
    converted(
        "objects in a column that nobody needs, protocol 2",
        pickled(frame().assign(other=pd.Series(_OBJECTS[:ROWS], dtype=object)), protocol=2),
        rows=lambda _path: frame(),
    ),
    converted(
        "attributes of objects of a DataFrame",
        pickled(_with_attributes()),
        rows=lambda _path: frame(),
    ),
    converted(
        "members of an Enum as keys",
        pickled([{**row, "other": {_Level.BASIC: 1}} for row in records()]),
        rows=lambda _path: frame(),
    ),
    converted(
        "dicts of a class in a column that nobody needs",
        pickled([{**row, "other": Rows(a=1)} for row in records()]),
        rows=lambda _path: frame(),
    ),
    converted(
        "a column that nobody needs twice",
        pickled(frame().assign(a=1, b=2).rename(columns={"b": "a"})),
        rows=lambda _path: frame(),
    ),
]
_REFUSED = [
    *(
        refused(
            f"rows that are {name}",
            pickled(rows),
            words=[f"names tests.shapes.objects.{kind},", to_dicts],
        )
        for name, (rows, kind, to_dicts) in _ROWS.items()
    ),
    refused(
        "rows of a class, protocol 1",
        pickled(_ROWS["a class"][0], protocol=1),
        words=["objects.PlainRow,", "vars(row)"],
    ),
    refused(
        "rows that are dicts and others",
        pickled([*records(), Row("a", "b", [0.5])]),
        words=["row 6 is an object of the class tests.shapes.objects.Row, not a dict"],
    ),
    refused(
        "rows that are UserDicts",
        pickled([Rows(row) for row in records()]),
        words=["tests.shapes.objects.Rows"],
    ),
    refused(
        "members of an Enum in a field",
        pickled(frame(english_level=[_Level.BASIC] * ROWS)),
        words=[
            "6 x english_level: tests.shapes.objects._Level instead of text",
            "objects of tests.shapes.objects._Level are never made: pickle text or numbers",
            "row 0: english_level",
        ],
    ),
    refused(
        "paths in a field",
        pickled(records(company_name=[PurePosixPath("a")] * ROWS)),
        words=["company_name: pathlib.PurePosixPath instead of text"],
    ),
    refused(
        "objects among vectors",
        pickled(frame(job_post_vectors=[*MATRIX[1:], PlainRow()])),
        words=["row 5: vector: tests.shapes.objects.PlainRow instead of a vector"],
    ),
    refused(
        "a DataFrame of a class of its own",
        pickled(Table(frame())),
        words=["names tests.shapes.objects.Table,", "pd.DataFrame(content)"],
    ),
    refused(
        "a column that is needed twice",
        pickled(frame().assign(b="x").rename(columns={"b": "company_name"})),
        words=["company_name: 2 columns are called 'company_name'", "rename"],
    ),
    refused(
        "a table as text, beginning with c",
        content(b"company_name,exp_years\nAcme Corp,5\n"),
        words=["there is no column 'english_level'"],
    ),
    refused(
        "a table as text, beginning with i",
        content(b"id,company_name\n1,Acme Corp\n"),
        words=["there is no column 'english_level'"],
    ),
    refused(
        "a whole number and another pickle",
        content(pickle.dumps(3) + pickle.dumps(4)),
        words=["something follows the end"],
    ),
]
SHAPES: list[Shape] = [*_READ, *_REFUSED]

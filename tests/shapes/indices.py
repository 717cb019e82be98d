"""Shapes of indices: ids, and other columns, in a DataFrame's index."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pandas as pd

from tests.shapes.catalogue import IDS, MATRIX, ROWS, Shape, converted, frame, pickled, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _read(path: Path) -> Any:
    return pd.read_pickle(path)


def _reset(path: Path) -> pd.DataFrame:
    """Return the columns and the index of what was pickled."""
    table: pd.DataFrame = _read(path)
    names = [name for name in table.index.names if name not in table.columns]
    return table if None in names else table.reset_index(names)


def _index_is(field: str | list[str]) -> Callable[[Path], pd.DataFrame]:
    return lambda path: _read(path).reset_index(names=field)


def _parquet(table: pd.DataFrame) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        table.to_parquet(folder / "source.parquet")
        return folder / "source.parquet"

    return write


_LANGS = ["ko", "en"] * 3
_UNNAMED = frame().set_index("id").rename_axis(None)
_BY_ID: dict[str, Any] = {
    row.pop("id"): row for row in frame(job_post_vectors=MATRIX.tolist()).to_dict("records")
}
_AS_UUIDS = frame(id=[uuid.UUID(text) for text in IDS])
_MADE = frame(id=None)

_KEPT = [
    converted("ids in a named index", pickled(frame().set_index("id")), rows=_reset),
    converted("ids in a level", pickled(frame(lang=_LANGS).set_index(["id", "lang"])), rows=_reset),
    converted(
        "ids in the last level", pickled(frame(lang=_LANGS).set_index(["lang", "id"])), rows=_reset
    ),
    converted(
        "fields in levels", pickled(frame().set_index(["company_name", "exp_years"])), rows=_reset
    ),
    converted(
        "all fields but the vector in levels",
        pickled(
            frame().set_index(
                ["id", "company_name", "exp_years", "english_level", "primary_keyword"]
            )
        ),
        rows=_reset,
    ),
    converted(
        "UUIDs as objects in a level",
        pickled(_AS_UUIDS.assign(n=1).set_index(["n", "id"])),
        rows=_reset,
    ),
    *(
        converted(
            f"ids in an index, protocol {number}",
            pickled(frame().set_index("id"), protocol=number),
            rows=_reset,
        )
        for number in (2, 3, 5)
    ),
    *(
        converted(
            f"ids in an index of {kind}",
            pickled(frame().astype({"id": kind}).set_index("id")),
            rows=_reset,
        )
        for kind in ("object", "string", "string[pyarrow]", "category")
    ),
    converted(
        "years in a RangeIndex",
        pickled(_MADE.drop(columns="exp_years").set_index(pd.RangeIndex(10, 16, name="exp_years"))),
        rows=_reset,
    ),
    converted(
        "a level with nulls",
        pickled(
            frame(company_name=["a", None, "b", None, "a", "c"]).set_index(["company_name", "id"])
        ),
        rows=_reset,
    ),
    converted(
        "ids in an index whose column stayed",
        pickled(frame().set_index("id", drop=False)),
        rows=pd.read_pickle,
    ),
    converted(
        "a DataFrame by ids, as from_dict makes it",
        pickled(pd.DataFrame.from_dict(_BY_ID, orient="index")),
        "--column",
        "id=index",
        rows=_index_is("id"),
    ),
    converted(
        "ids in an index without a name",
        pickled(_UNNAMED),
        "--column",
        "id=index",
        rows=_index_is("id"),
    ),
    converted(
        "ids in a level without a name",
        pickled(frame(lang=_LANGS).set_index(["lang", "id"]).rename_axis([None, None])),
        "--column",
        "id=index_1",
        rows=_index_is(["lang", "id"]),
    ),
    converted(
        "an index without a name beside a column index",
        pickled(_UNNAMED.assign(index=1)),
        "--column",
        "id=index_0",
        rows=_index_is("id"),
    ),
    converted(
        "ids in an index without a name, Parquet",
        _parquet(_UNNAMED),
        "--column",
        "id=__index_level_0__",
        rows=lambda _path: frame(),
    ),
    converted("made ids beside those in an index", pickled(_UNNAMED), "--ids", "uuid7"),
    converted("an index of numbers", pickled(_MADE.set_index(pd.Index([3, 1, 2, 0, 5, 4])))),
    converted("an index of numbers from 0", pickled(_MADE)),
    converted(
        "an index with a number for a name",
        pickled(frame().set_index("id").rename_axis(7)),
        "--column",
        "id=7",
        rows=_index_is("id"),
    ),
    converted("a column job_id of other ids", pickled(_MADE.assign(job_id=range(ROWS)))),
    converted(
        "a column company_id whose ids repeat", pickled(_MADE.assign(company_id=IDS[:2] * 3))
    ),
]
_REFUSED = [
    refused(
        "an index of ids without a name",
        pickled(_UNNAMED),
        words=["index 'index' looks like ids", IDS[0], "--column id=index", "--ids uuid7"],
    ),
    refused(
        "from_dict, ids not named",
        pickled(pd.DataFrame.from_dict(_BY_ID, orient="index")),
        words=["--column id=index"],
    ),
    refused(
        "levels of ids without a name",
        pickled(_UNNAMED.assign(n=1).set_index("n", append=True)),
        words=["--column id=index_0"],
    ),
    refused(
        "an index of ids by another name",
        pickled(_UNNAMED.rename_axis("job")),
        words=["index 'job' looks like ids", "--column id=job"],
    ),
    refused(
        "ids of no hyphens in an index",
        pickled(_UNNAMED.set_index(pd.Index([text.replace("-", "") for text in IDS]))),
        words=["--column id=index"],
    ),
    refused(
        "ULIDs in an index",
        pickled(
            _UNNAMED.set_index(pd.Index([f"01ARZ3NDEKTSV4RRFFQ69G5FA{n}" for n in range(ROWS)]))
        ),
        words=["--column id=index"],
    ),
    refused(
        "UUIDs as objects in an index",
        pickled(_AS_UUIDS.set_index("id").rename_axis(None)),
        words=["--column id=index"],
    ),
    refused(
        "a named index of ids, Parquet",
        _parquet(_UNNAMED.rename_axis("job")),
        words=["index 'job' looks like ids", "--column id=job"],
    ),
    refused(
        "an index of ids, Parquet", _parquet(_UNNAMED), words=["--column id=__index_level_0__"]
    ),
    *(
        refused(
            f"ids in a column {name}",
            pickled(_MADE.assign(**{name: IDS})),
            words=[f"column '{name}' looks like ids"],
        )
        for name in ("ID", "_id", "uuid", "job_id", "jobId", "Job UUID", "guid")
    ),
    refused(
        "ids in a column uuid, Parquet",
        _parquet(_MADE.assign(uuid=IDS)),
        words=["--column id=uuid"],
    ),
    refused(
        "ids in a column with a space",
        pickled(_MADE.assign(**{"Job Id": IDS})),
        words=["--column 'id=Job Id'"],
    ),
    refused(
        "ids in a column of some rows",
        pickled(_MADE.assign(uuid=[*IDS[:4], "", ""])),
        words=["--column id=uuid"],
    ),
    refused(
        "ids in a column uuid, a list of dicts",
        pickled(_MADE.assign(uuid=IDS).to_dict("records")),
        words=["--column id=uuid"],
    ),
    refused(
        "columns of several levels",
        pickled(pd.concat({"jobs": frame()}, axis=1)),
        words=["columns named by a MultiIndex"],
    ),
]
SHAPES: list[Shape] = [*_KEPT, *_REFUSED]

"""Conversions from beginning to end, in this process."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import pickle
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ulid import ULID

from convert import pipeline
from convert.errors import (
    ConvertError,
    DuplicateIdsError,
    InvalidRowsError,
    OutputError,
    UnreadableSourceError,
)
from convert.id_text import IdKind
from convert.ids import IdMode
from convert.options import Options
from convert.pipeline import convert
from convert.rejects import rejects_path
from tests import pickles as p
from tests.test_convert_source import make_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convert.report import Report

_MS = 1_765_467_000_123  # 2025-12-11T15:30:00.123Z


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six sound records with ids."""
    return p.write_pickle(tmp_path / "jobs.pkl", p.make_records())


def _without_ids(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "id"} for record in records]


def _converted(source: Path, **options: Any) -> Report:
    report = p.convert_file(source, **options)
    assert report is not None
    return report


def _touch(path: Path, ms: int = _MS) -> None:
    os.utime(path, ns=(ms * 1_000_000, ms * 1_000_000))


def _rejected(source: Path) -> list[dict[str, Any]]:
    lines = rejects_path(p.arrow_path(source)).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# Rows and ids.

record_lists = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.uuids().map(str),
            "company_name": st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
            "exp_years": st.integers(0, 99),
            "english_level": st.sampled_from(["basic", "upper"]),
            "primary_keyword": st.sampled_from(["Java", "C++"]),
            "job_post_vectors": st.lists(
                st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2
            ),
        }
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda record: record["id"],
)  # fmt: skip


@settings(max_examples=50)
@given(records=record_lists, read=st.integers(1, 5), written=st.integers(1, 5))
def test_every_row_arrives_once_in_the_order_of_ids(
    tmp_path: Path, records: list[dict[str, Any]], read: int, written: int
) -> None:
    """All columns of all rows, sorted by id, at any batch sizes, from records and a frame."""
    with p.small_batches(read, written):
        for content in (records, make_frame(records, vectors="float32")):
            source = p.write_pickle(tmp_path / "jobs.pkl", content)
            p.convert_file(source, force=True)

            assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


def test_ids_are_kept_if_there_are_any(source: Path) -> None:
    """Without an option a source's own ids stay, as the report says."""
    report = _converted(source)

    assert "kept from 'id'" == report.ids
    assert IdKind.UUID is report.info.id_kind
    assert {r["id"] for r in p.make_records()} == {r["id"] for r in p.rows_of(p.arrow_path(source))}


def test_ids_are_made_if_there_are_none(tmp_path: Path) -> None:
    """They are UUIDv7s of the source's modification time, in source order."""
    records = _without_ids(p.make_records())
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    _touch(source)
    report = _converted(source)
    rows = p.rows_of(p.arrow_path(source))
    ids = [uuid.UUID(row.pop("id")) for row in rows]
    vectors = [record.pop("job_post_vectors") for record in records]

    assert report.ids.startswith("generated (uuid7): the source has no column 'id'")
    assert [{**r, "vector": v} for r, v in zip(records, vectors, strict=True)] == rows
    assert [7] * 6 == [value.version for value in ids]
    assert [_MS] * 6 == [value.int >> 80 for value in ids]
    assert sorted(set(ids)) == ids


@pytest.mark.parametrize("mode", [IdMode.UUID7, IdMode.ULID])
def test_ids_that_are_made_replace_those_that_are_there(mode: IdMode, source: Path) -> None:
    """`--ids uuid7` and `ulid` drop a source's ids, wrong ones too; `--id-time` is their time."""
    broken = [{**record, "id": None} for record in p.make_records()]
    p.write_pickle(source, broken)
    report = _converted(source, ids=mode, id_time_ms=_MS)
    ids = [row["id"] for row in p.rows_of(p.arrow_path(source))]
    made_ms = {
        uuid.UUID(i).int >> 80 if mode is IdMode.UUID7 else ULID.from_str(i).milliseconds
        for i in ids
    }

    assert f"generated ({mode}), those in 'id' dropped" == report.ids
    assert {_MS} == made_ms
    assert [r["company_name"] for r in broken] == [
        r["company_name"] for r in p.rows_of(p.arrow_path(source))
    ]
    assert [] == list(report.ignored)


def test_made_ids_depend_on_the_sources_bytes(tmp_path: Path) -> None:
    """The same file again gives the same ids; another file of the same time gives others."""
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        records = _without_ids(p.make_records(seed=seed))
        source = p.write_pickle(tmp_path / f"{name}.pkl", records)
        _converted(source, id_time_ms=_MS)
        found.append([row["id"] for row in p.rows_of(p.arrow_path(source))])

    assert found[0] == found[1]
    assert not set(found[0]) & set(found[2])


def test_ulids_of_a_source_are_kept(tmp_path: Path) -> None:
    """A column of ULIDs, in any case, makes a ULID dataset."""
    ulids = [str(ULID(bytes([255 - n]) * 16)).lower() for n in range(130, 136)]
    records = [{**r, "id": i} for r, i in zip(p.make_records(), ulids, strict=True)]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    assert IdKind.ULID is _converted(source).info.id_kind
    assert sorted(i.upper() for i in ulids) == [r["id"] for r in p.rows_of(p.arrow_path(source))]


def test_keeping_ids_that_arent_there_is_an_error(tmp_path: Path) -> None:
    """`--ids keep` makes the id column one that must be there."""
    source = p.write_pickle(tmp_path / "jobs.pkl", _without_ids(p.make_records()))

    with pytest.raises(UnreadableSourceError, match="no column 'id' for id"):
        p.convert_file(source, ids=IdMode.KEEP)


def test_the_fingerprint_is_of_source_and_options(source: Path, tmp_path: Path) -> None:
    """Equal bytes and options have one, whatever the file is called; others have others."""
    copy = tmp_path / "copy.pkl"
    copy.write_bytes(source.read_bytes())
    other = p.write_pickle(tmp_path / "other.pkl", p.make_records(seed=1))
    prints = {
        "one": _converted(source).info.fingerprint,
        "copy": _converted(copy).info.fingerprint,
        "other": _converted(other).info.fingerprint,
        "uuid7": _converted(source, ids=IdMode.UUID7, id_time_ms=1).info.fingerprint,
        "later": _converted(source, ids=IdMode.UUID7, id_time_ms=2).info.fingerprint,
        "ulid": _converted(source, ids=IdMode.ULID, id_time_ms=1).info.fingerprint,
        "skip": _converted(source, skip_invalid=True).info.fingerprint,
        "column": _converted(source, columns={"english_level": "company_name"}).info.fingerprint,
    }

    assert prints["one"] == prints.pop("copy")
    assert len(prints) == len(set(prints.values()))
    assert all(len(bytes.fromhex(value)) == 32 for value in prints.values())


# Up to date.

_CHANGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "content": lambda source: {"out": p.arrow_path(p.write_pickle(source, p.make_records(7)))},
    "ids": lambda _source: {"ids": IdMode.UUID7},
    "ULIDs": lambda _source: {"ids": IdMode.ULID},
    "a column": lambda _source: {"columns": {"english_level": "company_name"}},
    "skipping": lambda _source: {"skip_invalid": True},
    "force": lambda _source: {"force": True},
}


def _identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_what_is_up_to_date_is_not_written(source: Path) -> None:
    """The second run does nothing; neither does one after the source was only touched."""
    out = p.arrow_path(source)
    _converted(source)
    before = _identity(out)

    assert p.convert_file(source) is None
    _touch(source)
    assert p.convert_file(source) is None
    assert p.convert_file(source, ids=IdMode.KEEP) is None
    assert before == _identity(out)


@pytest.mark.parametrize("change", _CHANGES)
def test_what_is_not_up_to_date_is_written(change: str, source: Path) -> None:
    """Another source or option rewrites the file, and then it is up to date again."""
    out = p.arrow_path(source)
    _converted(source)
    before = _identity(out)
    options = _CHANGES[change](source)
    _converted(source, **options)

    assert before != _identity(out)
    assert p.convert_file(source, **{**options, "force": False}) is None


# Columns that tell rows apart, where ids are UUIDv5s.
_ID_FROM = ("company_name", "exp_years", "english_level", "primary_keyword")


@pytest.mark.parametrize("first", [None, *IdMode])
@pytest.mark.parametrize("second", [None, *IdMode])
@pytest.mark.parametrize("with_ids", [True, False])
def test_a_run_after_another_leaves_what_it_alone_would_leave(
    first: IdMode | None, second: IdMode | None, tmp_path: Path, *, with_ids: bool
) -> None:
    """Whether a file is up to date is decided by what it would become, not by a default."""
    records = p.make_records()
    source = p.write_pickle(tmp_path / "jobs.pkl", records if with_ids else _without_ids(records))
    _touch(source)
    alone, after = tmp_path / "alone.arrow", tmp_path / "after.arrow"
    if not with_ids and IdMode.KEEP in (first, second):
        with pytest.raises(UnreadableSourceError):
            p.convert_file(source, ids=IdMode.KEEP)
        return
    p.convert_file(source, alone, ids=second, id_from=_ID_FROM)
    p.convert_file(source, after, ids=first, id_from=_ID_FROM)
    p.convert_file(source, after, ids=second, id_from=_ID_FROM)

    assert p.rows_of(alone) == p.rows_of(after)


def test_made_ids_are_out_of_date_with_another_time(tmp_path: Path) -> None:
    """A touched source would give other ids; with `--id-time` it wouldn't."""
    source = p.write_pickle(tmp_path / "jobs.pkl", _without_ids(p.make_records()))
    for ms in (_MS, _MS + 1):
        _touch(source, ms)
        _converted(source)
        assert p.convert_file(source) is None
    _converted(source, id_time_ms=5)
    _touch(source, _MS + 2)

    assert p.convert_file(source, id_time_ms=5) is None
    assert {5} == {uuid.UUID(row["id"]).int >> 80 for row in p.rows_of(p.arrow_path(source))}


@pytest.mark.parametrize("mode", IdMode)
def test_force_writes_the_same_bytes(mode: IdMode, source: Path) -> None:
    """A file is a function of its source and options: nothing else is in it."""
    _touch(source)
    _converted(source, ids=mode, id_from=_ID_FROM)
    out = p.arrow_path(source)
    before, identity = out.read_bytes(), _identity(out)
    _converted(source, ids=mode, id_from=_ID_FROM, force=True)

    assert before == out.read_bytes()
    assert identity != _identity(out)


@pytest.mark.parametrize("damage", ["nothing", "garbage", "cut off", "another format", "a folder"])
def test_an_output_that_is_no_dataset_is_not_up_to_date(
    damage: str, source: Path, tmp_path: Path
) -> None:
    """Whatever lies at the output's path is replaced by a dataset, if it can be."""
    out = p.arrow_path(source)
    _converted(source)
    whole = out.read_bytes()
    out.unlink()
    if damage == "a folder":
        out.mkdir()
        with pytest.raises(OutputError, match=r"jobs\.pkl\.arrow can't be written"):
            p.convert_file(source)
        assert {source, out} == set(tmp_path.iterdir())
        return
    table = pa.table({"id": [1]})
    with pa.ipc.new_file(tmp_path / "other", table.schema) as file:
        file.write_table(table)
    content = {
        "nothing": b"",
        "garbage": b"ARROW1" * 9,
        "cut off": whole[:-9],
        "another format": (tmp_path / "other").read_bytes(),
    }
    out.write_bytes(content[damage])
    _converted(source)

    assert whole == out.read_bytes()


def test_leftovers_of_a_killed_run_go_even_if_all_is_up_to_date(source: Path) -> None:
    """The next run cleans up, whatever else it has to do."""
    _converted(source)
    for name in (".jobs.pkl.arrow.abc.partial", ".jobs.pkl.arrow.rejected.jsonl.abc.partial"):
        source.with_name(name).write_bytes(b"half")

    assert p.convert_file(source) is None
    assert [] == p.partials(source.parent)


def test_a_temporary_file_is_never_taken_for_the_output(source: Path) -> None:
    """A whole dataset under a temporary name is a leftover like any other."""
    _converted(source)
    out = p.arrow_path(source)
    out.rename(out.with_name(f".{out.name}.abc.partial"))
    _converted(source)

    assert {source, out} == set(source.parent.iterdir())


# Invalid rows.


def _some_invalid() -> list[dict[str, Any]]:
    """Return 16 records, of which 13 are invalid: 12 in their years, two in the vector."""
    records = p.make_records(16)
    for record in records[2:14]:
        record["exp_years"] = "junior"
    records[3]["job_post_vectors"] = [0.5, float("nan"), 0.5]
    records[15]["job_post_vectors"] = None
    return records


def test_invalid_rows_are_counted_by_reason_and_ten_are_shown(tmp_path: Path) -> None:
    """Nothing is written; the text has counts, ten rows, of each kind one at least, and advice."""
    source = p.write_pickle(tmp_path / "jobs.pkl", _some_invalid())

    with pytest.raises(InvalidRowsError) as error:
        p.convert_file(source)

    shown = [(row, "exp_years", "'junior' is not a number of years") for row in range(2, 10)]
    shown.insert(2, (3, "vector", "NaN"))
    shown.append((15, "vector", "missing vector"))
    assert [
        "13 of 16 rows are invalid; nothing was written:",
        "  12 x exp_years: ... is not a number of years",
        "  1 x vector: NaN",
        "  1 x vector: missing vector",
        "examples of each:",
        *(f"  row {row}: {field}: {reason}" for row, field, reason in shown),
        "mend them, or leave them out with --skip-invalid, which keeps them in a file of their own",
    ] == str(error.value).splitlines()
    assert [source] == list(tmp_path.iterdir())


def test_values_that_are_wrong_alike_are_one_reason(tmp_path: Path) -> None:
    """A report of a million different values would be none."""
    records = [{**record, "exp_years": n + 0.5} for n, record in enumerate(p.make_records(30))]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    with pytest.raises(InvalidRowsError) as error:
        p.convert_file(source)

    assert "  30 x exp_years: ... is not a whole number of years" in str(error.value).splitlines()
    assert len(str(error.value).splitlines()) < 30


def test_values_that_are_wrong_alike_are_counted_together(tmp_path: Path) -> None:
    """What a reason quotes differs from row to row; the count is of what it says."""
    records = p.make_records(12)
    for n, record in enumerate(records):
        record["exp_years"] = f"it's \"{n}\\" * (n + 1)
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    with pytest.raises(InvalidRowsError) as error:
        p.convert_file(source)

    assert ["  12 x exp_years: ... is not a number of years", "examples of each:"] == (
        str(error.value).splitlines()[1:3]
    )


def test_invalid_rows_leave_an_older_output_alone(source: Path) -> None:
    """A source that went bad doesn't cost the dataset that is there."""
    _converted(source)
    out = p.arrow_path(source)
    before = out.read_bytes()
    p.write_pickle(source, _some_invalid())
    with pytest.raises(InvalidRowsError):
        p.convert_file(source)

    assert before == out.read_bytes()
    assert {source, out} == set(source.parent.iterdir())


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_skipped_rows_are_kept_whole_in_a_file_of_their_own(shape: str, tmp_path: Path) -> None:
    """Each with its number, its problems, and every column, the ignored ones too."""
    records = [
        {**record, "Position": f"job {n}", "Salary": n if n % 2 else None}
        for n, record in enumerate(_some_invalid())
    ]
    table = pd.DataFrame(records).astype({"exp_years": object, "Salary": object})
    content = records if shape == "records" else table.where(table.notna(), None)
    source = p.write_pickle(tmp_path / "jobs.pkl", content)
    report = _converted(source, skip_invalid=True)
    sound = [0, 1, 14]
    rejected = _rejected(source)

    assert ["Position", "Salary"] == list(report.ignored)
    assert 13 == report.rejected
    assert 3 == report.info.rows == p.info_of(p.arrow_path(source)).rows
    assert sorted(records[n]["id"] for n in sound) == [
        row["id"] for row in p.rows_of(p.arrow_path(source))
    ]
    assert [n for n in range(16) if n not in sound] == [line["row"] for line in rejected]
    assert [
        {"field": "exp_years", "reason": "'junior' is not a number of years"},
        {"field": "vector", "reason": "NaN"},
    ] == rejected[1]["problems"]
    assert {**records[3], "job_post_vectors": [0.5, "nan", 0.5]} == rejected[1]["values"]
    assert [records[n] for n in (2, 4)] == [line["values"] for line in (rejected[0], rejected[2])]


@pytest.mark.parametrize("text", ["object", "str", "string", "string[pyarrow]", "category"])
@pytest.mark.parametrize("years", ["int8", "Int64", "category", "double[pyarrow]", ">i4"])
def test_a_rejected_row_of_a_frame_is_whole_whatever_holds_its_columns(
    text: str, years: str, tmp_path: Path
) -> None:
    """Arrow's values, categories and nullable ones too come out as plain JSON."""
    table = make_frame(p.make_records(3), text=text, years=years)
    table["Remote"] = pd.array([True, None, False], "boolean")
    table["Grade"] = pd.Categorical([1.5, 2.5, None])
    vectors: list[Any] = [None, [0.5], None]
    table["job_post_vectors"] = pd.Series(vectors, dtype="object")
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    _converted(source, skip_invalid=True)
    first, _, last = ({**record, "job_post_vectors": None} for record in p.make_records(3))

    assert [
        {**first, "Remote": True, "Grade": 1.5},
        {**last, "Remote": False, "Grade": None},
    ] == [line["values"] for line in _rejected(source)]


def test_a_category_that_is_no_unicode_costs_its_rows_alone(tmp_path: Path) -> None:
    """A lone surrogate is an invalid value, in a categorical column like in any other."""
    table = make_frame(p.make_records(3), text="object")
    names = pd.Series(["a\ud800", "b", "b"], dtype="object")
    table["company_name"] = pd.Categorical(names, pd.Index(["a\ud800", "b"], dtype="object"))
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    _converted(source, skip_invalid=True)

    assert ["'a\\ud800' is not valid Unicode"] == [
        problem["reason"] for line in _rejected(source) for problem in line["problems"]
    ]


def test_what_json_cannot_say_is_rejected_as_text(tmp_path: Path) -> None:
    """Bytes, dates, numbers of NumPy, sets, infinities: no rejected row is lost for them."""
    values = {
        "bytes": (b"\xff\x00", "/wA="),
        "bytearray": (bytearray(b"ab"), "YWI="),
        "date": (dt.date(2024, 1, 2), "2024-01-02"),
        "time": (np.datetime64("2024-01-02T03:04:05"), "2024-01-02T03:04:05"),
        "stamp": (pd.Timestamp("2024-01-02"), "2024-01-02T00:00:00.000000"),
        "infinity": (float("-inf"), "-inf"),
        "float32": (np.float32(0.5), 0.5),
        "int64": (np.int64(2**62), 2**62),
        "bool": (np.bool_(True), True),  # noqa: FBT003
        "array": (np.array([[1, 2], [3, 4]], np.int8), [[1, 2], [3, 4]]),
        "objects": (np.array(["a", None, b"b"], object), ["a", None, "Yg=="]),
        "tuple": ((1, (2,)), [1, [2]]),
        "set": ({1}, [1]),
        "dict": ({1: {None: 0.5}}, {"1": {"None": 0.5}}),
        "uuid": (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        "complex": (1 + 2j, "(1+2j)"),
        "text": ("한빛\n\u2028", "한빛\n\u2028"),
        "surrogate": ("\ud800", "\ud800"),
        "int": (2**70, 2**70),
    }
    extras = {name: value for name, (value, _) in values.items()}
    first, second = p.make_records(2)
    source = p.write_pickle(tmp_path / "jobs.pkl", [first, {**second, "id": None, **extras}])
    _converted(source, skip_invalid=True)
    [line] = _rejected(source)

    assert {name: text for name, (_, text) in values.items()} == {
        name: value for name, value in line["values"].items() if name in values
    }


def test_a_rejected_row_of_a_frame_keeps_its_dates(tmp_path: Path) -> None:
    """Times of any resolution, with and without zone, durations: as ISO text, and right."""
    table = make_frame(p.make_records(3))
    day = pd.to_datetime(["2024-01-02"] * 3)
    for unit in ("s", "ms", "us", "ns"):
        table[unit] = day.as_unit(unit)
        table[f"{unit} UTC"] = day.as_unit(unit).tz_localize("UTC")
        table[f"{unit} object"] = pd.Series(
            [pd.Timestamp("2024-01-02").as_unit(unit)] * 3, dtype=object
        )
    table["id"] = [None, *table["id"][1:]]
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    _converted(source, skip_invalid=True)
    values = _rejected(source)[0]["values"]

    assert dict.fromkeys(table.columns[6:], "2024-01-02T00:00:00") == {
        name: values[name][:19] for name in table.columns[6:]
    }


def _loop() -> list[Any]:
    itself: list[Any] = [1]
    itself.append(itself)
    return itself


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [_loop(), {"a": _loop()}, 10**5000, np.longdouble(0.5), np.clongdouble(1j)],
    ids=["loop", "loop in a dict", "10**5000", "extended", "extended complex"],
)
def test_a_value_that_json_has_no_form_for_is_rejected_all_the_same(
    value: object, tmp_path: Path
) -> None:
    """Lists that hold themselves, numbers beyond Python's limit for text, extended precision."""
    first, second = p.make_records(2)
    records = [first, {**second, "id": None, "extra": value}]
    for content in (records, pd.DataFrame(records).astype(object)):
        source = p.write_pickle(tmp_path / "jobs.pkl", content)
        report = _converted(source, skip_invalid=True)

        assert 1 == report.rejected
        assert [second["company_name"]] == [r["values"]["company_name"] for r in _rejected(source)]


def test_a_value_nested_beyond_all_depth_is_rejected_all_the_same(tmp_path: Path) -> None:
    """5,000 lists in each other are a sound pickle."""
    deep = b"]" * 5000 + b"a" * 4999
    source = tmp_path / "jobs.pkl"
    source.write_bytes(p.pickled(p.list_of(p.record(), p.record(id=p.NONE, extra=deep))))

    assert 1 == _converted(source, skip_invalid=True).rejected
    assert ["Acme"] == [line["values"]["company_name"] for line in _rejected(source)]


def test_a_time_that_python_has_no_form_for_is_rejected_all_the_same(tmp_path: Path) -> None:
    """Arrow and NumPy have times after the year 9999, and durations of 10**11 years."""
    table = make_frame(p.make_records(2))
    for name in ("timestamp", "duration"):
        kind = pd.ArrowDtype(getattr(pa, name)("s"))
        table[name] = pd.Series([2**62] * 2, dtype="int64[pyarrow]").astype(kind)
    table["M8"] = np.array([2**62] * 2, "M8[s]")
    table["id"] = [None, *table["id"][1:]]
    source = p.write_pickle(tmp_path / "jobs.pkl", table)

    assert 1 == _converted(source, skip_invalid=True).rejected
    assert {"timestamp", "duration", "M8"} <= set(_rejected(source)[0]["values"])


def test_no_rejected_row_leaves_no_file_of_them(source: Path) -> None:
    """A file of rows that were mended since is removed."""
    p.write_pickle(source, _some_invalid())
    _converted(source, skip_invalid=True)
    assert rejects_path(p.arrow_path(source)).exists()
    p.write_pickle(source, p.make_records())
    report = _converted(source, skip_invalid=True)

    assert 0 == report.rejected
    assert not rejects_path(p.arrow_path(source)).exists()


def test_not_one_valid_row_is_an_error(tmp_path: Path) -> None:
    """An empty dataset would be a mistake, even with `--skip-invalid`."""
    records = [{**record, "id": None} for record in p.make_records()]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    with pytest.raises(InvalidRowsError, match=r"not one valid row .*\n.*6 x id: missing id"):
        p.convert_file(source, skip_invalid=True)
    assert [source] == list(tmp_path.iterdir())


def test_a_source_without_one_vector_is_an_error(tmp_path: Path) -> None:
    """Vectors of no dimension are no embeddings, whatever a row has instead."""
    vectors: list[Any] = [None, [], np.array([])]
    contents = {
        str(number): pickle.dumps(
            [{**record, "job_post_vectors": vector} for record in p.make_records()], 4
        )
        for number, vector in enumerate(vectors)
    }
    said = p.outcomes_of(tmp_path / "pickles", contents)

    assert ["ConvertError InvalidRowsError"] * 3 == [text.split(":")[0] for text in said.values()]


def test_a_row_may_be_wrong_in_every_field(tmp_path: Path) -> None:
    """All of its problems are told, in one line of the file of rejected rows."""
    bad = {"id": 1, "company_name": 2, "exp_years": [], "english_level": 4,
           "primary_keyword": b"\xff", "job_post_vectors": "x"}  # fmt: skip
    source = p.write_pickle(tmp_path / "jobs.pkl", [*p.make_records(), bad])
    _converted(source, skip_invalid=True)
    [line] = _rejected(source)

    assert {"id", "company_name", "exp_years", "english_level", "primary_keyword", "vector"} == {
        problem["field"] for problem in line["problems"]
    }
    assert 6 == line["row"]


# Nulls and duplicates.


def test_nulls_become_defaults_and_are_counted(tmp_path: Path) -> None:
    """Text "" and years 0; a missing key is a null like None and NaN."""
    records = p.make_records()
    records[0]["company_name"] = None
    records[1]["company_name"] = float("nan")
    del records[2]["company_name"]
    records[3]["exp_years"] = None
    records[4]["english_level"] = None
    report = _converted(p.write_pickle(tmp_path / "jobs.pkl", records))
    rows = {row["id"]: row for row in p.rows_of(tmp_path / "jobs.pkl.arrow")}

    assert {"exp_years": 1, "company_name": 3, "english_level": 1, "primary_keyword": 0} == (
        report.nulls_replaced
    )
    assert [""] * 3 == [rows[records[n]["id"]]["company_name"] for n in range(3)]
    assert 0 == rows[records[3]["id"]]["exp_years"]


def test_repeated_ids_are_an_error_with_examples(tmp_path: Path) -> None:
    """Whatever form they have: five of them with their rows, and how many more there are."""
    records = p.make_records(16)
    for n in range(8):
        records[8 + n]["id"] = f"{{{records[n]['id'].upper()}}}"
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    with pytest.raises(DuplicateIdsError) as error:
        p.convert_file(source)

    first = sorted(range(8), key=lambda n: str(records[n]["id"]))[:5]
    assert [
        "8 ids are repeated; nothing was written:",
        *(f"  {records[n]['id']}: rows {n} and {n + 8}" for n in first),
        "  ... and 3 more",
    ] == str(error.value).splitlines()
    assert [source] == list(tmp_path.iterdir())


def test_repeated_ids_are_no_invalid_rows(tmp_path: Path) -> None:
    """`--skip-invalid` doesn't choose between two rows of one id, but for an invalid one."""
    records = p.make_records(3)
    records[1]["id"] = records[0]["id"]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with pytest.raises(DuplicateIdsError, match=r"1 ids are repeated|1 id is repeated"):
        p.convert_file(source, skip_invalid=True)
    assert [source] == list(tmp_path.iterdir())
    records[1]["exp_years"] = "?"
    p.write_pickle(source, records)

    assert 1 == _converted(source, skip_invalid=True).rejected


# The source file.


class _Meanwhile(p.Quiet):
    """Acts once, when the first bytes of the source have been read."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._actions = [action]

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        with super().phase(name, total):
            yield self._act

    def _act(self, _count: int) -> None:
        if self._actions:
            self._actions.pop()()


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _rewrite(path: Path) -> None:
    other = p.write_pickle(path.with_name("other"), p.make_records(seed=1))
    os.utime(other, ns=(0, path.stat().st_mtime_ns + 1))
    other.replace(path)


_MEANWHILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "touched": (_touch, "changed while it was read"),
    "grown": (_append, "changed while it was read"),
    "replaced": (_rewrite, "changed while it was read"),
    "gone": (Path.unlink, "No such file"),
}


@pytest.mark.parametrize("change", _MEANWHILE)
@pytest.mark.parametrize("ids", [None, IdMode.UUID7])
def test_a_source_that_changes_while_it_is_read_is_an_error(
    change: str, ids: IdMode | None, source: Path
) -> None:
    """Its fingerprint would be that of other bytes."""
    action, said = _MEANWHILE[change]
    options = Options(source, p.arrow_path(source), {}, ids)

    with pytest.raises(UnreadableSourceError, match=rf"jobs\.pkl.*{said}"):
        convert(options, _Meanwhile(lambda: action(source)))
    assert {source} >= set(source.parent.iterdir())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.exists, "No such file"),
        (Path.mkdir, r"has no \.arrow, \.arrows, \.csv, \.feather, "),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
    ids=["missing", "folder", "broken link", "empty"],
)
def test_a_source_that_cannot_be_read_is_an_error(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    """The error names the file and what the system says."""
    source = tmp_path / "jobs.pkl"
    make(source)

    with pytest.raises(UnreadableSourceError, match=rf"jobs\.pkl.*{said}"):
        p.convert_file(source)
    assert not p.arrow_path(source).exists()


def test_a_source_is_never_overwritten(source: Path) -> None:
    """An output path that is the source's own is refused before anything is done."""
    before = source.read_bytes()

    with pytest.raises(ConvertError):
        p.convert_file(source, source)
    assert before == source.read_bytes()


@pytest.mark.parametrize("name", ["jöbs 한빛.pkl", "[1] *.pkl", "jobs\n.pkl", "jobs\udcff.pkl"])
def test_a_source_may_have_any_name(name: str, tmp_path: Path) -> None:
    """Also one that is no pattern, no line and not even UTF-8."""
    source = p.write_pickle(tmp_path / name, p.make_records())
    _converted(source)

    assert p.rows_expected(p.make_records()) == p.rows_of(p.arrow_path(source))


def test_rejected_rows_stay_if_the_dataset_cannot_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rejects file belongs to the dataset beside it: both are replaced, or neither."""
    p.write_pickle(source, _some_invalid())
    _converted(source, skip_invalid=True)
    rejects = rejects_path(p.arrow_path(source))
    before = rejects.read_bytes()

    def refuse(*_arguments: object) -> None:
        message = "no space left"
        raise OutputError(message)

    monkeypatch.setattr(pipeline, "put_in_place", refuse)
    for records in (p.make_records(), [{**r, "exp_years": "x"} for r in _some_invalid()[:1]] * 2):
        p.write_pickle(source, records)
        with pytest.raises(ConvertError):
            p.convert_file(source, skip_invalid=True)

    assert before == rejects.read_bytes()

"""Rows come in batches: where these end, and what the first ones look like, changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ulid import ULID

from convert import pipeline, writer
from convert.background_file import BackgroundFile
from convert.errors import ConvertError, DuplicateIdsError, InvalidRowsError, UnreadableSourceError
from convert.id_text import IdKind
from convert.ids import IdMode
from convert.options import Options
from convert.pipeline import convert
from convert.rejects import rejects_path
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from convert.report import Report

_MS = 1_765_467_000_123


class _Phases(p.Quiet):
    """Remembers which phases there were."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        self.names.append(name)
        with super().phase(name, total) as advance:
            yield advance


def _phases_of(source: Path, **options: Any) -> list[str]:
    phases = _Phases()
    convert(Options(source, p.arrow_path(source), {}, **options), phases)
    return phases.names


def _ascending(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: str(record["id"]))


def _without_ids(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "id"} for record in records]


def _rejected(source: Path) -> list[dict[str, Any]]:
    path = rejects_path(p.arrow_path(source))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# Rows in order, and rows that have to be put in order.


@pytest.mark.parametrize("ids", ["ascending", "made", "keep", "uuid7", "ulid"])
def test_rows_that_ascend_are_written_once(
    ids: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while the source is read is the dataset; nothing is sorted or moved."""
    monkeypatch.delattr(writer, "permute")
    monkeypatch.delattr(pipeline, "sorted_order")
    records = _ascending(p.make_records(50))
    source = p.write_pickle(
        tmp_path / "jobs.pkl", _without_ids(records) if ids == "made" else records
    )
    mode = IdMode(ids) if ids in set(IdMode) else None
    with p.small_batches(7, 9):
        phases = _phases_of(source, ids=mode)
    rows = p.rows_of(p.arrow_path(source))

    assert "reorder" not in phases
    assert [r["company_name"] for r in records] == [row["company_name"] for row in rows]
    assert [r["job_post_vectors"] for r in records] == [row["vector"] for row in rows]
    assert sorted({row["id"] for row in rows}) == [row["id"] for row in rows]


@pytest.mark.parametrize("place", [0, 24, 48])
def test_one_row_out_of_order_is_enough_to_put_all_in_order(place: int, tmp_path: Path) -> None:
    """Wherever it is, between two batches too; invalid rows leave no hole."""
    records = _ascending(p.make_records(50))
    records[place], records[place + 1] = records[place + 1], records[place]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(7, 5):
        phases = _phases_of(source)
        assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))
        records[place]["exp_years"] = "junior"
        p.write_pickle(source, records)
        p.convert_file(source, skip_invalid=True)
    del records[place]

    assert ["read", "sort", "reorder", "write"] == phases
    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("written", [2, 5, 1000])
def test_vectors_share_memory_and_wait_for_those_that_write(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow writing is, no vector is overwritten by one that was read later."""
    pwrite = os.pwrite

    def slowly(file: int, content: Any, place: int) -> int:
        time.sleep(0.002)
        return pwrite(file, content, place)

    monkeypatch.setattr(os, "pwrite", slowly)
    records = p.make_records(60)
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(60, written):  # by two rows at a time
        p.convert_file(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("is_sorted", [True, False])
def test_no_more_than_one_file_is_written(tmp_path: Path, *, is_sorted: bool) -> None:
    """A second one would take as much disk again."""
    records = p.make_records(50)
    source = p.write_pickle(tmp_path / "jobs.pkl", _ascending(records) if is_sorted else records)
    files: set[str] = set()

    class Looking(p.Quiet):
        @contextlib.contextmanager
        def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
            with super().phase(name, total):
                yield lambda _count: files.update(path.name for path in p.partials(tmp_path))
                files.update(path.name for path in p.partials(tmp_path))

    with p.small_batches(7, 5):
        convert(Options(source, p.arrow_path(source), {}), Looking())

    assert 1 == len(files)


def test_an_id_that_comes_twice_is_found_though_all_rows_ascend(tmp_path: Path) -> None:
    """Ascending means strictly so, also from one batch to the next."""
    records = _ascending(p.make_records(20))
    records[10]["id"] = records[9]["id"]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    for read in (3, 10, 20):
        with p.small_batches(read, 4), pytest.raises(DuplicateIdsError, match="rows 9 and 10"):
            p.convert_file(source)
    assert [source] == list(tmp_path.iterdir())


# Sizes.


def _table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        return pa.ipc.open_file(file).read_all()


@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 16_383, 16_384, 16_385, 33_000])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_every_number_of_rows_is_written_whole(
    rows: int, tmp_path: Path, *, is_sorted: bool
) -> None:
    """At and around the sizes of what is read and written at once: each row, in its place."""
    random = np.random.default_rng(rows)
    ids = [str(uuid.UUID(bytes=random.bytes(16))) for _ in range(rows)]
    ids = sorted(ids) if is_sorted else ids
    frame = pd.DataFrame(
        {
            "id": ids,
            "company_name": [f"Company {n % 700}" for n in range(rows)],
            "exp_years": np.arange(rows, dtype=np.int32),
            "english_level": "basic",
            "primary_keyword": pd.Series(["Java"] * rows, dtype="category"),
            "job_post_vectors": list(random.standard_normal((rows, 2), np.float32)),
        }
    )
    source = p.write_pickle(tmp_path / "jobs.pkl", frame)
    p.convert_file(source)
    table = _table(p.arrow_path(source))
    order = np.argsort(np.array(ids))
    vectors = np.stack(frame["job_post_vectors"].to_list())

    assert rows == table.num_rows == p.info_of(p.arrow_path(source)).rows
    assert sorted(ids) == [str(value) for value in table["id"].to_pylist()]
    assert np.array_equal(order, table["exp_years"].to_numpy())
    assert np.array_equal(
        vectors[order].reshape(-1), table["vector"].combine_chunks().flatten().to_numpy()
    )
    assert [f"Company {n % 700}" for n in order] == table["company_name"].to_pylist()
    assert [16_384] * (rows // 16_384) == [b.num_rows for b in table.to_batches()][: rows // 16_384]


@settings(max_examples=60)
@given(
    rows=st.integers(1, 30), read=st.integers(1, 8), written=st.integers(1, 8),
    shape=st.sampled_from(["records", "frame", "parquet", "arrow", "folder"]),
    ids=st.sampled_from(["ascending", "not", "none"]), mode=st.sampled_from([None, IdMode.ULID]),
    cut=st.integers(0, 30),
)  # fmt: skip
def test_the_sizes_of_batches_leave_no_trace(
    tmp_path: Path, *, rows: int, read: int, written: int, shape: str, ids: str,
    mode: IdMode | None, cut: int,
) -> None:  # fmt: skip
    """What is read or moved at once shapes no byte of the file, from whatever source."""
    records = p.make_records(rows)
    if ids != "not":
        records = _ascending(records) if ids == "ascending" else _without_ids(records)
    source = tmp_path / "jobs"
    parts = {source: records}
    if shape == "folder":
        source = tmp_path / "folder"
        source.mkdir(exist_ok=True)
        parts = {source / "1.pkl": records[:cut], source / "2.parquet": records[cut:]}
    for path, part in parts.items():
        _write(path, part, path.suffix[1:] if shape == "folder" else shape)
        os.utime(path, ns=(0, _MS))
    contents = []
    for sizes in ((read, written), (1000, written)):
        with p.small_batches(*sizes):
            p.convert_file(source, ids=mode, force=True)
        contents.append(p.arrow_path(source).read_bytes())

    assert contents[0] == contents[1]
    assert rows == len(p.rows_of(p.arrow_path(source)))


def _write(path: Path, records: list[dict[str, Any]], shape: str) -> None:
    if shape in ("records", "pkl") or not records:
        p.write_pickle(path, records)
    elif shape == "frame":
        p.write_pickle(path, pd.DataFrame(records))
    elif shape == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path, row_group_size=4)
    else:
        table = pa.Table.from_pylist(records)
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, 5)


# A first batch that isn't like the rest.


def _mixed_dimensions(first: int = 2) -> list[dict[str, Any]]:
    """Return 30 rows of three floats behind five of `first`."""
    return [*p.make_records(5, first, seed=1), *p.make_records(30, 3)]


def test_the_dimension_is_that_of_most_rows_wherever_they_are(tmp_path: Path) -> None:
    """What the first batch has isn't right for that: the whole is read again."""
    records = _mixed_dimensions()
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(5, 4):
        with pytest.raises(InvalidRowsError) as error:
            p.convert_file(source)
        phases = _phases_of(source, skip_invalid=True)
    rejected = _rejected(source)

    assert "5 of 35 rows are invalid" in str(error.value)
    assert "5 x vector: 2 values, not 3 as most rows have" in str(error.value)
    assert ["read", "read"] == [name for name in phases if name == "read"]
    assert p.rows_expected(records[5:]) == p.rows_of(p.arrow_path(source))
    assert [
        (n, [{"field": "vector", "reason": "2 values, not 3 as most rows have"}], records[n])
        for n in range(5)
    ] == [(line["row"], line["problems"], line["values"]) for line in rejected]


def test_the_real_first_batch_may_be_all_wrong(tmp_path: Path) -> None:
    """4,096 rows of one dimension before 5,000 of another."""
    records = [*p.make_records(4096, 2, seed=1), *p.make_records(5000, 3)]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    report = p.convert_file(source, skip_invalid=True)

    assert report is not None
    assert (5000, 3, 4096) == (report.info.rows, report.info.dimension, report.rejected)
    assert list(range(4096)) == [line["row"] for line in _rejected(source)]
    assert p.rows_expected(records[4096:]) == p.rows_of(p.arrow_path(source))


def test_a_first_batch_without_vectors_says_nothing(tmp_path: Path) -> None:
    """Rows that have none are wrong; what is right is said by those that have one."""
    records = p.make_records(20)
    for record in records[:7]:
        record["job_post_vectors"] = None
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(3, 4):
        report = p.convert_file(source, skip_invalid=True)

    assert report is not None
    assert 7 == report.rejected
    assert p.rows_expected(records[7:]) == p.rows_of(p.arrow_path(source))
    assert [list(range(7)), ["missing vector"] * 7] == [
        [line["row"] for line in _rejected(source)],
        [line["problems"][0]["reason"] for line in _rejected(source)],
    ]


def test_ids_are_what_most_of_them_are_wherever_these_are(tmp_path: Path) -> None:
    """A few UUIDs in front of many ULIDs are the ones that are wrong."""
    records = p.make_records(30)
    ulids = [str(ULID(bytes([n, 255 - n]) * 8)) for n in range(30)]
    for record, ulid in zip(records[6:], ulids, strict=False):
        record["id"] = ulid
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(3, 4):
        report = p.convert_file(source, skip_invalid=True)

    assert report is not None
    assert (IdKind.ULID, 6) == (report.info.id_kind, report.rejected)
    assert ulids[:24] == [row["id"] for row in p.rows_of(p.arrow_path(source))]
    assert [[f"'{records[n]['id']}' is not a ULID"] for n in range(6)] == [
        [problem["reason"] for problem in line["problems"]] for line in _rejected(source)
    ]


def test_ids_that_begin_late_are_kept_and_missed_before(tmp_path: Path) -> None:
    """A column that one row has is there: ids aren't made for the rows before it."""
    records = p.make_records(20)
    for record in records[:6]:
        del record["id"]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(3, 4):
        with pytest.raises(InvalidRowsError, match="6 of 20 rows are invalid"):
            p.convert_file(source)
        report = p.convert_file(source, skip_invalid=True)
        assert report is not None
        assert "kept from 'id'" == report.ids
        assert p.rows_expected(records[6:]) == p.rows_of(p.arrow_path(source))
        assert [["missing id"]] * 6 == [
            [problem["reason"] for problem in line["problems"]] for line in _rejected(source)
        ]
        made = p.convert_file(source, ids=IdMode.UUID7)

    assert made is not None
    assert 20 == made.info.rows
    assert "generated (uuid7), those in 'id' dropped" == made.ids


@pytest.mark.parametrize("is_slow", [True, False])
@pytest.mark.parametrize("first", [2, 4, 40])
def test_what_a_first_pass_wrote_is_gone(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_slow: bool
) -> None:
    """Even if it was still being written when the second pass began."""
    records = _mixed_dimensions(first)
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(1000, 4):
        p.convert_file(source, skip_invalid=True)
    expected = p.arrow_path(source).read_bytes()
    write = BackgroundFile._write
    writers: list[BackgroundFile] = []

    def write_slowly(self: BackgroundFile, pieces: Any) -> None:
        writers.append(self)
        if self is writers[0]:
            time.sleep(0.1)
        write(self, pieces)

    if is_slow:
        monkeypatch.setattr(BackgroundFile, "_write", write_slowly)
    with p.small_batches(5, 4):
        p.convert_file(source, skip_invalid=True, force=True)
    time.sleep(0.3 * is_slow)

    assert expected == p.arrow_path(source).read_bytes()


# Columns that come late, or don't.


@pytest.mark.parametrize("place", [1, 5, 11])
def test_a_column_may_begin_anywhere(place: int, tmp_path: Path) -> None:
    """Before it is null; where it is, is read."""
    records = p.make_records(12)
    for record in records[:place]:
        del record["company_name"], record["exp_years"]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    for read in (2, 5, 100):
        with p.small_batches(read, 4):
            report = p.convert_file(source, force=True)
        expected = [{"company_name": "", "exp_years": 0, **record} for record in records]

        assert report is not None
        assert p.rows_expected(expected) == p.rows_of(p.arrow_path(source))
        assert (place, place) == (
            report.nulls_replaced["company_name"], report.nulls_replaced["exp_years"],
        )  # fmt: skip


@pytest.mark.parametrize("field", ["company_name", "exp_years", "job_post_vectors"])
@pytest.mark.parametrize("skip_invalid", [True, False])
def test_a_column_that_never_comes_is_an_error(
    field: str, tmp_path: Path, *, skip_invalid: bool
) -> None:
    """It is said by name, and not that all rows are invalid for want of it."""
    records = [{k: v for k, v in r.items() if k != field} for r in p.make_records(12)]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(5, 4), pytest.raises(UnreadableSourceError, match=f"'{field}'"):
        p.convert_file(source, skip_invalid=skip_invalid)
    assert [source] == list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [2, 5, 100])
def test_two_columns_for_a_field_are_an_error_wherever_the_second_is(
    read: int, tmp_path: Path
) -> None:
    """No guess which is meant, also if each row has but one of them."""
    records = p.make_records(12)
    records[11]["Company Name"] = records[11].pop("company_name")
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with p.small_batches(read, 4):
        with pytest.raises(
            UnreadableSourceError, match=r"company_name: .*'Company Name'.*--column"
        ):
            p.convert_file(source)
        chosen = p.convert_file(source, columns={"company_name": "Company Name"})

    assert chosen is not None
    assert ["company_name"] == chosen.ignored
    assert 11 == chosen.nulls_replaced["company_name"]


# All of it at once.

_ODD: dict[str, st.SearchStrategy[Any]] = {
    "id": st.one_of(st.uuids().map(str), st.uuids().map(lambda u: str(ULID(u.bytes))), st.none()),
    "exp_years": st.sampled_from([3, "5y", None, "junior", 2.5]),
    "company_name": st.sampled_from(["Acme", "", None, 7]),
    "job_post_vectors": st.sampled_from(
        [[0.5, 1.5], [0.5, 1.5, 2.5], [1.5, float("nan")], None, [], "x"]
    ),
    "Company Name": st.just("second"),
    "Position": st.just("QA"),
}
odd_records = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"id": st.uuids().map(str), "company_name": st.just("Acme"), "exp_years": st.just(1),
             "job_post_vectors": st.just([0.5, 0.5])}
        ),
        st.fixed_dictionaries(
            {"job_post_vectors": _ODD["job_post_vectors"]},
            optional={k: v for k, v in _ODD.items() if k != "job_post_vectors"},
        ),
    ).map(lambda record: {**record, "english_level": "basic", "primary_keyword": "Go"}),
    max_size=20,
)  # fmt: skip


def _outcome(source: Path, read: int, options: dict[str, Any]) -> dict[str, Any]:
    """Convert in batches of so many rows; return all that anybody can see of it."""
    try:
        with p.small_batches(read, 4):
            report: Report | None = p.convert_file(source, **options)
    except ConvertError as error:
        assert [source] == list(source.parent.iterdir())
        return {"error": f"{type(error).__name__}: {error}"}
    assert report is not None
    found = {
        "out": p.arrow_path(source).read_bytes(),
        "rejects": _rejected(source) if report.rejected else [],
        "report": (report.ids, report.rejected, report.ignored, report.nulls_replaced),
    }
    for path in source.parent.iterdir():
        if path != source:
            path.unlink()
    return found


@settings(max_examples=200)
@given(
    records=odd_records, read=st.integers(1, 7), skip_invalid=st.booleans(),
    mode=st.sampled_from([None, IdMode.KEEP, IdMode.UUID7, IdMode.ULID]),
)  # fmt: skip
def test_where_batches_end_makes_no_difference(
    tmp_path: Path, records: list[dict[str, Any]], read: int, mode: IdMode | None, *,
    skip_invalid: bool,
) -> None:  # fmt: skip
    """The dataset, the rejected rows, the report, the error: those of one batch of all rows."""
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    options = {"ids": mode, "skip_invalid": skip_invalid, "id_time_ms": _MS}

    assert _outcome(source, 1000, options) == _outcome(source, read, options)

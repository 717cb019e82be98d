"""A folder of part files as one source."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import pickle
import random
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from convert.errors import (
    ConvertError,
    DuplicateIdsError,
    InvalidRowsError,
    OutputError,
    RefusedPickleError,
    UnreadableSourceError,
)
from convert.ids import IdMode
from convert.options import Options
from convert.pipeline import convert
from convert.rejects import rejects_path
from convert.source import open_source
from tests import forged as f
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convert.report import Report

_MS = 1_765_467_000_123


def _write_part(path: Path, records: list[dict[str, Any]]) -> None:
    """Write a part file of the kind that its name says."""
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(pickle.dumps(records, 4), mtime=0))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(records), path)
        case ".feather":
            feather.write_feather(pa.Table.from_pylist(records), path, compression="lz4")
        case ".arrow":
            table = pa.Table.from_pylist(records)
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table)
        case ".pickle":
            p.write_pickle(path, pd.DataFrame(records))
        case _:
            p.write_pickle(path, records)


def _write_parts(folder: Path, records: list[dict[str, Any]], names: list[str]) -> Path:
    """Write records into parts of uneven sizes, in the order of `names`."""
    folder.mkdir(exist_ok=True)
    chance = random.Random(len(records))
    bounds = sorted(chance.sample(range(1, len(records)), len(names) - 1))
    ends = zip([0, *bounds], [*bounds, len(records)], names, strict=True)
    for begin, end, name in ends:
        _write_part(folder / name, records[begin:end])
        os.utime(folder / name, ns=(0, _MS * 1_000_000))
    return folder


_NAMES = [
    "part-1.pkl", "part-2.pkl.gz", "part-3.parquet", "part-4.feather", "part-5.pickle",
    "part-9.arrow", "part-10.pkl", "part-11.parquet",
]  # fmt: skip


def _converted(folder: Path, **options: Any) -> Report:
    report = p.convert_file(folder, **options)
    assert report is not None
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder of 60 rows in eight parts of all kinds."""
    return _write_parts(tmp_path / "jobs", p.make_records(60), _NAMES)


# Rows.


def test_parts_are_one_dataset(folder: Path, tmp_path: Path) -> None:
    """Pickles, compressed or not, DataFrames, Parquet and Arrow side by side: all their rows."""
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records(60))
    report = _converted(folder)
    _converted(source)

    assert 60 == report.info.rows
    assert p.rows_expected(p.make_records(60)) == p.rows_of(p.arrow_path(folder))
    assert p.rows_of(p.arrow_path(source)) == p.rows_of(p.arrow_path(folder))
    assert "jobs" == p.info_of(p.arrow_path(folder)).source


def test_many_rows_in_uneven_parts_are_all_there(tmp_path: Path) -> None:
    """Parts larger than what is read at once, parts of one row and empty ones."""
    records = p.make_records(9000, 2)
    folder = tmp_path / "jobs"
    folder.mkdir()
    bounds = [0, 0, 5000, 5001, 5001, 8999, 9000, 9000]
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        p.write_pickle(folder / f"{number}.pkl", records[begin:end])
    _converted(folder)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(folder))


def test_numbers_in_names_are_compared_as_numbers(folder: Path) -> None:
    """Rows get their ids in the order of parts: 2 and 9 before 10 and 11."""
    records = [{k: v for k, v in record.items() if k != "id"} for record in p.make_records(60)]
    _write_parts(folder, records, _NAMES)
    report = _converted(folder)
    rows = p.rows_of(p.arrow_path(folder))
    ids = [uuid.UUID(row["id"]) for row in rows]

    assert report.ids.startswith("generated (uuid7)")
    assert [r["company_name"] for r in records] == [row["company_name"] for row in rows]
    assert [r["job_post_vectors"] for r in records] == [row["vector"] for row in rows]
    assert sorted(set(ids)) == ids
    assert {_MS} == {value.int >> 80 for value in ids}


def test_the_order_of_parts_is_that_of_their_names_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that hold the same numbers too: whatever order the file system lists them in."""
    names = ["1.pkl", "01.pkl", "001.pkl", "a1.pkl", "a01.pkl", "b.pkl", "B.pkl", "ä.pkl", "٣.pkl"]
    for name in names:
        (tmp_path / name).write_bytes(pickle.dumps([], 4))
    orders = []
    for number in range(6):
        listed = random.Random(number).sample([tmp_path / name for name in names], len(names))
        monkeypatch.setattr(Path, "iterdir", lambda _folder, listed=listed: iter(listed))
        orders.append([path.name for path in open_source(tmp_path, tmp_path).paths])

    assert [orders[0]] * 6 == orders
    assert sorted(names) == sorted(orders[0])


@pytest.mark.parametrize(
    "name",
    [
        "_SUCCESS", "_metadata.parquet", ".part-1.pkl", ".part-1.pkl.crc",
        ".jobs.arrow.abc.partial", "_temporary/0/part-1.pkl", ".cache/part-1.pkl",
    ],
)  # fmt: skip
def test_what_is_put_beside_parts_is_skipped(name: str, folder: Path) -> None:
    """Hidden files and folders, and what Spark and others begin with an underscore."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"no part")
    (folder / "empty").mkdir()

    assert 60 == _converted(folder).info.rows
    assert () == tuple(open_source(folder, folder).others)


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "more/notes.txt", "part.pkl.tmp", "part.gz", "part.json.gz", "part.json",
        "matrix.npy", "part", "part.orc",
    ],
)  # fmt: skip
def test_a_file_that_is_not_read_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    """Whether a row of it would have counted nobody knows: it is an error, or left out by name."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"no part, but more")
    said = rf"jobs has files that aren't read: .*jobs/{re.escape(name)}; .*--ignore-others"
    with pytest.raises(UnreadableSourceError, match=said):
        p.convert_file(folder)
    assert [folder] == list(tmp_path.iterdir())
    report = _converted(folder, ignore_others=True)

    assert 60 == report.info.rows
    assert str(folder / name) == report.others


def test_what_a_file_is_that_is_not_read_is_said_where_its_name_does_not(folder: Path) -> None:
    """Links that lead nowhere or to folders, and empty files; not all of many."""
    (folder / "a.parquet").symlink_to("nowhere")
    (folder / "b").symlink_to(folder)
    (folder / "c.jsonl").touch()
    for number in range(20):
        (folder / f"d{number}.txt").touch()

    with pytest.raises(UnreadableSourceError) as error:
        p.convert_file(folder)
    for said in (
        "jobs/a.parquet (a link to nothing)", "jobs/b (a link to a folder)",
        "jobs/c.jsonl (empty)", "jobs/d1.txt", "and 18 more",
    ):  # fmt: skip
        assert said in str(error.value)
    assert "d2.txt" not in str(error.value)


def test_a_fingerprint_does_not_tell_what_was_left_out(folder: Path) -> None:
    """The rows are the same; a run without the option still says what it would leave out."""
    before = _converted(folder)
    (folder / "README.md").write_text("about")
    assert p.convert_file(folder, ignore_others=True) is None
    with pytest.raises(UnreadableSourceError, match=r"README\.md"):
        p.convert_file(folder)

    assert (
        before.info.fingerprint
        == _converted(folder, ignore_others=True, force=True).info.fingerprint
    )


_ALL_SUFFIXES = [
    ".pkl", ".pickle", ".p", ".PKL", ".parquet", ".pq", ".parq", ".PARQUET", ".arrow", ".arrows",
    ".feather", ".ftr", ".ipc", ".jsonl", ".ndjson", ".json", ".csv", ".TSV",
]  # fmt: skip


@pytest.mark.parametrize("suffix", _ALL_SUFFIXES)
@pytest.mark.parametrize("compression", ["", ".gz", ".bz2", ".xz", ".zst", ".ZIP"])
def test_these_are_parts(suffix: str, compression: str, tmp_path: Path) -> None:
    """A part is known by its suffix, before that of its compression; what it is, by its content."""
    (tmp_path / f"jobs{suffix}{compression}").write_bytes(b'{"id": 1}\n')

    assert [f"jobs{suffix}{compression}"] == [
        path.name for path in open_source(tmp_path, tmp_path).paths
    ]


def test_only_json_lines_are_parts_among_json_files(tmp_path: Path) -> None:
    """Settings and statistics lie beside data: an object in many lines, an array."""
    (tmp_path / "a.json").write_text('{"id": 1}\n{"id": 2}\n')
    (tmp_path / "b.json").write_text('{\n "version": 2\n}')
    (tmp_path / "c.json").write_text('[{"id": 1}]')
    source = open_source(tmp_path, tmp_path, ignore_others=True)

    assert ["a.json"] == [path.name for path in source.paths]
    assert ["b.json", "c.json"] == [path.name for path in source.others]


# Folders in folders.


@pytest.mark.parametrize("at", ["more", "a.parquet", "more/and/more", "part-5"])
def test_folders_in_a_folder_are_read(at: str, folder: Path, tmp_path: Path) -> None:
    """In any depth; a folder may have a file's name, as Spark and Dask name tables."""
    (folder / at).mkdir(parents=True)
    for name in _NAMES[2:6]:
        (folder / name).rename(folder / at / name)
    _converted(folder)

    assert p.rows_expected(p.make_records(60)) == p.rows_of(p.arrow_path(folder))
    assert {"jobs", "jobs.arrow"} == {path.name for path in tmp_path.iterdir()}


def test_files_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """Part by part, numbers as numbers: a folder's files lie together, where its name belongs."""
    names = [
        "1.pkl", "2/1.pkl", "2/b/1.pkl", "2/10.pkl", "3.pkl", "10/1.pkl", "10.pkl", "a/2.pkl",
        "a/10/1.pkl", "a/b.pkl", "a-1/1.pkl", "b.parquet/1.pkl", "b.pkl",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(pickle.dumps([], 4))
    found = [str(path.relative_to(tmp_path)) for path in open_source(tmp_path, tmp_path).paths]
    parts = [[int(n) if n.isdecimal() else -1 for n in name.split("/")] for name in found]

    assert sorted(names) == sorted(found)
    assert ["1.pkl", "2/1.pkl", "2/10.pkl", "2/b/1.pkl", "3.pkl"] == found[:5]
    assert found.index("a/2.pkl") < found.index("a/10/1.pkl") < found.index("a/b.pkl")
    assert parts.index([10, -1]) - parts.index([2, -1]) in range(3, 6)


def test_a_table_with_a_log_of_its_own_is_refused(folder: Path) -> None:
    """Delta Lake keeps files of older versions, too: reading all would bring rows back."""
    (folder / "table" / "_delta_log").mkdir(parents=True)

    with pytest.raises(UnreadableSourceError, match="jobs/table is a Delta Lake table"):
        p.convert_file(folder)


# Hive's partitions.


def _partitions(folder: Path, records: list[dict[str, Any]], key: str) -> None:
    """Write a file for each value of a column, as Spark, Dask and Hive do."""
    for record in records:
        value = record[key]
        escaped = "__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe=" ")
        below = folder / f"{key}={escaped}"
        below.mkdir(parents=True, exist_ok=True)
        rest = {k: v for k, v in record.items() if k != key}
        _write_part(below / f"part.{len(list(below.iterdir()))}.parquet", [rest])


_COMPANIES = ["1", "00123", "a/b", "x=y", "100%", "한빛소프트", "b c", None]


def test_the_key_of_a_partition_is_a_column(tmp_path: Path) -> None:
    """Its value is text, unescaped as Spark escapes it; the default partition is null."""
    records = p.make_records(len(_COMPANIES))
    for record, company in zip(records, _COMPANIES, strict=True):
        record["company_name"] = company
    _partitions(tmp_path / "jobs", records, "company_name")
    report = _converted(tmp_path / "jobs")
    expected = [{**record, "company_name": record["company_name"] or ""} for record in records]

    assert p.rows_expected(expected) == p.rows_of(p.arrow_path(tmp_path / "jobs"))
    assert 1 == report.nulls_replaced["company_name"]
    assert "company_name" == report.memory[1].name


def test_partitions_are_what_pandas_writes_and_reads(tmp_path: Path) -> None:
    """By two columns, one of which is years."""
    records = p.make_records(40)
    frame = pd.DataFrame(records)
    frame.to_parquet(tmp_path / "jobs", partition_cols=["english_level", "exp_years"])
    _converted(tmp_path / "jobs")
    back = pd.read_parquet(tmp_path / "jobs").astype({"english_level": str, "exp_years": int})
    vectors = [vector.tolist() for vector in back.pop("job_post_vectors")]
    read = back.assign(job_post_vectors=vectors).to_dict("records")

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(tmp_path / "jobs"))
    assert p.rows_expected(records) == p.rows_expected(
        [{key: row[key] for key in records[0]} for row in read]
    )


def test_a_key_with_an_underscore_is_no_hidden_folder(tmp_path: Path) -> None:
    """As in Spark: what has a `=` is a key."""
    _write_part_below(tmp_path / "jobs" / "_day=3" / "1.pkl", p.make_records(4))
    report = _converted(tmp_path / "jobs")

    assert (4, ["_day"]) == (report.info.rows, report.ignored)


def _write_part_below(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_part(path, records)


def test_a_column_of_a_file_has_precedence_over_a_key_of_its_name(tmp_path: Path) -> None:
    """Some write the column both into the path and into the file."""
    _write_part_below(tmp_path / "jobs" / "company_name=x" / "1.parquet", p.make_records(4))
    _converted(tmp_path / "jobs")

    assert p.rows_expected(p.make_records(4)) == p.rows_of(p.arrow_path(tmp_path / "jobs"))


def test_a_rejected_row_has_its_keys(tmp_path: Path) -> None:
    """A row is whole with what its path says."""
    [record] = p.make_records(1)
    _write_part_below(tmp_path / "jobs" / "REGION=b%2Fc" / "1.pkl", [{**record, "exp_years": "x"}])
    _write_part_below(tmp_path / "jobs" / "2.pkl", p.make_records(3, seed=2))
    report = _converted(tmp_path / "jobs", skip_invalid=True)
    [line] = rejects_path(p.arrow_path(tmp_path / "jobs")).read_text().splitlines()

    assert (3, ["REGION"]) == (report.info.rows, report.ignored)
    assert "b/c" == json.loads(line)["values"]["REGION"]


def test_another_value_in_a_path_is_another_fingerprint(tmp_path: Path) -> None:
    """The files' bytes alone don't tell the rows of partitions."""
    prints: list[str] = []
    for value in ("a", "b", "a"):
        folder = tmp_path / f"{len(prints)}" / "jobs"
        _write_part_below(folder / f"company_name={value}" / "1.pkl", p.make_records(4))
        prints.append(_converted(folder).info.fingerprint)

    assert prints[0] == prints[2] != prints[1]
    assert (
        prints[0]
        != _converted(p.write_pickle(tmp_path / "jobs.pkl", p.make_records(4))).info.fingerprint
    )


def test_the_fingerprint_of_a_flat_folder_is_what_it_always_was(tmp_path: Path) -> None:
    """Of datasets that exist none becomes another: the digest of the parts' digests, in order.

    Folders in folders are hashed the same way, in the order of their files.
    """
    contents = [pickle.dumps(p.make_records(3, seed=seed), 4) for seed in range(3)]
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    for folder, names in (
        (flat, ["1.pkl", "2.pkl", "10.pkl"]),
        (nested, ["a/1.pkl", "a/b/2.pkl", "c.pkl"]),
    ):
        for name, content in zip(names, contents, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    digests = b"".join(hashlib.sha256(content).digest() for content in contents)
    shaping = {
        "format": 1, "source": hashlib.sha256(digests).hexdigest(), "columns": {}, "ids": "keep",
        "source_has_ids": True, "id_time_ms": None, "skip_invalid": False,
    }  # fmt: skip
    expected = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()

    assert [expected] * 2 == [_converted(each).info.fingerprint for each in (flat, nested)]


def test_a_part_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    """Parts may lie elsewhere; so may the folder."""
    (folder / _NAMES[0]).rename(tmp_path / "elsewhere")
    (folder / _NAMES[0]).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(folder)
    _converted(tmp_path / "link")

    assert p.rows_expected(p.make_records(60)) == p.rows_of(p.arrow_path(tmp_path / "link"))


# Columns and problems.


@pytest.mark.parametrize("suffix", ["parquet", "pkl"])
@pytest.mark.parametrize("number", [0, 4, 9])
def test_a_part_without_a_column_is_an_error(number: int, suffix: str, folder: Path) -> None:
    """As a file without it is: its rows would lose their values silently."""
    records = p.make_records(5, seed=7)
    for record in records:
        record["Firm"] = record.pop("company_name")
    _write_part(folder / f"part-{number}x.{suffix}", records)

    with pytest.raises(
        UnreadableSourceError, match=rf"(?s)part-{number}x\.{suffix}: .* for company_name.*'Firm'"
    ):
        p.convert_file(folder)


@pytest.mark.parametrize("suffix", ["parquet", "pkl"])
def test_a_column_that_some_rows_of_a_part_lack_is_null_there(suffix: str, folder: Path) -> None:
    """As it is in a file."""
    records = p.make_records(60, seed=7)
    for record in records[::3]:
        record["company_name"] = None
        if suffix == "pkl":
            del record["company_name"]
    _write_part(folder / f"part-x.{suffix}", records)

    assert 20 == _converted(folder).nulls_replaced["company_name"]


def test_a_column_that_no_part_has_is_an_error(folder: Path) -> None:
    """What a field is called is asked of every part."""
    with pytest.raises(UnreadableSourceError, match="no column 'Firm' for company_name"):
        p.convert_file(folder, columns={"company_name": "Firm"})


def test_each_part_may_have_its_own_name_for_a_field(tmp_path: Path) -> None:
    """Old parts say Company Name, new ones company_name: all of them are in the output."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    parts = [p.make_records(5, seed=seed) for seed in range(2)]
    old = [{"Company Name" if k == "company_name" else k: r[k] for k in r} for r in parts[0]]
    _write_part(folder / "1.parquet", old)
    _write_part(folder / "2.parquet", parts[1])
    report = _converted(folder)

    assert p.rows_expected([*parts[0], *parts[1]]) == p.rows_of(p.arrow_path(folder))
    assert [] == report.ignored
    assert "Company Name, company_name" == report.memory[1].name


@pytest.mark.parametrize("suffix", ["parquet", "pkl"])
def test_a_part_with_two_columns_for_a_field_is_an_error(suffix: str, folder: Path) -> None:
    """Which of the two is meant isn't guessed."""
    records = [{**r, "Company Name": "x"} for r in p.make_records(5, seed=1)]
    _write_part(folder / f"part-7.{suffix}", records)

    with pytest.raises(UnreadableSourceError, match=r"company_name: .*'Company Name'"):
        p.convert_file(folder)


def test_the_dimension_is_that_of_most_rows_of_all_parts(tmp_path: Path) -> None:
    """A first part of another one is what is wrong, and rows are numbered over all parts."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    _write_part(folder / "1.parquet", p.make_records(5, 2, seed=1))
    _write_part(folder / "2.pkl.gz", p.make_records(20))
    wrong = {**p.make_records(1, seed=2)[0], "exp_years": "junior"}
    _write_part(folder / "3.pkl", [wrong])
    with pytest.raises(InvalidRowsError) as error:
        p.convert_file(folder)
    report = _converted(folder, skip_invalid=True)

    assert "6 of 26 rows are invalid" in str(error.value)
    assert "row 25: exp_years: 'junior'" in str(error.value)
    assert (20, 6, 3) == (report.info.rows, report.rejected, report.info.dimension)


def test_an_id_in_two_parts_is_found(folder: Path) -> None:
    """Ids are unique in all parts together."""
    _write_part(folder / "part-12.pkl", p.make_records(1))

    with pytest.raises(DuplicateIdsError, match="rows 0 and 60"):
        p.convert_file(folder)


# What can't be read.


def test_a_folder_without_parts_is_an_error(tmp_path: Path) -> None:
    """The error says what was looked for."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "_SUCCESS").touch()

    with pytest.raises(UnreadableSourceError, match=r"jobs has no \.arrow, .*, \.tsv files"):
        p.convert_file(tmp_path / "jobs")
    assert [tmp_path / "jobs"] == list(tmp_path.iterdir())


_DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a pickle cut off": ("part-1.pkl", lambda content: content[:-1]),
    "a compressed pickle cut off": ("part-2.pkl.gz", lambda content: content[:-1]),
    "no gzip": ("part-2.pkl.gz", lambda _content: b"none"),
    "Parquet cut off": ("part-3.parquet", lambda content: content[:-1]),
    "Arrow cut off": ("part-9.arrow", lambda content: content[:-1]),
    "an empty file": ("part-10.pkl", lambda _content: b""),
    "a frame cut in half": ("part-5.pickle", lambda content: content[: len(content) // 2]),
}


@pytest.mark.parametrize("case", _DAMAGE)
def test_a_damaged_part_is_named(case: str, folder: Path, tmp_path: Path) -> None:
    """One that can't be read fails the whole: nothing is written."""
    name, damage = _DAMAGE[case]
    (folder / name).write_bytes(damage((folder / name).read_bytes()))

    with pytest.raises(UnreadableSourceError, match=re.escape(f"jobs/{name}")):
        p.convert_file(folder)
    assert [folder] == list(tmp_path.iterdir())


def test_a_part_that_would_run_code_is_refused(folder: Path, tmp_path: Path) -> None:
    """Error and exit code are those of a single file; the part is named."""
    gadget = f.GADGETS["os.system"](tmp_path / "canary")
    (folder / "part-7.pkl").write_bytes(gadget)

    with pytest.raises(RefusedPickleError, match=r"jobs/part-7\.pkl: .*os\.system"):
        p.convert_file(folder)
    assert [folder] == list(tmp_path.iterdir())


# Outputs.


@pytest.mark.parametrize(
    "name", ["jobs.arrow", "part-1.pkl", "new.feather", ".hidden.arrow", "more/and/jobs.arrow"]
)
def test_no_dataset_is_written_among_its_parts(name: str, folder: Path) -> None:
    """It would take a part's place, or be a part of the next run."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (folder.parent / "link").symlink_to(folder)

    for out in (folder / name, folder.parent / "link" / name):
        with pytest.raises(OutputError, match="would be a part of its source"):
            p.convert_file(folder, out)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


# Up to date.


def _swap(folder: Path) -> None:
    one, other = folder / "part-1.pkl", folder / "part-10.pkl"
    one.rename(folder / "swapping")
    other.rename(one)
    (folder / "swapping").rename(other)


_CHANGES: dict[str, Callable[[Path], object]] = {
    "a part changes": lambda folder: _write_part(folder / "part-10.pkl", p.make_records(3, seed=9)),
    "parts are swapped": _swap,
    "a part comes": lambda folder: _write_part(folder / "z.pkl", p.make_records(3, seed=9)),
    "a part goes": lambda folder: (folder / "part-4.feather").unlink(),
}


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("mode", [None, IdMode.ULID])
def test_a_folder_is_out_of_date_if_any_part_is(
    change: str, mode: IdMode | None, folder: Path
) -> None:
    """The fingerprint is of all parts' bytes, in their order."""
    before = _converted(folder, ids=mode, id_time_ms=5).info.fingerprint
    assert p.convert_file(folder, ids=mode, id_time_ms=5) is None
    _CHANGES[change](folder)
    after = _converted(folder, ids=mode, id_time_ms=5).info.fingerprint

    assert before != after
    assert p.convert_file(folder, ids=mode, id_time_ms=5) is None


def test_what_changes_no_row_leaves_a_folder_up_to_date(folder: Path) -> None:
    """Other names in the same order, other times, files that are no parts."""
    _converted(folder)
    for name in _NAMES:
        (folder / name).rename(folder / f"renamed {name}")
        (folder / f"renamed {name}").touch()
    (folder / "_SUCCESS").touch()

    assert p.convert_file(folder) is None


def test_the_time_in_made_ids_is_that_of_the_latest_part(folder: Path) -> None:
    """Wherever that is: a part that was touched makes other ids of all rows."""
    _converted(folder, ids=IdMode.UUID7)
    os.utime(folder / "part-4.feather", ns=(0, (_MS + 7) * 1_000_000))
    _converted(folder, ids=IdMode.UUID7)

    assert {_MS + 7} == {uuid.UUID(r["id"]).int >> 80 for r in p.rows_of(p.arrow_path(folder))}


def test_one_part_alone_has_the_fingerprint_of_its_file(tmp_path: Path) -> None:
    """Equal bytes and options have one fingerprint, in a folder or not."""
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records())
    alone = _write_parts(tmp_path / "folder", p.make_records(), ["1.pkl"])

    assert _converted(source).info.fingerprint == _converted(alone).info.fingerprint


@pytest.mark.parametrize("change", ["touched", "removed", "another"])
def test_a_part_that_changes_while_it_is_read_is_an_error(change: str, folder: Path) -> None:
    """Also one that was read long before the end."""

    class Changing(p.Quiet):
        @contextlib.contextmanager
        def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
            with super().phase(name, total) as advance:
                yield advance
                if name == "read" and change == "touched":
                    os.utime(folder / _NAMES[0])
                elif name == "read" and change == "removed":
                    (folder / _NAMES[0]).unlink()
                elif name == "read":
                    _write_part_below(folder / "more" / "z.pkl", p.make_records(2, seed=9))

    with pytest.raises(ConvertError, match=r"changed while it was read|No such file"):
        convert(Options(folder, p.arrow_path(folder), {}), Changing())
    assert not p.arrow_path(folder).exists()


def test_progress_counts_the_bytes_of_all_parts(folder: Path) -> None:
    """As much is told as was said before, in each pass."""
    source = open_source(folder, folder.parent)
    for _ in range(2):
        told: list[int] = []
        size = source.size
        rows = sum(batch.rows for batch in source.batches(lambda _name: True, told.append))

        assert (60, 60) == (rows, source.rows)
        assert size == sum(told)
        assert all(count >= 0 for count in told)


def test_the_command_takes_a_folder(folder: Path, tmp_path: Path) -> None:
    """The dataset lies beside it, under its name."""
    process = p.run_convert(tmp_path, "jobs/")

    assert 0 == process.returncode, process.stderr
    assert {"jobs", "jobs.arrow"} == {path.name for path in tmp_path.iterdir()}
    assert p.rows_expected(p.make_records(60)) == p.rows_of(Path(folder.with_suffix(".arrow")))

"""What pickles of all kinds hold, as columns; and those of other pandas versions."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import lzma
import os
import pickle
import uuid
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.errors import InvalidRowsError, OutputError, RefusedPickleError, UnreadableSourceError
from convert.fields import COLUMN_NAMES, FieldNames
from convert.ids import IdMode
from convert.source import open_source
from convert.validation import python_values
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FIXTURES = sorted((Path(__file__).parent / "pickles").glob("*.pkl"))
_FIXTURE_ROWS = [
    {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"row{row}")),
        "company_name": company,
        "exp_years": years,
        "english_level": english,
        "primary_keyword": keyword,
        "vector": [
            float(np.float32(place) / np.float32(7)) for place in range(3 * row, 3 * row + 3)
        ],
    }
    for row, (company, years, english, keyword) in enumerate(
        [
            ("Acme", 5, "basic", "Java"),
            ("한빛소프트", 0, "pre", "Python"),
            ("Acme", 2, "upper", "Java"),
            ("", 3, "fluent", "QA"),
            ("Zeta", 1, "no_english", "QA"),
            ("Ünïcode", 10, "basic", "Go"),
        ]
    )
]
_IGNORED = {
    "extras": ["Published", "Published UTC", "Remote", "Day", "Number", "Took"],
    "skipped": ["Published", "Seen", "Stamp", "Month", "Range", "Rare", "Band", "Due", "index"],
    "filtered": ["index"],
    "indexed": ["index"],
    "multi": ["index_0", "index_1"],
}
REAL_NAMES = {
    "company_name": "Company Name",
    "exp_years": "Exp Years",
    "english_level": "English Level",
    "primary_keyword": "Primary Keyword",
}
_COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}

frame_kinds = st.fixed_dictionaries(
    {
        "text": st.sampled_from(["object", "str", "string", "string[pyarrow]", "category"]),
        "years": st.sampled_from(
            ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32",
             "float64", "Int8", "Int16", "Int64", "UInt32", "Float64", "object", "category",
             "int32[pyarrow]", "double[pyarrow]", ">i4"]
        ),
        "vectors": st.sampled_from(["float64", "float32", ">f4", "object", "list", "tuple"]),
        "protocol": st.integers(2, 5),
    }
)  # fmt: skip


def _vector(values: list[float], kind: str) -> object:
    if kind in ("list", "tuple"):
        return tuple(values) if kind == "tuple" else values
    return np.array(values, kind)


def make_frame(
    records: list[dict[str, Any]], *, text: str = "str", years: str = "int64",
    vectors: str = "float64", rename: Mapping[str, str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return `records` as a DataFrame with columns of those types."""
    table = {name: [record[name] for record in records] for name in records[0]}
    table["job_post_vectors"] = [_vector(v, vectors) for v in table["job_post_vectors"]]
    types: Any = {
        **dict.fromkeys(("id", "company_name", "english_level", "primary_keyword"), text),
        "exp_years": years,
    }
    return pd.DataFrame(table).astype(types).rename(columns=dict(rename or {}))


class _Found(NamedTuple):
    """All of a source: the values of each field, the names of columns, whole rows."""

    fields: dict[str, list[Any]]
    names: dict[str, Any]
    ignored: list[str]
    rows: list[dict[Any, Any]]


def _read(path: Path, **columns: str) -> _Found:
    source, wanted = open_source(path, path.parent), FieldNames(columns)
    rows: list[dict[Any, Any]] = []
    values: dict[Any, list[Any]] = {}
    for batch in source.batches(wanted.may_be, p.ignore):
        for name, column in batch.columns.items():
            values.setdefault(name, []).extend(python_values(column))
        rows += [batch.row(row) for row in range(batch.rows)]
    wanted.require(source.columns, path.name)
    names = wanted.choose(source.columns, "jobs.pkl")
    assert len(rows) == source.rows
    return _Found(
        {field: values[name] for field, name in names.items()},
        names,
        [str(name) for name in source.columns if name not in names.values()],
        rows,
    )


@pytest.mark.parametrize("source", _FIXTURES, ids=lambda path: path.stem)
def test_a_pickle_of_any_version_converts_to_the_same_rows(source: Path, tmp_path: Path) -> None:
    """Pandas 1.5 to 3.1, NumPy 1 and 2, all types of columns: one table."""
    out = tmp_path / "out.arrow"
    report = p.convert_file(source, out)
    rows = _FIXTURE_ROWS[::2] if "filtered" in source.name else _FIXTURE_ROWS

    assert report is not None
    assert sorted(rows, key=lambda row: str(row["id"])) == p.rows_of(out)
    assert _IGNORED.get(source.name.split("-")[1], []) == report.ignored
    assert int("nullable" in source.name) == sum(report.nulls_replaced.values())


def test_the_fixtures_cover_every_version_and_kind() -> None:
    """A fixture that gets lost is missed: each of 21 kinds in five versions."""
    prefixes = [path.name.split("-")[0] for path in _FIXTURES]

    assert dict.fromkeys(("p15", "p22n1", "p22n2", "p30", "p31"), 21) == {
        prefix: prefixes.count(prefix) for prefix in prefixes
    }


@settings(max_examples=60)
@given(kinds=frame_kinds, rows=st.integers(1, 5), real=st.booleans())
def test_a_dataframe_converts_whatever_its_columns_are(
    tmp_path: Path, kinds: dict[str, Any], rows: int, *, real: bool
) -> None:
    """Every type of text, years and vectors, in every protocol, by either name."""
    records = p.make_records(rows)
    protocol = kinds["protocol"]
    kinds = {key: value for key, value in kinds.items() if key != "protocol"}
    table = make_frame(records, rename=REAL_NAMES if real else None, **kinds)
    source = p.write_pickle(tmp_path / "jobs.pkl", table, protocol)
    p.convert_file(source, force=True)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("suffix", _COMPRESSIONS)
@pytest.mark.parametrize("names", [{}, REAL_NAMES], ids=["documented", "real"])
@pytest.mark.parametrize("shape", ["records", "frame"])
def test_both_shapes_by_both_names_in_every_compression(
    suffix: str, names: dict[str, str], shape: str, tmp_path: Path
) -> None:
    """The file's last suffix says how it is compressed."""
    records = p.make_records()
    content: object = make_frame(records, rename=names)
    if shape == "records":
        content = [{names.get(k, k): v for k, v in record.items()} for record in records]
    source = tmp_path / f"jobs.pkl{suffix}"
    source.write_bytes(_COMPRESSIONS[suffix](pickle.dumps(content, 4)))
    p.convert_file(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("suffix", list(_COMPRESSIONS)[1:])
def test_a_suffix_that_is_wrong_does_not_count(suffix: str, tmp_path: Path) -> None:
    """A plain pickle that is called compressed is a plain pickle."""
    source = p.write_pickle(tmp_path / f"jobs.pkl{suffix}", p.make_records())

    assert [record["id"] for record in p.make_records()] == _read(source).fields["id"]


@pytest.mark.parametrize("protocol", range(6))
def test_records_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    """Lists of dicts have no names in them, so that even protocols 0 and 1 are readable."""
    records = p.make_records()
    source = p.write_pickle(tmp_path / "jobs.pkl", records, protocol)
    p.convert_file(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("suffix", _COMPRESSIONS)
def test_progress_counts_the_bytes_of_the_file(suffix: str, tmp_path: Path) -> None:
    """What is reported adds up to what the source said that it would be, compressed or not."""
    path = tmp_path / f"jobs.pkl{suffix}"
    path.write_bytes(_COMPRESSIONS[suffix](pickle.dumps(p.make_records(2000, 64), 4)))
    source = open_source(path, tmp_path)
    counts: list[int] = []
    for expected in (2 if suffix else 1, 1):  # what was unpacked isn't unpacked again
        counts.clear()
        said = source.size
        list(source.batches(lambda _name: True, counts.append))

        assert expected * path.stat().st_size == said == sum(counts)
        assert all(count >= 0 for count in counts)


def test_values_of_other_columns_may_be_anything_harmless(tmp_path: Path) -> None:
    """Dates, decimals, sets, numbers of all kinds: ignored, listed, and still readable."""
    extras = {
        "when": dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "day": dt.date(2024, 1, 2),
        "took": dt.timedelta(hours=1),
        "stamp": pd.Timestamp("2024-01-02"),
        "never": pd.NaT,
        "missing": pd.NA,
        "tags": {"a"},
        "frozen": frozenset({"b"}),
        "key": uuid.UUID(int=1),
        "scalar": np.float32(0.5),
        "moment": np.datetime64("2024-01-02", "s"),
        "matrix": np.zeros((2, 2)),
        "nested": {"a": [1, (2, b"3", bytearray(b"4"))]},
        "complex": 1j,
        "zoned": pd.Timestamp("2024-01-02", tz="Europe/Kiev"),
        "local": dt.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Kiev")),
        "hour": dt.time(1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Kiev")),
        "waited": pd.Timedelta("1h"),
        "month": pd.Period("2024-01", "M"),
        "range": pd.Interval(0, 1),
        "step": pd.offsets.MonthEnd(),
        "series": pd.Series([1, 2]),
    }
    records = [{**p.make_records(1)[0], **extras}]
    found = _read(p.write_pickle(tmp_path / "jobs.pkl", records))

    assert list(extras) == found.ignored
    assert uuid.UUID(int=1) == found.rows[0]["key"]
    assert np.timedelta64(1, "h") == found.rows[0]["waited"]
    assert np.datetime64("2024-01-01T22:00") == found.rows[0]["zoned"]
    assert "Period" == type(found.rows[0]["month"]).__name__
    assert {"a": [1, (2, b"3", bytearray(b"4"))]} == found.rows[0]["nested"]


def test_a_wanted_column_of_a_skipped_kind_is_named_with_its_kind(tmp_path: Path) -> None:
    """A sparse column for exp_years isn't taken for the numbers that it has inside."""
    table = make_frame(p.make_records())
    table["exp_years"] = pd.arrays.SparseArray([0] * len(table))

    with pytest.raises(InvalidRowsError, match=r"exp_years.*SparseArray"):
        p.convert_file(p.write_pickle(tmp_path / "jobs.pkl", table))


def test_columns_named_by_a_multiindex_are_refused(tmp_path: Path) -> None:
    """Which of its levels is the name isn't guessed."""
    table = make_frame(p.make_records())
    table.columns = pd.MultiIndex.from_product([["jobs"], table.columns])

    with pytest.raises(RefusedPickleError, match="columns named by a MultiIndex"):
        _read(p.write_pickle(tmp_path / "jobs.pkl", table))


def test_a_column_has_precedence_over_an_index_of_its_name(tmp_path: Path) -> None:
    """As it has in pandas: an index is only asked where no column answers."""
    records = p.make_records()
    table = make_frame(records).set_index("id", drop=False)
    table.index = table.index[::-1]
    found = _read(p.write_pickle(tmp_path / "jobs.pkl", table))

    assert [record["id"] for record in records] == found.fields["id"]


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_rows_stay_reachable_whole(shape: str, tmp_path: Path) -> None:
    """A row has every column, by the name that the source has for it."""
    records = [{**record, "Position": f"job {n}"} for n, record in enumerate(p.make_records())]
    content: object = records if shape == "records" else pd.DataFrame(records)
    found = _read(p.write_pickle(tmp_path / "jobs.pkl", content))
    plain = [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()}
        for row in found.rows
    ]

    assert records == plain
    assert ["Position"] == found.ignored


def test_a_key_that_some_records_lack_is_null_there(tmp_path: Path) -> None:
    """Records needn't have the same keys; a column that one of them has is there."""
    first, second = p.make_records(2)
    del first["company_name"]
    second["Position"] = "QA"
    found = _read(p.write_pickle(tmp_path / "jobs.pkl", [first, second]))

    assert [None, second["company_name"]] == found.fields["company_name"]
    assert ["Position"] == found.ignored


# Names of columns.


def test_a_field_may_have_any_name_that_is_given(tmp_path: Path) -> None:
    """`--column` wins over the known names, which are then ordinary columns."""
    records = [{**record, "Employer": "E"} for record in p.make_records(2)]
    found = _read(p.write_pickle(tmp_path / "jobs.pkl", records), company_name="Employer")

    assert ["E", "E"] == found.fields["company_name"]
    assert "Employer" == found.names["company_name"]
    assert ["company_name"] == found.ignored


@pytest.mark.parametrize("field", [field for field in COLUMN_NAMES if field != "id"])
def test_a_missing_column_is_named_with_the_option_that_helps(field: str, tmp_path: Path) -> None:
    """The error says what was looked for, what there is, and what to do."""
    records = p.make_records(1)
    del records[0][COLUMN_NAMES[field][0]]
    records[0]["Other"] = 1

    with pytest.raises(UnreadableSourceError) as missing:
        p.convert_file(p.write_pickle(tmp_path / "jobs.pkl", records))

    assert f"--column {field}=NAME" in str(missing.value)
    assert all(repr(name) in str(missing.value) for name in (*COLUMN_NAMES[field], "Other"))


def test_a_missing_id_column_is_none_unless_it_was_asked_for(tmp_path: Path) -> None:
    """Ids are optional; a name given for them isn't."""
    records = p.make_records(1)
    del records[0]["id"]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    assert "id" not in _read(source).fields
    with pytest.raises(UnreadableSourceError, match="'Key' for id"):
        p.convert_file(source, columns={"id": "Key"})


@pytest.mark.parametrize("field", REAL_NAMES)
def test_two_columns_for_a_field_are_an_error(field: str, tmp_path: Path) -> None:
    """Documented and real name at once: no guess which of them is meant."""
    records = [{**record, REAL_NAMES[field]: "x"} for record in p.make_records(1)]

    with pytest.raises(UnreadableSourceError, match=f"{field}: .*{REAL_NAMES[field]}.*--column"):
        p.convert_file(p.write_pickle(tmp_path / "jobs.pkl", records))


def test_two_dataframe_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    """Pandas allows it; which of them would be converted would be chance."""
    table = make_frame(p.make_records(2))
    table = pd.concat([table, pd.DataFrame({"company_name": ["X", "Y"]})], axis=1)

    with pytest.raises(UnreadableSourceError, match="company_name"):
        p.convert_file(p.write_pickle(tmp_path / "jobs.pkl", table))


def test_a_column_without_a_name_is_an_ordinary_one(tmp_path: Path) -> None:
    """Keys may be numbers, None or tuples; they are ignored and listed as text."""
    records: list[dict[Any, Any]] = [{**p.make_records(1)[0], 7: 1, None: 2, ("a", 1): 3}]
    found = _read(p.write_pickle(tmp_path / "jobs.pkl", records))

    assert ["7", "None", "('a', 1)"] == found.ignored


# Rows of a DataFrame.


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(10, 16),
        pd.Index(list("abcdef")),
        pd.Index([3, 1, 2, 0, 5, 4]),
        pd.Index(list("abcdef"), dtype="object", name="Position"),
        pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]], names=["id", "vector"]),
        pd.CategoricalIndex(list("aabbcc")),
        pd.date_range("2024-01-01", periods=6, freq="2h", tz="Europe/Kiev"),
        pd.timedelta_range("1h", periods=6),
        pd.period_range("2024-01", periods=6, freq="Q"),
        pd.interval_range(0, 6),
    ],
    ids=[
        "range",
        "text",
        "numbers",
        "named",
        "levels",
        "categories",
        "times",
        "durations",
        "periods",
        "intervals",
    ],
)
def test_the_index_of_a_dataframe_changes_nothing(index: Any, tmp_path: Path) -> None:
    """Rows are taken as they lie, however they are labelled."""
    records = p.make_records()
    source = p.write_pickle(tmp_path / "jobs.pkl", make_frame(records).set_index(index))
    p.convert_file(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


def test_a_dataframe_in_pieces_is_read_like_a_whole_one(tmp_path: Path) -> None:
    """Chunked Arrow columns, rows taken out, columns put in between: the same rows."""
    records = p.make_records(9)
    halves = [make_frame(records[:4], text="string[pyarrow]"), make_frame(records[4:])]
    table = pd.concat([half.astype({"company_name": "string[pyarrow]"}) for half in halves])
    table.insert(0, "Number", range(9))
    table.insert(3, "Position", "x")
    table = table.iloc[::-1].iloc[2:]
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    p.convert_file(source)

    assert p.rows_expected(records[:7]) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([uuid.UUID(int=2), uuid.UUID(int=1)], [1, 2]),
        ([uuid.UUID(int=2).bytes, uuid.UUID(int=1).bytes], [1, 2]),
    ],
    ids=["UUID", "bytes"],
)
def test_ids_may_be_uuids_or_bytes_in_a_dataframe(
    ids: list[Any], expected: list[int], tmp_path: Path
) -> None:
    """An object column of UUIDs, or of their 16 bytes, is kept as it is."""
    table = make_frame(p.make_records(2), text="object")
    table["id"] = pd.Series(ids, dtype="object")
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    p.convert_file(source, ids=IdMode.KEEP)

    assert [str(uuid.UUID(int=n)) for n in expected] == [
        row["id"] for row in p.rows_of(p.arrow_path(source))
    ]


# What is no source.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"id": [1]}, r"a dict of 1, not a list of dicts, .*'id': a list of 1\).*\(at byte \d+\)"),
        ((), "a tuple of 0, not a list of dicts"),
        (None, "it holds None, not a list of dicts"),
        ([{"id": 1}, [1]], "row 1 is a list of 1, not a dict"),
        ([None], "a list of 1, the first of which is None, not a list of dicts"),
        ([], "has no rows"),
        ([{}], "columns: none"),
    ],
)
def test_content_of_another_shape_is_an_error(content: object, said: str, tmp_path: Path) -> None:
    """The error says what is there instead, and at which byte."""
    with pytest.raises(UnreadableSourceError, match=said):
        p.convert_file(p.write_pickle(tmp_path / "jobs.pkl", content))


@pytest.mark.parametrize("content", [pd.Series([1]), pd.DataFrame([[1, 2]]), pd.DataFrame()])
def test_a_pandas_object_without_named_columns_is_an_error(content: object, tmp_path: Path) -> None:
    """A Series, or a DataFrame with numbered columns or none, has no fields."""
    with pytest.raises(UnreadableSourceError):
        p.convert_file(p.write_pickle(tmp_path / "jobs.pkl", content))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04zip", b"\xff" * 50, b"id,company_name\n1,A\n"]
)
def test_a_file_that_is_no_pickle_is_an_error(content: bytes, tmp_path: Path) -> None:
    """Whatever it is, the error names the file."""
    source = tmp_path / "jobs.pkl"
    source.write_bytes(content)

    with pytest.raises(UnreadableSourceError, match=r"jobs\.pkl") as error:
        _read(source)
    assert "jobs.pkl" in str(error.value).splitlines()[0]


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Neither as source nor as output is it waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records())

    with pytest.raises(UnreadableSourceError, match="no regular file"):
        p.convert_file(pipe, tmp_path / "out.arrow")
    with pytest.raises(OutputError, match="no regular file"):
        p.convert_file(source, pipe)

"""JSON Lines as a source: types, errors with lines, large and hostile files."""

from __future__ import annotations

import gzip
import json
import random
import re
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.errors import InvalidRowsError, UnreadableSourceError
from convert.rejects import rejects_path
from convert.source import open_source
from convert.sources import json_lines
from convert.validation import python_values
from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path


def _written(folder: Path, rows: list[Any] | bytes, **options: Any) -> Path:
    source = folder / "jobs.jsonl"
    if not isinstance(rows, bytes):
        rows = "".join(json.dumps(row, **options) + "\n" for row in rows).encode()
    source.write_bytes(rows)
    return source


def _columns(source: Path) -> dict[str, list[Any]]:
    """Return all values of all columns, null where a batch has no such column."""
    read, rows = open_source(source, source.parent), 0
    values: dict[str, list[Any]] = {}
    for batch in read.batches(lambda _name: True, p.ignore):
        for name in batch.columns:
            values.setdefault(name, [None] * rows)
        for name, listed in values.items():
            column = batch.columns.get(name)
            listed.extend([None] * batch.rows if column is None else python_values(column))
        rows += batch.rows
    assert rows == read.rows
    assert list(values) == list(read.columns)
    return values


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a row or two at once."""
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", 200)


small_blocks = pytest.mark.usefixtures("_small_blocks")


# Rows.


@pytest.mark.parametrize("block_bytes", [1, 100, 1000, 4 << 20])
@pytest.mark.parametrize("end", [b"\n", b"", b"\n\n  \n", b"\r\n"])
def test_rows_are_those_of_a_list_of_dicts(
    block_bytes: int, end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are read at once, and whatever ends the last line."""
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", block_bytes)
    records = p.make_records(20)
    lines = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    source = _written(tmp_path, (b"\r\n" if b"\r" in end else b"\n").join(lines) + end)
    p.convert_file(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


def test_what_pandas_writes_is_read(tmp_path: Path) -> None:
    """Its numbers are floats where a row has none, its slashes are escaped, its text is not."""
    records = p.make_records(40)
    frame = pd.DataFrame(records)
    frame["exp_years"] = frame["exp_years"].where(frame.index != 3)
    frame["Position"] = pd.Timestamp("2024-01-02")
    frame.to_json(tmp_path / "jobs.jsonl.gz", orient="records", lines=True, date_format="iso")
    report = p.convert_file(tmp_path / "jobs.jsonl.gz")
    records[3]["exp_years"] = 0

    assert report is not None
    assert p.rows_expected(records) == p.rows_of(p.arrow_path(tmp_path / "jobs.jsonl.gz"))
    assert (1, ["Position"]) == (report.nulls_replaced["exp_years"], report.ignored)


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
any_rows = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "한"]),
        json_values
        | st.lists(st.floats(allow_nan=False) | st.integers(-9, 9), max_size=4)
        | st.lists(json_values, max_size=3)
        | st.sampled_from(["00123", "2024-01-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z"])
        | st.dictionaries(st.sampled_from(["x", "y"]), json_values, max_size=2),
        max_size=4,
    ),
    max_size=8,
)


def _comparable(value: Any) -> Any:
    """Let NaN be equal to itself, and a number in a list to the same one of another type."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, float) and value != value:  # noqa: PLR0124
        return "NaN"
    return value


@settings(max_examples=300)
@given(rows=any_rows, block_bytes=st.sampled_from([1, 60, 1 << 20]))
def test_any_rows_are_read_as_python_reads_them(
    rows: list[dict[str, Any]], block_bytes: int, tmp_path: Path
) -> None:
    """No value is lost or changed by what Arrow takes a column's type to be."""
    source = _written(tmp_path, rows)
    if not rows:
        return
    expected = [json.loads(json.dumps(row)) for row in rows]
    with mock.patch.object(json_lines, "_BLOCK_BYTES", block_bytes):
        columns = _columns(source)
        whole = p.read_rows(source)

    assert _comparable(expected) == _comparable(whole)
    for name, values in columns.items():
        assert _comparable([row.get(name) for row in expected]) == _comparable(values)
        for row, value in zip(expected, values, strict=True):
            # A whole number among others that aren't may become a float, as which it is exact.
            is_integer = type(row.get(name)) is int and isinstance(value, float)
            assert is_integer or type(row.get(name)) is type(value)


# Types that differ.


@pytest.mark.parametrize("block_bytes", [1, 4 << 20])
def test_a_column_may_have_other_types_in_other_rows(
    block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within what is parsed at once, and from one to the next; as in a list of dicts."""
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", block_bytes)
    records = p.make_records(7)
    years: list[Any] = [5, "5y", 5.0, None, "no_exp", "00005", 0]
    rows = [{**record, "exp_years": y} for record, y in zip(records, years, strict=True)]
    rows[2]["job_post_vectors"] = [1, 2, 3]
    del rows[3]["exp_years"]
    source = _written(tmp_path, rows)
    p.convert_file(source)
    for record, value in zip(records, [5, 5, 5, 0, 0, 5, 0], strict=True):
        record["exp_years"] = value
    records[2]["job_post_vectors"] = [1, 2, 3]

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@small_blocks
def test_text_stays_text(tmp_path: Path) -> None:
    """What looks like numbers, times or vectors, in some rows or in all."""
    texts = ["00123", "2024-01-02", "2024-01-02T03:04:05", "12:00", "1e3", "null", "[0.1, 0.2]"]
    rows = [{"a": text, "b": text, "c": [text], "d": {"e": text}} for text in texts for _ in "123"]
    found = _columns(_written(tmp_path, rows))

    assert [row["a"] for row in rows] == found["a"] == found["b"]
    assert [row["c"] for row in rows] == found["c"]
    assert [row["d"] for row in rows] == found["d"]


@pytest.mark.parametrize("large", [2**53 + 1, 2**63, 2**64 - 1, -(2**70), 10**40 + 1])
def test_integers_keep_all_their_digits(large: int, tmp_path: Path) -> None:
    """Arrow would make doubles of those beyond 64 bits; hashes as ids are such."""
    found = _columns(_written(tmp_path, [{"id": large}, {"id": large + 2}, {"id": 1}]))

    assert [large, large + 2, 1] == found["id"]
    assert {int} == {type(value) for value in found["id"]}


def test_floats_are_exactly_python_s(tmp_path: Path) -> None:
    """Every digit counts."""
    chance = random.Random(3)
    vectors = [
        [chance.uniform(-1, 1) * 10 ** chance.randrange(-20, 20) for _ in range(9)]
        for _ in range(99)
    ]
    found = _columns(_written(tmp_path, [{"v": vector} for vector in vectors]))

    assert vectors == found["v"]


def test_vectors_stay_in_arrow(tmp_path: Path) -> None:
    """They become no Python objects."""
    source = open_source(_written(tmp_path, p.make_records(5)), tmp_path)
    [batch] = source.batches(lambda name: name == "job_post_vectors", p.ignore)

    assert isinstance(batch.columns["job_post_vectors"], pa.Array)


def test_nan_is_a_problem_of_its_row(tmp_path: Path) -> None:
    """Python writes it, though JSON has none."""
    records = p.make_records(3)
    records[1]["job_post_vectors"] = [1.0, float("nan"), float("inf")]
    source = _written(tmp_path, records)
    with pytest.raises(InvalidRowsError, match="row 1: vector: NaN"):
        p.convert_file(source)
    p.convert_file(source, skip_invalid=True)
    [line] = rejects_path(p.arrow_path(source)).read_text().splitlines()

    assert {**records[1], "job_post_vectors": [1.0, "nan", "inf"]} == json.loads(line)["values"]


# Errors.

_GOOD = b'{"id": 1}\n'


@pytest.mark.parametrize("before", [0, 1, 40])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b'{"id": }\n', "column 8 isn't JSON: Expecting value"),
        (b'{"id": 1\n', "isn't JSON: Expecting ',' delimiter"),
        (b'{"id": 1} {"id": 2}\n', "column 11 isn't JSON: Extra data"),
        (b'{"id": 1}{"id": 2}\n', "column 10 isn't JSON: Extra data"),
        (b"[1, 2]\n", "is a JSON array; each line must be an object"),
        (b"null\n", "is a JSON null; each line must be an object"),
        (b'"id"\n', "is a JSON string; each line must be an object"),
        (b'{"id": "\xff"}\n', "is not UTF-8"),
        (b'{"id": ' + b"1" * 5000 + b"}\n", "can't be read: .*4300 digits"),
        (b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "can't be read: maximum recursion"),
        (b'{"id": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001 + b"\n", "can't be read: maximum"),
        (b'{"id": "cut', "isn't JSON: Unterminated string"),
    ],
)  # fmt: skip
@small_blocks
def test_an_error_names_the_line(bad: bytes, said: str, before: int, tmp_path: Path) -> None:
    """Counted from 1, empty ones as well; one line says it."""
    content = (_GOOD + b"\n") * (before // 2) + _GOOD * (before % 2) + bad
    if not before:
        content = _GOOD + content  # what it is is told by the first line
    line = content.removesuffix(b"\n").count(b"\n") + 1
    source = _written(tmp_path, content)

    with pytest.raises(
        UnreadableSourceError, match=rf"jobs\.jsonl, line {line}\b.* {said}"
    ) as error:
        p.convert_file(source)
    assert 1 == len(str(error.value).splitlines())


def test_objects_of_many_lines_are_an_error(tmp_path: Path) -> None:
    """Pretty-printed rows one after another are no JSON Lines; what is is said."""
    source = _written(tmp_path, b'{"id":\n1}\n{"id":\n2}\n')

    with pytest.raises(UnreadableSourceError, match="line 1, column 7 isn't JSON"):
        p.convert_file(source)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"{}\n{}\n"])
def test_a_file_without_values_is_an_error(content: bytes, tmp_path: Path) -> None:
    """No byte, no row, no column."""
    with pytest.raises(
        UnreadableSourceError, match=r"jobs\.jsonl.*(is empty|has no rows|no column)"
    ):
        p.convert_file(_written(tmp_path, content))


def test_a_bom_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """Windows writes one."""
    found = _columns(_written(tmp_path, b"\xef\xbb\xbf" + _GOOD))

    assert {"id": [1]} == found


def test_a_key_that_is_there_twice_is_the_last(tmp_path: Path) -> None:
    """As Python's parser has it."""
    assert {"id": [2]} == _columns(_written(tmp_path, b'{"id": 1, "id": 2}\n'))


# Large and hostile.


def test_a_line_larger_than_a_block_is_read(tmp_path: Path) -> None:
    """A text of megabytes."""
    records = p.make_records(3)
    source = _written(tmp_path, [{**record, "text": "x" * 9_000_000} for record in records])
    p.convert_file(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


def test_a_line_beyond_all_measure_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have to be in memory whole; its beginning is named."""
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(json_lines, "_MOST_LINE_BYTES", 1000)

    with pytest.raises(UnreadableSourceError, match="from line 3 on: a line is longer"):
        p.convert_file(_written(tmp_path, _GOOD * 2 + b'{"id": "' + b"x" * 2000 + b'"}\n'))


@pytest.mark.parametrize(
    ("shape", "value"),
    [("a key a row", 1), ("first row all", "2024-01-02"), ("last row all", "2024-01-02")],
)
def test_many_keys_cost_no_more_than_the_file(shape: str, value: Any, tmp_path: Path) -> None:
    """Each would be a column with a value for every row: a thousand times the file."""
    rows = [{f"k{n}": value} for n in range(20_000)]
    if shape != "a key a row":
        wide = {f"k{n}": value for n in range(20_000)}
        narrow = [{"k1": value}] * 20_000
        rows = [wide, *narrow] if shape == "first row all" else [*narrow, wide]
    source = _written(tmp_path, rows)
    said = p.run_function(tmp_path, f"outcome_within({str(source)!r}, {1 << 30})")

    assert said.startswith("ConvertError MissingFieldsError"), said


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A hundred megabytes of rows are converted in the memory of a few blocks."""
    line = json.dumps({**p.make_records(1)[0], "job_post_vectors": [0.123456789] * 384})
    halves = line.split(p.make_records(1)[0]["id"])
    source = tmp_path / "jobs.jsonl.gz"
    with gzip.open(source, "wt", compresslevel=1) as file:
        for number in range(12_000):
            file.write(f"{number:08x}-0000-4000-8000-000000000000".join(halves) + "\n")
    report = p.run_convert(tmp_path, source)
    [peak] = re.findall(r"peak memory +([\d.]+) MB", report.stdout)

    assert 0 == report.returncode, report.stderr
    assert float(peak) < 200


def test_a_flipped_bit_is_an_error_or_another_value(tmp_path: Path) -> None:
    """No bit crashes the process or raises anything unforeseen."""
    source = _written(tmp_path, p.make_records(4), ensure_ascii=False)
    steps = {str(source): 8 * source.stat().st_size // 120 | 1}

    assert [] == p.run_function(tmp_path, f"unexpected_outcomes({steps}, only_read=False)")


def test_values_are_float32_of_what_python_reads(tmp_path: Path) -> None:
    """Rounded once, as from a list of floats."""
    chance = random.Random(5)
    records = p.make_records(50)
    for record in records:
        record["job_post_vectors"] = [chance.uniform(-1, 1) for _ in range(16)]
    source = _written(tmp_path, records)
    p.convert_file(source)
    expected = [np.array(row["vector"], np.float32).tolist() for row in p.rows_expected(records)]

    assert expected == [row["vector"] for row in p.rows_of(p.arrow_path(source))]

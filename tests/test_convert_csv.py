"""CSV as a source: nothing of its text is lost; errors name the row."""

from __future__ import annotations

import csv
import io
import uuid
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.errors import UnreadableSourceError
from convert.source import open_source
from convert.sources import csv_file
from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path


def _written(folder: Path, content: str | bytes) -> Path:
    source = folder / "jobs.csv"
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    return source


def _rows(source: Path) -> list[dict[str, Any]]:
    return p.read_rows(source)


# Cells.


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_cells_are_text_as_they_stand(delimiter: str, end: str, begin: str, tmp_path: Path) -> None:
    """Zeros in front, numbers of any length, dates: nothing is taken for something else."""
    rows = [
        ["id", "years", "day", "note"],
        ["00123", "5.0", "2024-01-02", 'he said "no"'],
        ["18446744073709551616", "3+", "true", "two\nlines"],
        ["1e5", "", "NaN", "a,b;c\td|e"],
        ["-0", "NA", "null", "한빛소프트"],
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    found = _rows(_written(tmp_path, begin + text.getvalue()))

    expected = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [{**row, "years": row["years"] or None} for row in expected] == found


def test_an_empty_cell_is_null_unless_it_is_quoted(tmp_path: Path) -> None:
    """As databases write it; a text field makes "" of both."""
    assert [{"a": None, "b": ""}] == _rows(_written(tmp_path, 'a,b\n,""\n'))


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6)


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(cells, min_size=2, max_size=2), max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_python_writes_is_read(rows: list[list[str]], quoting: Any, tmp_path: Path) -> None:
    """Any text, quoted where it must be or everywhere."""
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\n").writerows([["a", "b"], *rows])
    found = _rows(_written(tmp_path, text.getvalue()))

    assert rows == [[row["a"] or "", row["b"] or ""] for row in found]


def test_fields_are_converted_as_pandas_reads_them(tmp_path: Path) -> None:
    """Ids, texts and years; a vector as text is up to the field."""
    records = p.make_records(40)
    records[3]["exp_years"] = None
    frame = pd.DataFrame(records).astype({"exp_years": "Int64"})
    frame.to_csv(tmp_path / "jobs.csv", index=False)
    back = pd.read_csv(tmp_path / "jobs.csv", dtype=str, keep_default_na=False)
    found = [
        {name: value or "" for name, value in row.items()} for row in _rows(tmp_path / "jobs.csv")
    ]

    assert back.to_dict("records") == found


def test_the_index_that_pandas_writes_has_a_name(tmp_path: Path) -> None:
    """Its column has none; several are the levels of one."""
    frame = pd.DataFrame({"a": ["x"], "b": ["y"]}, index=pd.Index([str(uuid.UUID(int=1))]))
    for depth, names in ((1, ["index"]), (2, ["index_0", "index_1"])):
        if depth == 2:
            frame.index = pd.MultiIndex.from_tuples([("1", "2")])
        frame.to_csv(tmp_path / "jobs.csv")

        assert [*names, "a", "b"] == list(_rows(tmp_path / "jobs.csv")[0])


def test_rows_of_many_blocks_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quoted line feeds at their borders, too."""
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 300)
    rows = [[str(n), "x\n" * (n % 50)] for n in range(3000)]
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b"], *rows])
    source = open_source(_written(tmp_path, text.getvalue()), tmp_path)
    for _ in range(2):
        told: list[int] = []
        size = source.size
        found = [
            b.row(n) for b in source.batches(lambda _: True, told.append) for n in range(b.rows)
        ]

        assert rows == [[row["a"], row["b"] or ""] for row in found]
        assert len(rows) == source.rows
        assert size == sum(told)
        assert all(count >= 0 for count in told)


# Errors.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n1,2,3\n", "row 3 has 3 values, where the first line names 2 columns"),
        ("a,b\n1,2\n1\n", "row 3 has 1 values, where"),
        ('a,b\n1,2\n"cut,', "row 3 has 1 values, where"),
        (b"a,b\n1,2\n\xb0\xa1\n", "row 3 has 1 values, where"),
        (b"a,b\n1,2\n\xb0\xa1,2\n", "row 3 is not UTF-8; .* such as cp949"),
        (b"\xb0\xa1,b\n1,2\n", "can't be read"),
        ("a,b", "has no rows"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_an_error_names_the_row(
    content: str | bytes, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line, which shows nothing of the row; Arrow says nothing on its own."""
    source = _written(tmp_path, content)

    with pytest.raises(UnreadableSourceError, match=rf"jobs\.csv.* {said}") as error:
        p.convert_file(source)
    assert 1 == len(str(error.value).splitlines())
    assert ("", "") == capfd.readouterr()


def test_a_row_beyond_all_measure_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have to be in memory whole."""
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 1000)
    source = _written(tmp_path, f'a,b\n"{"x" * 5000}",2\n')

    with pytest.raises(UnreadableSourceError, match="has a row of more than 0 MB"):
        p.convert_file(source)


def test_a_line_of_names_alone_has_no_rows(tmp_path: Path) -> None:
    """The columns are known, so that a missing one is said first."""
    source = _written(tmp_path, ",".join(p.FIELDS) + "\n")

    with pytest.raises(UnreadableSourceError, match="has no rows"):
        p.convert_file(source)


# Large and hostile.


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A hundred megabytes of text that no field needs are read in the memory of a few blocks."""
    source = tmp_path / "jobs.csv"
    with source.open("w") as file:
        file.write("id,company_name,exp_years,english_level,primary_keyword,Position\n")
        for number in range(20_000):
            file.write(f"{number:032x},Acme,5,basic,Java,{'x' * 5000}\n")
    code = (
        "from convert.memory import PeakMemory\n"
        "from tests.pickles import ignore, open_source, Path\n"
        f"source = open_source(Path({str(source)!r}), None)\n"
        "with PeakMemory() as memory:\n"
        "    batches = source.batches(lambda name: name == 'id', ignore)\n"
        "    print(sum(batch.rows for batch in batches))\n"
        "print(memory.bytes)\n"
    )
    process = p.run_python(tmp_path, "-c", code)
    rows, peak = map(int, process.stdout.split())

    assert 20_000 == rows
    assert peak < 200e6


def test_a_flipped_bit_is_an_error_or_another_value(tmp_path: Path) -> None:
    """No bit crashes the process or raises anything unforeseen."""
    frame = pd.DataFrame(p.make_records(4))
    frame.to_csv(tmp_path / "jobs.csv", index=False)
    steps = {str(tmp_path / "jobs.csv"): 8 * (tmp_path / "jobs.csv").stat().st_size // 120 | 1}

    assert [] == p.run_function(tmp_path, f"unexpected_outcomes({steps}, only_read=True)")


def test_many_columns_are_an_error(tmp_path: Path) -> None:
    """A megabyte of names would take a gigabyte of memory."""
    names = ",".join(f"k{n}" for n in range(100_000))

    with pytest.raises(UnreadableSourceError, match="has 100,000 columns, more than 10,000"):
        p.convert_file(_written(tmp_path, f"{names}\n"))

"""The command `python -m convert inspect`: what is in a file that nobody trusts."""

from __future__ import annotations

import datetime as dt
import gzip
import pathlib
import pickle
import re
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from convert.__main__ import inspect_command
from convert.inspect import inspect
from convert.pickle_reader.known import KNOWN
from tests import forged as f
from tests import pickles as p

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path


def test_rows_without_columns_are_counted(tmp_path: Path) -> None:
    """Dicts without keys are rows, too."""
    found = inspect(p.write_pickle(tmp_path / "jobs.pkl", [{}] * 3), p.Quiet())

    assert (3, {}, None) == (found.rows, found.types, found.error)


def _real(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return p.run_convert(folder, "inspect", name)


def _run(path: Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(inspect_command, [str(path)], env={"COLUMNS": "160"})


def _said(output: str) -> dict[str, str]:
    """Return the lines by what they begin with; columns and names among them."""
    lines = [re.split(r"  +", line.strip(), maxsplit=1) for line in output.splitlines()]
    return {words[0]: words[-1] for words in lines}


def _records() -> list[dict[str, Any]]:
    return [{**record, "Position": "QA", "n": 7} for record in p.make_records(20)]


def _parquet(records: list[dict[str, Any]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(records), path)


def _folder(records: list[dict[str, Any]], path: Path) -> None:
    path.mkdir()
    p.write_pickle(path / "1.pkl", records[:9])
    _parquet(records[9:], path / "2.parquet")


_FILES: dict[str, tuple[Callable[[list[dict[str, Any]], Path], object], str]] = {
    "jobs.pkl": (lambda r, path: p.write_pickle(path, r), "a list of dicts, pickle protocol 4"),
    "old.pkl": (lambda r, path: p.write_pickle(path, r, 2), "a list of dicts, pickle protocol 2"),
    "frame.pkl": (
        lambda r, path: p.write_pickle(path, pd.DataFrame(r)),
        "a DataFrame, pickle protocol 4",
    ),
    "jobs.pkl.gz": (
        lambda r, path: path.write_bytes(gzip.compress(pickle.dumps(r, 5))),
        "a list of dicts, pickle protocol 5",
    ),
    "jobs.parquet": (_parquet, "a Parquet file"),
    "jobs": (_folder, "a folder of 2 part files"),
}


@pytest.mark.parametrize("name", _FILES)
def test_a_file_is_said_to_be_what_it_is(name: str, tmp_path: Path) -> None:
    """Shape, rows, all columns with their types and fields; nothing is written anywhere."""
    write, kind = _FILES[name]
    write(_records(), tmp_path / name)
    before = set(tmp_path.rglob("*"))
    process = _real(tmp_path, name)
    said = _said(process.stdout)

    assert 0 == process.returncode, process.stderr
    assert (kind, "20") == (said["holds"], said["rows"])
    assert f"{name} (0.0 MB)" == said["file"]
    assert {"id", "company_name", "exp_years", "job_post_vectors", "Position", "n"} <= set(said)
    assert said["id"].endswith("-> id")
    assert said["job_post_vectors"].endswith("-> vector")
    assert "3 x float64" in said["job_post_vectors"] or "list<" in said["job_post_vectors"]
    assert "->" not in said["Position"] + said["n"]
    assert before == set(tmp_path.rglob("*"))


def test_types_are_counted(tmp_path: Path) -> None:
    """A column that holds several says how many rows each has, the most frequent first."""
    values: list[Any] = [
        [0.5] * 3, [0.5] * 3, [0.5] * 4, None, "x", [1, 2], np.zeros((2, 2)), 7, True, b"",
    ]  # fmt: skip
    records = [{"v": value, "late": n} if n > 6 else {"v": value} for n, value in enumerate(values)]
    result = _run(p.write_pickle(tmp_path / "jobs.pkl", records))
    said = _said(result.output)

    assert 0 == result.exit_code
    assert said["v"].startswith("3 x float64 (2 rows), ")
    assert said["v"].endswith(", and 5 others")
    assert "None (7 rows), int (3 rows)" == said["late"]


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_types_are_those_of_all_batches(shape: str, tmp_path: Path) -> None:
    """A column that begins in a later batch was null before; types of batches add up."""
    records: list[dict[str, Any]] = [{"a": "x", "b": n if n % 2 else None} for n in range(2500)]
    if shape == "records":
        records[2499]["late"] = 0.5
    content: Any = records if shape == "records" else pd.DataFrame(records, dtype=object)
    with p.small_batches(1000, 4):
        said = _said(_run(p.write_pickle(tmp_path / "jobs.pkl", content)).output)

    assert "str" == said["a"]
    assert "int (1,250 rows)" in said["b"]
    if shape == "records":
        assert "None (2,499 rows), float (1 rows)" == said["late"]


def test_what_is_in_a_frame_is_said_by_its_types(tmp_path: Path) -> None:
    """Numbers of any width, categories, Arrow's text, times."""
    frame = pd.DataFrame(
        {
            "small": np.arange(3, dtype=np.int8),
            "kind": pd.Series(["a", "b", "a"], dtype="category"),
            "when": pd.to_datetime(["2024-01-02"] * 3),
            "text": pd.Series(["a", None, "b"], dtype="string[pyarrow]"),
            "vector": [np.zeros(4, np.float32)] * 3,
        }
    )
    said = _said(_run(p.write_pickle(tmp_path / "jobs.pkl", frame)).output)

    assert "int8" == said["small"]
    assert said["kind"].startswith("dictionary<")
    assert said["when"].startswith("datetime64[")
    assert re.fullmatch(r"(large_)?string \(2 rows\), None \(1 rows\)", said["text"])
    assert "4 x float32  -> vector" == said["vector"]


def test_names_are_listed_with_the_byte_where_each_comes_first(tmp_path: Path) -> None:
    """In their order: what a pickle would have imported, whether it is allowed or not."""
    content = [{"a": dt.date(2024, 1, 2)}, {"a": uuid.UUID(int=1)}, {"a": dt.date(2024, 1, 3)}]
    source = p.write_pickle(tmp_path / "jobs.pkl", content)
    said = _said(_run(source).output)
    dumped = source.read_bytes()
    names = [line for line in said if re.fullmatch(r"[\w.]+ \([\d,]+\)", line)]

    assert ["datetime.date", "uuid.UUID"] == [line.split()[0] for line in names]
    for line in names:
        offset = int(line.split("(")[1].rstrip(")").replace(",", ""))
        assert b"\x93" == dumped[offset : offset + 1]


# What can't be read.


@pytest.mark.parametrize("gadget", ["posix.system", "builtins.eval", "subprocess.Popen"])
def test_a_pickle_that_would_run_code_is_looked_at_and_runs_nothing(
    gadget: str, tmp_path: Path
) -> None:
    """Exit code 1; the name is listed with its byte; what it would have done isn't done."""
    (tmp_path / "jobs.pkl").write_bytes(f.GADGETS[gadget](tmp_path / "canary"))
    process = _real(tmp_path, "jobs.pkl")

    assert 1 == process.returncode
    assert re.search(rf"^  {re.escape(gadget)} \(\d+\)$", process.stdout, re.MULTILINE)
    assert f"names {gadget}, which no embeddings pickle needs" in process.stderr
    assert "Traceback" not in process.stderr
    assert [tmp_path / "jobs.pkl"] == list(tmp_path.iterdir())


def test_rows_before_something_that_is_refused_are_said(tmp_path: Path) -> None:
    """What was read until then, and that this isn't all."""
    records: list[Any] = [{"a": n, "b": "x" * 300} for n in range(9000)]
    (tmp_path / "jobs.pkl").write_bytes(pickle.dumps([*records, [print]], 4))
    result = _run(tmp_path / "jobs.pkl")
    said = _said(result.output)

    assert 1 == result.exit_code
    assert re.fullmatch(r"8,192 before the error", said["rows"])
    assert "int" == said["a"]
    assert "row 9000 is a list of 1, not a dict" in result.output
    assert re.search(r"^  builtins\.print \([\d,]+\)$", result.output, re.MULTILINE)


def test_objects_are_said_by_their_classes(tmp_path: Path) -> None:
    """Which aren't made; an index is said to be one."""
    index = pd.Index(["a", "b"], dtype=object)
    frame = pd.DataFrame({"path": [pathlib.PurePosixPath("x")] * 2}, index=index)
    said = _said(_run(p.write_pickle(tmp_path / "jobs.pkl", frame)).output)

    assert "pathlib.PurePosixPath" == said["path"]
    assert "str (index)" == said["index"]


@pytest.mark.parametrize("cut", [1, 1000, 200_000])
def test_a_damaged_file_is_said_until_the_damage(cut: int, tmp_path: Path) -> None:
    """Rows, columns and names that were read before, the error with its byte, exit code 1."""
    content = pickle.dumps(p.make_records(9000, 4), 4)
    (tmp_path / "jobs.pkl").write_bytes(content[:-cut])
    process = _real(tmp_path, "jobs.pkl")
    said = _said(process.stdout)

    assert 1 == process.returncode
    assert re.fullmatch(r"(4,096|8,192) before the error", said["rows"])
    assert "str" == said["id"].split("  ")[0]
    assert re.search(r"^error: .*jobs\.pkl is not a whole pickle.*\(at byte \d+\)$",
                     process.stderr, re.MULTILINE)  # fmt: skip


_UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _path: None, "No such file"),
    "empty": (lambda path: path.touch(), "is empty"),
    "no pickle": (lambda path: path.write_bytes(b"no pickle"), "is text, but neither"),
    "a dict": (lambda path: p.write_pickle(path, {"a": 1}), "a dict of 1, not a list of dicts"),
    "an empty folder": (lambda path: path.mkdir(), "has no .arrow,"),
    "no Arrow": (lambda path: path.write_bytes(b"ARROW1\0\0"), "can't be read"),
    "no Parquet": (lambda path: path.write_bytes(b"PAR1\0\0"), "can't be read"),
}


@pytest.mark.parametrize("case", _UNREADABLE)
def test_what_cannot_be_read_has_exit_code_1(case: str, tmp_path: Path) -> None:
    """One error, no traceback."""
    make, said = _UNREADABLE[case]
    make(tmp_path / "jobs")
    result = _run(tmp_path / "jobs")

    assert 1 == result.exit_code
    assert 1 == result.stderr.count("error: ")
    assert said in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_a_damaged_part_of_a_folder_is_named(tmp_path: Path) -> None:
    """The rows of parts before it are said."""
    folder = tmp_path / "jobs"
    _folder(_records(), folder)
    (folder / "2.parquet").write_bytes(b"PAR1")
    result = _run(folder)

    assert 1 == result.exit_code
    assert "9 before the error" == _said(result.output)["rows"]
    assert "2.parquet" in result.stderr


_HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\x08\x9b31m\u202e"


@pytest.mark.parametrize("shape", ["records", "frame", "parquet", "refused"])
def test_nothing_in_a_file_reaches_the_terminal_as_a_command(shape: str, tmp_path: Path) -> None:
    """Names of columns and globals are printed with everything escaped that isn't printable."""
    path = tmp_path / "jobs.pkl"
    records = [{"a": "x", _HOSTILE: "y"}]
    if shape == "refused":
        path.write_bytes(p.pickled(p.list_of(p.named(_HOSTILE, f"{_HOSTILE}\n\ud800"))))
    elif shape == "parquet":
        _parquet(records, path)
    else:
        p.write_pickle(path, records if shape == "records" else pd.DataFrame(records))
    process = _real(tmp_path, "jobs.pkl")

    assert (1 if shape == "refused" else 0) == process.returncode
    assert r"\x1b]0;owned\x07\x1b[2J\r" in process.stdout
    said = process.stdout + process.stderr.partition("error: ")[2]
    assert not [char for char in said if char != "\n" and not char.isprintable()]


def test_a_column_with_a_surrogate_or_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    """What UTF-8 can't say is escaped; brackets mean nothing."""
    source = p.write_pickle(tmp_path / "jobs.pkl", [{"\ud800": 1, "[red]회사[/red]": 2, 7: 3}])
    said = _said(_run(source).output)

    assert ("int", "int", "int") == (said[r"\ud800"], said["[red]회사[/red]"], said["7"])


def test_many_names_are_not_all_listed(tmp_path: Path) -> None:
    """A file of thousands of names doesn't fill the terminal."""
    names = list(KNOWN)[:50]
    content = b"".join(p.named(module, name) + p.POP for module, name in names)
    (tmp_path / "jobs.pkl").write_bytes(p.pickled(content + p.list_of(p.record())))
    listed = _run(tmp_path / "jobs.pkl").output.split("names,")[1].splitlines()[1:]

    assert [f"{module}.{name}" for module, name in names[:40]] == [
        line.split()[0] for line in listed[:-1]
    ]
    assert "  and 10 others" == listed[-1]


def test_a_second_argument_or_none_is_a_usage_error(tmp_path: Path) -> None:
    """As of any command; `--help` says what it does."""
    for arguments in ([], ["a", "b"]):
        assert 2 == p.run_convert(tmp_path, "inspect", *arguments).returncode
    help_ = p.run_convert(tmp_path, "inspect", "--help")

    assert 0 == help_.returncode
    assert "Usage: python -m convert inspect [OPTIONS] FILE" in help_.stdout


def test_a_file_called_inspect_can_be_converted(tmp_path: Path) -> None:
    """With its path: the bare word is the command."""
    p.write_pickle(tmp_path / "inspect", p.make_records())

    assert 0 == p.run_convert(tmp_path, "./inspect").returncode
    assert p.rows_expected(p.make_records()) == p.rows_of(tmp_path / "inspect.arrow")

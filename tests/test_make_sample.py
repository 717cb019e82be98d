"""The sample pickle: the same for the same options, and like the real one."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_SCRIPT = p.ROOT / "data" / "make_sample.py"
_FIELDS = list(p.FIELDS)


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_sample = _load()


def _run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> Any:
    """Run the script in this process; return what it pickled."""
    monkeypatch.setattr(sys, "argv", [str(_SCRIPT), "--out", str(out), *arguments])
    make_sample.main()
    return pickle.loads(out.read_bytes())


_OPTIONS = [
    ("--shape", shape, "--names", names, *ids)
    for shape in make_sample.SHAPES
    for names in ("documented", "real")
    for ids in ((), ("--without-ids",))
]


@pytest.mark.parametrize("options", _OPTIONS, ids=" ".join)
def test_every_sample_converts(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All shapes, names and ids hold the same rows, which the converter takes without a word."""
    out = tmp_path / "sample.pkl"
    _run(monkeypatch, out, "--rows", "50", "--dim", "4", *options)
    report = p.convert_file(out)
    columns = make_sample.make_columns(50, 4, 0)
    rows = p.rows_of(p.arrow_path(out))
    if "--without-ids" not in options:
        by_id = {value: row for row, value in enumerate(columns["id"])}
        order = [by_id[row["id"]] for row in rows]
    else:
        order = list(range(50))

    assert report is not None
    assert 0 == sum(report.nulls_replaced.values())
    assert (["Position", "Long Description"] if "real" in options else []) == list(report.ignored)
    assert sorted(order) == list(range(50))
    for field in ("company_name", "exp_years", "english_level", "primary_keyword"):
        assert [columns[field][row] for row in order] == [row[field] for row in rows]
    assert columns["job_post_vectors"][order].tolist() == [row["vector"] for row in rows]


@pytest.mark.parametrize("shape", make_sample.SHAPES)
def test_the_same_options_give_the_same_bytes(shape: str, tmp_path: Path) -> None:
    """Two runs, in two processes, of the script itself."""
    options = ("--rows", "20", "--dim", "4", "--shape", shape, "--names", "real")
    for name in ("one", "other"):
        process = p.run_python(tmp_path, str(_SCRIPT), "--out", name, *options)
        assert 0 == process.returncode, process.stderr

    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert {"one", "other"} == {path.name for path in tmp_path.iterdir()}


def test_another_seed_gives_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, vectors and companies depend on the seed."""
    one, other = (
        _run(monkeypatch, tmp_path / seed, "--rows", "20", "--seed", seed) for seed in ("1", "2")
    )

    assert not {record["id"] for record in one} & {record["id"] for record in other}
    assert one[0]["job_post_vectors"] != other[0]["job_post_vectors"]


@pytest.mark.parametrize("shape", make_sample.SHAPES)
def test_a_sample_has_the_shape_that_was_asked_for(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dicts with lists of floats; dicts, or a DataFrame, with an array of that type a row."""
    content = _run(monkeypatch, tmp_path / "x", "--rows", "5", "--dim", "3", "--shape", shape)
    if shape == "records":
        assert [_FIELDS] * 5 == [list(record) for record in content]
        assert {list} == {type(record["job_post_vectors"]) for record in content}
        assert {float} == {type(value) for r in content for value in r["job_post_vectors"]}
        return
    content = pd.DataFrame(content) if shape.startswith("records") else content
    assert isinstance(content, pd.DataFrame)
    assert _FIELDS == list(content.columns)
    assert {(np.dtype(f"float{shape[-2:]}"), (3,))} == {
        (vector.dtype, vector.shape) for vector in content["job_post_vectors"]
    }


def test_real_names_are_those_of_the_teams_pickle() -> None:
    """Names with capitals, years as text with no_exp for none, further columns."""
    columns = make_sample.make_columns(300, 2, 0)
    real = make_sample.with_real_names(columns)
    years = dict(zip(real["Exp Years"], columns["exp_years"], strict=True))

    assert [
        "id", "Company Name", "Exp Years", "English Level", "Primary Keyword", "job_post_vectors",
        "Position", "Long Description",
    ] == list(real)  # fmt: skip
    assert {"no_exp": 0, "1y": 1, "2y": 2, "3y": 3, "5y": 5, "7y": 7, "10y": 10} == years


def test_columns_are_believable() -> None:
    """UUIDv5 ids, unit vectors, repeated companies, few keywords and levels."""
    columns = make_sample.make_columns(2000, 16, 0)
    ids = [uuid.UUID(value) for value in columns["id"]]
    vectors = columns["job_post_vectors"]

    assert {5} == {value.version for value in ids}
    assert 2000 == len(set(ids))
    assert np.float32 == vectors.dtype
    assert np.allclose(1, np.linalg.norm(vectors, axis=1), atol=1e-6)
    assert 300 < len(set(columns["company_name"])) < 2000
    assert set(make_sample.KEYWORDS) == set(columns["primary_keyword"])
    assert set(make_sample.ENGLISH_LEVELS) == set(columns["english_level"])
    assert 24 == len(make_sample.KEYWORDS)
    assert 6 == len(make_sample.ENGLISH_LEVELS)


def test_there_are_12000_companies_a_fifth_of_them_korean() -> None:
    """All names differ; every fifth is written in Hangul."""
    names = make_sample.company_names()
    korean = [name for name in names if any("가" <= char <= "힣" for char in name)]

    assert 12_000 == len(names) == len(set(names))
    assert 2_400 == len(korean)
    assert names[::5] == korean


def test_a_sample_of_no_rows_is_an_empty_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero rows are allowed; fewer rows or no dimension aren't."""
    assert [] == _run(monkeypatch, tmp_path / "x", "--rows", "0")
    for wrong in (("--rows", "-1"), ("--dim", "0"), ("--shape", "csv")):
        with pytest.raises(SystemExit, match="2"):
            _run(monkeypatch, tmp_path / "y", *wrong)
    assert not (tmp_path / "y").exists()


def test_a_sample_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pickle is there whole or not at all."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pickle, "dump", fail)
    with pytest.raises(OSError, match="No space left"):
        make_sample.write([], tmp_path / "x")

    assert [] == list(tmp_path.iterdir())


def test_a_sample_is_made_where_it_is_needed(tmp_path: Path) -> None:
    """With --if-needed neither a pickle nor a dataset that is there is put at risk."""
    script = str(p.ROOT / "data" / "make_sample.py")
    command = [sys.executable, script, "--rows", "3", "--dim", "2", "--if-needed"]
    environment = {"PYTHONPATH": str(p.ROOT), "PKL_PATH": "a.pkl", "DATA_PATH": "a.arrow"}

    def made() -> bool:
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        return (tmp_path / "a.pkl").exists()

    (tmp_path / "a.arrow").write_bytes(b"dataset")
    beside_dataset = made()
    (tmp_path / "a.arrow").unlink()
    alone = made()
    before = (tmp_path / "a.pkl").stat().st_mtime_ns
    made()

    assert 141_897 == make_sample.DEFAULT_ROWS
    assert (False, True) == (beside_dataset, alone)
    assert before == (tmp_path / "a.pkl").stat().st_mtime_ns

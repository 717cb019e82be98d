"""`convert --dry-run`: what would be written, and nothing is."""

from __future__ import annotations

import gzip
import pickle
import re
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from convert.__main__ import main
from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.iterdir() if path.is_file()
    }  # fmt: skip


def _report(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z ]+?)  +(\S.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["jobs.pkl", "jobs.pkl.gz"])
def test_it_says_what_a_conversion_would_and_writes_nothing(name: str, tmp_path: Path) -> None:
    """Rows, fields, ids and fingerprint are those of the conversion after it; no folder is made."""
    records = [{**record, "Position": "x"} for record in p.make_records(50)]
    content = pickle.dumps(records, 4)
    source = tmp_path / name
    source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    out = tmp_path / "new" / "jobs.arrow"
    before = _state(tmp_path)
    dry = _run(source, "-o", out, "--dry-run")
    after = _state(tmp_path)
    is_made = out.parent.exists()
    real = _run(source, "-o", out)

    assert (0, 0) == (dry.exit_code, real.exit_code), dry.output
    assert before == after
    assert not is_made
    said, done = _report(dry.stdout), _report(real.stdout)
    assert str(out) == said.pop("would write") == done.pop("written")
    for line in ("rows", "dimension", "ids", "ignored columns", "nulls replaced", "fingerprint"):
        assert said[line] == done[line]
    tables = [text.partition("would write" if text == dry.stdout else "written")[0]
              for text in (dry.stdout, real.stdout)]  # fmt: skip
    assert tables[0] == tables[1]
    assert "job_post_vectors" in tables[0]


def test_an_existing_dataset_stays(tmp_path: Path) -> None:
    """What would replace it is said; a broken-off run's leftovers stay, too."""
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records())
    (tmp_path / "jobs.arrow").write_text("another")
    (tmp_path / ".jobs.arrow.x.partial").write_text("left")
    before = _state(tmp_path)

    assert 0 == _run(source, "--dry-run").exit_code
    assert before == _state(tmp_path)


def test_an_up_to_date_dataset_is_said(tmp_path: Path) -> None:
    """Nothing would be written."""
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records())
    _run(source)

    assert "is up to date" in _run(source, "--dry-run").stdout
    assert "would write" in _run(source, "--dry-run", "--force").stdout


def test_rows_that_would_be_left_out_are_shown(tmp_path: Path) -> None:
    """With --skip-invalid: how many, and why."""
    records = p.make_records()
    records[2]["exp_years"] = "soon"
    records[4]["id"] = None
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    before = _state(tmp_path)
    result = _run(source, "--dry-run", "--skip-invalid")

    assert 0 == result.exit_code
    assert "4 (2 rejected)" == _report(result.stdout)["rows"]
    assert "row 2: exp_years: 'soon' is not a number of years" in result.stdout
    assert "row 4: id: missing id" in result.stdout
    assert before == _state(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({3: {"exp_years": "soon"}}, "1 of 6 rows are invalid"),
        ({3: {"id": p.make_records()[1]["id"]}}, "1 ids are repeated"),
        ({n: {"id": n} for n in range(6)}, "--ids uuid5 --id-from id makes a UUID"),
        ({n: {"job_post_vectors": None} for n in range(6)}, "6 of 6 rows are invalid"),
    ],
    ids=["invalid", "repeated", "ids", "vectors"],
)
def test_what_would_be_refused_is_the_same_error(
    changes: dict[int, dict[str, Any]], said: str, tmp_path: Path
) -> None:
    """Exit code 1; fields and ids are reported before it."""
    records = p.make_records()
    for number, change in changes.items():
        records[number] |= change
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    before = _state(tmp_path)
    dry, real = _run(source, "--dry-run"), _run(source)

    assert (1, 1) == (dry.exit_code, real.exit_code)
    assert "nothing" == _report(dry.stdout)["would write"]
    assert "company_name" in dry.stdout
    assert said in dry.stderr
    errors = [result.stderr[result.stderr.index("error: ") :] for result in (dry, real)]
    assert errors[0] == errors[1]
    assert before == _state(tmp_path)


def test_generated_ids_are_said_to_be_made(tmp_path: Path) -> None:
    """And what gives the same ones each time."""
    records = [{k: v for k, v in r.items() if k != "id"} for r in p.make_records()]
    result = _run(p.write_pickle(tmp_path / "jobs.pkl", records), "--dry-run")

    assert "--ids uuid5 --id-from COLUMN makes the same ones" in _report(result.stdout)["made ids"]

"""The command `python -m convert`: options, exit codes, and what it prints."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convert.__main__ import main
from convert.id_text import IdKind
from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path

PHASES = ("read", "sort", "reorder", "write")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where no .env is, without the variables that the command reads."""
    monkeypatch.chdir(tmp_path)
    for name in ("PKL_PATH", "DATA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return p.write_pickle(tmp_path / "jobs.pkl", p.make_records())


def run(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# In a process of its own.


def test_a_conversion_shows_its_phases_and_a_report(tmp_path: Path) -> None:
    """Bars on standard error, the report on standard output, exit code 0."""
    records = p.make_records(3000, 16)
    records[7]["company_name"] = None
    records[8]["exp_years"] = None
    records = [{**record, "Position": "x", "Long Description": "y"} for record in records]
    p.write_pickle(tmp_path / "jobs.pkl", records)

    process = p.run_convert(tmp_path, "jobs.pkl")

    assert 0 == process.returncode, process.stderr
    assert all(re.search(rf"^{phase} .*100%", process.stderr, re.MULTILINE) for phase in PHASES)
    lines = dict(re.findall(r"^([a-z/ ]+?)  +(\S.*)$", process.stdout, re.MULTILINE))
    assert {
        "written": "jobs.arrow",
        "rows": "3,000",
        "dimension": "16",
        "ids": "kept from 'id'",
        "ignored columns": "Position, Long Description",
        "nulls replaced": "exp_years 1, company_name 1",
        "fingerprint": p.info_of(tmp_path / "jobs.arrow").fingerprint,
    }.items() <= lines.items()
    assert re.fullmatch(
        r"\d+\.\d\d \(" + ", ".join(rf"{phase} \d+\.\d\d" for phase in PHASES) + r"\)",
        lines["seconds"],
    )
    assert float(lines["rows/s"].replace(",", "")) > 0
    assert 20 < float(lines["peak memory"].removesuffix(" MB anonymous").replace(",", "")) < 2000


def test_the_report_says_what_each_column_takes(source: Path) -> None:
    """Per column the name it has in the source, the bytes there and in Arrow; and both totals."""
    p.write_pickle(source, p.make_records(5000, 256))
    result = run(source)
    cells = [
        [cell.strip() for cell in line.strip("│┃").split("│")]
        for line in result.stdout.splitlines()
        if line.startswith("│")
    ]
    table = {row[0]: row[1:] for row in cells}

    assert [
        "id",
        "company_name",
        "exp_years",
        "english_level",
        "primary_keyword",
        "vector",
        "total",
    ] == (list(table))
    assert ["job_post_vectors", "5.1"] == [table["vector"][0], table["vector"][2]]
    # A float takes 9 bytes in the file.
    assert 5000 * 256 * 9 == pytest.approx(1e6 * float(table["vector"][1]), rel=0.02)
    assert ["id", "0.1"] == [table["id"][0], table["id"][2]]
    for place in (1, 2):
        column_sum = sum(float(row[place]) for name, row in table.items() if name != "total")
        assert column_sum == pytest.approx(float(table["total"][place]), abs=0.4)


def test_a_second_run_is_up_to_date(tmp_path: Path, source: Path) -> None:
    """It says so on one line and exits with 0; `--force` writes the same bytes."""
    first = p.run_convert(tmp_path, source)
    before = (tmp_path / "jobs.arrow").stat()
    content = (tmp_path / "jobs.arrow").read_bytes()
    second = p.run_convert(tmp_path, source)
    after = (tmp_path / "jobs.arrow").stat()
    third = p.run_convert(tmp_path, source, "--force")

    assert [0, 0, 0] == [first.returncode, second.returncode, third.returncode]
    assert f"{tmp_path / 'jobs.arrow'} is up to date (--force writes it anyway)\n" == second.stdout
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert "fingerprint" in third.stdout
    assert content == (tmp_path / "jobs.arrow").read_bytes()
    assert before.st_ino != (tmp_path / "jobs.arrow").stat().st_ino


def test_invalid_rows_end_with_exit_code_1(tmp_path: Path, source: Path) -> None:
    """The text is the whole story: no traceback, nothing written."""
    records = p.make_records()
    records[2]["exp_years"] = "junior"
    p.write_pickle(source, records)

    process = p.run_convert(tmp_path, source)

    assert 1 == process.returncode
    assert "error: 1 of 6 rows are invalid; nothing was written:" in process.stderr
    assert "row 2: exp_years: 'junior' is not a number of years" in process.stderr
    assert "Traceback" not in process.stderr
    assert {"jobs.pkl"} == _names(tmp_path)


# Options, in this process.


def test_the_output_lies_beside_the_source(tmp_path: Path) -> None:
    """.pkl, and what it is compressed with, become .arrow; other endings too."""
    records = p.make_records()
    for name in ("jobs.pkl", "jobs.v2.pkl", "jobs", "jobs.pickle"):
        folder = tmp_path / f"folder of {name}"
        folder.mkdir()
        result = run(p.write_pickle(folder / name, records))
        expected = "jobs.v2.arrow" if "v2" in name else "jobs.arrow"

        assert (0, {name, expected}) == (result.exit_code, _names(folder)), result.output


def test_the_output_may_be_anywhere(tmp_path: Path, source: Path) -> None:
    """`-o` and `--out` name it; folders that are missing are made."""
    for option in ("-o", "--out"):
        out = tmp_path / option / "deeper" / "out.arrow"

        assert 0 == run(source, option, out).exit_code
        assert p.rows_expected(p.make_records()) == p.rows_of(out)


def test_without_a_source_the_environment_says_what_and_where(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PKL_PATH and DATA_PATH; a source that is given wins over both, `-o` over one."""
    monkeypatch.setenv("PKL_PATH", str(source))
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "data.arrow"))
    other = p.write_pickle(tmp_path / "other.pkl", p.make_records(3))

    assert [0, 0, 0] == [r.exit_code for r in (run(), run(other), run("-o", "third.arrow"))]
    assert 6 == p.info_of(tmp_path / "data.arrow").rows
    assert 3 == p.info_of(tmp_path / "other.arrow").rows
    assert 6 == p.info_of(tmp_path / "third.arrow").rows
    assert {"jobs.pkl", "data.arrow", "other.pkl", "other.arrow", "third.arrow"} == _names(tmp_path)


def test_a_env_file_says_it_too_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """.env in the working folder, with the settings of other commands in it."""
    p.write_pickle(tmp_path / "a.pkl", p.make_records(3))
    p.write_pickle(tmp_path / "b.pkl", p.make_records(4))
    (tmp_path / ".env").write_text(
        "GRPC_PORT=1\nPKL_PATH=a.pkl\nDATA_PATH=a of env.arrow\n", encoding="utf-8"
    )

    assert 0 == run().exit_code
    assert 3 == p.info_of(tmp_path / "a of env.arrow").rows
    monkeypatch.setenv("PKL_PATH", "b.pkl")
    assert 0 == run().exit_code
    assert 4 == p.info_of(tmp_path / "a of env.arrow").rows


def test_a_misspelt_variable_is_warned_about_once(tmp_path: Path) -> None:
    """In .env, with the name that is meant; the conversion goes on."""
    p.write_pickle(tmp_path / "a.pkl", p.make_records(3))
    (tmp_path / ".env").write_text("PKL_PATH=a.pkl\nDATA_PATH=a.arrow\nDATA_PTAH=b.arrow\n")

    result = run()

    assert 0 == result.exit_code
    warning = "warning: .env sets 'DATA_PTAH', which is no setting: is DATA_PATH meant?"
    assert [warning] == [line for line in result.stderr.splitlines() if "warning" in line]


def test_without_anything_the_default_paths_are_used(tmp_path: Path) -> None:
    """data/processed_recruitment_data.pkl becomes the .arrow beside it."""
    missing = run()
    (tmp_path / "data").mkdir()
    p.write_pickle(tmp_path / "data" / "processed_recruitment_data.pkl", p.make_records())
    found = run()

    assert (1, 0) == (missing.exit_code, found.exit_code)
    assert "data/processed_recruitment_data.pkl: No such file" in missing.stderr
    assert 6 == p.info_of(tmp_path / "data" / "processed_recruitment_data.arrow").rows


def test_a_source_that_may_be_missing_is_no_error(tmp_path: Path, source: Path) -> None:
    """`--if-present`: nothing is done without a source, all is done with one."""
    (tmp_path / "other.arrow").write_bytes(b"old")
    missing = run("other.pkl", "--if-present")
    found = run(source, "--if-present")

    assert (0, 0) == (missing.exit_code, found.exit_code)
    assert "no other.pkl; other.arrow stays as it is\n" == missing.stdout
    assert b"old" == (tmp_path / "other.arrow").read_bytes()
    assert 6 == p.info_of(tmp_path / "jobs.arrow").rows


@pytest.mark.parametrize(
    "field", ["company_name", "Company Name"], ids=["documented name", "real name"]
)
def test_a_column_may_be_called_anything(field: str, tmp_path: Path) -> None:
    """`--column`, repeated; a field goes by either of its names, the column by any, = in it too."""
    records = [
        {
            **{k: v for k, v in r.items() if k != "company_name"},
            "Employer = Firm": r["company_name"],
        }
        for r in p.make_records()
    ]
    records = [
        {**{k: v for k, v in r.items() if k != "job_post_vectors"}, "v": r["job_post_vectors"]}
        for r in records
    ]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    result = run(source, "--column", f"{field}=Employer = Firm", "--column", "job_post_vectors=v")

    assert 0 == result.exit_code, result.output
    assert p.rows_expected(p.make_records()) == p.rows_of(tmp_path / "jobs.arrow")


@pytest.mark.parametrize("mode", ["keep", "uuid7", "ulid"])
def test_the_ids_may_be_chosen(mode: str, source: Path) -> None:
    """`--ids` takes the three modes; the report says which it was."""
    result = run(source, "--ids", mode)

    assert 0 == result.exit_code
    assert (IdKind.ULID if mode == "ulid" else IdKind.UUID) is p.info_of(
        source.with_suffix(".arrow")
    ).id_kind
    assert ("kept from 'id'" if mode == "keep" else f"generated ({mode})") in result.stdout


@settings(max_examples=40)
@example(274_087_259_715, 0)
@given(st.integers(0, 253_402_300_799_999), st.sampled_from([0, 540, -210]))
def test_the_time_in_ids_is_the_one_that_is_said(source: Path, ms: int, offset: int) -> None:
    """To the millisecond, in any time zone."""
    zone = dt.timezone(dt.timedelta(minutes=offset))
    utc = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=ms)
    said = utc if utc.year > 9998 else utc.astimezone(zone)
    result = run(source, "--ids", "uuid7", "--force", "--id-time", said.isoformat())
    ids = [uuid.UUID(row["id"]) for row in p.rows_of(source.with_suffix(".arrow"))]

    assert 0 == result.exit_code, result.output
    assert {ms} == {value.int >> 80 for value in ids}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2025-12-11", "2025-12-11T00:00:00Z"),
        ("2025-12-11T15:30:00", "2025-12-11T15:30:00Z"),
        ("2025-12-11T15:30:00Z", "2025-12-11T15:30:00+00:00"),
        ("2025-12-12T00:30+09:00", "2025-12-11T15:30:00Z"),
    ],
)
def test_a_time_without_a_zone_is_utc(said: str, meant: str, source: Path) -> None:
    """Where it is run makes no difference."""
    run(source, "--ids", "ulid", "--id-time", said)

    assert "is up to date" in run(source, "--ids", "ulid", "--id-time", meant).stdout


def test_skipped_rows_are_reported(source: Path) -> None:
    """The report counts them; the file of them is there, and whole."""
    records = p.make_records()
    records[4]["id"] = None
    p.write_pickle(source, records)
    result = run(source, "--skip-invalid")
    [line] = (source.parent / "jobs.arrow.rejected.jsonl").read_text(encoding="utf-8").splitlines()

    assert 0 == result.exit_code
    assert re.search(r"^rows +5 \(1 rejected\)$", result.stdout, re.MULTILINE)
    assert {
        "row": 4,
        "problems": [{"field": "id", "reason": "missing id"}],
        "values": records[4],
    } == (json.loads(line))


@pytest.mark.parametrize("name", ["Firm [/b]", "[red]Firm[/red]", "Firm\n2", "회사", "Firm \ud800"])
def test_a_name_of_a_column_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    """Whatever characters it has, and whether it is used or ignored, the report comes."""
    records = [{**record, name: record["company_name"]} for record in p.make_records()]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    ignored = run(source)
    used = run(source, "--column", f"company_name={name}")

    assert (0, 0) == (ignored.exit_code, used.exit_code), used.exception or ignored.exception
    assert "fingerprint" in ignored.stdout
    if name.isprintable():
        assert name in ignored.stdout
        assert name in used.stdout


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--column", "company_name"], "'company_name' is not FIELD=NAME; the fields are id,"),
        (["--column", "salary=Salary"], "'salary=Salary' is not FIELD=NAME"),
        (["--column", "=Firm"], "'=Firm' is not FIELD=NAME"),
        (["--ids", "uuid4"], "'uuid4' is not one of"),
        (["--id-time", "yesterday"], "'yesterday' is not a time like 2025-12-11T15:30:00Z"),
        (["--id-time", "1969-12-31", "--ids", "uuid7"], "1970"),
        (["--unknown"], "No such option"),
        (["second.pkl"], "unexpected extra argument"),
        (["-o", "."], "is a directory"),
    ],
)
def test_a_wrong_option_ends_with_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, source: Path
) -> None:
    """The error says what is wrong with it, and nothing is written."""
    result = run(source, *arguments)

    assert 2 == result.exit_code
    assert said in result.stderr
    assert {"jobs.pkl"} == _names(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("folder", "has no .arrow, .arrows, .csv, .feather, "),
        (b"no pickle", "is text, but neither JSON Lines nor CSV"),
        ({"id": 1}, "it holds a dict of 1, not a list of dicts, a DataFrame, or a dict"),
        ([], "has no rows"),
        ([{"id": 1}], "there is no column 'company_name' or 'Company Name' for company_name"),
        ([{**p.make_records()[0], "id": 1}], "1 of 1 rows are invalid"),
        (p.make_records() * 2, "6 ids are repeated"),
    ],
    ids=["missing", "folder", "no pickle", "dict", "empty", "columns", "invalid", "repeated"],
)
def test_what_cannot_be_converted_ends_with_exit_code_1(
    content: Any, said: str, tmp_path: Path
) -> None:
    """One error, no traceback, nothing written."""
    source = tmp_path / "jobs.pkl"
    if content == "folder":
        source.mkdir()
    elif isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        p.write_pickle(source, content)
    before = _names(tmp_path)
    result = run(source, "--ids", "keep")

    assert 1 == result.exit_code
    assert [1] == [result.stderr.count("error: ")]
    assert said in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert before == _names(tmp_path)


def test_skipping_doesnt_help_if_not_one_row_is_valid(tmp_path: Path) -> None:
    """No dataset, no file of rejected rows, exit code 1."""
    source = p.write_pickle(tmp_path / "jobs.pkl", [{**p.make_records()[0], "id": 1}])
    result = run(source, "--skip-invalid")

    assert 1 == result.exit_code
    assert "not one valid row" in result.stderr
    assert {"jobs.pkl"} == _names(tmp_path)


def test_a_refused_global_is_shown_without_control_characters(tmp_path: Path) -> None:
    """What a hostile file calls things doesn't reach the terminal as commands to it."""
    source = tmp_path / "jobs.pkl"
    source.write_bytes(p.pickled(p.named("os\x1b[2J", "system\n\r\ud800")))
    result = run(source)

    assert 1 == result.exit_code
    assert "\x1b" not in result.stderr
    assert "\r" not in result.stderr


def test_help_names_every_option_and_exit_code() -> None:
    """`--help` is the reference: options, fields, examples, exit codes."""
    result = run("--help")
    options = ("--out", "--ids", "--id-time", "--column", "--skip-invalid", "--force")

    assert 0 == result.exit_code
    assert all(option in result.stdout for option in options)
    assert all(re.search(rf"^ +{code}  ", result.stdout, re.MULTILINE) for code in (0, 1, 2))

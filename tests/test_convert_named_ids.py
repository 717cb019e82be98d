"""`--ids uuid5 --id-from COLUMN[,COLUMN]`: ids of values, the same wherever the values are."""

from __future__ import annotations

import hashlib
import json
import random
import re
import struct
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from convert.__main__ import main
from convert.columns.named_ids import NAMESPACE, NamedIds, names_of
from convert.pickle_reader import Batch
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

_VECTOR = [0.5, 0.25, 0.125]


def _records(values: list[Any], name: str = "key") -> list[dict[str, Any]]:
    """Return sound records without ids, whose `name` is each of `values`."""
    records = p.make_records(len(values))
    for record, value in zip(records, values, strict=True):
        del record["id"]
        record[name] = value
    return records


def _run(source: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [str(source), "--ids", "uuid5", *options])


def _ids(source: Path, *options: str) -> list[uuid.UUID]:
    """Convert; return the ids in the order of the source, whose vectors say it."""
    result = _run(source, "--force", *options)
    assert 0 == result.exit_code, result.output
    rows = p.rows_of(source.with_suffix(".arrow"))
    return [uuid.UUID(row["id"]) for row in sorted(rows, key=lambda row: row["exp_years"])]


def _numbered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "exp_years": number} for number, record in enumerate(records)]


def _by_hand(name: bytes, namespace: uuid.UUID = NAMESPACE) -> uuid.UUID:
    digest = hashlib.sha1(namespace.bytes + name, usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5)


def name_of(values: tuple[Any, ...]) -> bytes | str:
    return names_of([[value] for value in values])[0]


# What the name is, to the byte: docs/converting.md says so, and ids in tables rely on it.


def test_the_namespace_never_changes() -> None:
    """All ids would."""
    assert "e15fce28-7607-425f-af74-24c96976af1a" == str(NAMESPACE)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (("doc_0#chunk",), b"doc_0#chunk"),
        (("한국어",), "한국어".encode()),
        ((" ",), b" "),
        ((0,), b"\xffi0"),
        ((-7,), b"\xffi-7"),
        ((2**200,), b"\xffi%d" % 2**200),
        ((np.int8(-7),), b"\xffi-7"),
        ((np.uint64(2**64 - 1),), b"\xffi18446744073709551615"),
        ((5.0,), b"\xffi5"),
        ((-0.0,), b"\xffi0"),
        ((np.float32(0.1),), b"\xfff" + struct.pack(">d", float(np.float32(0.1))).hex().encode()),
        ((0.1,), b"\xfff3fb999999999999a"),
        ((2.0**63,), b"\xfff43e0000000000000"),
        ((float("inf"),), b"\xfff7ff0000000000000"),
        ((True,), b"\xffbtrue"),
        ((np.bool_(False),), b"\xffbfalse"),  # noqa: FBT003
        ((b"\xff\x00",), b"\xffxff00"),
        ((b"",), b"\xffx"),
        ((uuid.UUID(int=1),), b"\xffu00000000-0000-0000-0000-000000000001"),
        (("a", "b"), b"\xffta\xfftb"),
        (("ab", ""), b"\xfftab\xfft"),
        (("a", None), b"\xffta\xffn"),
        ((None, "a"), b"\xffn\xffta"),
        ((float("nan"), 1), b"\xffn\xffi1"),
        ((np.datetime64("NaT"), "x"), b"\xffn\xfftx"),
    ],
    ids=repr,
)  # fmt: skip
def test_the_name_of_a_row_never_changes(values: tuple[Any, ...], name: bytes) -> None:
    """A text alone is itself; each other value is 0xFF, a letter and its content."""
    assert name == name_of(values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((None,), "missing id"),
        ((float("nan"),), "missing id"),
        (("",), "missing id"),
        ((None, ""), "missing id"),
        (("a\ud800",), r"'a\ud800' is not valid Unicode"),
        (([1],), "list instead of text, a number, a bool, bytes or a UUID"),
        ((np.datetime64("2025-01-01"),), "datetime64 instead of text"),
        ((np.timedelta64(5, "s"),), "timedelta64 instead of text"),
        ((np.longdouble(0.5),), "instead of text"),
        (("x" * 70_000,), "is too long for an id"),
        ((b"x" * 70_000,), "is too long for an id"),
        ((10**5000,), "an integer of 16610 bits instead of"),
    ],
    ids=range(12),
)
def test_a_row_without_a_name_has_a_reason(values: tuple[Any, ...], reason: str) -> None:
    """It is an invalid row."""
    found = name_of(values)

    assert isinstance(found, str)
    assert reason in found


_VALUES = (
    st.text(max_size=4) | st.integers(-3, 3) | st.integers() | st.floats(allow_nan=False)
    | st.binary(max_size=3) | st.booleans() | st.uuids() | st.none()
)  # fmt: skip


def _same(value: Any) -> object:
    """Return what two values have in common that have one name."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    return type(value), value


@given(st.data(), st.integers(1, 3))
def test_different_values_have_different_names(data: st.DataObject, columns: int) -> None:
    """And the same ones the same name; of texts that look like items, too."""
    tricky = st.sampled_from(["\xff", "ti", "\xffi1", "ÿi1", "true", "a\xfftb", "1"])
    rows = st.lists(st.tuples(*[_VALUES | tricky] * columns), min_size=2, max_size=6)
    names: dict[bytes, object] = {}
    drawn = data.draw(rows)
    for row, name in zip(drawn, names_of(list(map(list, zip(*drawn, strict=True)))), strict=True):
        assert name == name_of(row)
        if isinstance(name, bytes):
            assert tuple(map(_same, row)) == names.setdefault(name, tuple(map(_same, row)))


@given(st.lists(st.text(min_size=1)), st.uuids())
def test_ids_of_texts_are_those_of_python(texts: list[str], namespace: uuid.UUID) -> None:
    """`uuid.uuid5(namespace, text)`."""
    texts = [text for text in texts if not re.search("[\ud800-\udfff]", text)]
    batch = Batch(len(texts), {"key": texts}, lambda _row: {})
    found, _, problems = NamedIds(("key",), namespace).ids(batch)

    assert {} == problems
    assert [uuid.uuid5(namespace, text).bytes for text in texts] == [id_.tobytes() for id_ in found]


# The command.


def test_a_column_of_text_is_pythons_uuid5(tmp_path: Path) -> None:
    """The line of Python in docs/converting.md."""
    texts = ["doc_0#chunk", "문서", "Zeta & Söhne"]
    source = p.write_pickle(tmp_path / "jobs.pkl", _numbered(_records(texts)))

    assert [uuid.uuid5(NAMESPACE, text) for text in texts] == _ids(source, "--id-from", "key")
    for name, namespace in (("dns", uuid.NAMESPACE_DNS), ("url", uuid.NAMESPACE_URL)):
        expected = [uuid.uuid5(namespace, text) for text in texts]
        assert expected == _ids(source, "--id-from", "key", "--id-namespace", name)
        assert expected == _ids(source, "--id-from", "key", "--id-namespace", str(namespace))


_KINDS: dict[str, tuple[list[Any], pa.DataType | None]] = {
    "int": ([3, 1, 2**40, -5], pa.int64()),
    "small int": ([3, 1, 2, 0], pa.uint8()),
    "text": (["b", "a", "한", ""], pa.large_string()),
    "float": ([0.5, -1.25, 1e300, 3.0], pa.float64()),
    "bytes": ([b"b", b"a", b"\xff", b"0" * 16], pa.binary()),
    "bool": ([True, False], pa.bool_()),
    "UUID": ([uuid.UUID(int=n) for n in (5, 2**127, 1, 0)], pa.uuid()),
}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("alone", [True, False])
def test_the_same_values_have_the_same_ids_in_every_file(
    kind: str, alone: bool, tmp_path: Path  # noqa: FBT001
) -> None:  # fmt: skip
    """Python's values in a list of dicts, NumPy's in a DataFrame, Arrow's in Parquet."""
    values, arrow_type = _KINDS[kind]
    values = [value for value in values if value != "" or not alone]
    records = _numbered(_records(values))
    options = ("--id-from", "key" if alone else "english_level,key")
    frame = pd.DataFrame(records)
    column = pa.array([v.bytes if isinstance(v, uuid.UUID) else v for v in values], arrow_type)
    table = pa.Table.from_pylist([{k: v for k, v in r.items() if k != "key"} for r in records])
    pq.write_table(table.append_column("key", column), tmp_path / "table.parquet")
    if kind in {"int", "text"}:
        column = column.dictionary_encode()
    table = table.append_column("key", column)
    with pa.ipc.new_file(tmp_path / "table.feather", table.schema) as writer:
        writer.write_table(table)
    ids = [
        _ids(p.write_pickle(tmp_path / "records.pkl", records), *options),
        _ids(p.write_pickle(tmp_path / "frame.pkl", frame), *options),
        _ids(tmp_path / "table.parquet", *options),
        _ids(tmp_path / "table.feather", *options),
    ]

    assert [ids[0]] * len(ids) == ids
    assert len(values) == len(set(ids[0]))


def test_ints_with_nulls_that_pandas_made_floats_of_keep_their_ids(tmp_path: Path) -> None:
    """5.0 is 5; the row without one is told apart by the other column."""
    records = _numbered(_records([7, None, 5]))
    frame = pd.DataFrame(records)
    assert "float64" == frame["key"].dtype
    options = ("--id-from", "key,exp_years")

    assert _ids(p.write_pickle(tmp_path / "a.pkl", records), *options) == (
        _ids(p.write_pickle(tmp_path / "b.pkl", frame), *options)
    )


def test_neither_order_nor_time_nor_the_other_columns_matter(tmp_path: Path) -> None:
    """Converted again from another file, a row has the id that it had."""
    records = _numbered(_records([f"doc_{n}" for n in range(200)]))
    before = _ids(p.write_pickle(tmp_path / "a.pkl", records), "--id-from", "key")
    random.Random(7).shuffle(records)
    for record in records:
        record["company_name"] = "another"
    assert before == _ids(p.write_pickle(tmp_path / "b.pkl", records), "--id-from", "key")


def test_ids_may_come_from_a_column_that_is_no_field_or_several(tmp_path: Path) -> None:
    """Also from fields, from the source's own ids, and from columns with a comma in their names."""
    records = _numbered(_records(["a", "b"], "no, field"))
    records = [{**record, "id": number} for number, record in enumerate(records)]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)

    assert [_by_hand(b"\xffi0"), _by_hand(b"\xffi1")] == _ids(source, "--id-from", "id")
    texts = [uuid.uuid5(NAMESPACE, text) for text in "ab"]
    assert texts == _ids(source, "--id-from", '"no, field"')
    expected = [_by_hand(b"\xffi%d\xfft%s" % pair) for pair in ((0, b"a"), (1, b"b"))]
    assert expected == _ids(source, "--id-from", 'exp_years,"no, field"')


def test_the_report_says_what_ids_are_of(tmp_path: Path) -> None:
    """And that the source's own are dropped; used columns aren't called ignored."""
    records = [{**r, "id": str(uuid.uuid4())} for r in _records(["a", "b"])]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    said = _run(source, "--id-from", "key,company_name").stdout

    expected = (
        r"^ids +uuid5 of 'key', 'company_name', those in 'id' dropped\nignored columns +none$"
    )
    assert re.search(expected, said, re.MULTILINE)
    assert re.search(r"\bid +│ key, company_name +│", said)
    assert "made" not in said
    assert not p.info_of(source.with_suffix(".arrow")).ids_made


def test_what_was_converted_so_is_up_to_date_unless_an_option_changes(tmp_path: Path) -> None:
    """Columns, their order and the namespace are part of the fingerprint."""
    source = p.write_pickle(tmp_path / "jobs.pkl", _records(["a", "b"]))
    options = [
        ["--id-from", "key"], ["--id-from", "key,company_name"], ["--id-from", "company_name,key"],
        ["--id-from", "key", "--id-namespace", "url"],
    ]  # fmt: skip
    said, found = [], set()
    for option in options:
        said += [_run(source, *option).stdout, _run(source, *option).stdout]
        found.add(p.info_of(source.with_suffix(".arrow")).fingerprint)

    assert [False, True] * 4 == ["is up to date" in text for text in said]
    assert 4 == len(found)


def test_repeated_values_are_shown(tmp_path: Path) -> None:
    """Not the ids that nobody knows; with the rows, which may be far apart."""
    values = [f"doc_{n}" for n in range(5000)]
    values[4500] = "doc_17"
    values[4999] = "doc_3"
    source = p.write_pickle(tmp_path / "jobs.pkl", _records(values))
    one = _run(source, "--id-from", "key")

    assert 1 == one.exit_code
    assert "2 ids are repeated; nothing was written:" in one.stderr
    assert "  'doc_17': rows 17 and 4500\n" in one.stderr
    assert "  'doc_3': rows 3 and 4999\n" in one.stderr
    assert "more columns may tell them apart: --id-from COLUMN,COLUMN" in one.stderr
    assert not source.with_suffix(".arrow").exists()


def test_rows_without_any_value_are_invalid(tmp_path: Path) -> None:
    """Null in all columns: the usual error; left out by --skip-invalid."""
    source = p.write_pickle(tmp_path / "jobs.pkl", _records(["a", None, float("nan"), "b"]))
    refused = _run(source, "--id-from", "key")
    skipped = _run(source, "--id-from", "key", "--skip-invalid")
    rejected = (tmp_path / "jobs.arrow.rejected.jsonl").read_text().splitlines()

    assert (1, 0) == (refused.exit_code, skipped.exit_code)
    assert "2 of 4 rows are invalid" in refused.stderr
    assert "2 x id: missing id" in refused.stderr
    assert [1, 2] == [json.loads(line)["row"] for line in rejected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ids", "uuid5"], "--ids uuid5 needs --id-from COLUMN[,COLUMN]"),
        (["--id-from", "key"], "--id-from goes with --ids uuid5"),
        (["--ids", "uuid7", "--id-from", "key"], "--id-from goes with --ids uuid5"),
        (["--id-namespace", "dns"], "--id-namespace goes with --ids uuid5"),
        (["--ids", "uuid5", "--id-from", "key", "--id-namespace", "x"], "'x' is neither a UUID"),
        (["--ids", "uuid5", "--id-from", ""], "'' is not COLUMN[,COLUMN]"),
        (["--ids", "uuid5", "--id-from", "a,,b"], "'a,,b' is not COLUMN[,COLUMN]"),
        (["--ids", "uuid5", "--id-from", "a,a"], "each of them once"),
        (["--ids", "uuid5", "--id-from", '"a'], "is not COLUMN[,COLUMN]"),
        (["--ids", "uuid5", "--id-from", "key", "--id-time", "2025-12-11"], "--id-time is for"),
    ],
)
def test_options_that_dont_go_together_are_an_error(
    options: list[str], said: str, tmp_path: Path
) -> None:
    """Exit code 2, before the source is looked at."""
    result = CliRunner().invoke(main, [str(tmp_path / "none.pkl"), *options])

    assert 2 == result.exit_code
    assert said in result.stderr


def test_a_column_that_isnt_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    """In a folder the part is named, too."""
    (tmp_path / "parts").mkdir()
    p.write_pickle(tmp_path / "parts" / "1.pkl", _records(["a"]))
    p.write_pickle(tmp_path / "parts" / "2.pkl", _records(["b"], "other"))
    alone = _run(tmp_path / "parts" / "1.pkl", "--id-from", "kee")
    folder = _run(tmp_path / "parts", "--id-from", "key")

    assert (1, 1) == (alone.exit_code, folder.exit_code)
    assert "--id-from: there is no column 'kee' (columns: 'company_name', " in alone.stderr
    assert "2.pkl: --id-from: there is no column 'key' (columns: " in folder.stderr


# Ids of a source that are none.

_FOREIGN: dict[str, tuple[Callable[[int], Any], str]] = {
    "int": (lambda n: n, "0 is not a UUID"),
    "text": (lambda n: f"doc_{n}#chunk", "'doc_0#chunk' is not a UUID"),
    "Korean": (lambda n: f"문서 {n}", "'문서 0' is not a UUID"),
    "SHA-256": (lambda n: hashlib.sha256(b"%d" % n).hexdigest(), "'5feceb66ffc86f38"),
    "ObjectId": (lambda n: f"{n:024x}", "'000000000000000000000000' is not a UUID"),
    "bytes": (lambda n: b"%012d" % n, "'303030303030303030303030' (12 bytes) is not a UUID"),
    "float": (lambda n: n + 0.5, "0.5 is not a UUID"),
}


@pytest.mark.parametrize("kind", _FOREIGN)
@pytest.mark.parametrize("shape", ["records", "frame", "parquet"])
def test_ids_that_are_none_are_shown_with_the_way_to_use_them(
    kind: str, shape: str, tmp_path: Path
) -> None:
    """The value, and the option that is to be given; with it they are converted."""
    make, said = _FOREIGN[kind]
    records = [{"_id": make(n), **record} for n, record in enumerate(_records([""] * 20))]
    source = tmp_path / f"jobs.{'parquet' if shape == 'parquet' else 'pkl'}"
    if shape == "parquet":
        pq.write_table(pa.Table.from_pylist(records), source)
    else:
        p.write_pickle(source, records if shape == "records" else pd.DataFrame(records))
    refused = CliRunner().invoke(main, [str(source), "--column", "id=_id"])
    skipped = CliRunner().invoke(main, [str(source), "--column", "id=_id", "--skip-invalid"])

    for result in (refused, skipped):
        assert 1 == result.exit_code
        assert said in result.stderr
        assert "20 x id: " in result.stderr  # one kind, not twenty
        assert "--ids uuid5 --id-from _id makes a UUID of each value" in result.stderr
        assert "mend them" not in result.stderr
    assert 20 == len(set(_ids(source, "--id-from", "_id")))


def test_some_ids_that_are_none_are_mended_or_skipped_as_before(tmp_path: Path) -> None:
    """Where most are UUIDs, the others are the mistake."""
    records = p.make_records(5)
    records[3]["id"] = 7
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    result = CliRunner().invoke(main, [str(source)])

    assert 1 == result.exit_code
    assert "7 is not a UUID" in result.stderr
    assert "mend them, or leave them out with --skip-invalid" in result.stderr
    assert "uuid5" not in result.stderr


# Ids that a conversion made.


@pytest.mark.parametrize(("mode", "is_made"), [("keep", False), ("uuid7", True), ("ulid", True)])
def test_made_ids_are_marked(mode: str, is_made: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """In the file's metadata and in the report; kept ones say nothing, as in files of before."""
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records())
    said = CliRunner().invoke(main, [str(source), "--ids", mode]).stdout
    with pa.memory_map(str(source.with_suffix(".arrow"))) as file:
        metadata = pa.ipc.open_file(file).schema.metadata

    assert (b"made" if is_made else None) == metadata.get(b"embedding-stream.ids")
    assert is_made == ("another conversion may make others" in said)
    assert is_made is p.info_of(source.with_suffix(".arrow")).ids_made

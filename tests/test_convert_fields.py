"""Which column is which field: names, numbered columns, and what is said where one is missing."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.columns.numbered import ColumnPerDimension, NumberedPattern, pattern_of
from convert.errors import MissingFieldsError, UnreadableSourceError
from convert.fields import COLUMN_NAMES, FieldNames
from convert.ids import IdMode
from convert.options import Options, fingerprint
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PRESENT = [names[0] for names in COLUMN_NAMES.values()]


def _missing(present: Sequence[Any], columns: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(MissingFieldsError) as error:
        FieldNames(columns or {}).require(present, "jobs.pkl")
    return str(error.value).splitlines()


# Missing fields.


def test_all_missing_fields_are_named_at_once() -> None:
    """A line each, with what is nearest and the options that help, and the columns there are."""
    present = ["id", "company_name", "Experience Years", "keyword", "x", "y"]

    assert [
        "jobs.pkl: 4 fields have no column:",
        (
            "  there is no column 'exp_years' or 'Exp Years' for exp_years; nearest: "
            "'Experience Years' (--column 'exp_years=Experience Years', "
            "or --empty exp_years: 0 in every row)"
        ),
        (
            "  there is no column 'english_level' or 'English Level' for english_level"
            ' (--column english_level=NAME, or --empty english_level: "" in every row)'
        ),
        (
            "  there is no column 'primary_keyword' or 'Primary Keyword' for primary_keyword; "
            "nearest: 'keyword' (--column primary_keyword=keyword, "
            'or --empty primary_keyword: "" in every row)'
        ),
        "  there is no column 'job_post_vectors' or 'vector' for vector (--column vector=NAME)",
        "its columns: 'id', 'company_name', 'Experience Years', 'keyword', 'x', 'y'",
    ] == _missing(present)


def test_a_column_that_is_a_field_already_is_nearest_to_none() -> None:
    """It would be taken from the other."""
    present = [name for name in _PRESENT if name != "exp_years"]

    assert not any("nearest" in line for line in _missing(present))


def test_columns_that_are_numbered_alike_may_be_the_vector() -> None:
    """And the option for them is shown; not for the years."""
    present = [*_PRESENT[:-1], *(f"dim{n}" for n in range(300))]
    first, line, last = _missing(present)

    assert "jobs.pkl: 1 field has no column:" == first
    assert line.endswith(
        "for vector; has it one column a dimension, 'dim*'? (--column 'vector=dim*')"
    )
    assert last.endswith("'dim24', and 275 others")


def test_names_of_columns_forge_no_lines() -> None:
    """Nor does the terminal obey them."""
    lines = _missing(["exp_years\nerror: forged\x1b[2J", "경력"])

    assert 7 == len(lines)
    assert not any("\x1b" in line for line in lines)
    assert "its columns: 'exp_years\\nerror: forged\\x1b[2J', '경력'" == lines[-1]


@pytest.mark.parametrize("name", ["column {:05} " + "x" * 5000, "{}" + "a1" * 2000, "exp_yea{}"])
def test_thousands_of_columns_are_not_all_listed(name: str) -> None:
    """Nor are all compared, or long ones, which would take minutes."""
    lines = _missing([name.format(n) for n in range(5000)])

    assert len("".join(lines)) < 10_000


def test_fields_that_may_be_empty_are_not_missing() -> None:
    """The others are; what is there is used."""
    names = FieldNames({}, ["exp_years", "company_name"])
    present = [name for name in _PRESENT if name != "exp_years"]
    names.require(present, "jobs.pkl")

    assert "company_name" == names.choose(present, "jobs.pkl")["company_name"]
    with pytest.raises(MissingFieldsError, match="english_level"):
        names.require([name for name in present if name != "english_level"], "jobs.pkl")


def test_empty_fields_shape_the_fingerprint_only_where_they_are_used(tmp_path: Path) -> None:
    """Datasets that were made without the option stay up to date."""

    def of(**options: Any) -> str:
        made = Options(tmp_path / "a", tmp_path / "b", {}, **options)
        return fingerprint(made, b"1" * 32, IdMode.KEEP, 0, has_ids=True)

    assert of() == of(empty=frozenset())
    assert 3 == len(
        {of(), of(empty=frozenset({"exp_years"})), of(empty=frozenset({"company_name"}))}
    )
    both = ("exp_years", "company_name")
    assert of(empty=frozenset(both)) == of(empty=frozenset(reversed(both)))


# Names.


@given(st.text(min_size=1))
def test_composed_and_decomposed_names_are_one(name: str) -> None:
    """NFC, which keyboards write, and NFD, which macOS does; on either side."""
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    for asked in forms:
        for present in forms:
            names = FieldNames({"company_name": asked})

            assert names.may_be(present)
            assert present == names.choose([present], "jobs.pkl")["company_name"]


def test_of_two_forms_of_a_name_the_one_that_was_said_is_meant() -> None:
    """Where a source has both, an option tells them apart."""
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    for asked in (composed, decomposed):
        names = FieldNames({"company_name": asked})

        assert asked == names.choose([composed, decomposed], "jobs.pkl")["company_name"]
    with pytest.raises(UnreadableSourceError, match="company_name: 2 columns are called '\u1e69'"):
        FieldNames({"company_name": "\u1e69"}).choose(["s\u0323\u0307", "\u1e63\u0307"], "jobs.pkl")


def test_two_names_for_a_field_are_an_error() -> None:
    """Both are shown."""
    with pytest.raises(UnreadableSourceError, match="'company_name' and 'Company Name'; choose"):
        FieldNames({}).choose(["company_name", "Company Name"], "jobs.pkl")


# One column a dimension.


@given(st.integers(1, 30), st.sampled_from(["emb_{}", "{}", "v{:04}x", "벡터 {}"]), st.booleans())
def test_numbered_columns_are_put_in_the_order_of_their_numbers(
    count: int,
    form: str,
    from_one: bool,  # noqa: FBT001 - drawn
) -> None:
    """However they are ordered in the source; numbers may be written with zeros."""
    names = [form.format(number + from_one) for number in range(count)]
    pattern = form.replace("{}", "*").replace("{:04}", "*")
    chosen = FieldNames({"vector": pattern}).choose(sorted(names, reverse=True), "jobs.pkl")

    assert tuple(names) == tuple(chosen["vector"])
    assert count < 3 or pattern_of(names) == pattern


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["e0", "e2"], "there are 2 up to number 2, none of 1$"),
        (["e1", "e3"], "there are 2 up to number 3, none of 2$"),
        (["e5"], "there are 1 up to number 5, none of 1, 2, 3, 4$"),
        (["e0", "e999999999"], "none of 1, 2, 3, 4, 5 and 999,999,993 others$"),
        (["e0", "e00", "e1"], "'e0' and 'e00' have the same number 0$"),
        (["e0", "e01", "e1"], "'e01' and 'e1' have the same number 1$"),
    ],
)
def test_numbers_that_are_missing_or_there_twice_are_named(names: list[str], said: str) -> None:
    """And the pattern that they fit."""
    with pytest.raises(
        UnreadableSourceError, match=rf"^jobs\.pkl: vector: of the columns 'e\*' .*{said}"
    ):
        NumberedPattern("e*").in_order(names, "jobs.pkl")


def test_a_star_is_a_number_and_nothing_else() -> None:
    """No sign, no letters; two stars are a name."""
    names = FieldNames({"vector": "e*"})

    assert not any(
        map(names.may_be, ["e", "e-1", "e1x", "xe1", "e1.0", "e\u0661", f"e{'1' * 5000}"])
    )
    assert names.may_be("e*")
    assert "e*" == names.choose(["e*", "e0"], "jobs.pkl")["vector"]
    assert not FieldNames({"vector": "e*_*"}).may_be("e1_2")
    assert not FieldNames({"company_name": "e*"}).may_be("e1")


_KINDS: dict[str, Any] = {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(-1e30, 1e30),
    "int64": st.integers(-(2**24), 2**24),
    "uint8": st.integers(0, 255),
    "float16": st.floats(width=16, allow_nan=False, allow_infinity=False),
}


@settings(max_examples=25)
@given(st.data())
@pytest.mark.parametrize("kind", ["frame", "parquet", "records"])
def test_numbered_columns_become_what_pandas_reads(
    kind: str, tmp_path: Path, data: st.DataObject
) -> None:
    """Columns of any number type, several of which share a block of the frame; in any order."""
    rows = data.draw(st.integers(1, 5))
    kinds = data.draw(st.lists(st.sampled_from(sorted(_KINDS)), min_size=1, max_size=6))
    columns = {
        f"e{number}": np.array(
            data.draw(st.lists(_KINDS[dtype], min_size=rows, max_size=rows)), dtype
        )
        for number, dtype in enumerate(kinds)
    }
    order = data.draw(st.permutations(sorted(columns)))
    records = [
        {k: v for k, v in r.items() if k != "job_post_vectors"} for r in p.make_records(rows)
    ]
    table = pd.DataFrame(records).join(pd.DataFrame({name: columns[name] for name in order}))
    source = tmp_path / f"jobs.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pandas(table), source)
    else:
        p.write_pickle(source, table if kind == "frame" else table.to_dict("records"))
    p.convert_file(source, columns={"vector": "e*"}, force=True)
    matrix = table[[f"e{number}" for number in range(len(kinds))]].to_numpy(np.float64)
    expected = {
        r["id"]: v.astype(np.float32).tolist() for r, v in zip(records, matrix, strict=True)
    }

    assert expected == {row["id"]: row["vector"] for row in p.rows_of(p.arrow_path(source))}


def test_rows_of_numbered_columns_are_read_alone_where_one_is_no_number() -> None:
    """Nulls and text, in lists, NumPy and Arrow."""
    columns: list[Any] = [
        np.array([0.5, 1.5]),
        pa.array([1, None]),
        ["x", 2.5],
        pa.array(["1", ""]),
    ]
    values = ColumnPerDimension(columns)

    assert (2, 4) == (len(values), values.dimension)
    assert values.numbers(0, 2) is None
    assert [(0.5, 1, "x", 1.0), (1.5, None, 2.5, "")] == [values.row(0), values.row(1)]


_NUMERALS = ["1", "-0.5", " .5\t", "5.", "1e-3", "007", "1e999"]
_OTHERS = ["", "x", "+1", "1_0", "nan", "0x1", "1 2", "\u0665", "1" * 401, None, "\udc80"]


@given(st.lists(st.sampled_from([*_NUMERALS, *_OTHERS]), min_size=1, max_size=4))
def test_text_is_a_number_wherever_it_stands(values: list[str | None]) -> None:
    """As CSV has it: in lists, in Arrow, alone, and next to what is none."""
    expected = [float(value) if value in _NUMERALS else value for value in values]
    holders: list[Any] = [values, np.array([*values, None], object)[:-1]]
    if "\udc80" not in values:
        plain = pa.array(values, pa.string())
        holders += [plain, plain.cast(pa.large_string()), plain.dictionary_encode()]
    for column in holders:
        held = ColumnPerDimension([column])
        numbers = held.numbers(0, len(values))

        assert [(value,) for value in expected] == [held.row(n) for n in range(len(values))]
        if numbers is not None:
            assert [[value] for value in expected] == numbers.tolist()

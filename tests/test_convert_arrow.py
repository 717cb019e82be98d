"""Parquet and Arrow files as sources: all their types, forged ones, damaged ones."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import io
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather
from ulid import ULID

from convert.errors import InvalidRowsError, UnreadableSourceError
from convert.id_text import IdKind
from convert.rejects import rejects_path
from convert.source import open_source
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from convert.report import Report


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _feather(table: pa.Table, compression: str) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(table, sink, compression=compression)
    return sink.getvalue()


def _ipc(
    table: pa.Table, rows: int = 1 << 20, *, new: Callable[..., Any] = pa.ipc.new_file,
    **options: Any,
) -> bytes:  # fmt: skip
    sink = io.BytesIO()
    options = {"options": pa.ipc.IpcWriteOptions(**options)} if options else {}
    with new(sink, table.schema, **options) as writer:
        writer.write_table(table, rows)
    return sink.getvalue()


def _stream(table: pa.Table, rows: int = 1 << 20, **options: Any) -> bytes:
    return _ipc(table, rows, new=pa.ipc.new_stream, **options)


_FORMATS: dict[str, Callable[[pa.Table], bytes]] = {
    "Parquet": _parquet,
    "Parquet, zstd": lambda table: _parquet(table, compression="zstd"),
    "Parquet, uncompressed": lambda table: _parquet(table, compression="none"),
    "Parquet, without dictionaries": lambda table: _parquet(table, use_dictionary=False),
    "Parquet, row groups of 3": lambda table: _parquet(table, row_group_size=3),
    "Parquet, small pages": lambda table: _parquet(table, data_page_size=64),
    "Parquet, second version": lambda table: _parquet(table, data_page_version="2.0"),
    "Feather": lambda table: _feather(table, "uncompressed"),
    "Feather, lz4": lambda table: _feather(table, "lz4"),
    "Feather, zstd": lambda table: _feather(table, "zstd"),
    "Arrow, batches of 3": lambda table: _ipc(table, 3),
    "Arrow, zstd": lambda table: _ipc(table, 5, compression="zstd"),
    "stream": _stream,
    "stream, batches of 3": lambda table: _stream(table, 3),
    "stream, lz4": lambda table: _stream(table, 7, compression="lz4"),
    "pandas": lambda table: _of_pandas(table.to_pandas()),
    "pandas, indexed": lambda table: _of_pandas(
        table.to_pandas().set_index(pd.Index([n * n for n in range(len(table))], name="Number"))
    ),
}


def _of_pandas(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink)
    return sink.getvalue()


def _converted(source: Path, **options: Any) -> Report:
    report = p.convert_file(source, **options)
    assert report is not None
    return report


def _rejected(source: Path) -> list[dict[str, Any]]:
    lines = rejects_path(p.arrow_path(source)).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _written(folder: Path, content: bytes) -> Path:
    source = folder / "jobs"
    source.write_bytes(content)
    return source


@pytest.mark.parametrize("name", _FORMATS)
def test_a_table_of_any_format_converts_to_the_same_rows(name: str, tmp_path: Path) -> None:
    """Compressed or not, in one piece or many; a file is known by its first bytes."""
    records = p.make_records(20)
    source = _written(tmp_path, _FORMATS[name](pa.Table.from_pylist(records)))
    report = _converted(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))
    assert (["Number"] if "indexed" in name else []) == report.ignored
    kind = open_source(source, tmp_path).kind
    expected = {
        "Parquet": "a Parquet file", "pandas": "a Parquet file", "stream": "an Arrow stream"
    }  # fmt: skip
    assert kind == expected.get(name.split(",", maxsplit=1)[0], "an Arrow file")


@pytest.mark.parametrize("name", ["Parquet", "Feather, lz4", "Arrow, batches of 3"])
def test_rows_beyond_one_batch_are_read(name: str, tmp_path: Path) -> None:
    """Row groups and record batches may be larger than what is read at once, or smaller."""
    records = p.make_records(5_000, 2)
    source = _written(tmp_path, _FORMATS[name](pa.Table.from_pylist(records)))
    _converted(source)

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("name", ["Parquet, row groups of 3", "Arrow, batches of 3", "Feather"])
def test_progress_counts_the_bytes_of_the_file(name: str, tmp_path: Path) -> None:
    """As rows are read, and in each pass."""
    content = _FORMATS[name](pa.Table.from_pylist(p.make_records(40)))
    source = open_source(_written(tmp_path, content), tmp_path)
    for _ in range(2):
        told: list[int] = []
        rows = sum(batch.rows for batch in source.batches(lambda _name: True, told.append))

        assert (40, 40) == (rows, source.rows)
        assert len(content) == source.size == sum(told)
        assert all(count >= 0 for count in told)


# Types.


def _table(**columns: pa.Array) -> pa.Table:
    table = pa.Table.from_pylist(p.make_records(4))
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


_TEXTS = ["Acme", "", None, "한빛소프트"]
_TEXT_COLUMNS = {
    "string": pa.array(_TEXTS),
    "large_string": pa.array(_TEXTS, pa.large_string()),
    "string_view": pa.array(_TEXTS, pa.string_view()),
    "dictionary": pa.array(_TEXTS).dictionary_encode(),
    "dictionary of int8": pa.array(_TEXTS).dictionary_encode().cast(
        pa.dictionary(pa.int8(), pa.string())
    ),
    "dictionary of large_string": pa.array(_TEXTS, pa.large_string()).dictionary_encode(),
    "dictionary with a null in it": pa.DictionaryArray.from_arrays(
        pa.array([1, 2, 0, 3]), pa.array([None, "Acme", "", "한빛소프트"])
    ),
    "a part": pa.array(["x", *_TEXTS, "y"])[1:5],
    "run-end encoded": pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], pa.array(_TEXTS)),
}  # fmt: skip
_NOT_IN_PARQUET = {"dictionary with a null in it", "run-end encoded"}


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        *((kind, _ipc) for kind in _TEXT_COLUMNS),
        *((kind, _parquet) for kind in _TEXT_COLUMNS if kind not in _NOT_IN_PARQUET),
    ],
)
def test_text_is_text_whatever_holds_it(
    kind: str, write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """Short and long offsets, views, dictionaries, runs; null is empty."""
    source = _written(tmp_path, write(_table(company_name=_TEXT_COLUMNS[kind])))
    report = _converted(source)
    records = [
        {**r, "company_name": t or ""} for r, t in zip(p.make_records(4), _TEXTS, strict=True)
    ]

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))
    assert 1 == report.nulls_replaced["company_name"]


_YEARS = [5, None, 0, 30]
_YEAR_COLUMNS = {
    **{
        str(kind): pa.array(_YEARS, kind)
        for kind in (
            pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
            pa.uint64(), pa.float32(), pa.float64(),
        )
    },
    "half": pa.array(np.array([5, np.nan, 0, 30], np.float16), from_pandas=True),
    "text": pa.array(["5y", None, "no_exp", "30"]),
    "dictionary": pa.array(["5y", None, "no_exp", "30"]).dictionary_encode(),
    "dictionary of numbers": pa.array(_YEARS).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", _YEAR_COLUMNS)
@pytest.mark.parametrize("write", [_parquet, _ipc])
def test_years_are_years_whatever_holds_them(
    kind: str, write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """Every width of number, text, dictionaries; null is 0."""
    source = _written(tmp_path, write(_table(exp_years=_YEAR_COLUMNS[kind])))
    report = _converted(source)
    records = [{**r, "exp_years": y or 0} for r, y in zip(p.make_records(4), _YEARS, strict=True)]

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))
    assert 1 == report.nulls_replaced["exp_years"]


_LISTS = [[0.5, 1.5], [2.5, -0.25], [1.0, 0.0], [4.0, 8.0]]
_VECTOR_KINDS = {
    **{f"list of {item}": pa.list_(item) for item in (pa.float16(), pa.float32(), pa.float64())},
    "large_list": pa.large_list(pa.float32()),
    "fixed_size_list": pa.list_(pa.float32(), 2),
    "fixed_size_list of double": pa.list_(pa.float64(), 2),
    "list_view": pa.list_view(pa.float32()),
    "list of required items": pa.list_(pa.field("item", pa.float32(), nullable=False)),
}


@pytest.mark.parametrize("kind", _VECTOR_KINDS)
@pytest.mark.parametrize("write", [_parquet, _ipc])
def test_vectors_are_lists_of_any_kind(
    kind: str, write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """Of half to double precision, of one size or each with its own."""
    vectors = pa.array(_LISTS, _VECTOR_KINDS[kind])
    source = _written(tmp_path, write(_table(job_post_vectors=vectors)))
    _converted(source)
    records = [{**r, "job_post_vectors": v} for r, v in zip(p.make_records(4), _LISTS, strict=True)]

    assert p.rows_expected(records) == p.rows_of(p.arrow_path(source))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 3)], ids=str)
@pytest.mark.parametrize("write", [_parquet, _ipc])
def test_a_null_vector_is_an_invalid_row(
    kind: pa.DataType, write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """Rows around it are converted; a null in a list and NaN are wrong too."""
    rows = [[1.0, 2.0, 3.0], None, [1.0, None, 3.0], [1.0, float("nan"), 3.0]]
    source = _written(tmp_path, write(_table(job_post_vectors=pa.array(rows, kind))))
    _converted(source, skip_invalid=True)

    assert [rows[0]] == [row["vector"] for row in p.rows_of(p.arrow_path(source))]
    assert [(1, "missing vector"), (2, "a value is missing"), (3, "NaN")] == [
        (line["row"], line["problems"][0]["reason"]) for line in _rejected(source)
    ]


_UUIDS = [uuid.UUID(int=n << 120 | 5) for n in (7, 3, 9, 1)]
_ID_COLUMNS = {
    "uuid": pa.array([value.bytes for value in _UUIDS], pa.uuid()),
    "fixed_size_binary": pa.array([value.bytes for value in _UUIDS], pa.binary(16)),
    "binary": pa.array([value.bytes for value in _UUIDS]),
    "text": pa.array([str(value) for value in _UUIDS]),
    "dictionary": pa.array([value.urn for value in _UUIDS]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", _ID_COLUMNS)
@pytest.mark.parametrize("write", [_parquet, _ipc])
def test_ids_may_be_text_bytes_or_uuids(
    kind: str, write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """Arrow's own type for UUIDs, their 16 bytes, and any of their texts."""
    source = _written(tmp_path, write(_table(id=_ID_COLUMNS[kind])))
    _converted(source)

    assert sorted(map(str, _UUIDS)) == [row["id"] for row in p.rows_of(p.arrow_path(source))]


@pytest.mark.parametrize("kind", [IdKind.UUID, IdKind.ULID])
def test_a_dataset_may_be_a_source_itself(kind: IdKind, tmp_path: Path) -> None:
    """Its rows are the dataset's again, written in one pass: they ascend."""
    records = p.make_records(40)
    if kind is IdKind.ULID:
        records = [{**r, "id": str(ULID(bytes([n]) * 16))} for n, r in enumerate(records)]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    _converted(source)
    with p.small_batches(7, 9):
        again = _converted(p.arrow_path(source), columns={"vector": "vector"})
    first, second = (
        pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        for path in (p.arrow_path(source), p.arrow_path(p.arrow_path(source)))
    )

    assert 40 == again.info.rows
    assert first.to_pylist() == second.to_pylist()


# Names.


@pytest.mark.parametrize("write", [_parquet, _ipc])
def test_two_columns_of_one_name_are_an_error_where_they_are_needed(
    write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """Which of them is meant can't be said; what nobody needs is read."""
    table = _table().append_column("Position", pa.array(["x"] * 4))
    table = table.append_column("Position", pa.array(["y"] * 4))
    report = p.convert_file(_written(tmp_path, write(table)))

    assert report is not None
    assert ["Position", "Position"] == report.ignored
    source = _written(tmp_path, write(table.append_column("id", pa.array(["y"] * 4))))
    with pytest.raises(UnreadableSourceError, match="id: 2 columns are called 'id'"):
        p.convert_file(source)


def test_a_row_that_is_left_out_keeps_both_columns_of_one_name(tmp_path: Path) -> None:
    """The second has a number behind its name."""
    table = _table().append_column("Position", pa.array(["x"] * 4))
    table = table.append_column("Position", pa.array(["y"] * 4))
    table = table.set_column(2, "exp_years", pa.array(["junior", "1", "2", "3"]))
    source = _written(tmp_path, _parquet(table))
    p.convert_file(source, skip_invalid=True)
    (line,) = rejects_path(p.arrow_path(source)).read_text().splitlines()
    values = json.loads(line)["values"]

    assert ("x", "y") == (values["Position"], values["Position (2)"])


def test_what_a_file_calls_its_columns_is_printed_without_control_characters(
    tmp_path: Path,
) -> None:
    """In no error, whatever is wrong."""
    hostile = "\x1b[2J\r"
    first = _table().append_column(hostile, pa.array([1] * 4))
    for table in (
        first.append_column("id", pa.array([hostile] * 4)),
        first.drop_columns(["company_name"]),
        first.set_column(0, "id", pa.array([hostile] * 4)),
        first.set_column(2, "exp_years", pa.array([hostile] * 4)),
    ):
        process = p.run_convert(tmp_path, _written(tmp_path, _ipc(table)))

        assert 0 != process.returncode
        assert "error: " in process.stderr
        assert "Traceback" not in process.stderr
        assert not {"\x1b", "\r"} & set(process.stderr.split("error: ")[1])


# Rejected rows.


def _many_types() -> dict[str, tuple[pa.Array, Any]]:
    """Return columns of one value, and what JSON says of each."""
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    return {
        "null": (pa.nulls(1), None),
        "bool": (pa.array([True]), True),
        "int8": (pa.array([-5], pa.int8()), -5),
        "uint64": (pa.array([2**63], pa.uint64()), 2**63),
        "half": (pa.array([np.float16(0.5)]), 0.5),
        "nan": (pa.array([float("nan")]), "nan"),
        "decimal": (pa.array([decimal.Decimal("1.50")]), "1.50"),
        "date": (pa.array([dt.date(2024, 1, 2)]), "2024-01-02"),
        "time": (pa.array([dt.time(3, 4, 5)]), "03:04:05"),
        "timestamp": (pa.array([moment], pa.timestamp("s", "UTC")), "2024-01-02 03:04:05+00:00"),
        "far timestamp": (pa.array([2**62], pa.timestamp("s")), "timestamp[s]"),
        "duration": (pa.array([dt.timedelta(hours=1)]), "1:00:00"),
        "far duration": (pa.array([2**62], pa.duration("s")), "duration[s]"),
        "binary": (pa.array([b"\xff"]), "/w=="),
        "large binary": (pa.array([b"\xff"], pa.large_binary()), "/w=="),
        "string view": (pa.array(["x"], pa.string_view()), "x"),
        "list": (pa.array([[1, None]]), [1, None]),
        "fixed size list": (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), [1, 2]),
        "struct": (pa.array([{"a": [dt.date(2024, 1, 2)]}]), {"a": ["2024-01-02"]}),
        "map": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), [["a", 1]]),
        "dictionary": (pa.array(["x"]).dictionary_encode(), "x"),
        "dictionary of numbers": (pa.array([7]).dictionary_encode(), 7),
        "null in a dictionary": (pa.array([None], pa.string()).dictionary_encode(), None),
        "uuid": (pa.array([uuid.UUID(int=1).bytes], pa.uuid()), str(uuid.UUID(int=1))),
        "run-end encoded": (pa.RunEndEncodedArray.from_arrays([1], pa.array(["x"])), "x"),
        "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])), "{}"),
    }


@pytest.mark.parametrize("write", [_parquet, _ipc])
def test_a_rejected_row_is_whole_whatever_its_types_are(
    write: Callable[[pa.Table], bytes], tmp_path: Path
) -> None:
    """There is a form in JSON for each of Arrow's values."""
    table = _table(exp_years=pa.array(["x", "1", "2", "3"]))
    expected = {}
    for name, (array, said) in _many_types().items():
        column = pa.concat_arrays([array] * 4) if len(array) == 1 else array
        wide = table.append_column(name, column)
        try:
            write(wide)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            continue
        table, expected[name] = wide, said
    source = _written(tmp_path, write(table))
    report = _converted(source, skip_invalid=True)
    [line] = _rejected(source)

    assert len(expected) > 15
    assert 1 == report.rejected
    assert p.make_records(4)[0]["job_post_vectors"] == line["values"]["job_post_vectors"]
    assert expected == {name: line["values"][name] for name in expected}


# Each of Arrow's types: four values of it, and which fields can be made of them.

_NUMBERS = [5, 1, 0, 30]
_TENS = [decimal.Decimal(number) for number in _NUMBERS]
_ALL_LISTS = {
    "list": pa.list_, "large_list": pa.large_list, "list_view": pa.list_view,
    "large_list_view": pa.large_list_view, "fixed_size_list": lambda item: pa.list_(item, 2),
}  # fmt: skip


def _tensors(shape: list[int]) -> pa.Array:
    size = int(np.prod(shape))
    items = pa.array(np.arange(4 * size, dtype=np.float32))
    storage = pa.FixedSizeListArray.from_arrays(items, size)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), shape), storage)


def _plain_arrays() -> dict[str, pa.Array]:
    ids = [str(value) for value in _UUIDS]
    raw = [value.bytes for value in _UUIDS]
    moments = {
        f"{of(unit)}": pa.array([1] * 4, of(unit))
        for of in (pa.timestamp, pa.duration)
        for unit in ("s", "ms", "us", "ns")
    }
    integers = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
                pa.uint32(), pa.uint64()]  # fmt: skip
    decimals = [pa.decimal32(5, 1), pa.decimal64(9, 2), pa.decimal128(20, 2), pa.decimal256(50, 3)]
    return {
        **{str(kind): pa.array(ids, kind)
           for kind in (pa.string(), pa.large_string(), pa.string_view())},
        **{str(kind): pa.array(raw, kind)
           for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16))},
        "uuid": _ID_COLUMNS["uuid"],
        **{str(kind): pa.array(_NUMBERS, kind) for kind in integers},
        **{str(kind): pa.array(np.array(_NUMBERS, kind.to_pandas_dtype()))
           for kind in (pa.float16(), pa.float32(), pa.float64())},
        **{str(kind): pa.array(_TENS, kind) for kind in decimals},
        "bool": pa.array([True, False, True, True]),
        "null": pa.nulls(4),
        "date32": pa.array([1] * 4, pa.date32()),
        "date64": pa.array([86_400_000] * 4, pa.date64()),
        "time32": pa.array([1] * 4, pa.time32("s")),
        "time64": pa.array([1] * 4, pa.time64("ns")),
        **moments,
        "timestamp of a zone": pa.array([1] * 4, pa.timestamp("ns", "Asia/Seoul")),
        "far timestamp": pa.array([2**62] * 4, pa.timestamp("s")),
        "far duration": pa.array([2**62] * 4, pa.duration("s")),
        "month interval": pa.array([pa.MonthDayNano([1, 2, 3])] * 4),
        **{
            f"{name} of {item}": pa.array(_LISTS, make(item))
            for name, make in _ALL_LISTS.items()
            for item in (pa.float16(), pa.float32(), pa.float64())
        },
        **{f"{name} of integers": pa.array([[1, 2]] * 4, make(pa.int16()))
           for name, make in _ALL_LISTS.items()},
        **{f"{name} of decimals": pa.array([_TENS[:2]] * 4, make(pa.decimal128(9, 2)))
           for name, make in _ALL_LISTS.items()},
        **{f"{name} of bools": pa.array([[True, False]] * 4, make(pa.bool_()))
           for name, make in _ALL_LISTS.items()},
        **{f"{name} of nulls": pa.array([[None, None]] * 4, make(pa.null()))
           for name, make in _ALL_LISTS.items()},
        **{f"{name} of text": pa.array([["1", "2"]] * 4, make(pa.string()))
           for name, make in _ALL_LISTS.items()},
        "list of views": pa.array([["1", "2"]] * 4, pa.list_(pa.string_view())),
        "list of times": pa.array([[2**62] * 2] * 4, pa.list_(pa.timestamp("s"))),
        "list of lists": pa.array([[[1.5], [2.5]]] * 4),
        "list of lists of text": pa.array([[["x"]]] * 4),
        "list of dictionaries": pa.ListArray.from_arrays(
            pa.array([0, 2, 4, 6, 8], pa.int32()), pa.array(_LISTS).flatten().dictionary_encode()
        ),
        "list of runs": pa.ListArray.from_arrays(
            pa.array([0, 2, 4, 6, 8], pa.int32()),
            pa.RunEndEncodedArray.from_arrays(range(1, 9), pa.array(_LISTS).flatten()),
        ),
        "struct": pa.array([{"a": 1}] * 4),
        "map": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int8())),
        "sparse union": pa.UnionArray.from_sparse(
            pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1] * 4), pa.array(["x"] * 4)]
        ),
        "dense union": pa.UnionArray.from_dense(
            pa.array([0, 1, 0, 1], pa.int8()), pa.array([0, 0, 1, 1], pa.int32()),
            [pa.array([1] * 2), pa.array(["x"] * 2)],
        ),
        "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, 1, 0], pa.int8())),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(ids)),
        "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "a", "b"), pa.array(ids)),
        "tensor [2]": _tensors([2]),
        "tensor [1, 2]": _tensors([1, 2]),
        "tensor [2, 3]": _tensors([2, 3]),
        "tensor [3, 1]": _tensors([3, 1]),
    }  # fmt: skip


def _all_arrays() -> dict[str, pa.Array]:
    """Return each of the arrays, and in a dictionary and in runs, where Arrow can read that."""
    plain = _plain_arrays()
    arrays = dict(plain)
    for name, values in plain.items():
        if not isinstance(values.type, pa.BaseExtensionType):
            places = pa.array([0, 1, 2, 3], pa.int8())
            arrays[f"dictionary of {name}"] = pa.DictionaryArray.from_arrays(places, values)
        arrays[f"runs of {name}"] = pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], values)
    return arrays


_TEXT_KINDS = {"string", "large_string", "string_view", "json", "opaque"}
_FLOATS = {"halffloat", "float", "double"}
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_BYTES = {"binary", "large_binary", "binary_view", "fixed_size_binary[16]", "uuid"}
# The names of the arrays of which a field can be made. What may be an id if it isn't one the
# ids say, with the value.
_MADE_OF = {
    "id": _TEXT_KINDS | _BYTES,
    "company_name": {*_TEXT_KINDS, "null"},
    "exp_years": {*_FLOATS, *_INTEGERS, "null"},
    "job_post_vectors": {
        "tensor [2]", "tensor [1, 2]",
        *(f"{name} of {item}" for name in _ALL_LISTS for item in (*_FLOATS, "integers")),
        *(f"{name} of bools" for name in ("list", "large_list", "fixed_size_list")),
    },
}  # fmt: skip
# Those of which it can be made only as they stand.
_PLAIN_ONLY = {
    "exp_years": {"decimal32(5, 1)", "decimal64(9, 2)", "decimal128(20, 2)", "decimal256(50, 3)"},
    "job_post_vectors": {
        f"{name} of decimals" for name in ("list", "large_list", "fixed_size_list")
    },
}
# What Arrow says of a column of another type, or what the rows' values are.
_REFUSED = (
    r"ConvertError UnreadableSourceError: .*: {field}: the column '{column}' is .*, and must be "
    r".*: cast it to pa\..* in the source"
)
_INVALID = "ConvertError InvalidRowsError: not one valid row"


@pytest.mark.parametrize("field", _MADE_OF)
def test_every_type_is_read_or_refused_by_its_name(field: str, tmp_path: Path) -> None:
    """With the right values, or by what to cast it to; never with a traceback."""
    wrong = {}
    said_name = "vector" if field == "job_post_vectors" else field
    for name, values in _all_arrays().items():
        source = _written(tmp_path, _ipc(_table(**{field: values})))
        outcome = p.outcome(source)
        plain = name.removeprefix("dictionary of ").removeprefix("runs of ")
        if plain in _MADE_OF[field] or name in _PLAIN_ONLY.get(field, ()):
            is_right = outcome == "converted" and _has(source, field, values)
        else:
            refused = re.match(_REFUSED.format(field=said_name, column=field), outcome)
            is_right = bool(refused) or (
                _INVALID in outcome and re.search(rf"x {said_name}: ", outcome) is not None
            )
        if not is_right:
            wrong[name] = outcome

    assert {} == wrong


def _has(source: Path, field: str, values: pa.Array) -> bool:
    """Whether the values of a field are what Arrow itself says they are."""
    listed: list[Any] = values.to_pylist()
    rows = p.rows_of(p.arrow_path(source))
    match field:
        case "id":
            ids = [
                uuid.UUID(bytes=v) if isinstance(v, bytes) else uuid.UUID(str(v)) for v in listed
            ]
            return sorted(map(str, ids)) == [row["id"] for row in rows]
        case "company_name":
            return sorted(v or "" for v in listed) == sorted(row["company_name"] for row in rows)
        case "exp_years":
            return sorted(v or 0 for v in listed) == sorted(row["exp_years"] for row in rows)
        case _:
            vectors = [[float(item) for item in vector] for vector in listed]
            return sorted(vectors) == sorted(row["vector"] for row in rows)


def test_a_column_of_any_type_may_be_rejected_whole(tmp_path: Path) -> None:
    """One that no field needs, in a row that is left out."""
    wrong = {}
    for name, values in _all_arrays().items():
        table = _table(exp_years=pa.array(["x", "1", "2", "3"])).append_column("other", values)
        source = _written(tmp_path, _ipc(table))
        outcome = p.outcome(source)
        if outcome != "converted" or len(_rejected(source)) != 1:
            wrong[name] = outcome

    assert {} == wrong


def test_a_categorical_of_polars_is_text(tmp_path: Path) -> None:
    """Its dictionary has views of texts, equal ones among them, and more than are used."""
    texts = pa.array(
        ["short", None, "a text that is too long for a view", "short"], pa.string_view()
    )
    column = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1, None], pa.uint32()), texts)
    source = _written(tmp_path, _ipc(_table(english_level=column)))
    report = _converted(source)

    assert sorted(["a text that is too long for a view", "short", "", ""]) == sorted(
        row["english_level"] for row in p.rows_of(p.arrow_path(source))
    )
    assert 2 == report.nulls_replaced["english_level"]


# What can't be read.


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    """Whether it has a row group of none or no row group."""
    empty = _table()[:0]
    for content in (_parquet(empty), _ipc(empty), _ipc(empty, 5)):
        source = _written(tmp_path, content)
        told: list[int] = []
        with pytest.raises(UnreadableSourceError, match="has no rows"):
            p.convert_file(source)
        assert [] == list(open_source(source, tmp_path).batches(lambda _name: True, told.append))
        assert len(content) == sum(told)


@pytest.mark.parametrize(
    "content",
    [b"ARROW1", b"ARROW1\0\0", b"PAR1", b"PAR1PAR1", b"ARROW1" * 20, b"PAR1" * 20, b"FEA1" * 20],
)
def test_a_file_that_only_begins_like_one_is_an_error(content: bytes, tmp_path: Path) -> None:
    """The error is one line, and names the file."""
    with pytest.raises(UnreadableSourceError, match="jobs") as error:
        p.convert_file(_written(tmp_path, content))
    assert 1 == len(str(error.value).splitlines())


def test_invalid_rows_of_a_table_are_reported_like_those_of_a_pickle(tmp_path: Path) -> None:
    """The same text, whatever the source is."""
    records = p.make_records(10)
    for record in records[3:]:
        record["exp_years"] = f"junior {record['exp_years']}"
    for record in records[:3]:
        record["exp_years"] = str(record["exp_years"])
    said = []
    pickled = p.write_pickle(tmp_path / "jobs.pkl", records)
    for source in (pickled, _written(tmp_path, _parquet(pa.Table.from_pylist(records)))):
        with pytest.raises(InvalidRowsError) as error:
            p.convert_file(source)
        said.append(str(error.value))

    assert said[0] == said[1]


# Forged and damaged files, in processes of their own.

_SOUND: dict[str, Callable[[], bytes]] = {
    "Parquet": lambda: _parquet(_table(), compression="none"),
    "Parquet, compressed": lambda: _parquet(_table(company_name=_TEXT_COLUMNS["dictionary"])),
    "Arrow": lambda: _ipc(_table(company_name=_TEXT_COLUMNS["dictionary"]), 2),
    "Arrow, compressed": lambda: _ipc(_table(), compression="zstd"),
    "stream": lambda: _stream(_table(company_name=_TEXT_COLUMNS["dictionary"]), 2),
    "stream, compressed": lambda: _stream(_table(), compression="zstd"),
    "Arrow, views": lambda: _ipc(
        _table(
            company_name=_TEXT_COLUMNS["string_view"],
            job_post_vectors=pa.array(_LISTS, pa.list_view(pa.float32())),
        )
    ),
}


def _sound_files(folder: Path) -> dict[str, int]:
    """Write a file of each kind; return the bytes of each, by path."""
    files = {}
    for kind, make in _SOUND.items():
        (folder / kind).mkdir()
        source = _written(folder / kind, make())
        files[str(source)] = source.stat().st_size
    return files


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    """However many bytes are there, it is noticed that some are missing."""
    steps = {path: size // 100 + 1 for path, size in _sound_files(tmp_path).items()}

    assert [] == p.run_function(tmp_path, f"whole_truncations({steps})")


def test_a_flipped_bit_is_an_error_or_another_value(tmp_path: Path) -> None:
    """No bit crashes the process, raises anything unforeseen or takes all memory."""
    steps = {path: 8 * size // 200 | 1 for path, size in _sound_files(tmp_path).items()}

    assert [] == p.run_function(tmp_path, f"unexpected_outcomes({steps}, only_read=False)")


def test_a_wrong_number_of_rows_is_an_error_or_ignored(tmp_path: Path) -> None:
    """What the footer of a Parquet file says about all rows needn't be what its groups have."""
    sound = _parquet(_table(), compression="none")
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    forged: dict[str, bytes] = {}
    for rows in (0, 1, 3, 60):
        for place in range(footer, len(sound) - 8):
            if sound[place] == 8:  # four, as Thrift writes it
                content = sound[:place] + bytes([2 * rows]) + sound[place + 1 :]
                try:
                    metadata = pq.read_metadata(io.BytesIO(content))
                except (pa.ArrowException, OSError):
                    continue
                if (metadata.num_rows, metadata.row_group(0).num_rows) == (rows, 4):
                    forged.setdefault(f"{rows} rows", content)
    said = p.outcomes_of(tmp_path / "sources", forged)

    assert 4 == len(said)
    assert all(text.startswith(("converted", "ConvertError ")) for text in said.values()), said


def _patched(column: str, values: pa.Array, was: Any, becomes: Any) -> bytes:
    """Return an Arrow file of which one buffer, found by its content, holds something else."""
    sound = _ipc(_table(**{column: values}))
    old, new = np.array(was).tobytes(), np.array(becomes).tobytes()
    assert 1 == sound.count(old), sound.count(old)
    assert len(old) == len(new)
    return sound.replace(old, new)


def _int32(*values: int) -> Any:
    return np.array(values, np.int32)


_WORDS = pa.array(["abcd", "efg", "hi", "j"])
_OFFSETS = _int32(0, 4, 7, 9, 10)
_CHOSEN = pa.DictionaryArray.from_arrays(pa.array([2, 3, 1, 0], pa.int32()), _WORDS)
_PLACES = _int32(2, 3, 1, 0)
_RAGGED = pa.array([[7.5] * 4, [7.25] * 3, [7.125] * 2, [7.0625]], pa.list_(pa.float32()))
_MAX = 2**31 - 1


def _text_bytes(text: bytes) -> Any:
    return np.frombuffer(text, np.uint8)


_FORGED: dict[str, Callable[[], bytes]] = {
    "text offsets beyond the text": lambda: _patched(
        "company_name", _WORDS, _OFFSETS, _int32(0, 4, 7, 9, _MAX)
    ),
    "text offsets descending": lambda: _patched(
        "company_name", _WORDS, _OFFSETS, _int32(0, 9, 7, 9, 10)
    ),
    "text offsets negative": lambda: _patched(
        "company_name", _WORDS, _OFFSETS, _int32(-100_000, 4, 7, 9, 10)
    ),
    "text not UTF-8": lambda: _patched(
        "company_name", _WORDS, _text_bytes(b"abcdefghij"), _text_bytes(b"abcd\xffefghi")
    ),
    "id text not UTF-8": lambda: _patched(
        "id", _WORDS, _text_bytes(b"abcdefghij"), _text_bytes(b"abcd\xffefghi")
    ),
    **{
        f"dictionary index {name}": functools.partial(
            _patched, "company_name", _CHOSEN, _PLACES, _int32(2, 3, 1, value)
        )
        for name, value in (("beyond", 1 << 30), ("far beyond", _MAX), ("before", -1))
    },
    "dictionary offsets beyond the text": lambda: _patched(
        "company_name", _CHOSEN, _OFFSETS, _int32(0, 4, 7, 9, 1 << 30)
    ),
    "dictionary text not UTF-8": lambda: _patched(
        "company_name", _CHOSEN, _text_bytes(b"abcdefghij"), _text_bytes(b"abcd\xffefghi")
    ),
    **{
        f"list offsets {name}": functools.partial(
            _patched, "job_post_vectors", _RAGGED, _OFFSETS, _int32(*offsets)
        )
        for name, offsets in (
            ("beyond", (0, 4, 7, 9, 1 << 28)), ("descending", (0, 9, 7, 9, 10)),
            ("negative", (-9, 4, 7, 9, 10)),
        )
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def forged_outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Convert forged files, each in a process of its own."""
    contents = {f"{number:02}": forge() for number, forge in enumerate(_FORGED.values())}
    said = p.outcomes_of(tmp_path_factory.mktemp("forged") / "sources", contents)
    return dict(zip(_FORGED, said.values(), strict=True))


@pytest.mark.parametrize("case", _FORGED)
def test_a_forged_file_is_an_error(case: str, forged_outcomes: dict[str, str]) -> None:
    """Offsets and indices that lead elsewhere are noticed before anything is read there."""
    assert forged_outcomes[case].startswith("ConvertError UnreadableSourceError"), forged_outcomes[
        case
    ]

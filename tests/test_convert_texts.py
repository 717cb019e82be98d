"""Text columns of any size: on disk while they are read, in the file's order afterwards."""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.columns import long_texts
from convert.columns.long_texts import pieces_of
from convert.dataset import dictionary, dictionary_order, hash_table
from convert.dataset.dictionary import Dictionary
from convert.dataset.dictionary_order import OrderedTexts, number_by_first_use
from convert.dataset.hash_table import HashTable
from convert.ids import IdMode
from convert.ipc import dictionary_heads
from convert.pickle_reader import Batch
from convert.schema import TEXT_FIELDS, dataset_schema
from convert.validation import text_column
from proto import embedding_stream_pb2 as pb
from streamer.blocks import Blocks
from streamer.dataset import Dataset
from tests import pickles as p
from tests.frames import messages_of_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_MB = 1e6


# On disk while they are read.


@given(st.lists(st.lists(st.none() | _TEXT, max_size=12), max_size=6))
def test_texts_are_numbered_as_they_appear(tmp_path: Path, batches: list[list[str | None]]) -> None:
    """Each of them once, whatever batch it is in; null is the empty text."""
    texts = Dictionary(tmp_path)
    places = [texts.places(text_column(batch)).tolist() for batch in batches]
    flat = [text or "" for batch in batches for text in batch]
    expected = list(dict.fromkeys(flat))

    assert expected == texts.column().to_pylist()
    assert [expected.index(text) for text in flat] == [place for some in places for place in some]
    assert sum(len(text.encode()) for text in expected) == texts.nbytes


@given(st.lists(st.lists(_TEXT, max_size=12), max_size=6))
def test_texts_whose_hashes_are_equal_are_told_apart(
    tmp_path: Path, batches: list[list[str]]
) -> None:
    """A hash only says where to look: one text may then be there twice, none is another."""
    texts = Dictionary(tmp_path)
    with mock.patch.object(dictionary, "hash", lambda text: len(text) % 2, create=True):
        places = [texts.places(text_column(batch)) for batch in batches]
    column = texts.column()

    assert batches == [column.take(pa.array(some)).to_pylist() for some in places]


@given(
    batches=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), max_size=8),
    few=st.booleans(),
)
def test_a_hash_table_finds_what_was_added(
    tmp_path: Path, batches: list[list[int]], *, few: bool
) -> None:
    """Also when it has grown, and when all hashes want the same slots."""
    places: dict[int, int] = {}
    with mock.patch.object(hash_table, "_FIRST_SLOTS", 4):
        table = HashTable(tmp_path)
    for batch in batches:
        new = [h for h in ([h & ~63 for h in batch] if few else batch) if h not in places]
        new = list(dict.fromkeys(new))
        places |= {h: len(places) + n for n, h in enumerate(new)}
        table.add(np.array(new, np.int64), np.array([places[h] for h in new], np.int32))
    hashes = np.array([*places, 5, 12_345], np.int64)
    unknown = [places.get(h, -1) for h in (5, 12_345)]

    assert [*places.values(), *unknown] == table.find(hashes).tolist()


def test_what_lies_on_disk_has_no_name_and_is_gone_afterwards(tmp_path: Path) -> None:
    """A conversion that is killed leaves nothing of it behind."""
    texts = Dictionary(tmp_path)
    texts.places(text_column(["a" * 1000, "b"]))
    open_files = list(Path("/proc/self/fd").iterdir())

    assert [] == list(tmp_path.iterdir())
    assert ["a" * 1000, "b"] == texts.column().to_pylist()
    del texts
    assert len(list(Path("/proc/self/fd").iterdir())) < len(open_files)


# In the order of the rows afterwards.


@given(st.lists(st.lists(st.integers(0, 15), max_size=9), min_size=1, max_size=6))
def test_texts_are_numbered_by_first_use(batches: list[list[int]]) -> None:
    """As a loop over the rows would number them; what no row uses has no number."""
    places = [np.array(batch, np.int32) for batch in batches]
    order = number_by_first_use(places, 16)
    flat = [place for batch in batches for place in batch]

    assert list(dict.fromkeys(flat)) == order.tolist()
    assert flat == [order[place] for batch in places for place in batch.tolist()]


@given(st.lists(_TEXT, min_size=1, max_size=20), st.data())
def test_ordered_texts_come_in_bounded_blocks(texts: list[str], data: st.DataObject) -> None:
    """All of them, in order; a block has no more bytes than it may, or one text."""
    column = pa.array(["before", *texts], pa.large_string())[1:]
    order = data.draw(st.none() | st.lists(st.integers(0, len(texts) - 1), min_size=1))
    with mock.patch.multiple(dictionary_order, _BLOCK_TEXTS=5, _BLOCK_BYTES=30):
        ordered = OrderedTexts(column, None if order is None else np.array(order, np.int32))
        blocks = [block.to_pylist() for block in ordered.blocks()]
        sizes = [sum(len(text.encode()) for text in block) for block in blocks]
        expected = texts if order is None else [texts[place] for place in order]

        assert expected == [text for block in blocks for text in block]
        assert (len(expected), sum(sizes)) == (len(ordered), ordered.nbytes)
    assert all(
        len(block) <= 5 and (size <= 30 or len(block) == 1)
        for block, size in zip(blocks, sizes, strict=True)
    )


@given(st.lists(st.lists(_TEXT, min_size=1, max_size=9), min_size=3, max_size=3), st.data())
def test_the_heads_of_dictionaries_are_those_that_pyarrow_writes(
    texts: list[list[str]], data: st.DataObject
) -> None:
    """Bit by bit, with offsets of either width; so files have the bytes that they ever had."""
    large = data.draw(st.sets(st.sampled_from(TEXT_FIELDS)))
    schema = dataset_schema(3, {}, large)
    arrays = {
        name: pa.array(some, schema.field(name).type.value_type)
        for name, some in zip(TEXT_FIELDS, texts, strict=True)
    }
    rows = [
        pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), arrays[field.name])
        if field.name in arrays
        else pa.nulls(1, field.type)
        for field in schema
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(rows, schema=schema))
    messages = [m for m in pa.ipc.MessageReader.open_stream(sink.getvalue())][1:-1]  # noqa: C416
    sizes = {n: (len(some), sum(len(t.encode()) for t in some)) for n, some in
             zip(TEXT_FIELDS, texts, strict=True)}  # fmt: skip
    heads = dictionary_heads(schema, sizes)

    assert list(TEXT_FIELDS) == list(heads)
    for message, made in zip(messages, heads.values(), strict=True):
        assert message.metadata.to_pybytes() == made.head.metadata
        assert message.body.size == made.head.body_bytes


# Whole conversions.


@contextlib.contextmanager
def _small(*, large: bool = False) -> Iterator[None]:
    """Let dictionaries of more than three texts be large ones, copied forty bytes at a time.

    `large`: of more than fifty bytes, they need offsets of 64 bits.
    """
    with (
        p.small_batches(4, 5),
        mock.patch("convert.dataset.dictionary_order.SMALL_TEXTS", 3),
        mock.patch.multiple(dictionary_order, _BLOCK_TEXTS=4, _BLOCK_BYTES=40),
        mock.patch("convert.writer.MAX_TEXT_BYTES", 50 if large else 1 << 31),
        mock.patch("convert.pickle_reader.rows.long_texts._TEXT_BYTES", 600),
        mock.patch.object(long_texts, "_MOST_BYTES", 60),
    ):
        yield


def _make_records(rows: int = 40) -> list[dict[str, Any]]:
    """Return records of long texts and short ones, some of them null, some shared."""
    shared = "é" * 400
    return [
        {
            **record,
            "company_name": [f"{'x' * 300}{row}", shared, "", None][min(row % 5, 3)],
            "primary_keyword": ["Java", "Go"][row % 2],
            "english_level": f"level {row % 7} 한빛",
        }
        for row, record in enumerate(p.make_records(rows))
    ]


def _expected(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return p.rows_expected(
        [{**record, "company_name": record["company_name"] or ""} for record in records]
    )


def _write_ipc(path: Path, records: list[dict[str, Any]], *types: pa.DataType) -> None:
    table = pa.Table.from_pylist(records)
    for kind in types:
        at = table.schema.names.index("company_name")
        table = table.set_column(at, "company_name", table.column(at).cast(kind))
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


_SHAPES: dict[str, Callable[[Path, list[dict[str, Any]]], object]] = {
    "records": p.write_pickle,
    "frame": lambda path, records: p.write_pickle(path, pd.DataFrame(records)),
    "parquet": lambda path, records: pq.write_table(pa.Table.from_pylist(records), path),
    "arrow": _write_ipc,
    "arrow with dictionary": lambda path, records: _write_ipc(
        path, records, pa.dictionary(pa.int32(), pa.string())
    ),
    "arrow with views": lambda path, records: _write_ipc(path, records, pa.string_view()),
}


def _dictionary(path: Path, name: str) -> list[str]:
    with path.open("rb") as file:
        column = pa.ipc.open_file(file).read_all().column(name)
        texts: list[str] = column.chunk(0).dictionary.to_pylist()
        return texts


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("shape", _SHAPES)
def test_rows_keep_their_texts(shape: str, tmp_path: Path, *, large: bool) -> None:
    """Large dictionaries in the order of the rows, a small one as it came, all in one file."""
    records, source = _make_records(), tmp_path / "jobs"
    _SHAPES[shape](source, records)
    with _small(large=large):
        p.convert_file(source)
    expected = _expected(records)
    out = p.arrow_path(source)
    kinds = {field.name: field.type for field in pa.ipc.open_file(out).schema}

    assert expected == p.rows_of(out)
    for name in ("company_name", "english_level"):
        assert list(dict.fromkeys(row[name] for row in expected)) == _dictionary(out, name)
    assert ["Java", "Go"] == _dictionary(out, "primary_keyword")
    value_type = pa.large_string() if large else pa.string()
    assert value_type == kinds["company_name"].value_type
    assert pa.string() == kinds["primary_keyword"].value_type


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_rows_that_are_in_order_keep_their_texts(shape: str, tmp_path: Path) -> None:
    """Nothing is reordered, where ids ascend or are made."""
    records = sorted(_make_records(), key=lambda record: str(record["id"]))
    source = tmp_path / "jobs"
    _SHAPES[shape](source, records)
    with _small():
        p.convert_file(source)
        p.convert_file(source, tmp_path / "made.arrow", ids=IdMode.UUID7)
    made = [{**row, "id": None} for row in p.rows_of(tmp_path / "made.arrow")]

    assert _expected(records) == p.rows_of(p.arrow_path(source))
    assert [{**row, "id": None} for row in _expected(records)] == made


def test_texts_of_rows_that_are_left_out_are_left_out(tmp_path: Path) -> None:
    """A large dictionary has no text that only a rejected row had."""
    records = _make_records()
    for row in (0, 11, 39):
        records[row]["exp_years"] = "many"
        records[row]["company_name"] = f"only here {row}"
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with _small():
        report = p.convert_file(source, skip_invalid=True)
    expected = _expected([r for r in records if r["exp_years"] != "many"])
    rejected = (tmp_path / "jobs.pkl.arrow.rejected.jsonl").read_text().splitlines()

    assert report is not None
    assert 3 == report.rejected
    assert expected == p.rows_of(p.arrow_path(source))
    assert not any(
        "only here" in text for text in _dictionary(p.arrow_path(source), "company_name")
    )
    assert ["only here 0", "only here 11", "only here 39"] == [
        json.loads(line)["values"]["company_name"] for line in rejected
    ]


@settings(max_examples=60)
@given(
    texts=st.lists(st.tuples(*[st.none() | _TEXT] * 3), min_size=1, max_size=30),
    shape=st.sampled_from(["records", "frame", "parquet", "arrow"]),
    large=st.booleans(),
)
def test_any_texts_survive(
    tmp_path: Path, texts: list[tuple[str | None, ...]], shape: str, *, large: bool
) -> None:
    """Empty, equal, null, of any letters: what a row had, its row has."""
    records = [
        {**record, **dict(zip(TEXT_FIELDS, some, strict=True))}
        for record, some in zip(p.make_records(len(texts)), texts, strict=True)
    ]
    source = tmp_path / "jobs"
    _SHAPES[shape](source, records)
    with _small(large=large):
        p.convert_file(source, force=True)
    filled = [{**r, **{name: r[name] or "" for name in TEXT_FIELDS}} for r in records]

    assert p.rows_expected(filled) == p.rows_of(p.arrow_path(source))


def test_small_dictionaries_are_as_they_came(tmp_path: Path) -> None:
    """In the order of the source, texts of rejected rows included: the bytes they ever had."""
    records = _make_records()
    records[3].update(exp_years="many", company_name="only here")
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    p.convert_file(source, skip_invalid=True)
    seen = dict.fromkeys(record["company_name"] or "" for record in records)

    assert list(seen) == _dictionary(p.arrow_path(source), "company_name")


@pytest.mark.parametrize("large", [False, True])
def test_a_stream_has_the_texts(tmp_path: Path, *, large: bool) -> None:
    """Rows and chunks, joined and gathered, from every row: the official runtime's bytes."""
    source = p.write_pickle(tmp_path / "jobs.pkl", _make_records())
    with _small(large=large):
        p.convert_file(source)
    rows = [pb.Embedding(**row) for row in p.rows_of(p.arrow_path(source))]
    for kept in (65_536, 2):
        with mock.patch("streamer.codec.encode_text._KEPT_DICTIONARY_VALUES", kept):
            dataset = Dataset(p.arrow_path(source)).current()
            for gathered in (False, True):
                blocks = Blocks(dataset, max_message_bytes=1 << 20, gathered=gathered)
                for row in (0, 1, 17):
                    after = uuid.UUID(rows[row - 1].id).bytes if row else None
                    found = messages_of_blocks(blocks.of_rows(dataset.store.rows_after(after)))
                    chunks = messages_of_blocks(
                        blocks.of_chunks(dataset.store.rows_after(after), 7)
                    )

                    assert [each.SerializeToString() for each in rows[row:]] == found
                    assert [
                        pb.RowChunk(rows=rows[begin : begin + 7]).SerializeToString()
                        for begin in range(row, len(rows), 7)
                    ] == chunks


def test_a_long_text_that_rows_share_lies_on_the_disk_once(tmp_path: Path) -> None:
    """Not once for each batch that refers to it, even where others came between."""
    text = "y" * 100_000
    records = [
        {**record, "company_name": text if row % 3 else f"{'z' * 300} {row}"}
        for row, record in enumerate(p.make_records(20_000))
    ]
    for content in (records, pd.DataFrame(records, dtype=object)):
        source = p.write_pickle(tmp_path / "jobs.pkl", content)
        with mock.patch.object(dictionary_order, "SMALL_BYTES", 0):
            p.convert_file(source, force=True)

        assert source.stat().st_size < 6 * _MB
        assert p.arrow_path(source).stat().st_size < 4 * _MB


# What is held at a time.


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.integers(1, 12),
    st.sampled_from(["string", "large_string", "dictionary", "string_view", "list"]),
)
def test_pieces_have_few_bytes_of_text(lengths: list[int], rows: int, kind: str) -> None:
    """Or one row. All rows come, in their order, each as it was."""
    texts = [chr(97 + n) * length for n, length in enumerate(lengths)]
    values: Any = texts
    if kind == "dictionary":
        values = pa.array(["unused" * 100, *texts])[1:].dictionary_encode()
    elif kind != "list":
        values = pa.array(["before" * 100, *texts], pa.type_for_alias(kind))[1:]
    batch = Batch(len(texts), {"text": values}, lambda row: {"text": texts[row]})
    with mock.patch.object(long_texts, "_MOST_BYTES", 50):
        pieces = list(pieces_of(batch, rows, ["text"]))
    found = [pa.array(piece.columns["text"]).to_pylist() for piece in pieces]

    assert texts == [text for some in found for text in some]
    assert texts == [piece.row(row)["text"] for piece in pieces for row in range(piece.rows)]
    assert all(piece.rows <= rows for piece in pieces)
    if kind != "list":
        assert all(len(some) == 1 or sum(map(len, some)) <= 50 for some in found)


_MEASURED = """
import sys
from pathlib import Path
from convert.options import Options
from convert.pipeline import convert
from tests.pickles import Quiet, import_lazy_modules
import_lazy_modules()
source = Path(sys.argv[1])
print(convert(Options(source, source.with_suffix(".arrow"), {}, force=True), Quiet()).peak_bytes)
"""


def _peak(source: Path) -> int:
    process = p.run_python(source.parent, "-c", _MEASURED, str(source))
    assert 0 == process.returncode, process.stderr
    return int(process.stdout)


@pytest.fixture(scope="module")
def peak_of_short(tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("short")
    return _peak(p.write_pickle(folder / "jobs.pkl", p.make_records(3_000)))


@pytest.mark.parametrize("shape", ["records", "frame", "parquet", "arrow", "arrow with views"])
def test_memory_doesnt_grow_with_the_texts(shape: str, peak_of_short: int, tmp_path: Path) -> None:
    """60 MB of text, all of it in the second half of the rows; as Python's they were 120."""
    records = p.make_records(1_200)
    for row, record in enumerate(records[600:]):
        record["company_name"] = f"{row} •" + "x" * 100_000
    source = tmp_path / "jobs.pkl"
    if shape == "parquet":  # whose pages are read whole, and by default are of 1,024 rows
        pq.write_table(pa.Table.from_pylist(records), source, write_batch_size=16)
    else:
        _SHAPES[shape](source, records)

    most = 180 if shape == "parquet" else 90  # Arrow's reader holds a batch several times
    assert _peak(source) - peak_of_short < most * _MB

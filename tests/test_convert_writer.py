"""The dataset file: its layout, and that it is there whole or as it was before."""

from __future__ import annotations

import os
import stat
import struct
import time
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import dataset, feather

from convert import permute as permute_module
from convert import writer
from convert.atomic import remove_leftovers, replacing
from convert.errors import OutputError
from convert.id_text import IdKind
from convert.order import sorted_order
from convert.schema import ALIGNMENT_BYTES, BATCH_ROWS, TEXT_FIELDS, DatasetInfo, dataset_schema
from convert.writer import DatasetWriter, Rows
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_METADATA = {
    "format-version": "1",
    "fingerprint": "ab" * 32,
    "source": "jöbs.pkl",
    "id-kind": "uuid",
    "rows": "7",
    "dimension": "3",
}


class _Made(NamedTuple):
    """Rows with the dictionaries that their text columns point into."""

    rows: Rows
    dictionaries: dict[str, pa.Array]


def make_rows(rows: int, dimension: int, words: list[str], seed: int = 0) -> _Made:
    """Return rows of random values, the text of which is made of `words`."""
    random = np.random.default_rng(seed)
    narrow: dict[str, NDArray[Any]] = {
        "id": random.integers(0, 256, (rows, 16)).astype(np.uint8),
        "exp_years": random.integers(-5, 300, rows).astype(np.int32),
        **{name: random.integers(0, len(words), rows).astype(np.int32) for name in TEXT_FIELDS},
    }
    vectors = random.standard_normal((rows, dimension), np.float32)
    return _Made(Rows(narrow, vectors), dict.fromkeys(TEXT_FIELDS, pa.array(words, pa.string())))


def _part(rows: Rows, begin: int, end: int) -> Rows:
    narrow = {name: column[begin:end] for name, column in rows.narrow.items()}
    return Rows(narrow, rows.vectors[begin:end])


def _info(made: _Made, rows: int | None = None) -> DatasetInfo:
    count, dimension = made.rows.vectors.shape
    rows = count if rows is None else rows
    return DatasetInfo("ab" * 32, "jöbs.pkl", IdKind.UUID, rows, dimension)


def write(
    out: Path, made: _Made, pieces: Sequence[int] = (), order: NDArray[np.integer] | None = None
) -> None:
    """Write rows in pieces of those sizes, and what is left; those of `order` if there is one."""
    begin, count = 0, len(made.rows.vectors)
    info, seen = _info(made, count if order is None else len(order)), list[int]()
    with replacing(out) as file:
        dataset_writer = DatasetWriter(file, info.source, info.dimension)
        for size in (*pieces, count):
            dataset_writer.append(_part(made.rows, begin, begin + size))
            begin += size
        if order is not None:
            dataset_writer.reorder(order, seen.append)
            assert len(order) == sum(seen)
        dataset_writer.finish(info, made.dictionaries)


def _expected(made: _Made) -> list[dict[str, Any]]:
    narrow, words = made.rows.narrow, made.dictionaries
    return [
        {
            "id": uuid.UUID(bytes=narrow["id"][row].tobytes()),
            "exp_years": narrow["exp_years"][row],
            "vector": made.rows.vectors[row].tolist(),
            **{name: words[name][narrow[name][row]].as_py() for name in TEXT_FIELDS},
        }
        for row in range(len(made.rows.vectors))
    ]


@pytest.fixture
def batch_rows(monkeypatch: pytest.MonkeyPatch) -> int:
    """Write batches of five rows, put three at a time in order."""
    monkeypatch.setattr(writer, "BATCH_ROWS", 5)
    monkeypatch.setattr(permute_module, "_block_rows", lambda _columns: 3)
    return 5


# Layout.


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    """Names, types, order of the columns, no nullable one, and the metadata."""
    write(tmp_path / "out.arrow", make_rows(7, 3, ["a"]))
    schema = pa.ipc.open_file(tmp_path / "out.arrow").schema
    text = pa.dictionary(pa.int32(), pa.string())
    metadata = {
        key.decode().removeprefix("embedding-stream."): value.decode()
        for key, value in schema.metadata.items()
    }

    assert {
        "id": pa.uuid(),
        "company_name": text,
        "exp_years": pa.int32(),
        "english_level": text,
        "primary_keyword": text,
        "vector": pa.list_(pa.field("item", pa.float32(), nullable=False), 3),
    } == dict(zip(schema.names, schema.types, strict=True))
    assert not any(field.nullable for field in schema)
    assert dataset_schema(3, {}).equals(schema.remove_metadata())
    assert _METADATA == metadata


def test_metadata_is_read_back_as_it_was_written() -> None:
    """DatasetInfo makes metadata of itself and itself of metadata."""
    info = DatasetInfo("ab" * 32, "jöbs.pkl", IdKind.ULID, 7, 3)

    assert info == DatasetInfo.from_metadata(info.to_metadata())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rows", None, "no 'rows'"),
        ("fingerprint", None, "no 'fingerprint'"),
        ("format-version", None, "no 'format-version'"),
        ("format-version", b"2", "format version 2, this program reads 1"),
        ("rows", b"many", "many"),
        ("id-kind", b"snowflake", "snowflake"),
    ],
)
def test_metadata_that_is_wrong_is_a_value_error(key: str, value: bytes | None, said: str) -> None:
    """What is missing or wrong is named."""
    metadata = DatasetInfo("ab" * 32, "jobs.pkl", IdKind.UUID, 7, 3).to_metadata()
    del metadata[f"embedding-stream.{key}".encode()]
    if value is not None:
        metadata[f"embedding-stream.{key}".encode()] = value

    with pytest.raises(ValueError, match=said):
        DatasetInfo.from_metadata(metadata)
    with pytest.raises(ValueError, match="no 'format-version'"):
        DatasetInfo.from_metadata(None)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 40)),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1,
                   max_size=9, unique=True),
    seed=st.integers(0, 2**32 - 1),
    pieces=st.lists(st.integers(0, 12), max_size=6),
)  # fmt: skip
def test_rows_survive_in_aligned_batches(
    tmp_path: Path, batch_rows: int, *, size: tuple[int, int], words: list[str], seed: int,
    pieces: list[int],
) -> None:  # fmt: skip
    """Whatever the sizes: all values in their order, equal batches, buffers at 64 bytes."""
    rows, dimension = size
    out, made = tmp_path / "out.arrow", make_rows(rows, dimension, words, seed)
    full, left = divmod(rows, batch_rows)
    backwards = np.arange(rows)[::-1]
    for content, order in ((made, None), (_taken(made, backwards), backwards)):
        write(out, content, pieces, order)
        file = pa.OSFile(str(out)).read_buffer()
        reader = pa.ipc.open_file(file)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]

        assert _expected(made) == pa.Table.from_batches(batches).to_pylist()
        assert [batch_rows] * full + [left] * bool(left) == [batch.num_rows for batch in batches]
        assert [] == [where for where in (_misplaced(b, file) for b in batches) if where]
        assert [] == _garbage(file)


def _taken(made: _Made, order: NDArray[np.integer]) -> _Made:
    """Return the rows of `order`."""
    narrow = {name: column[order] for name, column in made.rows.narrow.items()}
    return made._replace(rows=Rows(narrow, made.rows.vectors[order]))


def _buffers(batch: pa.RecordBatch) -> dict[str, pa.Buffer]:
    """Return the buffers of a batch's own, those of its dictionaries apart."""
    found: dict[str, pa.Buffer] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        array = column.storage if isinstance(column, pa.ExtensionArray) else column
        array = array.indices if pa.types.is_dictionary(array.type) else array
        found |= {f"{name} {n}": b for n, b in enumerate(array.buffers()) if b is not None}
    return found


def _misplaced(batch: pa.RecordBatch, file: pa.Buffer) -> list[str]:
    """Return the buffers that don't begin at a multiple of 64 bytes of the file, or outside."""
    return [
        name
        for name, buffer in _buffers(batch).items()
        if (buffer.address - file.address) % ALIGNMENT_BYTES
        or not file.address <= buffer.address <= file.address + file.size - buffer.size
    ]


def _messages(content: bytes) -> list[tuple[str, int, int, int]]:
    """Walk through a file: of each message its type and where it, its body and that end.

    Last comes the mark of their end.
    """
    found: list[tuple[str, int, int, int]] = []
    begin = 8
    while True:
        mark, size = struct.unpack_from("<Ii", content, begin)
        assert 0xFFFFFFFF == mark
        body = begin + 8 + size
        if not size:
            return [*found, ("end", begin, body, body)]
        message = pa.ipc.read_message(pa.py_buffer(content)[begin:])
        end = body + message.body.size
        found.append((message.type, begin, body, end))
        begin = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _garbage(file: pa.Buffer) -> list[int]:
    """Return the bytes of a file that are neither zero nor part of anything."""
    content = np.frombuffer(file, np.uint8).copy()
    (footer,) = struct.unpack("<i", content[-10:-6].tobytes())
    places = [(0, 6), (len(content) - footer - 10, len(content))]
    places += [(begin, body) for _, begin, body, _ in _messages(content.tobytes())]
    reader = pa.ipc.open_file(file)
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        row_bytes = {"id 1": 16, "vector 2": 4 * batch.schema.field("vector").type.list_size}
        used = [(b, batch.num_rows * row_bytes.get(n, 4)) for n, b in _buffers(batch).items()]
        for name in TEXT_FIELDS:
            texts = batch.column(name).dictionary
            used.append((texts.buffers()[1], 4 * len(texts) + 4))
            used.append((texts.buffers()[2], sum(len(t.encode()) for t in texts.to_pylist())))
        begins = [(buffer.address - file.address, size) for buffer, size in used if buffer]
        places += [(begin, begin + size) for begin, size in begins]
    for begin, end in places:
        content[begin:end] = 0
    found: list[int] = np.flatnonzero(content).tolist()
    return found


def test_batches_are_of_the_documented_size(tmp_path: Path) -> None:
    """16,384 rows, the last batch what is left, all of them aligned and uncompressed."""
    rows = 2 * BATCH_ROWS + 100
    made = make_rows(rows, 2, ["a", "b"])
    order = sorted_order(made.rows.narrow["id"].astype(np.uint8))
    write(tmp_path / "out.arrow", made, [700, 16_384, 1], order)
    file = pa.memory_map(str(tmp_path / "out.arrow")).read_buffer()
    reader = pa.ipc.open_file(file)
    batches = [reader.get_batch(number) for number in range(3)]

    assert [16_384, 16_384, 100] == [batch.num_rows for batch in batches]
    assert [[], [], []] == [_misplaced(batch, file) for batch in batches]
    assert {"id 1", "company_name 1", "exp_years 1", "english_level 1", "primary_keyword 1"} <= set(
        _buffers(batches[0])
    )
    assert 8 * rows < file.size
    assert np.array_equal(
        made.rows.vectors[order].reshape(-1),
        np.concatenate([batch.column("vector").flatten().to_numpy() for batch in batches]),
    )


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 10, 11])
def test_a_file_is_laid_out_as_arrow_says(rows: int, batch_rows: int, tmp_path: Path) -> None:
    """Schema at byte 8, batches, dictionaries, end, footer; both schemas are the same."""
    out = tmp_path / "out.arrow"
    write(out, make_rows(rows, 3, ["a", "한빛소프트"]), [2, 2])
    content = out.read_bytes()
    messages = _messages(content)
    reader = pa.ipc.open_file(pa.py_buffer(content))
    batches = -(-rows // batch_rows)

    assert ["schema", *["record batch"] * batches, *["dictionary"] * 3, "end"] == [
        kind for kind, *_ in messages
    ]
    assert all(begin % ALIGNMENT_BYTES == 0 for _, begin, *_ in messages[1:])
    assert (b"ARROW1\0\0", b"ARROW1") == (content[:8], content[-6:])
    header = pa.ipc.read_schema(pa.BufferReader(content[8:]))
    assert header.equals(reader.schema, check_metadata=True)
    assert batches == reader.num_record_batches


def test_others_read_the_file_too(tmp_path: Path) -> None:
    """Arrow's datasets, pandas, and whoever maps it: the same rows."""
    made = make_rows(12, 3, ["a", "b"])
    write(tmp_path / "out.arrow", made)
    expected = _expected(made)
    frame = pd.read_feather(tmp_path / "out.arrow")

    assert expected == dataset.dataset(tmp_path / "out.arrow", format="ipc").to_table().to_pylist()
    assert expected == feather.read_table(tmp_path / "out.arrow").to_pylist()
    with pa.memory_map(str(tmp_path / "out.arrow")) as mapped:
        assert expected == pa.ipc.open_file(mapped).read_all().to_pylist()
    assert [row["company_name"] for row in expected] == frame["company_name"].tolist()
    assert [row["vector"] for row in expected] == [v.tolist() for v in frame["vector"]]


@pytest.mark.parametrize("dimension", [1, 16, 17, 384, 5000])
def test_a_name_of_any_length_fits_into_the_header(dimension: int, tmp_path: Path) -> None:
    """The space that is kept for the schema is as much as it takes, whatever it says."""
    for name in ("x", "x" * 255, "한빛" * 40, "\udcff" * 50):
        made = make_rows(3, dimension, ["a"])
        with replacing(tmp_path / "out.arrow") as file:
            dataset_writer = DatasetWriter(file, name, dimension)
            dataset_writer.append(made.rows)
            info = DatasetInfo("cd" * 32, name, IdKind.ULID, 3, dimension)
            dataset_writer.finish(info, made.dictionaries)

        found = p.info_of(tmp_path / "out.arrow")
        assert info.to_metadata() == found.to_metadata()
        assert made.rows.vectors.tolist() == [
            row["vector"] for row in p.rows_of(tmp_path / "out.arrow")
        ]


def test_a_mapped_file_is_used_where_it_lies(tmp_path: Path) -> None:
    """Reading a batch allocates nothing: no buffer is compressed."""
    write(tmp_path / "out.arrow", make_rows(10_000, 64, ["a"]))
    before = pa.total_allocated_bytes()
    batch = pa.ipc.open_file(pa.memory_map(str(tmp_path / "out.arrow"))).get_batch(0)

    assert 10_000 == batch.num_rows
    assert pa.total_allocated_bytes() - before < 10_000


@settings(max_examples=100)
@given(rows=st.integers(1, 40), data=st.data())
def test_only_the_rows_of_the_order_are_written(
    tmp_path: Path, batch_rows: int, rows: int, data: st.DataObject
) -> None:
    """The order says which rows, and in what order; others leave nothing behind."""
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    some = data.draw(st.permutations(range(rows)))[: data.draw(st.integers(1, rows))]
    made, order = make_rows(rows, 3, ["a", "b"]), np.array(some, dtype)
    write(tmp_path / "out.arrow", made, order=order)
    write(tmp_path / "alone.arrow", _taken(made, order))

    assert batch_rows
    assert (tmp_path / "alone.arrow").read_bytes() == (tmp_path / "out.arrow").read_bytes()


@given(rows=st.integers(1, 60), batch_rows=st.integers(1, 9), block=st.integers(1, 9),
       data=st.data())  # fmt: skip
def test_rows_are_put_in_order_where_they_are(
    rows: int, batch_rows: int, block: int, data: st.DataObject
) -> None:
    """As if they were copied in that order, whatever moves at once, and however little there is."""
    batches = -(-rows // batch_rows)
    some = data.draw(st.permutations(range(rows)))[: data.draw(st.integers(0, rows))]
    order = np.array(some, np.int32)
    columns = [
        np.arange(batches * batch_rows).reshape(batches, batch_rows),
        np.arange(batches * batch_rows * 4).reshape(batches, batch_rows, 4),
    ]
    expected = [column.reshape(-1, *column.shape[2:])[order].tolist() for column in columns]
    with mock.patch.object(permute_module, "_block_rows", return_value=block):
        permute_module.permute(columns, order, lambda _count: None)
    found = [column.reshape(-1, *column.shape[2:])[: len(order)].tolist() for column in columns]
    left = columns[0].reshape(-1)[len(order) :].tolist()

    assert expected == found
    assert sorted(set(range(batches * batch_rows)) - set(some)) == sorted(left)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    """No time, no name of a temporary file, no memory that wasn't cleared, no piece's end."""
    made = make_rows(1000, 7, ["a", "한빛소프트"])
    write(tmp_path / "one", made)
    write(tmp_path / "other", made, [1, 0, 500])
    shuffled = np.random.default_rng(0).permutation(1000)
    write(tmp_path / "third", _taken(made, shuffled), [], np.argsort(shuffled))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "third").read_bytes()


@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_what_goes_wrong_in_the_threads_that_write_is_raised(
    rows: int, batch_rows: int, *, is_sorted: bool
) -> None:
    """At a later call, or at the end: no byte gets lost without a word."""
    made = make_rows(rows, 300, ["a"])

    def write_to(file: IO[bytes]) -> None:
        dataset_writer = DatasetWriter(file, "jobs.pkl", 300)
        for row in range(rows):
            dataset_writer.append(_part(made.rows, row, row + 1))
        if not is_sorted:
            dataset_writer.reorder(np.arange(rows)[::-1], lambda _count: None)
        dataset_writer.finish(_info(made), made.dictionaries)

    with (
        Path("/dev/full").open("r+b", buffering=0) as full,
        pytest.raises(OSError, match="No space left"),
    ):
        write_to(full)
    assert batch_rows


def test_a_writer_that_is_given_up_writes_to_no_other_file(tmp_path: Path) -> None:
    """Its file may be closed, and its number be another file's, while threads still write."""
    made = make_rows(2000, 2000, ["a"])
    with (tmp_path / "given up").open("w+b") as file:
        DatasetWriter(file, "jobs.pkl", 2000).append(made.rows)
        number = file.fileno()
    with (tmp_path / "other").open("w+b") as other:
        assert number == other.fileno()
        time.sleep(0.2)

    assert b"" == (tmp_path / "other").read_bytes()


# Replacing.


def test_a_file_takes_the_place_of_the_old_one_at_the_end(tmp_path: Path) -> None:
    """Until all is written the old file is there, and who has it open keeps it."""
    out = tmp_path / "out.arrow"
    out.write_bytes(b"old")
    with out.open("rb") as reader:
        with replacing(out) as file:
            file.write(b"new")
            file.flush()
            assert b"old" == out.read_bytes()
            assert [".partial"] == [path.suffix for path in p.partials(tmp_path)]

        assert b"new" == out.read_bytes()
        assert b"old" == reader.read()
    assert [] == p.partials(tmp_path)


def _write_and_raise(out: Path, error: BaseException) -> None:
    with replacing(out) as file:
        file.write(b"new")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path
) -> None:
    """What is raised while writing removes the temporary file; a full disk is an OutputError."""
    out = tmp_path / "out.arrow"
    out.write_bytes(b"old")

    with pytest.raises((OutputError, KeyboardInterrupt)):
        _write_and_raise(out, error)

    assert b"old" == out.read_bytes()
    assert [out] == list(tmp_path.iterdir())


def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    """A temporary file is for its owner alone; the dataset is as readable as other files."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "out.arrow"):
            pass
        umask = os.umask(0o027)
    finally:
        os.umask(before)

    assert 0o640 == stat.S_IMODE((tmp_path / "out.arrow").stat().st_mode)
    assert 0o027 == umask


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it is renamed, the folder after: a power cut loses neither."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder synced" if folder else "file synced")
        fsync(descriptor)

    def rename(source: Any, target: Any, **options: Any) -> None:
        steps.append("renamed")
        replace(source, target, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write(tmp_path / "out.arrow", make_rows(1, 1, ["a"]))

    assert ["file synced", "renamed", "folder synced"] == steps


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """The output may lie in a folder that isn't there yet."""
    write(tmp_path / "a" / "b" / "out.arrow", make_rows(1, 1, ["a"]))

    assert (tmp_path / "a" / "b" / "out.arrow").exists()


def test_a_folder_that_is_a_file_is_an_output_error(tmp_path: Path) -> None:
    """Whatever the file system refuses says what and why, and that nothing changed."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutputError, match=r"can't be written: .*as it was before"):
        write(tmp_path / "file" / "out.arrow", make_rows(1, 1, ["a"]))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A folder, a pipe, a device: the error says so at once, and it stays what it is."""
    out = tmp_path / "out.arrow"
    make(out)
    before = stat.S_IFMT(out.stat().st_mode)

    with pytest.raises(OutputError, match=r"out\.arrow can't be written: it is no regular file"):
        write(out, make_rows(1, 1, ["a"]))
    assert before == stat.S_IFMT(out.stat().st_mode)
    assert [out] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.arrow", "a[1].arrow", "*.arrow", "?.arrow", "한빛 {}.arrow"])
def test_what_a_killed_writer_left_is_removed(name: str, tmp_path: Path) -> None:
    """Leftovers of this output go, whatever is in its name; those of others stay."""
    other = tmp_path / ".another.arrow.abc.partial"
    other.write_bytes(b"half")
    with replacing(tmp_path / name):
        [leftover] = [path for path in p.partials(tmp_path) if path != other]
    leftover.write_bytes(b"half")
    remove_leftovers(tmp_path / name)

    assert [other] == p.partials(tmp_path)


def test_what_a_living_writer_writes_is_not_removed(tmp_path: Path) -> None:
    """A second conversion of the same source leaves the first one's temporary file alone."""
    out, source = tmp_path / "jobs.arrow", p.write_pickle(tmp_path / "jobs.pkl", p.make_records())
    with replacing(out) as file:
        [mine] = p.partials(tmp_path)
        process = p.run_convert(tmp_path, source)
        assert 0 == process.returncode
        assert p.rows_expected(p.make_records()) == p.rows_of(out)
        assert [mine] == p.partials(tmp_path)
        file.write(b"mine")

    assert b"mine" == out.read_bytes()
    assert [] == p.partials(tmp_path)


# Ends that can't be caught.

_LIMITED = """
import resource, sys
from convert import writer
from convert.__main__ import main
writer.BATCH_ROWS = 64
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main(prog_name="python -m convert")
"""


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_full_disk_leaves_the_old_file(share: float, tmp_path: Path, *, is_sorted: bool) -> None:
    """However much fits, the error is one line, and the old file is all that is there."""
    records = p.make_records(500, 64)
    if is_sorted:
        records.sort(key=lambda record: str(record["id"]))
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    out = tmp_path / "jobs.arrow"
    p.convert_file(source, out)
    old, limit = out.read_bytes(), int(share * out.stat().st_size)

    process = p.run_python(tmp_path, "-c", _LIMITED, str(limit), str(source), "--force")

    assert 1 == process.returncode
    assert "jobs.arrow can't be written: File too large" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert old == out.read_bytes()
    assert {source, out} == set(tmp_path.iterdir())


def test_a_kill_at_any_moment_leaves_one_whole_file(tmp_path: Path) -> None:
    """Old or new, never half of one; and the next run removes what the kills left."""
    sources = [
        str(p.write_pickle(tmp_path / f"{seed}.pkl", p.make_records(100, 16, seed)))
        for seed in range(2)
    ]
    out = tmp_path / "out.arrow"
    p.convert_file(tmp_path / "0.pkl", out)
    result = p.run_function(tmp_path, f"kill_conversions({sources}, {str(out)!r}, 0, 25)")

    assert (0, 0) == (result["broken"], result["partials_after_next_run"])
    # Else no kill met a writer, and nothing was proved.
    assert result["partials_left"] > 0

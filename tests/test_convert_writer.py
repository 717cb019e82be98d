"""The dataset file: its layout, and that it is there whole or as it was before."""

from __future__ import annotations

import os
import stat
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert import writer
from convert.atomic import remove_leftovers, replacing
from convert.errors import OutputError
from convert.id_text import IdKind
from convert.order import sorted_order
from convert.schema import ALIGNMENT_BYTES, BATCH_ROWS, TEXT_FIELDS, DatasetInfo, dataset_schema
from convert.writer import Columns, write_dataset
from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_METADATA = {
    "format-version": "1",
    "fingerprint": "ab" * 32,
    "source": "jöbs.pkl",
    "id-kind": "uuid",
    "rows": "7",
    "dimension": "3",
}


def make_columns(rows: int, dimension: int, words: list[str], seed: int = 0) -> Columns:
    """Return columns of random values, the text of which is made of `words`."""
    random = np.random.default_rng(seed)
    text = {
        name: pa.DictionaryArray.from_arrays(
            pa.array(random.integers(0, len(words), rows), pa.int32()), pa.array(words, pa.string())
        )
        for name in TEXT_FIELDS
    }
    return Columns(
        ids=random.integers(0, 256, (rows, 16)).astype(np.uint8),
        years=pa.array(random.integers(-5, 300, rows), pa.int32()),
        text=text,
        vectors=random.standard_normal((rows, dimension), np.float32),
    )


def write(out: Path, columns: Columns, order: NDArray[np.int64] | None = None) -> list[int]:
    """Write the columns, sorted; return the progress that was reported."""
    rows, dimension = columns.vectors.shape
    seen: list[int] = []
    info = DatasetInfo("ab" * 32, "jöbs.pkl", IdKind.UUID, rows, dimension)
    order = sorted_order(columns.ids) if order is None else order
    write_dataset(out, info, columns, order, seen.append)
    return seen


def _expected(columns: Columns) -> list[dict[str, Any]]:
    rows = [
        {
            "id": uuid.UUID(bytes=columns.ids[row].tobytes()),
            "exp_years": columns.years[row].as_py(),
            "vector": columns.vectors[row].tolist(),
            **{name: columns.text[name][row].as_py() for name in TEXT_FIELDS},
        }
        for row in range(len(columns.ids))
    ]
    return sorted(rows, key=lambda row: bytes(row["id"].bytes))


@pytest.fixture
def batch_rows(monkeypatch: pytest.MonkeyPatch) -> int:
    """Write batches of five rows."""
    monkeypatch.setattr(writer, "BATCH_ROWS", 5)
    return 5


# Layout.


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    """Names, types, order of the columns, no nullable one, and the metadata."""
    write(tmp_path / "out.arrow", make_columns(7, 3, ["a"]))
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
    assert _METADATA == {k: v for k, v in metadata.items() if k != "padding"}
    assert "" == metadata.get("padding", "").strip(" ")


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


@settings(
    deadline=None, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 40)),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1,
                   max_size=9, unique=True),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_rows_survive_sorted_in_aligned_batches(
    tmp_path: Path, batch_rows: int, size: tuple[int, int], words: list[str], seed: int
) -> None:
    """Whatever the sizes: all values, ascending ids, equal batches, buffers at 64 bytes."""
    rows, dimension = size
    out, columns = tmp_path / "out.arrow", make_columns(rows, dimension, words, seed)
    seen = write(out, columns)
    file = pa.OSFile(str(out)).read_buffer()
    reader = pa.ipc.open_file(file)
    batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    full, left = divmod(rows, batch_rows)

    assert _expected(columns) == pa.Table.from_batches(batches).to_pylist()
    assert [batch_rows] * full + [left] * bool(left) == [batch.num_rows for batch in batches]
    assert [batch.num_rows for batch in batches] == seen
    assert [] == [where for where in (_misplaced(b, file) for b in batches) if where]


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


def test_batches_are_of_the_documented_size(tmp_path: Path) -> None:
    """16,384 rows, the last batch what is left, all of them aligned and uncompressed."""
    rows = 2 * BATCH_ROWS + 100
    columns = make_columns(rows, 2, ["a", "b"])
    write(tmp_path / "out.arrow", columns)
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
        columns.vectors[sorted_order(columns.ids)].reshape(-1),
        np.concatenate([batch.column("vector").flatten().to_numpy() for batch in batches]),
    )


def test_a_mapped_file_is_used_where_it_lies(tmp_path: Path) -> None:
    """Reading a batch allocates nothing: no buffer is compressed."""
    write(tmp_path / "out.arrow", make_columns(10_000, 64, ["a"]))
    before = pa.total_allocated_bytes()
    batch = pa.ipc.open_file(pa.memory_map(str(tmp_path / "out.arrow"))).get_batch(0)

    assert 10_000 == batch.num_rows
    assert pa.total_allocated_bytes() - before < 10_000


def test_only_the_rows_of_the_order_are_written(tmp_path: Path, batch_rows: int) -> None:
    """The order says which rows, and in what order; others are left out."""
    columns = make_columns(12, 2, ["a", "b"])
    order = np.array([11, 3, 7, 0, 5, 9])
    write(tmp_path / "out.arrow", columns, order)
    table = pa.ipc.open_file(tmp_path / "out.arrow").read_all()

    assert batch_rows < len(order)
    assert columns.vectors[order].tolist() == table["vector"].to_pylist()
    assert columns.years.take(pa.array(order)).to_pylist() == table["exp_years"].to_pylist()


def test_the_same_columns_give_the_same_bytes(tmp_path: Path) -> None:
    """No time, no name of a temporary file, no memory that wasn't cleared."""
    columns = make_columns(1000, 7, ["a", "한빛소프트"])
    for name in ("one", "other"):
        write(tmp_path / name, columns)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


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
    write(tmp_path / "out.arrow", make_columns(1, 1, ["a"]))

    assert ["file synced", "renamed", "folder synced"] == steps


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """The output may lie in a folder that isn't there yet."""
    write(tmp_path / "a" / "b" / "out.arrow", make_columns(1, 1, ["a"]))

    assert (tmp_path / "a" / "b" / "out.arrow").exists()


def test_a_folder_that_is_a_file_is_an_output_error(tmp_path: Path) -> None:
    """Whatever the file system refuses says what and why, and that nothing changed."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutputError, match=r"can't be written: .*as it was before"):
        write(tmp_path / "file" / "out.arrow", make_columns(1, 1, ["a"]))


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
from convert.__main__ import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main(prog_name="python -m convert")
"""


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_full_disk_leaves_the_old_file(share: float, tmp_path: Path) -> None:
    """However much fits, the error is one line, and the old file is all that is there."""
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records(500, 64))
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

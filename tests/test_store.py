"""Opening dataset files: what is refused, and that nothing is copied."""

from __future__ import annotations

import shutil
import subprocess
import sys
from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import DatasetNotFoundError, InvalidDatasetError
from streamer.store import EmbeddingStore
from tests.datasets import (
    ascending_ids,
    id_texts,
    make_batch,
    with_column,
    with_info,
    write_dataset,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _refusal(path: Path) -> str:
    with pytest.raises(InvalidDatasetError) as refusal:
        EmbeddingStore.open(path)
    return str(refusal.value)


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """No file is its own error, with the command that makes one."""
    with pytest.raises(DatasetNotFoundError, match=r"jobs\.arrow.*python -m convert"):
        EmbeddingStore.open(tmp_path / "jobs.arrow")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty"), (b"not an arrow file at all", "not an Arrow file"), (b"ARROW1", "footer")],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """Files that are no Arrow files are told from damaged ones."""
    path = tmp_path / "jobs.arrow"
    path.write_bytes(content)

    assert expected in _refusal(path) or "damaged" in _refusal(path)
    assert "python -m convert" in _refusal(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder in the file's place is an error, not a crash."""
    assert "can't be read" in _refusal(tmp_path)


def test_stream_format_is_refused(tmp_path: Path) -> None:
    """Arrow's stream format has no footer to find batches by."""
    batch = make_batch()
    with pa.ipc.new_stream(tmp_path / "jobs.arrow", batch.schema) as writer:
        writer.write_batch(batch)

    assert "stream format" in _refusal(tmp_path / "jobs.arrow")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    """A file that was copied half has no footer."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=100)
    path.write_bytes(path.read_bytes()[:-100])

    assert "no footer" in _refusal(path)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_file_is_refused(tmp_path: Path, codec: str) -> None:
    """Arrow would decompress silently, into memory of its own."""
    path = write_file(tmp_path / "jobs.arrow", make_batch(1000), compression=codec)

    assert "compressed" in _refusal(path)


def _batch_with_null(name: str) -> pa.RecordBatch:
    batch = make_batch()
    return with_column(batch, name, pa.nulls(10, batch.schema.field(name).type))


def _batch_with_null_in_vector() -> pa.RecordBatch:
    batch = make_batch(dimension=2)
    floats = pa.array([None, *([1.0] * 19)], pa.float32())
    return with_column(batch, "vector", pa.FixedSizeListArray.from_arrays(floats, 2))


def _batch_with_null_in_dictionary() -> pa.RecordBatch:
    column = pa.DictionaryArray.from_arrays(
        pa.array([0] * 10, pa.int32()), pa.array([None, "x"], pa.string())
    )
    return with_column(make_batch(), "company_name", column)


def _batch_with_bytes(name: str, value: bytes) -> pa.RecordBatch:
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([value], pa.binary()).buffers())
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 10, pa.int32()), text)
    return with_column(make_batch(), name, column)


def _batch_with_indices(first: int) -> pa.RecordBatch:
    indices = pa.array([first, *([0] * 9)], pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x"]), safe=False)
    return with_column(make_batch(), "english_level", column)


def _batch_with_bad_offsets() -> pa.RecordBatch:
    offsets = np.array([0, 5, 2, *([9] * 8)], np.int32)
    column = pa.Array.from_buffers(
        pa.string(), 10, [None, pa.py_buffer(offsets), pa.py_buffer(b"123456789")]
    )
    return with_column(make_batch(), "primary_keyword", column)


def _batch_with_ids(order: list[int]) -> pa.RecordBatch:
    return make_batch(len(order), ids=np.ascontiguousarray(ascending_ids(10)[order]))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: make_batch().drop_columns(["exp_years"]), "columns"),
        (lambda: make_batch().select([1, 0, 2, 3, 4, 5]), "columns"),
        (lambda: with_column(make_batch(), "exp_years", pa.array(range(10))), "exp_years is int64"),
        (lambda: with_column(make_batch(), "id", pa.array(["x"] * 10)), "id is string"),
        (lambda: with_info(make_batch(), dimension=5), "[4], not fixed_size_list"),
        (lambda: with_info(make_batch(), rows=11), "10 rows"),
        (lambda: with_info(make_batch(), format_version=2), "format version 2"),
        (lambda: with_info(make_batch(), format_version="x"), "damaged"),
        (lambda: with_info(make_batch(), id_kind="snowflake"), "snowflake"),
        (lambda: make_batch().replace_schema_metadata({}), "format-version"),
        (lambda: _batch_with_null("id"), "nulls"),
        (lambda: _batch_with_null("company_name"), "nulls"),
        (lambda: _batch_with_null("exp_years"), "nulls"),
        (lambda: _batch_with_null("vector"), "nulls"),
        (_batch_with_null_in_vector, "nulls"),
        (_batch_with_null_in_dictionary, "nulls"),
        (lambda: _batch_with_bytes("company_name", b"\xff\xfe"), "UTF8"),
        (lambda: _batch_with_indices(1), "outside its dictionary"),
        (lambda: _batch_with_indices(-1), "outside its dictionary"),
        (_batch_with_bad_offsets, "damaged"),
        (lambda: _batch_with_ids([1, 0]), "don't ascend"),
        (lambda: _batch_with_ids([0, 1, 1]), "don't ascend"),
    ],
)
def test_wrong_content_is_refused(
    tmp_path: Path, make: Callable[[], pa.RecordBatch], expected: str
) -> None:
    """Each breach of the file's contract is named."""
    path = write_file(tmp_path / "jobs.arrow", make())

    refusal = _refusal(path)

    assert expected.lower() in refusal.lower()
    assert "python -m convert" in refusal


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 1, 1, 3]])
def test_ids_must_ascend_across_batches(tmp_path: Path, order: list[int]) -> None:
    """Order is proven where batches meet, too."""
    path = write_file(tmp_path / "jobs.arrow", _batch_with_ids(order), batch_rows=2)

    assert "don't ascend" in _refusal(path)


def test_ids_are_compared_as_unsigned_bytes(tmp_path: Path) -> None:
    """An id that begins with 0x80 comes after one that begins with 0x7f, unlike in Java."""
    ids = np.zeros((2, 16), np.uint8)
    ids[:, 0] = (0x7F, 0x80)
    path = write_file(tmp_path / "jobs.arrow", make_batch(2, ids=ids))

    assert 2 == EmbeddingStore.open(path).info.rows


def test_plain_text_columns_are_accepted(tmp_path: Path) -> None:
    """Text may be stored without a dictionary."""
    batch = make_batch()
    for name in ("company_name", "english_level", "primary_keyword"):
        batch = with_column(batch, name, batch.column(name).dictionary_decode())
    path = write_file(tmp_path / "jobs.arrow", batch)

    assert 10 == EmbeddingStore.open(path).info.rows


def test_slices_are_views_on_the_map(tmp_path: Path) -> None:
    """Every buffer of every slice lies inside the mapped file."""
    path = tmp_path / "jobs.arrow"
    batch = write_dataset(path, rows=100, batch_rows=30)
    store = EmbeddingStore.open(path)
    checkpoint = bytes.fromhex(id_texts(batch)[41].replace("-", ""))

    slices = list(store.rows_after(checkpoint).slices)

    begin, end = _mapped_range(path)
    addresses = [buffer.address for part in slices for buffer in _buffers(part)]
    assert [18, 30, 10] == [part.num_rows for part in slices]
    assert addresses
    assert all(begin <= address < end for address in addresses)


def _buffers(batch: pa.RecordBatch) -> list[pa.Buffer]:
    arrays = []
    for column in batch.columns:
        plain = column.storage if isinstance(column, pa.ExtensionArray) else column
        is_dictionary = pa.types.is_dictionary(plain.type)
        arrays += [plain.indices, plain.dictionary] if is_dictionary else [plain]
    return [buffer for array in arrays for buffer in array.buffers() if buffer is not None]


def _mapped_range(path: Path) -> tuple[int, int]:
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        line = next(line for line in maps if line.rstrip().endswith(str(path)))
    begin, end = line.split()[0].split("-")
    return int(begin, 16), int(end, 16)


@given(
    batch_rows=st.integers(1, 40),
    pick=st.integers(0, 30),
    other=st.binary(min_size=16, max_size=16),
)
def test_rows_after_equals_bisect(tmp_path: Path, batch_rows: int, pick: int, other: bytes) -> None:
    """The rows after any checkpoint are those with a greater id, wherever batches end."""
    path = tmp_path / "jobs.arrow"
    batch = write_dataset(path, rows=31, batch_rows=batch_rows)
    ids = [value.as_py().bytes for value in batch.column("id")]
    store = EmbeddingStore.open(path)
    for checkpoint in (other, ids[pick]):
        after = store.rows_after(checkpoint)

        found = [value.as_py().bytes for part in after.slices for value in part.column("id")]
        assert ids[bisect_right(ids, checkpoint) :] == found
        assert len(found) == after.rows
        assert (checkpoint in ids) == after.checkpoint_found


def test_replaced_file_is_read_to_its_end(tmp_path: Path) -> None:
    """Slices keep the file mapped that they came from."""
    path = tmp_path / "jobs.arrow"
    batch = write_dataset(path, rows=10)
    slices = EmbeddingStore.open(path).rows_after(None).slices
    write_dataset(tmp_path / "new.arrow", rows=10, seed=1)
    (tmp_path / "new.arrow").replace(path)

    assert batch.to_pylist() == next(slices).to_pylist()


_OPEN_AND_MEASURE = """
import sys
from pathlib import Path
from streamer.store import EmbeddingStore
def anonymous_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
EmbeddingStore.open(Path(sys.argv[1]))
before = anonymous_kib()
store = EmbeddingStore.open(Path(sys.argv[2]))
print(anonymous_kib() - before)
"""


def test_opening_takes_no_memory_that_grows_with_the_file(tmp_path: Path) -> None:
    """A file of 100 MB is opened with less than 2 MB of anonymous memory."""
    write_dataset(tmp_path / "small.arrow", rows=10)
    write_dataset(tmp_path / "large.arrow", rows=50_000, dimension=500, batch_rows=16_384)

    out = subprocess.run(
        [sys.executable, "-c", _OPEN_AND_MEASURE, "small.arrow", "large.arrow"],
        cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}, check=True, capture_output=True,
    )  # fmt: skip

    assert (tmp_path / "large.arrow").stat().st_size > 100_000_000
    assert int(out.stdout) < 2048


_OPEN_DAMAGED = """
import random, sys
from pathlib import Path
from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.codec.encode import RowEncoder
from streamer.errors import InvalidDatasetError
from streamer.store import EmbeddingStore
source, target, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
whole = source.read_bytes()
random = random.Random(seed)
opened = 0
for _ in range(int(sys.argv[4])):
    data = bytearray(whole)
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randrange(len(data))
        data[place] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
    if random.random() < 0.2:
        cut = random.randrange(len(data))
        del data[cut : cut + random.randrange(1, 64)]
    target.write_bytes(data)
    try:
        store = EmbeddingStore.open(target)
        encoder = RowEncoder(pb.Embedding.DESCRIPTOR, store.schema)
        for part in store.rows_after(None).slices:
            for message in encoder.encode(part).messages():
                pb.Embedding.FromString(message)
        opened += 1
    except InvalidDatasetError:
        pass
print(opened)
"""


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_never_crash(tmp_path: Path, seed: int) -> None:
    """Files with changed or missing bytes are refused or served, and the process lives."""
    write_dataset(tmp_path / "whole.arrow", rows=20, dimension=2, batch_rows=8)

    out = subprocess.run(
        [sys.executable, "-c", _OPEN_DAMAGED, "whole.arrow", "damaged.arrow", str(seed), "750"],
        cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=False,
    )  # fmt: skip

    assert (0, b"") == (out.returncode, out.stderr)
    assert 0 < int(out.stdout) < 750


def test_info_survives_copying(tmp_path: Path) -> None:
    """A file copied to another name is the same dataset."""
    write_dataset(tmp_path / "jobs.arrow")
    shutil.copy(tmp_path / "jobs.arrow", tmp_path / "copy.arrow")

    original, copy = (EmbeddingStore.open(tmp_path / f"{n}.arrow") for n in ("jobs", "copy"))

    assert original.info == copy.info


@pytest.mark.parametrize(
    "changes",
    [{"fingerprint": "a\nb"}, {"fingerprint": "é"}, {"dimension": 99_999_999_999_999}],
)
def test_metadata_that_no_conversion_writes_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """What would fail in a header or in Arrow later fails when the file is opened."""
    path = write_file(tmp_path / "jobs.arrow", with_info(make_batch(), **changes))

    assert "damaged" in _refusal(path)

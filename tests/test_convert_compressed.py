"""Compressed sources, what they are unpacked into, and disks that are too small for it."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import json
import lzma
import pickle
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convert.errors import OutputError, UnreadableSourceError
from convert.source import open_source
from convert.sources.content import Content
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable

_COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda content: gzip.compress(content, 6, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
    ".zip": lambda content: _zipped({"jobs.pkl": content}),
    ".lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    ".z": zlib.compress,  # joblib's, called .z or anything
}
every_compression = pytest.mark.parametrize("suffix", _COMPRESSIONS)


def _zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _compressed(folder: Path, content: object, suffix: str) -> Path:
    source = folder / f"jobs.pkl{suffix}"
    source.write_bytes(_COMPRESSIONS[suffix](pickle.dumps(content, 4)))
    return source


def _deleted_but_open(folder: Path) -> list[str]:
    """Return files in `folder` that have no name any more, and are held by this process."""
    gc.collect()
    held = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        held += [line] if str(folder) in line and "(deleted)" in line else []
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = str(path.readlink())
        except OSError:  # the one that lists them
            continue
        held += [target] if str(folder) in target and "(deleted)" in target else []
    return held


# What is compressed, and how.


def _ipc(records: list[dict[str, Any]], new: Callable[..., Any]) -> bytes:
    packed, table = io.BytesIO(), pa.Table.from_pylist(records)
    with new(packed, table.schema) as writer:
        writer.write_table(table)
    return packed.getvalue()


def _parquet_bytes(records: list[dict[str, Any]]) -> bytes:
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), packed)
    return packed.getvalue()


_KINDS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a list of dicts": lambda records: pickle.dumps(records, 4),
    "a DataFrame": lambda records: pickle.dumps(pd.DataFrame(records), 4),
    "a Parquet file": _parquet_bytes,
    "an Arrow file": lambda records: _ipc(records, pa.ipc.new_file),
    "an Arrow stream": lambda records: _ipc(records, pa.ipc.new_stream),
    "JSON Lines": lambda records: b"".join(json.dumps(r).encode() + b"\n" for r in records),
}


@pytest.mark.parametrize("name", ["jobs", "jobs.pkl", "jobs.bin.gz", "jobs.parquet"])
@pytest.mark.parametrize("suffix", ["", *_COMPRESSIONS])
def test_a_file_is_known_by_its_content(suffix: str, name: str, tmp_path: Path) -> None:
    """Whatever it is called: compressed or not, of every kind."""
    source = tmp_path / name
    for kind, write in _KINDS.items():
        content = write(p.make_records())
        source.write_bytes(_COMPRESSIONS[suffix](content) if suffix else content)
        p.convert_file(source, force=True)

        assert p.rows_expected(p.make_records()) == p.rows_of(p.arrow_path(source))
        read = open_source(source, tmp_path)
        told: list[int] = []
        size = read.size
        list(read.batches(lambda _name: True, told.append))
        assert read.kind.startswith(kind)
        assert size == sum(told)
        assert all(count >= 0 for count in told)


@pytest.mark.parametrize("name", ["frame.pkl.zip", "frame.pkl.gz", "frame.csv.zip"])
def test_what_pandas_compresses_is_read(name: str, tmp_path: Path) -> None:
    """By the name that it is given, pandas chooses how."""
    frame = pd.DataFrame(p.make_records()).drop(columns="job_post_vectors")
    if ".csv" in name:
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_pickle(tmp_path / name)
    [batch] = open_source(tmp_path / name, tmp_path).batches(lambda _name: True, p.ignore)

    assert list(frame) == list(batch.columns)
    assert frame["company_name"].tolist() == [row or "" for row in map_rows(batch, "company_name")]


def map_rows(batch: Any, column: str) -> list[Any]:
    return [batch.row(row)[column] for row in range(batch.rows)]


def test_what_a_mac_puts_into_a_zip_file_does_not_count(tmp_path: Path) -> None:
    """One file is left, which is read whatever its folder in the archive is."""
    members = {
        "jobs/": b"", "jobs/rows.pkl": pickle.dumps(p.make_records(), 4),
        "__MACOSX/jobs/._rows.pkl": b"about", "jobs/.DS_Store": b"about",
    }  # fmt: skip
    source = tmp_path / "jobs.zip"
    source.write_bytes(_zipped(members))
    p.convert_file(source)

    assert p.rows_expected(p.make_records()) == p.rows_of(p.arrow_path(source))


def _encrypted() -> bytes:
    content = bytearray(_zipped({"jobs.pkl": b"content"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    return bytes(content)


_PICKLED = pickle.dumps(p.make_records(), 4)
_NOT_ONE_FILE = {
    "two files": (
        _zipped({"a.pkl": _PICKLED, "b.pkl": _PICKLED}),
        "a zip archive of 2 files; unpack it: `unzip",
    ),
    "none": (_zipped({}), "a zip archive of 0 files"),
    "encrypted": (_encrypted(), "can't be unpacked: .*encrypted"),
    "twice": (gzip.compress(_zipped({"a.pkl": _PICKLED})), "compressed twice; unpack it once"),
    "gzip, cut off": (gzip.compress(_PICKLED)[:30], "can't be unpacked"),
    "zip, cut off": (_zipped({"a.pkl": _PICKLED})[:-10], "can't be unpacked"),
    "zip, damaged": (
        _zipped({"a.pkl": _PICKLED}).replace(b"a.pkl", b"b.pkl", 1),
        "can't be unpacked",
    ),
    "zlib, cut off": (zlib.compress(_PICKLED)[:-10], "can't be unpacked: it ends too early"),
}


@pytest.mark.parametrize("case", _NOT_ONE_FILE)
def test_what_does_not_unpack_to_one_file_is_an_error(case: str, tmp_path: Path) -> None:
    """One line, which names the file and says what it is instead."""
    content, said = _NOT_ONE_FILE[case]
    source = tmp_path / "jobs.pkl"
    source.write_bytes(content)

    with pytest.raises(UnreadableSourceError, match=rf"jobs\.pkl.* {said}") as error:
        p.convert_file(source)
    assert 1 == len(str(error.value).splitlines())
    assert [source] == list(tmp_path.iterdir())


# Unpacking.


@every_compression
def test_what_was_unpacked_is_gone_afterwards(suffix: str, tmp_path: Path) -> None:
    """It has no name while it is used, and takes no room once the conversion is over."""
    source = _compressed(tmp_path, p.make_records(500), suffix)
    p.convert_file(source)

    assert {source, p.arrow_path(source)} == set(tmp_path.iterdir())
    assert [] == _deleted_but_open(tmp_path)
    assert p.rows_expected(p.make_records(500)) == p.rows_of(p.arrow_path(source))


@every_compression
def test_what_was_unpacked_is_gone_after_an_error_too(suffix: str, tmp_path: Path) -> None:
    """Whether the file isn't whole, or what is in it."""
    whole = _COMPRESSIONS[suffix](pickle.dumps(p.make_records(500), 4))
    for content in (whole[: len(whole) // 2], _COMPRESSIONS[suffix](b"no pickle")):
        source = tmp_path / f"jobs.pkl{suffix}"
        source.write_bytes(content)
        with pytest.raises(UnreadableSourceError, match=r"jobs\.pkl"):
            p.convert_file(source)

        assert [source] == list(tmp_path.iterdir())
        assert [] == _deleted_but_open(tmp_path)


def test_a_file_is_unpacked_beside_the_output(tmp_path: Path) -> None:
    """Where the dataset will need room as well, and not where the source lies."""
    source = _compressed(tmp_path, p.make_records(), ".gz")
    out = tmp_path / "out" / "jobs.arrow"
    seen = []
    unpack = Content._unpack

    def look(self: Content, *arguments: Any) -> Any:
        seen.append(self._scratch)
        return unpack(self, *arguments)

    with mock.patch.object(Content, "_unpack", look):
        p.convert_file(source, out)

    assert [out.parent] == seen
    assert p.rows_expected(p.make_records()) == p.rows_of(out)


@every_compression
def test_a_second_pass_reads_what_was_unpacked(suffix: str, tmp_path: Path) -> None:
    """Unpacking is done once, however often the rows are read."""
    records = [*p.make_records(5, 2, seed=1), *p.make_records(30, 3)]
    source = _compressed(tmp_path, records, suffix)
    plain = p.write_pickle(tmp_path / "plain.pkl", records)
    unpack = Content._unpack
    with (
        p.small_batches(5, 4),
        mock.patch.object(Content, "_unpack", autospec=True, side_effect=unpack) as unpacked,
    ):
        for path in (source, plain):
            report = p.convert_file(path, skip_invalid=True)
            assert report is not None
            assert 5 == report.rejected

    assert 1 == unpacked.call_count
    assert p.rows_of(p.arrow_path(plain)) == p.rows_of(p.arrow_path(source))


def test_a_pickle_of_nothing_is_empty_compressed_or_not(tmp_path: Path) -> None:
    """No byte, and a compressed file of no byte."""
    for suffix, compress in (("", bytes), *_COMPRESSIONS.items()):
        source = tmp_path / f"jobs.pkl{suffix}"
        source.write_bytes(compress(b""))

        with pytest.raises(UnreadableSourceError, match="is empty"):
            p.convert_file(source)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".zip", ".z"])
def test_a_file_made_to_fill_disks_is_an_error(suffix: str, tmp_path: Path) -> None:
    """What unpacks to more than 200 times its size ends before the disk does."""
    record = {**p.make_records(1)[0], "Long Description": "x" * (90 << 20)}
    source = _compressed(tmp_path, [record], suffix)

    with pytest.raises(UnreadableSourceError, match="unpacks to more than 200 times its size"):
        p.convert_file(source)
    assert [source] == list(tmp_path.iterdir())
    assert [] == _deleted_but_open(tmp_path)


def test_what_shrinks_well_and_is_small_is_unpacked(tmp_path: Path) -> None:
    """Repeated text shrinks to a thousandth too: what is small anyway fills no disk."""
    record = {**p.make_records(1)[0], "Long Description": "x" * (30 << 20)}
    source = _compressed(tmp_path, [record], ".gz")
    p.convert_file(source)

    assert source.stat().st_size * 200 < 30 << 20
    assert [p.make_records(1)[0]["id"]] == [row["id"] for row in p.rows_of(p.arrow_path(source))]


# No room.

_LIMITED = """
import resource, sys
from convert.__main__ import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main(prog_name="python -m convert")
"""


@every_compression
@pytest.mark.parametrize("limit", [0, 100_000])
def test_no_room_to_unpack_is_an_error(suffix: str, limit: int, tmp_path: Path) -> None:
    """One line names the file, where it was unpacked, and why that failed."""
    source = _compressed(tmp_path, p.make_records(2000, 64), suffix)
    process = p.run_python(tmp_path, "-c", _LIMITED, str(limit), str(source), "-o", "out.arrow")
    last = process.stderr.splitlines()[-1]

    assert 1 == process.returncode
    assert f"{source} can't be unpacked" in last
    assert "File too large" in last
    assert "Traceback" not in process.stderr
    assert [source] == list(tmp_path.iterdir())


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let disks seem to have as many bytes free as the list's one number."""
    free = [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(1 << 40, 0, free[0]))
    return free


def _parquet(records: list[dict[str, Any]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(records), path)


def _parts(records: list[dict[str, Any]], path: Path) -> None:
    path.mkdir()
    for number, begin in enumerate(range(0, len(records), 250)):
        p.write_pickle(path / f"{number}.pkl", records[begin : begin + 250])


_SOURCES: dict[str, Callable[[list[dict[str, Any]], Path], object]] = {
    "records": lambda records, path: p.write_pickle(path, records),
    "frame": lambda records, path: p.write_pickle(path, pd.DataFrame(records)),
    "Parquet": _parquet,
    "parts": _parts,
    "compressed": lambda records, path: path.write_bytes(gzip.compress(pickle.dumps(records, 4))),
}


def _records(rows: int, dimension: int, seed: int) -> list[dict[str, Any]]:
    """Return records of long vectors, all alike: random ones take long to make."""
    records = p.make_records(rows, 0, seed)
    return [{**record, "job_post_vectors": [0.5] * dimension} for record in records]


def _source(folder: Path, kind: str, records: list[dict[str, Any]]) -> Path:
    path = folder / ("jobs.pkl.gz" if kind == "compressed" else "jobs")
    _SOURCES[kind](records, path)
    return path


@pytest.mark.parametrize("kind", _SOURCES)
def test_a_disk_without_room_is_seen_at_the_first_rows(
    kind: str, tmp_path: Path, free_bytes: list[int]
) -> None:
    """The error says where, what is free and about what is needed; nothing is left behind."""
    source = _source(tmp_path, kind, _records(10_000, 256, 0))
    free_bytes[0] = 1_000_000
    out = tmp_path / "out" / "jobs.arrow"
    with pytest.raises(OutputError) as error:
        p.convert_file(source, out)
    said = re.search(
        r"(\S+) has 1 MB free; about ([\d.,]+) MB are needed for ([\d,]+) rows of 256 floats "
        "and their texts; nothing was written",
        str(error.value),
    )
    assert [] == list(out.parent.iterdir())
    free_bytes[0] = 1 << 40
    p.convert_file(source, out)

    assert said is not None
    assert str(out.parent) == said[1]
    assert 10_000 == pytest.approx(int(said[3].replace(",", "")), rel=0.25)
    needed = float(said[2].replace(",", "")) * 1e6
    assert out.stat().st_size == pytest.approx(needed, rel=0.3)


@pytest.mark.parametrize("kind", _SOURCES)
def test_a_disk_with_room_for_the_dataset_is_large_enough(
    kind: str, tmp_path: Path, free_bytes: list[int]
) -> None:
    """Half as much again is asked for at most, in a second pass over the source too."""
    records = [*_records(200, 255, 1), *_records(240, 256, 0)]
    source = _source(tmp_path, kind, records)
    out = tmp_path / "out.arrow"
    free_bytes[0] = 1 << 40
    with p.small_batches(40, 400):
        p.convert_file(source, out, skip_invalid=True)
        free_bytes[0] = int(1.5 * out.stat().st_size * 440 / 240)
        report = p.convert_file(source, out, skip_invalid=True, force=True)

    assert report is not None
    assert (240, 256) == (report.info.rows, report.info.dimension)


def test_a_file_that_is_read_at_once_needs_little(tmp_path: Path, free_bytes: list[int]) -> None:
    """More rows than a batch has, of which nobody has said yet how far they reach."""
    [record] = p.make_records(1)
    del record["id"]
    records = [{**record, "job_post_vectors": [0.5, 1.5, 2.5]} for _ in range(4097)]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    free_bytes[0] = 10_000_000
    p.convert_file(source)

    assert 4097 == len(p.rows_of(p.arrow_path(source)))


def test_room_is_looked_for_where_the_output_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder asked about is the output's own."""
    asked: list[Path] = []

    def usage(path: Path) -> _Usage:
        asked.append(path)
        return _Usage(1 << 40, 0, 1 << 40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    source = p.write_pickle(tmp_path / "jobs.pkl", p.make_records())
    p.convert_file(source, tmp_path / "a" / "b" / "out.arrow")

    assert {tmp_path / "a" / "b"} == set(asked)


def test_sizes_are_said_for_each_pass(tmp_path: Path) -> None:
    """A compressed file is unpacked and read in the first, only read in those after."""
    source = open_source(_compressed(tmp_path, p.make_records(500), ".gz"), tmp_path)
    file_bytes = source.paths[0].stat().st_size
    sizes = [source.size]
    list(source.batches(lambda _name: True, p.ignore))

    assert [2 * file_bytes, file_bytes] == [*sizes, source.size]

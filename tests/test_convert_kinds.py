"""Files that aren't read: each error says what the file is, and how to make rows of it."""

from __future__ import annotations

import io
import json
import pickle
import re
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from convert.errors import UnreadableSourceError
from convert.sources.kinds import CSV, JSON_LINES, PICKLE, delimiter_of, kind_of
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable

_MATRIX = np.arange(12, dtype="f4").reshape(6, 2)
_FRAME = pd.DataFrame(p.make_records())


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, _MATRIX)


def _npz(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **(arrays or {"vectors": _MATRIX}))


def _zip(path: Path, *members: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "content")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("jobs.pkl"), io.BytesIO())


def _sqlite(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE jobs (id TEXT)")
    database.close()


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
_WRAPPER = p.named("joblib.numpy_pickle", "NumpyArrayWrapper")
_WRAPPED = b"\x80\x04" + p.built(p.made(_WRAPPER), p.dict_of({"shape": p.number(2)}))
_JOBLIB = "pickle.dumps(joblib.load({path}))"
_SAFETENSORS = json.dumps({"vectors": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
# What is written, and what the error says of it: what it is, then what to do.
_NOT_READ: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "Git LFS": (_bytes(_LFS), "a Git LFS pointer", "run `git lfs pull`"),
    "NumPy": (_npy, "a NumPy array", "np.load({path})"),
    "NumPy archive": (_npz, "a NumPy archive", 'np.load({path})["vectors"]'),
    "an odd name in an archive": (
        lambda path: _npz(path, **{"{a}'": _MATRIX}), "a NumPy archive", 'np.load({path})["{a}\'"]'
    ),
    # An array's bytes follow its wrapper, behind some that align them.
    "joblib": (_bytes(_WRAPPED + b"\x02\xff\xff" + bytes(16) + b"."), "is a joblib file", _JOBLIB),
    "joblib, compressed": (
        _bytes(zlib.compress(_WRAPPED + b"\x02\xff\xff" + bytes(16) + b".")), "is a joblib file",
        _JOBLIB,
    ),
    "joblib, sound by chance": (_bytes(_WRAPPED + b"."), "is a joblib file", _JOBLIB),
    "joblib, a row": (
        _bytes(p.pickled(p.list_of(p.record(company_name=p.made(_WRAPPER))))), "is a joblib file",
        _JOBLIB,
    ),
    "PyTorch": (
        lambda path: _zip(path, "archive/data.pkl", "archive/version"), "a PyTorch file",
        "torch.load({path}, weights_only=True)",
    ),
    "old PyTorch": (
        _bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)), "a PyTorch file",
        "torch.load({path}, weights_only=True)",
    ),
    "faiss": (
        _bytes(b"IxFI" + struct.pack("<iq", 384, 10) + bytes(100)), "a faiss index",
        "faiss.read_index({path}).reconstruct_n()",
    ),
    "HNSW of faiss": (
        _bytes(b"IHNf" + struct.pack("<iq", 1536, 10) + bytes(100)), "a faiss index",
        "faiss.read_index({path})",
    ),
    "HDF5": (_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "an HDF5 file", "pd.read_hdf({path})"),
    "SQLite": (_sqlite, "an SQLite database", "sqlite3.connect({path})"),
    "DuckDB": (_bytes(bytes(8) + b"DUCK"), "a DuckDB database", "duckdb.connect({path})"),
    "safetensors": (
        _bytes(struct.pack("<q", len(_SAFETENSORS)) + _SAFETENSORS.encode() + bytes(4)),
        "a safetensors file", "safetensors.numpy.load_file({path})",
    ),
    "ORC": (_bytes(b"ORC" + bytes(100)), "an ORC file", "pd.read_orc({path})"),
    "Avro": (_bytes(b"Obj\x01" + bytes(100)), "an Avro file", "pl.read_avro({path})"),
    "old Feather": (_bytes(b"FEA1" + bytes(100)), "a Feather file of version 1", "pd.read_feather"),
    "Excel": (
        lambda path: _zip(path, "[Content_Types].xml", "xl/workbook.xml"), "an Excel file",
        "pd.read_excel({path}, dtype=str)",
    ),
    "old Excel": (
        _bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100)), "an Excel file", "pd.read_excel"
    ),
    "tar": (_tar, "a tar archive", "tar -xf {path}"),
    "7z": (_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(9)), "a 7z archive", "7z x {path}"),
    "HTML": (_bytes(b"\n<!DOCTYPE html><html>"), "an HTML page, not the data", "download it again"),
    "XML": (_bytes(b"<?xml version='1.0'?><Error>"), "an XML document", "download it again"),
    "UTF-16": (_bytes("id,vector\n".encode("utf-16")), "text in UTF-16", '.read_text("utf-16")'),
    "a JSON array": (_bytes(b'[{"id": 1}]'), "a JSON array", "json.loads(Path({path})"),
    "a JSON document": (_bytes(b'{\n "id": [1]}'), "a JSON document", "json.loads(Path({path})"),
    "text": (_bytes(b"what nobody knows\n"), "text, but neither JSON Lines nor CSV", "right file"),
}  # fmt: skip


def _said(source: Path) -> str:
    with pytest.raises(UnreadableSourceError) as error:
        p.convert_file(source)
    return str(error.value)


@pytest.mark.parametrize("name", ["jobs.pkl", "jobs"])
@pytest.mark.parametrize("case", _NOT_READ)
def test_what_is_not_read_says_what_it_is(case: str, name: str, tmp_path: Path) -> None:
    """Whatever it is called; and what makes it readable, in one line."""
    write, what, remedy = _NOT_READ[case]
    source = tmp_path / name
    write(source)
    said = _said(source)

    assert str(source) in said
    assert what in said
    assert remedy.replace("{path}", json.dumps(str(source))) in said
    assert 1 == len(said.splitlines())


def test_the_command_says_so(tmp_path: Path) -> None:
    """One line and no traceback, also of a file in a folder whose name says that it is data."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "part-1.parquet").write_bytes(_LFS)
    process = p.run_convert(tmp_path, "jobs")

    assert 0 != process.returncode
    assert (
        "error: jobs/part-1.parquet is a Git LFS pointer, not the file itself; run `git lfs pull` "
        "in its repository\n"
    ) == process.stderr


_IMPORTS = {"pd": pd, "np": np, "json": json, "sqlite3": sqlite3, "Path": Path}
_WAYS: dict[str, Callable[[Path], object]] = {
    "matrix.npy": _npy,
    "matrix.npz": _npz,
    "rows.json": lambda path: _FRAME.to_json(path, orient="records"),
    "columns.json": lambda path: path.write_text(
        json.dumps(_FRAME.to_dict(orient="list"), indent=1), encoding="utf-8"
    ),
    "rows.csv": lambda path: _FRAME.drop(columns="job_post_vectors").to_csv(
        path, index=False, encoding="utf-16"
    ),
    "jobs.sqlite": lambda path: _to_sqlite(_FRAME.drop(columns="job_post_vectors"), path),
}


def _to_sqlite(frame: pd.DataFrame, path: Path) -> None:
    with sqlite3.connect(path) as database:
        frame.to_sql("jobs", database, index=False)
    database.close()


@pytest.mark.parametrize("name", _WAYS)
def test_the_line_of_python_makes_what_can_be_read(name: str, tmp_path: Path) -> None:
    """It is run as it stands, and what it writes is read, or lacks no more than the vectors."""
    source = tmp_path / name
    _WAYS[name](source)
    line = re.findall("`([^`]+)`", _said(source))[-1]
    columns = _FRAME.drop(columns="job_post_vectors").to_dict(orient="list")
    exec(line, {**_IMPORTS, "columns": columns})  # noqa: S102 - what the message says
    [made] = {*tmp_path.iterdir()} - {source}

    if name.startswith("matrix"):
        p.convert_file(made, columns={"vector": "vector"})
        assert _MATRIX[:, 0].tolist() == sorted(
            row["vector"][0] for row in p.rows_of(p.arrow_path(made))
        )
    elif name.endswith(".json"):
        p.convert_file(made)
        assert p.rows_expected(p.make_records()) == p.rows_of(p.arrow_path(made))
    else:
        assert "there is no column 'job_post_vectors' or 'vector'" in _said(made)


# What text is.


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b'{"id": 1}\n', "x", JSON_LINES),
        (b'\xef\xbb\xbf \n{ "id": 1}', "x", JSON_LINES),
        (b"", "x.jsonl.gz".removesuffix(".gz"), JSON_LINES),
        (b"id,company_name\n", "jobs.pkl", CSV),
        (b"id;name\n1;2\n", "x", CSV),
        (b"id\n1\n", "x.CSV", CSV),
        ("회사,경력\n".encode("cp949"), "x.csv", CSV),
        ("회사,경력\n".encode() * 2000, "x", CSV),
        (b"(lp0\n(dp1\nVid\np2\n", "x", PICKLE),
        (b"(lp0\n(dp1\nVid,name\np2\n", "x", PICKLE),
        (b"ccopy_reg\n_reconstructor\np0\n(", "x", PICKLE),
        (b"]q\x00}q\x01", "x", PICKLE),
        (b"\x80\x04\x95", "x.csv", PICKLE),
        (b"\x00\x01,", "x", PICKLE),
        (b"", "x", PICKLE),
    ],
)  # fmt: skip
def test_text_is_told_from_old_pickles(head: bytes, name: str, kind: object) -> None:
    """By its first line; the name helps where that says nothing."""
    assert kind == kind_of(head[:8192], name)


def test_the_line_of_python_never_writes_over_the_file(tmp_path: Path) -> None:
    """Whatever its name ends with."""
    source = tmp_path / "jobs.jsonl"
    source.write_text('[{"id": 1}]')
    line = re.findall("`([^`]+)`", _said(source))[-1]
    exec(line, dict(_IMPORTS))  # noqa: S102 - what the message says

    assert '[{"id": 1}]' == source.read_text()
    assert {source, tmp_path / "jobs-rows.jsonl"} == set(tmp_path.iterdir())


def test_a_csv_file_called_pickle_is_no_pickle(tmp_path: Path) -> None:
    """What its first row has isn't shown as something that a pickle names."""
    source = tmp_path / "jobs.pkl"
    source.write_text("company_name,exp_years\nsecret,5\n")
    said = _said(source)

    assert "there is no column" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("head", "delimiter"),
    [(b"a,b;c,d\n;;;;", ","), (b"a\tb\n", "\t"), (b"a;b;c,d\n", ";"), (b"a|b\n", "|"), (b"a", ",")],
)
def test_the_delimiter_is_what_the_first_line_has_most_of(head: bytes, delimiter: str) -> None:
    """Commas, where there is nothing else."""
    assert delimiter == delimiter_of(head)

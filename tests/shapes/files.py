"""Files and folders: what kind they are of, how they are compressed, and where they lie."""

from __future__ import annotations

import gzip
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.shapes.catalogue import (
    IDS,
    MATRIX,
    ROWS,
    TEXTS,
    Shape,
    content,
    converted,
    frame,
    pickled,
    records,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _sound(_path: Path) -> pd.DataFrame:
    return frame()


def _json_lines() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records()).encode()


def _csv(rows: Callable[[], Any], name: str = "rows.csv", **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pd.DataFrame(rows()).to_csv(folder / name, **{"index": False, **options})
        return folder / name

    return write


def _zipped(folder: Path) -> Path:
    frame().to_pickle(folder / "source.pkl.zip")
    return folder / "source.pkl.zip"


def _saved(folder: Path) -> Path:
    np.save(folder / "matrix.npy", MATRIX)
    return folder / "matrix.npy"


def _torch(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "source.pkl", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    return folder / "source.pkl"


def _two(second: str, first: str = "part-0.parquet") -> Callable[[Path], Path]:
    """Return what writes two Parquet files of three rows each below a folder."""

    def write(folder: Path) -> Path:
        for name, part in ((first, frame()[:3]), (second, frame()[3:])):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            part.to_parquet(folder / name)
        return folder

    return write


def _beside(name: str, data: bytes = b"about these files") -> Callable[[Path], Path]:
    """Return what writes two Parquet files and something else below a folder."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return _two("part-1.parquet")(folder)

    return write


def _partitions(folder: Path) -> Path:
    frame(primary_keyword=["C/C++", "00123", "1", "C/C++", "a=b", "자바"]).to_parquet(
        folder / "source", partition_cols=["primary_keyword"]
    )
    return folder / "source"


def _read_partitions(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).astype({"primary_keyword": str})


def _arrow(**columns: pa.Array) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        plain: dict[str, Any] = {"id": IDS, **TEXTS, "vector": pa.array(MATRIX.tolist())}
        table = pa.table({**plain, **columns})
        with pa.ipc.new_file(folder / "source.arrow", table.schema) as file:
            file.write_table(table)
        return folder / "source.arrow"

    return write


def _views(texts: list[str]) -> pa.Array:
    """Return texts as Polars writes a categorical."""
    distinct = pa.array(sorted(set(texts)), pa.string_view())
    places = pa.array([sorted(set(texts)).index(text) for text in texts], pa.uint32())
    return pa.DictionaryArray.from_arrays(places, distinct)


def _tensor(shape: list[int]) -> pa.Array:
    size = int(np.prod(shape))
    items = pa.array(np.resize(MATRIX.reshape(-1), ROWS * size))
    storage = pa.FixedSizeListArray.from_arrays(items, size)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), shape), storage)


def _parquet_gzipped(folder: Path) -> Path:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame()), sink)
    return content(gzip.compress(sink.getvalue().to_pybytes()), "source.parquet.gz")(folder)


_LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"

SHAPES: list[Shape] = [
    # Content under another name.
    converted(
        "a gzip file called pickle",
        lambda folder: content(gzip.compress(pickled(frame())(folder).read_bytes()))(folder),
        rows=_sound,
    ),
    converted("a pickle that pandas zipped", _zipped),
    converted("Parquet in gzip", _parquet_gzipped, rows=_sound),
    refused(
        "a Git LFS pointer", content(_LFS.encode()), words=["a Git LFS pointer", "git lfs pull"]
    ),
    refused("a NumPy array", _saved, words=["a NumPy array", "pd.DataFrame(", "np.load("]),
    refused("PyTorch", _torch, words=["a PyTorch file", "torch.load("]),
    refused("an HTML page", content(b"<!doctype html>"), words=["an HTML page, not the data"]),
    refused("a JSON array", content(b'[{"id": 1}]'), words=["a JSON array", "json.loads("]),
    # JSON Lines and CSV.
    converted("JSON Lines", content(_json_lines(), "rows.jsonl"), rows=_sound),
    converted("JSON Lines in gzip", content(gzip.compress(_json_lines())), rows=_sound),
    converted(
        "JSON Lines with a BOM", content(b"\xef\xbb\xbf" + _json_lines(), "rows.jsonl"), rows=_sound
    ),
    converted(
        "JSON Lines whose types differ",
        content(
            "".join(
                json.dumps(row) + "\n"
                for row in records(exp_years=[1, "2", 3.0, "4y", None, "no_exp"])
            ).encode()
        ),
        rows=lambda _path: frame(exp_years=[1, 2, 3, 4, 0, 0]),
    ),
    refused(
        "JSON Lines with a line that is none",
        content(_json_lines() + b'{"id": \n', "rows.jsonl"),
        words=["rows.jsonl, line 7, column"],
    ),
    refused(
        "CSV without vectors called pickle",
        content(frame(job_post_vectors=None).to_csv(index=False).encode()),
        words=["there is no column 'job_post_vectors'", "'company_name'"],
    ),
    converted("CSV", _csv(records), rows=_sound),
    converted("CSV in gzip", _csv(records, "rows.csv.gz"), rows=_sound),
    converted("CSV with tabs", _csv(records, "rows.tsv", sep="\t"), rows=_sound),
    converted("CSV that Excel wrote", _csv(records, sep=";", encoding="utf-8-sig"), rows=_sound),
    converted(
        "CSV with an index of ids",
        _csv(lambda: pd.DataFrame(records()).set_index("id").rename_axis(None), index=True),
        "--column",
        "id=index",
        rows=_sound,
    ),
    converted(
        "CSV with years that some rows lack",
        _csv(lambda: records(exp_years=[None, 1, 2, 3, 4, 5])),
        rows=lambda _path: frame(exp_years=[0, 1, 2, 3, 4, 5]),
    ),
    converted(
        "CSV with one column a dimension",
        _csv(
            lambda: frame(job_post_vectors=None).join(
                pd.DataFrame(MATRIX, columns=[f"emb_{n}" for n in range(MATRIX.shape[1])])
            )
        ),
        "--column",
        "vector=emb_*",
        rows=_sound,
    ),
    refused(
        "CSV with a row too long",
        content(b"id,company_name\n1,2\n1,2,3\n", "rows.csv"),
        words=["rows.csv, row 3 has 3 values"],
    ),
    # Folders.
    converted("a folder of upper-case names", _two("part-1.PARQUET"), rows=_sound),
    converted("a folder in a folder", _two("more/part-1.parquet", "a/part-0.parquet"), rows=_sound),
    converted("a folder of .pq files", _two("part-1.pq"), rows=_sound),
    converted(
        "a folder called Parquet", _two("x.parquet/1.parquet", "a.parquet/1.parquet"), rows=_sound
    ),
    converted("a folder of Spark's", _beside("_SUCCESS", b""), rows=_sound),
    converted("Hive's partitions", _partitions, rows=_read_partitions),
    refused(
        "a folder with other files",
        _beside("README.md"),
        words=["files that aren't read: ", "README.md", "--ignore-others"],
    ),
    converted("other files left out", _beside("README.md"), "--ignore-others", rows=_sound),
    refused(
        "a folder with an LFS pointer",
        _beside("a.pkl", _LFS.encode()),
        words=["a.pkl is a Git LFS"],
    ),
    # Arrow's types.
    converted(
        "a categorical of Polars", _arrow(company_name=_views(TEXTS["company_name"])), rows=_sound
    ),
    converted("vectors as tensors", _arrow(vector=_tensor([4])), rows=_sound),
    refused(
        "tensors of two dimensions",
        _arrow(vector=_tensor([2, 3])),
        words=["vector: ", "shape=[2,3]"],
    ),
    refused(
        "a column of another type",
        _arrow(exp_years=pa.array([1] * ROWS, pa.timestamp("s"))),
        words=["exp_years: the column 'exp_years' is timestamp[s]", "cast it to pa.int32()"],
    ),
]

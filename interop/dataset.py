"""The rows that every client has to report, read from the dataset file with pyarrow alone.

The digest of a stream is the SHA-256 of its rows in order of arrival. A row is `id`,
`company_name`, `english_level`, `primary_keyword`, each as UTF-8 after its length in bytes;
then `exp_years`; then the floats of `vector`, little-endian, after their count. Lengths, counts
and years are 4 bytes, big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from pyarrow import feather

from proto import embedding_stream_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

_TEXT_COLUMNS = ("company_name", "english_level", "primary_keyword")


class Dataset(NamedTuple):
    """A dataset file, and what a client that read all of it reports."""

    path: Path
    ids: list[str]
    digest: str


def read_dataset(path: Path) -> Dataset:
    digest = hashlib.sha256()
    ids: list[str] = []
    for batch in feather.read_table(path).to_batches():
        batch_ids = [str(row_id) for row_id in batch["id"].to_pylist()]
        texts = [batch_ids, *(batch[name].to_pylist() for name in _TEXT_COLUMNS)]
        vectors = batch["vector"].flatten().to_numpy().astype("<f4")
        vectors = vectors.reshape(len(batch_ids), -1)
        for *row, years, vector in zip(
            *texts, batch["exp_years"].to_pylist(), vectors, strict=True
        ):
            for text in row:
                utf8 = text.encode()
                digest.update(struct.pack(">I", len(utf8)) + utf8)
            digest.update(struct.pack(">iI", years, len(vector)) + vector.tobytes())
        ids += batch_ids
    return Dataset(path, ids, digest.hexdigest())


def rows_of_chunk(path: Path) -> list[bytes]:
    """Return each row of a file as a RowChunk has it: joined, they are one RowChunk.

    So are RowChunks one after the other, whatever the number of their rows.
    """
    rows = feather.read_table(path).to_pylist()
    return [
        pb.RowChunk(rows=[pb.Embedding(**{**row, "id": str(row["id"])})]).SerializeToString()
        for row in rows
    ]

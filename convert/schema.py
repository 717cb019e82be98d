"""The dataset file: what `convert` writes and the streamer maps.

An Arrow IPC file (Feather V2), uncompressed, so that it is used where it lies. Its
record batches have BATCH_ROWS rows, the last one what is left; each of their buffers
begins at a multiple of ALIGNMENT_BYTES. Rows ascend strictly by id in unsigned byte
order. There are no nulls.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from convert.foreign_text import quoted
from convert.id_text import IdKind

if TYPE_CHECKING:
    from collections.abc import Collection

FORMAT_VERSION = 1
# Rows: 25 MB of vectors at 384 floats. Small enough that writing one batch at a time
# takes little memory, large enough that a file of 10M rows has only 611 of them.
BATCH_ROWS = 16_384
# What Arrow's columnar format recommends; also a cache line.
ALIGNMENT_BYTES = 64

TEXT_FIELDS = ("company_name", "english_level", "primary_keyword")
# Text is stored once a distinct value; see streamer.codec for what it saves on the way out.
DICTIONARY_TEXT = pa.dictionary(pa.int32(), pa.string())
# The same for more than MAX_TEXT_BYTES of distinct values, which string counts in 32 bits.
LARGE_DICTIONARY_TEXT = pa.dictionary(pa.int32(), pa.large_string())
MAX_TEXT_BYTES = 2**31 - 1

_FINGERPRINT = re.compile("[0-9a-f]{64}")
# Arrow counts the items of a fixed-size list in 32 bits.
_MAX_DIMENSION = 2**31 - 1
_METADATA_PREFIX = "embedding-stream."
_MADE = "made"


@dataclass(frozen=True)
class DatasetInfo:
    """What the schema metadata says about a dataset.

    `fingerprint` is the hex SHA-256 of the source's bytes and of the options that shape
    the output: equal fingerprints mean equal rows. `dimension` is floats per vector.
    `ids_made`: another conversion of the same rows may give them other ids; files that were
    written before this was noted don't say so.
    """

    fingerprint: str
    source: str
    id_kind: IdKind
    rows: int
    dimension: int
    ids_made: bool = False

    def to_metadata(self) -> dict[bytes, bytes]:
        values = {
            "format-version": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "source": self.source,
            "id-kind": self.id_kind.value,
            "rows": self.rows,
            "dimension": self.dimension,
        }
        if self.ids_made:
            values["ids"] = _MADE
        return {
            f"{_METADATA_PREFIX}{key}".encode(): str(value).encode(errors="backslashreplace")
            for key, value in values.items()
        }

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> DatasetInfo:
        """Read what `to_metadata` wrote; ValueError says what is missing or wrong."""
        values = {
            key.decode().removeprefix(_METADATA_PREFIX): value.decode()
            for key, value in (metadata or {}).items()
            if key.startswith(_METADATA_PREFIX.encode())
        }
        try:
            version = int(values["format-version"])
            if version != FORMAT_VERSION:
                message = f"format version {version}, this program reads {FORMAT_VERSION}"
                raise ValueError(message)
            info = cls(
                fingerprint=values["fingerprint"],
                source=values["source"],
                id_kind=IdKind(values["id-kind"]),
                rows=int(values["rows"]),
                dimension=int(values["dimension"]),
                ids_made=values.get("ids") == _MADE,
            )
        except KeyError as error:
            message = f"no {quoted(error.args[0])} in the schema metadata"
            raise ValueError(message) from None
        if not _FINGERPRINT.fullmatch(info.fingerprint):
            message = "the fingerprint is no SHA-256"
            raise ValueError(message)
        if not 0 < info.dimension <= _MAX_DIMENSION:
            message = f"dimension {info.dimension}"
            raise ValueError(message)
        return info


def dataset_schema(
    dimension: int, metadata: dict[bytes, bytes], large: Collection[str] = ()
) -> pa.Schema:
    """Return the schema that `convert` writes for vectors of `dimension` floats.

    `large` are the text columns of more than MAX_TEXT_BYTES.
    """
    text = {n: LARGE_DICTIONARY_TEXT if n in large else DICTIONARY_TEXT for n in TEXT_FIELDS}
    vector_type = pa.list_(pa.field("item", pa.float32(), nullable=False), dimension)
    types = {
        "id": pa.uuid(),
        "company_name": text["company_name"],
        "exp_years": pa.int32(),
        "english_level": text["english_level"],
        "primary_keyword": text["primary_keyword"],
        "vector": vector_type,
    }
    return pa.schema(
        [pa.field(name, arrow_type, nullable=False) for name, arrow_type in types.items()],
        metadata=metadata,
    )

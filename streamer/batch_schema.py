"""What record batches look like outside of a dataset file: read from a server, or received."""

from __future__ import annotations

import pyarrow as pa

from convert.id_text import IdKind

_ID_KIND_KEY = b"id-kind"


def batch_schema(dimension: int, id_kind: IdKind) -> pa.Schema:
    """Return the schema of the record batches that a read yields: plain columns, no nulls.

    Its metadata say which text the ids have on the wire: see `id_kind_of`.
    """
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), dimension)
    types = {
        "id": pa.uuid(),
        "company_name": pa.string(),
        "exp_years": pa.int32(),
        "english_level": pa.string(),
        "primary_keyword": pa.string(),
        "vector": vector,
    }
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in types.items()],
        metadata={_ID_KIND_KEY: id_kind.value},
    )


def id_kind_of(schema: pa.Schema) -> IdKind:
    """Return what the ids of a batch of `batch_schema` are."""
    return IdKind(schema.metadata[_ID_KIND_KEY].decode())

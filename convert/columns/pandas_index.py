"""Which columns of a Parquet or Arrow file were the index of the DataFrame that pandas wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of what pandas notes: a thousand columns take 200 KB.
_MOST_BYTES = 1 << 24


def index_names(metadata: Mapping[bytes, bytes] | None) -> frozenset[str]:
    """Return the names of the columns that were an index, by the metadata of a schema."""
    noted = (metadata or {}).get(b"pandas", b"")
    if not noted or len(noted) > _MOST_BYTES:
        return frozenset()
    try:
        index: Any = json.loads(noted)["index_columns"]
        return frozenset(name for name in index if isinstance(name, str))
    except (ValueError, TypeError, KeyError, RecursionError):  # the file may say anything
        return frozenset()

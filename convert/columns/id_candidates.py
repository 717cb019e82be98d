"""Columns that hold ids, though none is named as the id column.

A source without an id column gets made ids. Where a DataFrame's index or a column such as
`job_id` has ids, that would lose them without a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.id_text import IdKind
from convert.ids import id_texts, kept_ids
from convert.pickle_reader import FloatLists, IndexName

if TYPE_CHECKING:
    from convert.pickle_reader import Values

# The words of a name: job, Id of jobId; job, UUID of "Job UUID".
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ID_WORDS = frozenset({"id", "ids", "uuid", "guid", "ulid", "oid", "pk", "key", "index"})
# Rows that are looked at.
_SAMPLED_ROWS = 1000


def may_hold_ids(name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
    """Whether a column of that name may hold ids: any index, or one that is called id, uuid ..."""
    if isinstance(name, IndexName):
        return True
    return not _ID_WORDS.isdisjoint(word.lower() for word in _WORD.findall(str(name)))


def looks_like_ids(values: Values) -> str | None:
    """Return one of the ids, if most of the first rows are UUIDs or ULIDs, each another."""
    if isinstance(values, FloatLists):
        return None
    sample = values[:_SAMPLED_ROWS]
    texts = id_texts(sample)
    for kind in IdKind:
        ids = kept_ids(sample, texts, kind)
        valid = [row for row in range(len(texts)) if row not in ids.problems]
        if 2 * len(valid) > len(texts) and len(np.unique(ids.values[valid], axis=0)) == len(valid):
            return texts[valid[0]]
    return None

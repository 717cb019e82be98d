"""Ids of every kind: those that are kept, those that are none, and UUIDv5s of values."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import pandas as pd

from tests.shapes.catalogue import (
    IDS,
    ROWS,
    TEXTS,
    Shape,
    converted,
    frame,
    pickled,
    read_pickle,
    records,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_NAMESPACE = uuid.UUID("e15fce28-7607-425f-af74-24c96976af1a")  # as docs/converting.md says
_OBJECT_IDS = [hashlib.sha256(b"%d" % n).digest()[:12] for n in range(ROWS)]
_FOREIGN: dict[str, tuple[Sequence[Any], str, Callable[[Any], bytes]]] = {
    "integers": (range(ROWS), "0 is not a UUID", lambda n: b"\xffi%d" % n),
    "floats": ([n + 0.0 for n in range(ROWS)], "0.0 is not a UUID", lambda n: b"\xffi%d" % n),
    "texts": ([f"doc_{n}#청크" for n in range(ROWS)], "'doc_0#청크' is not a UUID", str.encode),
    "SHA-256 in hex": (
        [hashlib.sha256(b"%d" % n).hexdigest() for n in range(ROWS)], "'5feceb66", str.encode
    ),
    "ObjectIds in hex": ([v.hex() for v in _OBJECT_IDS], f"'{_OBJECT_IDS[0].hex()}'", str.encode),
    "bytes": (_OBJECT_IDS, f"'{_OBJECT_IDS[0].hex()}' (12 bytes)",
              lambda v: b"\xffx" + v.hex().encode()),
}  # fmt: skip


def _uuid5(name: bytes) -> str:
    digest = hashlib.sha1(_NAMESPACE.bytes + name, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _with_ids(ids: Sequence[str]) -> Callable[[Path], pd.DataFrame]:
    return lambda path: read_pickle(path).assign(id=list(ids))


SHAPES: list[Shape] = [
    shape
    for kind, (values, said, name) in _FOREIGN.items()
    for shape in (
        refused(
            f"ids that are {kind}", pickled(frame(id=list(values))),
            words=[said, "--ids uuid5 --id-from id makes a UUID of each value"],
        ),
        converted(
            f"ids that are {kind}, as uuid5", pickled(frame(id=list(values))),
            "--ids", "uuid5", "--id-from", "id",
            rows=_with_ids([_uuid5(name(value)) for value in values]),
        ),
    )
]  # fmt: skip
SHAPES += [
    converted("UUIDs as objects", pickled(frame(id=list(map(uuid.UUID, IDS))))),
    converted("UUIDs in braces", pickled(records(id=[f"{{{i}}}".upper() for i in IDS])),
              rows=_with_ids(IDS)),
    converted(
        "uuid5 of a text that is no field", pickled(frame(id=None, url=[f"u/{n}" for n in IDS])),
        "--ids", "uuid5", "--id-from", "url", "--id-namespace", "url",
        rows=_with_ids([str(uuid.uuid5(uuid.NAMESPACE_URL, f"u/{n}")) for n in IDS]),
    ),
    converted(
        "uuid5 of two columns, one with nulls",
        pickled(records(id=None, chunk=[1, None, 3, 4, None, 6])),
        "--ids", "uuid5", "--id-from", "exp_years,chunk",
        rows=_with_ids([
            _uuid5(b"\xffi%d" % years + (b"\xffn" if chunk is None else b"\xffi%d" % chunk))
            for years, chunk in zip(TEXTS["exp_years"], [1, None, 3, 4, None, 6], strict=True)
        ]),
    ),
    refused(
        "uuid5 of values that repeat", pickled(frame(id=None)),
        "--ids", "uuid5", "--id-from", "primary_keyword",
        words=["'Java': rows 0 and 1", "--id-from COLUMN,COLUMN"],
    ),
    refused(
        "uuid5 of a column that isn't there", pickled(frame(id=None)),
        "--ids", "uuid5", "--id-from", "url",
        words=["there is no column 'url'", "'company_name'"],
    ),
    refused(
        "uuid5 of times", pickled(frame(id=None, at=pd.date_range("2025-01-01", periods=ROWS))),
        "--ids", "uuid5", "--id-from", "at",
        words=["instead of text, a number, a bool, bytes or a UUID"],
    ),
    refused("repeated UUIDs", pickled(frame(id=[IDS[0], *IDS[:5]])),
            words=[f"{IDS[0]}: rows 0 and 1"]),
]  # fmt: skip

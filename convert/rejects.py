"""The rows that were left out, whole, as JSON lines: nothing is lost by skipping."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from convert.atomic import replacing
from convert.errors import OutputError
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convert.problems import Problems
    from convert.source import Source

_MAX_DEPTH = 50
# Python prints no integer beyond 4,300 digits.
_MAX_INT_BITS = 14_000


def rejects_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.rejected.jsonl")


@contextlib.contextmanager
def writing_rejects(out: Path, source: Source, problems: Problems) -> Iterator[None]:
    """Write each row with a problem beside `out`, where it takes an older file's place.

    That happens when the body of the `with` has succeeded; where there is no problem, the
    older file is removed then. A line: {"row": its number in the source, "problems":
    [{"field", "reason"}], "values": every column of the source by name}. What JSON can't
    say becomes text: NaN, infinities, dates; bytes become base 64.
    """
    path = rejects_path(out)
    by_row = problems.by_row()
    if not by_row:
        yield
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            message = f"{path} can't be removed: {error.strerror or error}"
            raise OutputError(message) from error
        return
    with replacing(path) as file:
        for row, found in by_row.items():
            line = {
                "row": row,
                "problems": [{"field": p.field, "reason": p.reason} for p in found],
                "values": {str(name): _jsonable(v) for name, v in source.row(row).items()},
            }
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        yield


def _jsonable(value: Any, depth: int = 0) -> Any:  # noqa: ANN401, C901 - a table of cases
    if depth > _MAX_DEPTH:  # a list may hold itself
        return "..."
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if value.bit_length() < _MAX_INT_BITS else hex(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case np.ndarray() if value.dtype.kind in "mM":
            return [str(item) for item in value]
        case np.ndarray():
            return _jsonable(value.tolist(), depth)
        case np.bool_() | np.integer() | np.floating() if value.dtype.kind in "biuf":
            plain = value.item()
            return _jsonable(plain, depth) if type(plain) in (bool, int, float) else str(value)
        case pa.Scalar():
            return _jsonable(python_values(pa.array([value], value.type))[0], depth)
        case list() | tuple() | set() | frozenset():
            return [_jsonable(item, depth + 1) for item in value]
        case dict():
            return {str(key): _jsonable(item, depth + 1) for key, item in value.items()}
        case _:
            return str(value)

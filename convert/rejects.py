"""The rows that were left out, whole, as JSON lines: nothing is lost by skipping."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from convert.atomic import partial, put_in_place
from convert.errors import OutputError
from convert.foreign_text import fit_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from convert.problems import Problem

_MAX_DEPTH = 50
# Python prints no integer beyond 4,300 digits.
_MAX_INT_BITS = 14_000
_ALWAYS_BYTES = 64 << 20
_MOST_TIMES = 50


def rejects_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.rejected.jsonl")


class Rejects:
    """Collects rows with problems beside `out`; `put_in_place` makes them the file.

    A line: {"row": its number in the source, "problems": [{"field", "reason"}],
    "values": every column of the source by name}. What JSON can't say becomes text:
    NaN, infinities, dates; bytes become base 64. Rows that share their values, of a source
    of `source_bytes`, could fill any disk: OutputError beyond fifty times as much.
    """

    def __init__(self, out: Path, source_bytes: int) -> None:
        self._path = rejects_path(out)
        self._most_bytes = _ALWAYS_BYTES + _MOST_TIMES * source_bytes
        self._cleanup = contextlib.ExitStack()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._cleanup.__exit__(kind, error, trace)

    def clear(self) -> None:
        """Forget what was collected."""
        self._cleanup.close()
        self._file = None

    def add(
        self, problems: list[Problem], first_row: int, row: Callable[[int], dict[Any, Any]]
    ) -> None:
        """Collect the rows that have `problems`; `row(0)` returns all values of `first_row`."""
        by_row: dict[int, list[Problem]] = {}
        for problem in sorted(problems):
            by_row.setdefault(problem.row, []).append(problem)
        if not by_row:
            return
        if self._file is None:
            self._file = self._cleanup.enter_context(partial(self._path))
        for number, found in by_row.items():
            line = {
                "row": number,
                "problems": [{"field": p.field, "reason": p.reason} for p in found],
                "values": {str(name): _jsonable(v) for name, v in row(number - first_row).items()},
            }
            text = json.dumps(line, allow_nan=False, ensure_ascii=False)
            self._file.write(fit_json(text).encode() + b"\n")
            if self._file.tell() > self._most_bytes:
                message = (
                    f"the rows to leave out take more than {self._most_bytes / 1e6:,.0f} MB, as"
                    " many of them refer to the same large values; nothing was written"
                )
                raise OutputError(message)

    def put_in_place(self) -> None:
        """Replace the file of an older conversion; where nothing was rejected, remove it."""
        try:
            if self._file is None:
                self._path.unlink(missing_ok=True)
            else:
                put_in_place(self._file, self._path)
        except OSError as error:
            message = f"{self._path} can't be written: {error.strerror or error}"
            raise OutputError(message) from error


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
        case list() | tuple() | set() | frozenset():
            return [_jsonable(item, depth + 1) for item in value]
        case dict():
            return {str(key): _jsonable(item, depth + 1) for key, item in value.items()}
        case _:
            return str(value)

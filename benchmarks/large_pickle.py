"""Writes a pickled list of dicts of any size.

It is what `pickle.dump` would write, but for equal texts, which are written each time;
`pickle.dump` itself would need the whole list in memory, 20 GB for 1.4 million rows.
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

from data.make_sample import make_columns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH_ROWS = 1000  # between two APPENDS, as Python's own pickler has it
_PROTOCOL = 4
# PROTO 4, FRAME and its length, EMPTY_LIST, MEMOIZE; a FRAME's opcode and length.
_PROTO_BYTES, _FRAME_BYTES, _LIST_BYTES = 2, 9, 2
_STOP = b"."


def write_large_pickle(path: Path, rows: int, dimension: int, letters: int = 0) -> None:
    """Write `rows` records of the sample's kind; with `letters` each has a text of so many.

    Each batch is pickled as a list of its own. What belongs to that list is taken away;
    the batches' rows, one behind another, are the list of all. A key's memo entries are
    those of the first batch, whose entries have the same numbers.
    """
    with path.open("wb") as file:
        for number, batch in enumerate(_batches(rows, dimension, letters)):
            content = bytearray(pickle.dumps(batch, _PROTOCOL))
            _grow_last_frame(content, -len(_STOP))
            del content[-len(_STOP) :]
            if number:
                _grow_frame(content, _PROTO_BYTES, -_LIST_BYTES)
                begin = _PROTO_BYTES + _FRAME_BYTES
                del content[begin : begin + _LIST_BYTES]
                del content[:_PROTO_BYTES]
            file.write(content)
        file.write(_STOP)


def _batches(rows: int, dimension: int, letters: int) -> Iterator[list[dict[str, Any]]]:
    columns = make_columns(rows, dimension, 0)
    if letters:
        columns["company_name"] = range(rows)  # which become texts a batch at a time
    vectors = columns.pop("job_post_vectors")
    for begin in range(0, rows, _BATCH_ROWS):
        end = begin + _BATCH_ROWS
        lists = vectors[begin:end].tolist()
        batch = [
            {name: _own(value) for name, value in zip(columns, values, strict=True)}
            for values in zip(*(column[begin:end] for column in columns.values()), strict=True)
        ]
        for record, vector in zip(batch, lists, strict=True):
            record["job_post_vectors"] = vector
            if letters:
                record["company_name"] = long_text(record["company_name"], letters)
        yield batch


def long_text(number: int, letters: int) -> str:
    """Return a text that is another for each number, as descriptions are: words, bullets."""
    words = f"{number} • Looking for engineer no. {number * 7919} who has done it before. "
    return (words * (letters // len(words) + 1))[:letters]


def _own(value: Any) -> Any:
    """Return a text that no other row has, so that the pickle refers to no other."""
    return value.encode().decode() if isinstance(value, str) else value


def _grow_last_frame(content: bytearray, count: int) -> None:
    frame = after = _PROTO_BYTES
    while after < len(content):
        frame = after
        after += _FRAME_BYTES + struct.unpack_from("<Q", content, frame + 1)[0]
    _grow_frame(content, frame, count)


def _grow_frame(content: bytearray, frame: int, count: int) -> None:
    (size,) = struct.unpack_from("<Q", content, frame + 1)
    struct.pack_into("<Q", content, frame + 1, size + count)

"""JSON Lines as a source: a JSON object a line, keys being columns.

Arrow parses a block of lines at a time. What it can't hold without a loss it leaves to Python's
parser, which is slower and whose values may differ from row to row: numbers next to text,
integers beyond 64 bits. Each block has its own types, so that a column may be numbers in one
and text in the next, as in a list of dicts.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from convert.errors import UnreadableSourceError
from convert.pickle_reader import Batch
from convert.sources.one_file import OneFile

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator

    from convert.pickle_reader import Values
    from convert.sources.content import Content

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 4 << 20  # a thousand rows of 384 floats are 8 MB
_MOST_LINE_BYTES = 256 << 20
# Rows times keys of a block: Arrow makes a column of each key, with a value for each row.
_MOST_CELLS = 1 << 24
# Brackets that a line opens: Arrow's types end the process when they are thousands deep.
_MOST_OPENED = 500
# Columns of times, each of which Arrow makes in every block.
_MOST_DATES = 500
_OPENING = b"[{\n"
_ALL_ELSE = bytes(set(range(256)) - set(_OPENING))
_EXACT = 1 << 53  # from here on a double may stand for several integers

_OBJECT = re.compile(rb"\s*\{")
# A line's number and its text.
_Line: TypeAlias = tuple[int, bytes]


class JsonLines(OneFile):
    """The rows of a file of JSON Lines."""

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        # Columns that Arrow would take for times: text stays text.
        self._dates: dict[str, pa.DataType] = {}

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows; an error names the line."""
        data = self._content.mapped(advance)
        self.rows = read = told = 0
        columns: dict[str, None] = {}
        self.columns = columns
        for first, block in self._blocks(data):
            numbered = enumerate(block.split(b"\n"), first)
            lines = [(number, text) for number, text in numbered if text.strip()]
            read += len(block)
            before, told = told, self._content.file_bytes * read // len(data)
            advance(told - before)
            if lines:
                batch = self._arrow_batch(block, lines, wanted, columns)
                batch = batch or self._python_batch(lines, wanted, columns)
                self.rows += batch.rows
                yield batch
                del batch
        advance(self._content.file_bytes - told)

    def _blocks(self, data: mmap.mmap) -> Iterator[tuple[int, bytes]]:
        """Yield whole lines, with the number of the first of them."""
        line, size = 1, _BLOCK_BYTES
        begin = len(_BOM) if data[: len(_BOM)] == _BOM else 0
        while begin < len(data):
            end = data.find(b"\n", begin + size - 1) + 1 or len(data)
            if end - begin > size + _MOST_LINE_BYTES:
                message = f"{self._path}, from line {line:,} on: a line is longer than 256 MiB"
                raise UnreadableSourceError(message)
            block = data[begin:end]
            while (lines := block.count(b"\n")) > 1 and lines * block.count(b":") > _MOST_CELLS:
                middle = block.rfind(b"\n", 0, len(block) // 2)
                block = block[: (block.find(b"\n") if middle < 0 else middle) + 1]
            yield line, block
            line += block.count(b"\n")
            begin += len(block)
            size = min(_BLOCK_BYTES, 2 * len(block))

    def _arrow_batch(
        self, block: bytes, lines: list[_Line], wanted: Callable[[Any], bool],
        columns: dict[str, None],
    ) -> Batch | None:  # fmt: skip
        """Return the rows of a block; None if Arrow can't say what they hold."""
        opened = block.translate(None, _ALL_ELSE).split(b"\n")
        if max(map(len, opened)) > _MOST_OPENED or len(self._dates) > _MOST_DATES:
            return None
        if not all(_OBJECT.match(text) for _, text in lines):  # null would be a row of nulls
            return None
        try:
            (rows,) = self._parsed(block).combine_chunks().to_batches()
            rows.validate(full=True)  # text may be no UTF-8
            names = rows.schema.names
        except (pa.ArrowException, ValueError):  # also names that are no UTF-8, and no columns
            return None
        if rows.num_rows != len(lines) or any(map(_may_be_inexact, rows.columns)):
            return None
        columns.update(dict.fromkeys(names))
        found = {name: _values(rows.column(name)) for name in names if wanted(name)}
        return Batch(rows.num_rows, found, lambda row: self._row(*lines[row]))

    def _parsed(self, block: bytes) -> pa.Table:
        import pyarrow.json as pa_json  # noqa: PLC0415 - time that other sources don't need

        while True:
            table = pa_json.read_json(
                pa.BufferReader(block),
                pa_json.ReadOptions(use_threads=False, block_size=len(block)),
                pa_json.ParseOptions(explicit_schema=pa.schema(list(self._dates.items()))),
            )
            kinds = {field.name: _without_times(field.type) for field in table.schema}
            dates = {field.name for field in table.schema if kinds[field.name] != field.type}
            if not dates:
                return table
            self._dates |= {name: kinds[name] for name in dates}

    def _python_batch(
        self, lines: list[_Line], wanted: Callable[[Any], bool], columns: dict[str, None]
    ) -> Batch:
        rows = [self._row(number, text) for number, text in lines]
        keys = dict.fromkeys(key for row in rows for key in row)
        columns.update(keys)
        found = {key: [row.get(key) for row in rows] for key in keys if wanted(key)}
        return Batch(len(rows), found, rows.__getitem__)

    def _row(self, number: int, text: bytes) -> dict[str, Any]:
        where = f"{self._path}, line {number:,}"
        try:
            row = json.loads(text.decode())
        except UnicodeDecodeError:
            message = f"{where} is not UTF-8"
        except json.JSONDecodeError as error:
            message = f"{where}, column {error.colno:,} isn't JSON: {error.msg}"
        except (ValueError, RecursionError) as error:  # integers and nesting without end
            message = f"{where} can't be read: {error}"
        else:
            if isinstance(row, dict):
                return row
            message = f"{where} is a JSON {_JSON_NAMES[type(row)]}; each line must be an object"
        raise UnreadableSourceError(message)


_JSON_NAMES = {
    list: "array", str: "string", int: "number", float: "number", bool: "boolean",
    type(None): "null",
}  # fmt: skip


def _values(column: pa.Array) -> Values:
    """Return text and lists as they are, and others as Python's: no row's type is that of all."""
    is_long = pa.types.is_string(column.type) or pa.types.is_list(column.type)
    return column if is_long else column.to_pylist()


def _may_be_inexact(column: pa.Array) -> bool:
    """Whether a column of doubles may have been integers of more digits, such as ids."""
    return bool(
        pa.types.is_floating(column.type) and (pc.max(pc.abs(column)).as_py() or 0) >= _EXACT
    )


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Return a type in which text that Arrow takes for times is text."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _without_times(each.type)) for each in kind])
    return kind

"""CSV as a source: all columns are text, as which nothing is lost.

What a column's numbers mean is up to the field that it becomes: `00123` may be an id, and years
and vectors are read from text. An empty cell is null unless it is quoted. The first line names
the columns; they are separated by commas, tabs, semicolons or bars.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from convert.errors import UnreadableSourceError
from convert.pickle_reader import BATCH_ROWS
from convert.sources.kinds import HEAD_BYTES, delimiter_of, remedy_for
from convert.sources.one_file import OneFile
from convert.sources.table_batch import column_keys, table_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyarrow.csv import CSVStreamingReader

    from convert.pickle_reader import Batch

# Bytes that Arrow parses at once; it reads some blocks ahead. A row can't be longer; of 384 floats
# it has 8,000.
_BLOCK_BYTES = 4 << 20
_MOST_COLUMNS = 10_000  # each takes 9 KB to read
_OTHER_LENGTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
_NOT_UTF_8 = re.compile(r"Row #(\d+): .*invalid UTF8")


class CsvFile(OneFile):
    """The rows of a CSV file."""

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows; an error names the row, the line of names being row 1."""
        data = self._content.mapped(advance)
        self.rows = told = 0
        delimiter = delimiter_of(data[:HEAD_BYTES])
        self._refuse_header(data[: data.find(b"\n") + 1], delimiter)
        try:
            with _reader(pa.BufferReader(data), delimiter, ()) as reader:
                found = reader.schema.names
            file = pa.BufferReader(data)
            with _reader(file, delimiter, found) as reader:
                self.columns = column_keys(_index_named(found))
                for block in reader:
                    self.rows += block.num_rows
                    before, told = told, self._content.file_bytes * file.tell() // len(data)
                    advance(told - before)
                    for begin in range(0, block.num_rows, BATCH_ROWS):
                        yield table_batch(block.slice(begin, BATCH_ROWS), self.columns, wanted)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise UnreadableSourceError(self._reason(str(error))) from error
        advance(self._content.file_bytes - told)

    def _refuse_header(self, line: bytes, delimiter: str) -> None:
        columns = line.count(delimiter.encode()) + 1
        if not line or columns > _MOST_COLUMNS:
            what = f"{columns:,} columns, more than {_MOST_COLUMNS:,}" if line else "no rows"
            message = f"{self._path} has {what}"
            raise UnreadableSourceError(message)

    def _reason(self, said: str) -> str:
        """Return what is wrong, of what Arrow says, which quotes the row."""
        match = _OTHER_LENGTH.search(said)
        if match:
            row, columns, values = map(int, match.groups())
            return (
                f"{self._path}, row {row:,} has {values:,} values, where the first line names "
                f"{columns:,} columns"
            )
        if "straddling" in said:
            return f"{self._path} has a row of more than {_BLOCK_BYTES / 1e6:.0f} MB"
        match = _NOT_UTF_8.search(said)
        if match:
            return (
                f"{self._path}, row {match[1]} is not UTF-8; if it is in another encoding, such as "
                "cp949, write it in UTF-8: "
                + remedy_for(
                    '`Path({csv}).write_text(Path({path}).read_text("cp949"), "utf-8")`', self._path
                )
            )
        return f"{self._path} can't be read: {said}"


def _reader(file: pa.NativeFile, delimiter: str, names: Sequence[str]) -> CSVStreamingReader:
    """Return what reads the columns `names` as text."""
    from pyarrow import csv  # noqa: PLC0415 - time that other sources don't need

    return csv.open_csv(
        file,
        csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),  # it counts rows
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _index_named(names: list[str]) -> list[str]:
    """Return the names of columns; pandas writes none for a DataFrame's index."""
    blank = len(list(itertools.takewhile(lambda name: not name, names)))
    index = ["index"] if blank == 1 else [f"index_{level}" for level in range(blank)]
    return [*index, *names[blank:]]

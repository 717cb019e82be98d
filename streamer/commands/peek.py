"""`streamer peek`: what a server has, for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from convert.id_text import format_ids
from convert.tables import Console, Table
from streamer.batch_schema import id_kind_of
from streamer.client.client import EmbeddingClient
from streamer.client.reading import ReadPolicy
from streamer.commands.row_bar import row_bar
from streamer.commands.say import record, warn
from streamer.dataset_file import id_matrix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import grpc
    import pyarrow as pa


# One that doesn't answer is reported soon: somebody is waiting.
_POLICY = ReadPolicy(max_tries=3, call_seconds=60, on_retry=lambda why: warn(f"waiting: {why}"))
_SHOWN_FLOATS = 3
_SHOWN_CHARS = 200
# Columns of a terminal in which the names of all fields fit side by side.
_WIDE = 128
_CHUNK_ROWS = 2048


def peek(
    source: str,
    credentials: grpc.ChannelCredentials | None,
    *,
    after: str,
    rows: int,
    count_rest: bool,
) -> None:
    """Print the headers and the first `rows` rows; then count the others."""
    chunk_rows = _CHUNK_ROWS if count_rest else min(max(rows, 1), _CHUNK_ROWS)
    console = Console()
    with (
        EmbeddingClient(source, credentials=credentials, policy=_POLICY) as client,
        client.batches(after, chunk_rows) as stream,
    ):
        begin = time.monotonic()
        headers = stream.dataset
        first_seconds = time.monotonic() - begin
        first = list(_until(stream, rows)) if rows else []
        seconds = time.monotonic() - begin
        for name, value in headers._asdict().items():
            if name == "ids" and value is None:  # said of made ones alone
                continue
            line = f"{name.replace('_', ' '):<16} {_said(value)}"
            console.print(line)
            record(line)
        console.print(_table(first, rows, console.width) if first else "no rows shown")
        console.print(f"first rows came after {first_seconds * 1000:,.0f} ms")
        if count_rest:
            came = sum(batch.num_rows for batch in first)
            begin = time.monotonic()  # what was printed took no time of the server's
            with row_bar("count") as bar:
                bar.expect(headers.rows_remaining, came)
                for batch in stream:
                    bar.advance(batch.num_rows)
            rate = (came + bar.rows) / (seconds + time.monotonic() - begin)
            line = f"{came + bar.rows:,} rows in all, {rate:,.0f} rows/s"
            console.print(line)
            record(line)


def _until(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Take batches until they have `rows` rows."""
    for batch in batches:
        yield batch
        rows -= batch.num_rows
        if rows <= 0:
            return


def _table(batches: list[pa.RecordBatch], rows: int, width: int) -> Table:
    """Return a table of a line a row; in a terminal too narrow for that, a line a field."""
    names = batches[0].schema.names
    if width >= _WIDE:
        wide = Table()
        for name in names:
            wide.add_column(name, overflow="fold", no_wrap=name == "id")
        for cells in _cells(batches, rows):
            wide.add_row(*cells)
        return wide
    narrow = Table(show_header=False)
    narrow.add_column(no_wrap=True)
    narrow.add_column(overflow="fold")
    for cells in _cells(batches, rows):
        for name, cell in zip(names, cells, strict=True):
            narrow.add_row(name, cell)
        narrow.add_section()
    return narrow


def _cells(batches: list[pa.RecordBatch], rows: int) -> Iterator[list[str]]:
    for batch in batches:
        ids = format_ids(id_kind_of(batch.schema), id_matrix(batch))
        for id_, row in zip(ids, batch.slice(0, rows).to_pylist(), strict=False):
            *texts, vector = list(row.values())[1:]
            floats = ", ".join(f"{value:.4f}" for value in vector[:_SHOWN_FLOATS])
            values = (id_.tobytes().decode(), *map(str, texts), f"[{floats}, ...]")
            yield [*map(_beginning, values)]
        rows -= batch.num_rows


def _beginning(text: str) -> str:
    """Return text, or how it begins."""
    shown = text[:_SHOWN_CHARS]
    rest = f" ... ({len(text):,} characters)" if len(text) > _SHOWN_CHARS else ""
    return shown + rest


def _said(value: object) -> str:
    if value is None:
        return "(the server does not say)"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)

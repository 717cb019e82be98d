"""From a server into a table: every row once, whatever is killed meanwhile.

Rows come and are made into COPY's form in one thread, while another writes those before
them. A load of rows and the checkpoint after it are committed together.
"""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from streamer.batch_schema import id_kind_of
from streamer.client.progress import MADE_IDS
from streamer.client.upload_segments import id_text
from streamer.dataset_file import id_matrix
from streamer.errors import DecodeError
from streamer.pull_refusals import check_position, explained, located, read_after
from streamer.sinks.checkpoints import Checkpoints
from streamer.sinks.copy_binary import copy_rows
from streamer.sinks.database import clear_errors
from streamer.sinks.table import CopyRows, EmbeddingTable, OnConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import psycopg
    import pyarrow as pa

    from convert.id_text import IdKind
    from streamer.client.client import EmbeddingClient
    from streamer.sinks.target import TableName


_log = logging.getLogger(__name__)

# Of a message, which is held several times on its way: 2,048 rows of 384 floats take 3.4 MB.
_MAX_CHUNK_BYTES = 4 << 20


class Load(NamedTuple):
    """Rows that are written in one transaction; `last_id` is text as the server writes it."""

    rows: CopyRows
    last_id: str
    id_kind: IdKind
    dimension: int


class Plan(NamedTuple):
    """What a pull is about to do: None where the server doesn't say how much there is.

    `repeats_rows`: rows of another dataset stay in the table, maybe the same under other ids.
    """

    dataset_rows: int | None
    rows_left: int | None
    dimension: int | None
    resumes_after: str
    repeats_rows: bool


class Pulled(NamedTuple):
    """`rows` were written; the table has `table_rows` now, and should have `expected_rows`."""

    rows: int
    table_rows: int
    expected_rows: int


def pull(
    client: EmbeddingClient,
    connection: psycopg.Connection,
    name: TableName,
    *,
    load_bytes: int,
    chunk_rows: int,
    on_conflict: OnConflict,
    restart: bool,
    announce: Callable[[Plan], None],
    advance: Callable[[int], None],
) -> Pulled:
    """Write what the table doesn't have yet; the caller holds the table's lock.

    `load_bytes` are committed at a time, in COPY's form; about four times that is held in
    memory. Messages have `chunk_rows` rows, or fewer if those are long. `restart`
    begins at the first row, whatever the checkpoint says. Calls `announce` once, before the
    table is made, then `advance` with the rows of every commit. Raises ReadError,
    DecodeError, DatabaseError, OtherDatasetError.
    """
    with clear_errors():
        checkpoints = Checkpoints(connection, name.schema)
        known = checkpoints.load(name.oid(connection))
    checkpoint = None if restart else known
    if checkpoint and not checkpoint.rows:  # nothing of that dataset is in the table
        checkpoint = None
    after = checkpoint.last_id if checkpoint else ""
    stream = read_after(client, checkpoint, chunk_rows, _MAX_CHUNK_BYTES)
    # The client is closed first: a thread that waits for the server would go on waiting.
    with (
        ThreadPoolExecutor(1, "pull") as ahead,
        contextlib.closing(client),
        clear_errors(),
        explained(client, lambda: checkpoints.load(name.oid(connection))),
    ):
        dataset = stream.dataset
        check_position(checkpoint, dataset)
        repeats_rows = (
            dataset.ids == MADE_IDS
            and known is not None
            and known.fingerprint != dataset.fingerprint
            and name.has_rows(connection)
        )
        announce(Plan(dataset.rows, dataset.rows_remaining, dataset.dimension, after, repeats_rows))
        loads = loads_of(stream, load_bytes)
        load = next(loads, None)
        dimension = load.dimension if load else dataset.dimension
        if dimension is None:  # no rows, and nothing known of them
            return Pulled(0, 0, 0)
        if dataset.dimension not in (None, dimension):
            message = f"the server announces {dataset.dimension} floats and sends {dimension}"
            raise DecodeError(message)
        checkpoints.defer_flushes()
        table: EmbeddingTable | None = None
        written = 0
        while True:
            coming = ahead.submit(next, loads, None)
            with connection.transaction():
                if table is None or checkpoint is None:  # made with its first rows, or not at all
                    table = EmbeddingTable(connection, name, dimension)
                    checkpoint = checkpoint or checkpoints.start(
                        table.oid, dataset.fingerprint or ""
                    )
                if load is not None:
                    with located(load.rows, load.id_kind):
                        table.write(load.rows, on_conflict)
                    checkpoint = checkpoints.move(checkpoint, load.last_id, load.rows.rows)
            if load is not None:
                written += load.rows.rows
                _log.debug("committed %d rows up to %s", load.rows.rows, load.last_id)
                advance(load.rows.rows)
            load = coming.result()
            if load is None:
                break
        checkpoints.flush(checkpoint)
        return Pulled(written, table.count(), checkpoint.rows)


def loads_of(batches: Iterable[pa.RecordBatch], load_bytes: int) -> Iterator[Load]:
    """Put record batches together to loads of at least `load_bytes`, but for the last."""
    pieces: list[pa.Buffer] = []
    ends: list[bytes] = []
    rows = 0
    for batch in batches:
        ids = id_matrix(batch)
        ends += ids[0].tobytes(), ids[-1].tobytes()
        rows += len(ids)
        pieces.append(copy_rows(batch))
        schema = batch.schema
        del batch, ids  # not held while the next one comes
        if sum(piece.size for piece in pieces) >= load_bytes:
            yield _load(pieces, rows, ends, schema)
            pieces, ends, rows = [], [], 0
    if pieces:
        yield _load(pieces, rows, ends, schema)


def _load(pieces: list[pa.Buffer], rows: int, ends: list[bytes], schema: pa.Schema) -> Load:
    first, last = ends[0], ends[-1]
    kind = id_kind_of(schema)
    return Load(
        CopyRows(rows, UUID(bytes=first), UUID(bytes=last), pieces),
        id_text(kind, last),
        kind,
        schema.field("vector").type.list_size,
    )

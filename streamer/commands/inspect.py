"""`streamer info` and `streamer verify`: look at a dataset file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from rich.progress import Progress

from convert.id_text import format_ids
from convert.tables import Console
from convert.terminal import say
from streamer.dataset_file import id_matrix
from streamer.store import EmbeddingStore
from streamer.verify import verify_vectors

if TYPE_CHECKING:
    from pathlib import Path

_MADE = ", made: another conversion may make others"


def info(path: Path) -> None:
    """Print what is in the file at `path`."""
    store = EmbeddingStore.open(path)
    batches = list(store.rows_after(None).slices)
    lines: dict[str, object] = {
        "file": f"{path} ({path.stat().st_size / 1e6:,.1f} MB)",
        "source": store.info.source,
        "rows": f"{store.info.rows:,} in {len(batches)} record batches",
        "dimension": store.info.dimension,
        "ids": f"{store.info.id_kind}{_MADE if store.info.ids_made else ''}",
        "first id": _id_text(store, batches[0].slice(0, 1)) if batches else "none",
        "last id": _id_text(store, batches[-1].slice(batches[-1].num_rows - 1))
        if batches
        else "none",
        "fingerprint": store.info.fingerprint,
    }
    for name, value in lines.items():
        say(f"{name:<12} {value}")
    say("columns")
    for field in store.schema:
        distinct = ""
        if batches and pa.types.is_dictionary(field.type):
            values = len(batches[0].column(field.name).dictionary)
            distinct = f" ({values:,} distinct values)"
        say(f"  {field.name:<16} {field.type}{distinct}")


def verify(path: Path) -> None:
    """Check all of the file at `path`; InvalidDatasetError says what is wrong with it."""
    store = EmbeddingStore.open(path)
    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("verify", total=store.info.rows)
        verify_vectors(store, lambda rows: bars.advance(task, rows))
    say(
        f"{path} is sound: {store.info.rows:,} rows in order, ids unique, text UTF-8, "
        f"{store.info.dimension} finite floats each"
    )


def _id_text(store: EmbeddingStore, row: pa.RecordBatch) -> str:
    return format_ids(store.info.id_kind, id_matrix(row)).tobytes().decode()

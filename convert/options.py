"""What to convert and how, and whether that was done already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from convert.columns.named_ids import NAMESPACE
from convert.ids import IdMode
from convert.schema import FORMAT_VERSION, DatasetInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from uuid import UUID


@dataclass(frozen=True)
class Options:
    """What to convert and how.

    `ids` None: keep the source's ids if it has any, else make UUIDv7s. `id_time_ms`
    None: generated ids carry the source's modification time. `columns` maps fields to
    column names that the source has for them; those in `empty` may have no column.
    `ignore_others`: files of a folder that aren't read are no error. They shape nothing, so
    that the fingerprint doesn't tell. With UUID5 an id is made, in `id_namespace`, of what a
    row has in the columns `id_from`. `dry_run` writes nothing.
    """

    source: Path
    out: Path
    columns: Mapping[str, str]
    ids: IdMode | None = None
    id_time_ms: int | None = None
    skip_invalid: bool = False
    force: bool = False
    empty: frozenset[str] = frozenset()
    ignore_others: bool = False
    id_from: tuple[str, ...] = ()
    id_namespace: UUID = NAMESPACE
    dry_run: bool = False


def possible_fingerprints(options: Options, digest: bytes, time_ms: int) -> set[str]:
    """Return what the file may have that these options make, before the source is read.

    Whether the source has ids is not known yet; by default none are dropped.
    """
    if options.ids is None:
        modes = {IdMode.KEEP: True, IdMode.UUID7: False}
        return {
            fingerprint(options, digest, mode, time_ms, has_ids=has_ids)
            for mode, has_ids in modes.items()
        }
    return {
        fingerprint(options, digest, options.ids, time_ms, has_ids=has_ids)
        for has_ids in (False, True)
    }


def fingerprint(
    options: Options, digest: bytes, mode: IdMode, time_ms: int, *, has_ids: bool
) -> str:
    shaping: dict[str, object] = {
        "format": FORMAT_VERSION,
        "source": digest.hex(),
        "columns": dict(sorted(options.columns.items())),
        "ids": mode.value,
        "source_has_ids": has_ids,
        "id_time_ms": time_ms if mode.is_made else None,
        "skip_invalid": options.skip_invalid,
    }
    if options.empty:  # else the fingerprint is as it was before there was such an option
        shaping["empty"] = sorted(options.empty)
    # What came later is hashed where it is used alone: fingerprints of before are the same still.
    if mode is IdMode.UUID5:
        shaping["id_from"] = options.id_from
        shaping["id_namespace"] = str(options.id_namespace)
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def written_fingerprint(out: Path) -> str | None:
    """Return the fingerprint of the file at `out`, None if it isn't a whole dataset file."""
    try:
        if not out.is_file():  # opening a pipe would wait for whoever writes into it
            return None
        with pa.memory_map(str(out)) as file:
            return DatasetInfo.from_metadata(pa.ipc.open_file(file).schema.metadata).fingerprint
    except (OSError, ValueError):  # Arrow's own errors are ValueErrors
        return None

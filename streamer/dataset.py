"""The dataset at a path, as it is now: a new conversion is picked up without a restart."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple, cast

from proto import embedding_stream_pb2 as pb
from streamer.codec.encode import ChunkEncoder, RowEncoder
from streamer.errors import DatasetNotFoundError, InvalidDatasetError
from streamer.kept_heads import KeptHeads
from streamer.store import EmbeddingStore

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.descriptor import Descriptor

_log = logging.getLogger(__name__)


class OpenDataset(NamedTuple):
    """A store, the encoders compiled for its schema, and what they made that is kept."""

    store: EmbeddingStore
    rows: RowEncoder
    chunks: ChunkEncoder
    heads: KeptHeads


class Dataset:
    """Opens the file at a path, and again whenever another file has taken its place.

    A stream that has begun goes on with the file it began with. May be shared between
    threads.
    """

    def __init__(self, path: Path, *, kept_head_bytes: int = 32 << 20) -> None:
        self.path = path
        self._kept_head_bytes = kept_head_bytes
        self._lock = threading.Lock()
        self._open: tuple[tuple[int, ...], OpenDataset] | None = None

    def current(self) -> OpenDataset:
        """Return the dataset that is there now; DatasetNotFoundError, InvalidDatasetError."""
        with self._lock:
            identity = self._identity()
            if self._open is not None and self._open[0] == identity:
                return self._open[1]
            self._open = None  # a file that is gone or damaged must not go on being served
            opened = _open(self.path, self._kept_head_bytes)
            self._open = identity, opened
            info = opened.store.info
            _log.info(
                "opened %s: %s rows of %d floats, fingerprint %s",
                self.path, f"{info.rows:,}", info.dimension, info.fingerprint[:12],
            )  # fmt: skip
            return opened

    def _identity(self) -> tuple[int, ...]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._open = None
            message = f"there is no dataset file {self.path.name} yet"
            raise DatasetNotFoundError(message) from None
        except OSError as error:
            self._open = None
            message = f"dataset file {self.path.name} can't be read ({error.strerror or error})"
            raise InvalidDatasetError(message) from error
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _open(path: Path, kept_head_bytes: int) -> OpenDataset:
    store = EmbeddingStore.open(path)
    row, chunk = (cast("Descriptor", m.DESCRIPTOR) for m in (pb.Embedding, pb.RowChunk))
    rows = RowEncoder(row, store.schema, store.info.id_kind)
    return OpenDataset(store, rows, ChunkEncoder(chunk, rows), KeptHeads(kept_head_bytes))

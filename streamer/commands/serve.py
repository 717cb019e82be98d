"""`streamer serve`: answer calls until told to stop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psutil

from streamer.chunking import calculate_optimal_chunk_size
from streamer.commands.running import limits_of, run_engine
from streamer.config import OnUnknownCheckpoint
from streamer.dataset import Dataset
from streamer.engines.addresses import any_host
from streamer.errors import StreamerError
from streamer.service import EmbeddingService

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.config import Settings

_log = logging.getLogger(__name__)

_MIB = 1 << 20
# The share of the available memory that one chunk of CHUNK_SIZE=auto may take.
_AUTO_SAFETY_FACTOR = 0.1


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    Raises StreamerError if the address can't be had. A sound dataset file is awaited: calls
    get NOT_FOUND or DATA_LOSS meanwhile, and health checks NOT_SERVING.
    """
    _log.info("the dataset file is %s", settings.data_path.absolute())
    dataset = Dataset(settings.data_path, kept_head_bytes=settings.head_cache_size)
    service = EmbeddingService(
        dataset,
        chunk_rows=_chunk_rows(settings),
        max_message_bytes=settings.max_message_size,
        refuses_unknown_checkpoints=settings.on_unknown_checkpoint is OnUnknownCheckpoint.REFUSE,
    )
    run_engine(
        service,
        settings,
        host=settings.grpc_host or any_host(),
        port=settings.grpc_port,
        limits=limits_of(settings),
        permitted="read all rows",
        look_again=lambda: _look_at(dataset),
    )


def _look_at(dataset: Dataset) -> None:
    try:
        info = dataset.current().store.info
    except StreamerError as error:
        _log.warning("no dataset: %s", error)
    else:
        _log.info(
            "dataset %s is open: %s rows, fingerprint %s",
            dataset.path, f"{info.rows:,}", info.fingerprint[:12],
        )  # fmt: skip


def _chunk_rows(settings: Settings) -> Callable[[int], int]:
    """Return what gives the rows of a chunk from the floats of a vector."""

    def rows(dimension: int) -> int:
        if settings.chunk_size != "auto":
            return settings.chunk_size
        available_mb = psutil.virtual_memory().available / _MIB
        return calculate_optimal_chunk_size(dimension, available_mb, _AUTO_SAFETY_FACTOR)

    return rows

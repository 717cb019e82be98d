"""`streamer receive`: a Batch Server that stores what is uploaded in a table."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streamer.commands.running import limits_of, run_engine
from streamer.config import required_database
from streamer.sinks.database import DatabaseDownError, database
from streamer.sinks.upload_sink import UploadSinks
from streamer.upload_service import UploadService

if TYPE_CHECKING:
    from streamer.config import Settings


def receive(settings: Settings, *, port: int, table: str, dimension: int | None) -> None:
    """Store rows in `table` of DATABASE_URL until told to stop.

    A database that is down meanwhile, or from the start, is UNAVAILABLE to senders, and
    health checks are answered with NOT_SERVING.
    """
    with database(required_database(settings)) as dsn:
        sinks = UploadSinks(dsn, table, dimension)
        service = UploadService(sinks.open, block_bytes=settings.receive_commit_size)
        with contextlib.suppress(DatabaseDownError):  # it is awaited, as health and the log say
            service.check()
        run_engine(
            service,
            settings,
            host=settings.receive_host,
            port=port,
            limits=limits_of(settings).for_uploads(
                max_message_bytes=settings.max_message_size,
                window_bytes=settings.receive_window_size,
            ),
            permitted=f"overwrite rows of {table}, and add some",
            files_per_call=1,  # its connection to the database
            after_grace=sinks.cancel,
        )

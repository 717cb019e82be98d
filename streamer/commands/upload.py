"""`streamer upload`: send a dataset to a Batch Server, and go on where it broke off."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from convert.foreign_text import quoted
from streamer.checkpoint import parse_checkpoint
from streamer.client.upload import Uploader, UploadPolicy
from streamer.client.upload_segments import id_text
from streamer.client.upload_state import UploadState, UploadStateError
from streamer.commands.row_bar import row_bar
from streamer.commands.say import say, warn
from streamer.errors import InvalidRequestError, StreamerError
from streamer.retry import Backoff
from streamer.store import EmbeddingStore

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

    from streamer.client.upload_state import Upload
    from streamer.commands.row_bar import RowBar
    from streamer.config import Settings

_log = logging.getLogger(__name__)

# Seconds; what UPLOAD_RETRY_SECONDS doubles to at most, unless it is more itself.
_MAX_WAIT_SECONDS = 60.0


class RowsFailedError(StreamerError):
    """Everything was sent, and the receiver didn't take all of it."""


class UploadOptions(NamedTuple):
    """What the command line says; None leaves it to the settings and the data file's name."""

    to: str | None = None
    after: str | None = None
    state: Path | None = None
    failed_ids: Path | None = None
    credentials: grpc.ChannelCredentials | None = None
    restart: bool = False


def upload(settings: Settings, options: UploadOptions) -> None:
    """Send what is still to be sent and report; RowsFailedError, and what breaks it off.

    What the state file says is left out where the options say from where to begin.
    """
    data = settings.data_path
    store = EmbeddingStore.open(data)
    target = options.to or f"{settings.batch_server_host}:{settings.batch_server_port}"
    after = options.after or ""
    if not store.rows_after(_checkpoint(after, store)).checkpoint_found:
        warn(f"{after} is not a row of {data.name}: the next id is the first one sent")
    with UploadState(options.state or data.with_name(f"{data.name}.upload.json")) as state:
        known = None
        if not after and not options.restart:
            known = state.find(target, store.info.fingerprint)
            if known is None:
                _note_others(state, target, store.info.fingerprint)
            else:
                _check_last_id(state, known, store)
        last_id = known.last_id if known else after
        if not store.rows_after(_checkpoint(last_id, store)).rows:
            say(_nothing_left(data, target, last_id, known))
            _check_failures(state, known)
            return
        if known:
            current, is_whole = state.resume(known, options.failed_ids)
            if not is_whole:
                path = state.failed_ids(current)
                warn(f"{path} was shortened: ids that failed before are missing there")
        else:
            failed_ids = options.failed_ids or data.with_name(f"{data.name}.failed-ids.txt")
            fingerprint = store.info.fingerprint
            current, moved = state.begin(target, fingerprint, failed_ids, after=after)
            if moved:
                warn(f"the failed ids of an earlier upload are in {moved} now")
        uploader = Uploader(
            target,
            store,
            credentials=options.credentials,
            policy=_policy(settings),
            on_retry=warn,
        )
        with uploader:
            current = _send(uploader, store, state, current)
        _check_failures(state, current)


def _send(
    uploader: Uploader,
    store: EmbeddingStore,
    state: UploadState,
    upload: Upload,
) -> Upload:
    """Send what comes after `upload`, and report, however it ends; return the upload then."""
    begin, earlier = time.monotonic(), upload.rows
    kind = store.info.id_kind
    checkpoint = _checkpoint(upload.last_id, store)
    left = store.rows_after(checkpoint).rows
    try:
        with row_bar("upload") as bar:
            bar.expect(earlier + left, done=earlier)
            for segment in uploader.segments(checkpoint):
                result = uploader.send(segment, partial(_show, bar, upload.rows - earlier))
                upload = state.acknowledge(upload, id_text(kind, segment.last_id), result)
                _log.debug("acknowledged %d rows up to %s", upload.rows, upload.last_id)
                _show(bar, upload.rows - earlier, 0)
                if result.warning:
                    bar.note(f"warning: {result.warning}")
    except BaseException:
        warn("not finished: `upload` without --restart and --after goes on from here")
        raise
    finally:
        seconds = time.monotonic() - begin
        _report(state, upload, earlier, left, seconds)
    return upload


def _report(state: UploadState, upload: Upload, earlier: int, left: int, seconds: float) -> None:
    rows = upload.rows - earlier
    before = f", {earlier:,} of them in earlier runs" if earlier else ""
    failed = f"{upload.failed:,}"
    if upload.failed_ids_bytes:
        failed = f"{failed}, ids in {state.failed_ids(upload)}"
    lines = {
        "target": upload.target,
        "uploaded": f"{upload.rows:,} of {earlier + left:,} rows{before}",
        "succeeded": f"{upload.succeeded:,}",
        "failed": failed,
        "last id": upload.last_id or "none",
        "seconds": f"{seconds:.2f} ({rows / max(seconds, 1e-9):,.0f} rows/s)",
    }
    for name, value in lines.items():
        say(f"{name:<12} {value}")


def _nothing_left(data: Path, target: str, last_id: str, known: Upload | None) -> str:
    if known:
        return (
            f"{data} is uploaded to {target} already: {known.rows:,} rows, {known.failed:,} failed"
            " (--restart sends all again)"
        )
    return f"{data} has no rows{f' after {last_id}' if last_id else ''}: nothing to upload"


def _check_failures(state: UploadState, upload: Upload | None) -> None:
    if upload and upload.has_failures:
        ids = state.failed_ids(upload) if upload.failed_ids_bytes else "not named"
        message = f"{upload.failed:,} rows failed at the receiver; their ids: {ids}"
        raise RowsFailedError(message)


def _note_others(state: UploadState, target: str, fingerprint: str) -> None:
    """Say why uploads that the state file knows are not gone on with."""
    for other in state.others(target, fingerprint):
        if not other.rows:
            continue
        dataset = "this" if other.fingerprint == fingerprint else "another"
        warn(
            f"{state.path} knows {other.rows:,} rows of {dataset} dataset, sent to"
            f" {other.target}; this upload to {target} begins with the first row",
        )


def _policy(settings: Settings) -> UploadPolicy:
    base = settings.upload_retry_seconds
    return UploadPolicy(
        segment_rows=settings.upload_segment_rows,
        max_tries=settings.upload_tries,
        backoff=Backoff(base_seconds=base, cap_seconds=max(base, _MAX_WAIT_SECONDS)),
        call_seconds=settings.upload_timeout_seconds,
    )


def _checkpoint(id_: str, store: EmbeddingStore) -> bytes | None:
    return parse_checkpoint(id_, store.info.id_kind) if id_ else None


def _check_last_id(state: UploadState, upload: Upload, store: EmbeddingStore) -> None:
    """Raise UploadStateError if an upload of this very dataset ended with no row of it."""
    try:
        checkpoint = _checkpoint(upload.last_id, store)
        # Where no row was sent yet it may be any --after.
        is_sound = not upload.rows or bool(
            checkpoint and store.rows_after(checkpoint).checkpoint_found
        )
    except InvalidRequestError:
        is_sound = False
    if not is_sound:
        message = (
            f"somebody changed {state.path}: its upload to {upload.target} ended with"
            f" {quoted(upload.last_id)}, which is no row of this dataset. --restart sends all"
            " rows again"
        )
        raise UploadStateError(message)


def _show(bar: RowBar, done: int, sent: int) -> None:
    """Show `done` rows of this run and `sent` more, which are fewer when they are sent again."""
    bar.advance(done + sent - bar.rows)

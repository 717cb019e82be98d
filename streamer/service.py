"""What the streaming RPCs answer, whatever carries them.

An engine hands over a request and its metadata and gets header values and an iterator
of Frames. The rules are those of proto/embedding_stream.proto. StreamerError before
anything is sent, or, for a row that is too large, from the iterator.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from google.protobuf.message import DecodeError

from convert.foreign_text import quoted
from proto import embedding_stream_pb2 as pb
from streamer import __version__
from streamer.blocks import Blocks
from streamer.checkpoint import parse_checkpoint
from streamer.chunking import MAX_CHUNK_ROWS
from streamer.errors import (
    CheckpointNotFoundError,
    InvalidRequestError,
    StreamerError,
)
from streamer.memory_room import MemoryRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from streamer.codec.frames import Frames
    from streamer.dataset import Dataset, OpenDataset
    from streamer.store import RowsAfter

_log = logging.getLogger(__name__)

POLICY_KEY = "checkpoint-policy"
MUST_EXIST = "must-exist"
# What making a block of 1 MiB takes, sizes and segments of a whole record batch included.
_BLOCK_WORK_BYTES = 4 << 20
# The header of every answer that says what made it.
VERSION_HEADER = ("server-version", __version__)


class Caller(NamedTuple):
    """Who calls, as far as the service needs to know.

    `metadata` holds the request's metadata, keys in lower case. `seconds_left` returns
    what is left until the call's deadline, None if it has none. `takes_parts`: blocks
    may begin and end within a message, because the engine sends bytes; `takes_gathered`:
    it can send GatheredFrames, too.
    """

    peer: str
    metadata: Mapping[str, str]
    seconds_left: Callable[[], float | None]
    takes_parts: bool = False
    takes_gathered: bool = False


class Answer(NamedTuple):
    """Header values, and the messages, encoded as they are asked for; close them."""

    headers: tuple[tuple[str, str], ...]
    frames: Generator[Frames, None, None]


def parse_request(message: bytes) -> pb.RequestParams:
    """Parse a request's bytes; InvalidRequestError, as for any other malformed value."""
    try:
        return pb.RequestParams.FromString(message)
    except DecodeError:
        text = "the request is not a RequestParams (is last_processed_uuid UTF-8?)"
        raise InvalidRequestError(text) from None


class EmbeddingService:
    """Both streaming RPCs over one dataset.

    `chunk_rows` is used where a request leaves the chunk size to the server;
    `max_message_bytes` bounds every message. Both may be shared between threads. With
    `refuses_unknown_checkpoints` every call is answered as with checkpoint-policy: must-exist.
    """

    # How often health looks: one stat while the file stays the same.
    check_seconds = 1.0

    def __init__(
        self,
        dataset: Dataset,
        *,
        chunk_rows: Callable[[int], int],
        max_message_bytes: int,
        refuses_unknown_checkpoints: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dataset = dataset
        self._chunk_rows = chunk_rows
        self._max_message_bytes = max_message_bytes
        self._refuses_unknown_checkpoints = refuses_unknown_checkpoints
        self._clock = clock
        self._room = MemoryRoom()

    def check(self) -> None:
        """Raise what calls would be answered now for want of a sound dataset."""
        self._dataset.current()

    def get_embeddings(self, request: pb.RequestParams, caller: Caller) -> Answer:
        """Answer with one message a row."""
        dataset, rows = self._select(request, caller)
        frames = self._blocks(dataset, caller).of_rows(rows)
        name = f"GetEmbeddings to {caller.peer}"
        _log_start(name, request, rows)
        row_bytes = 4 * dataset.store.info.dimension
        frames = self._with_room(frames, caller, row_bytes)
        return Answer(_headers(dataset, rows), self._logged(name, caller, frames))

    def stream_embedding(self, request: pb.RequestParams, caller: Caller) -> Answer:
        """Answer with `chunk_size` rows a message."""
        dataset, rows = self._select(request, caller)
        chunk_rows = request.chunk_size or self._chunk_rows(dataset.store.info.dimension)
        frames = self._blocks(dataset, caller).of_chunks(rows, chunk_rows)
        name = f"StreamEmbedding to {caller.peer} by {chunk_rows}"
        _log_start(name, request, rows)
        message_bytes = 4 * dataset.store.info.dimension * chunk_rows
        frames = self._with_room(frames, caller, message_bytes)
        return Answer(_headers(dataset, rows), self._logged(name, caller, frames))

    def _select(self, request: pb.RequestParams, caller: Caller) -> tuple[OpenDataset, RowsAfter]:
        if not 0 <= request.chunk_size <= MAX_CHUNK_ROWS:
            message = f"chunk_size {request.chunk_size} is not in 0..{MAX_CHUNK_ROWS}"
            raise InvalidRequestError(message)
        policy = caller.metadata.get(POLICY_KEY)
        if policy not in (None, MUST_EXIST):
            message = f"{POLICY_KEY} {quoted(policy)} is not {quoted(MUST_EXIST)}"
            raise InvalidRequestError(message)
        dataset = self._dataset.current()
        text = request.last_processed_uuid
        checkpoint = parse_checkpoint(text, dataset.store.info.id_kind) if text else None
        rows = dataset.store.rows_after(checkpoint)
        must_exist = policy == MUST_EXIST or self._refuses_unknown_checkpoints
        if must_exist and not rows.checkpoint_found:
            message = f"checkpoint {quoted(text)} is not in the dataset"
            raise CheckpointNotFoundError(message)
        return dataset, rows

    def _blocks(self, dataset: OpenDataset, caller: Caller) -> Blocks:
        return Blocks(
            dataset,
            max_message_bytes=self._max_message_bytes,
            parts=caller.takes_parts,
            gathered=caller.takes_gathered,
        )

    def _with_room(
        self, frames: Iterator[Frames], caller: Caller, message_bytes: int
    ) -> Iterator[Frames]:
        """Pass `frames` on, each made only if there is memory for it; OutOfMemoryError."""
        size = _BLOCK_WORK_BYTES
        if not caller.takes_parts:  # the message, what it is joined from, and the engine's copy
            size += 3 * min(message_bytes, self._max_message_bytes)
        while True:
            with self._room.promised(size):
                block = next(frames, None)
            if block is None:
                return
            yield block
            del block  # before the next one is made

    def _logged(
        self, name: str, caller: Caller, frames: Iterator[Frames]
    ) -> Generator[Frames, None, None]:
        """Pass `frames` on; say at the end what was sent and why it ended."""
        begin = self._clock()
        rows = sent_bytes = 0
        reason = "complete"
        try:
            for block in frames:
                yield block
                rows += block.rows
                sent_bytes += block.nbytes
                _log.debug(
                    "%s: %d messages, %d rows, %d bytes", name, len(block), block.rows, block.nbytes
                )
                del block  # before the next one is made
        except GeneratorExit:
            late = caller.seconds_left() == 0
            reason = "past its deadline" if late else "cancelled or gone"
            raise
        except StreamerError as error:
            reason = f"{error.status.name}: {error}"
            raise
        except BaseException as error:
            reason = f"failed with {type(error).__name__}"
            raise
        finally:
            # The allocator keeps what streams needed: after four at once of 16 MB messages
            # 350 MB stayed, with this 95 MB.
            pa.default_memory_pool().release_unused()
            seconds = max(self._clock() - begin, 1e-9)
            _log.info(
                "%s: sent %s rows, %.1f MB in %.2f s (%s rows/s): %s",
                name, f"{rows:,}", sent_bytes / 1e6, seconds, f"{rows / seconds:,.0f}", reason,
            )  # fmt: skip


def _headers(dataset: OpenDataset, rows: RowsAfter) -> tuple[tuple[str, str], ...]:
    info = dataset.store.info
    made = (("dataset-ids", "made"),) if info.ids_made else ()
    return (
        ("dataset-fingerprint", info.fingerprint),
        ("dataset-rows", str(info.rows)),
        ("dataset-dimension", str(info.dimension)),
        ("rows-remaining", str(rows.rows)),
        ("checkpoint-found", "true" if rows.checkpoint_found else "false"),
        *made,
        VERSION_HEADER,
    )


def _log_start(name: str, request: pb.RequestParams, rows: RowsAfter) -> None:
    checkpoint = request.last_processed_uuid or "the beginning"
    note = "" if rows.checkpoint_found else " (which is not a row)"
    _log.info("%s: %s rows after %s%s", name, f"{rows.rows:,}", checkpoint, note)

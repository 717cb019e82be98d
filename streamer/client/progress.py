"""Where a read stands, and whether it goes on. Pure: both clients are shells around it.

A read delivers every row after `after` once, in ascending order, however many calls that
takes. Each call continues after the last row that was delivered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ulid import ULID

from convert.id_text import IdKind, halves
from streamer.batch_schema import id_kind_of
from streamer.checkpoint import parse_checkpoint
from streamer.client.failures import (
    DatasetChangedError,
    Failure,
    NoProgressError,
    RowOrderError,
    ServerFailedError,
)
from streamer.dataset_file import id_matrix
from streamer.errors import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from streamer.retry import Backoff

# What `dataset-ids` says of ids that another conversion of the same rows may not give them.
MADE_IDS = "made"
_NUMBER = re.compile("[0-9]{1,4000}")  # Python takes 4,300 digits


class DatasetHeaders(NamedTuple):
    """What the response headers say; None where the server doesn't (the proto asks for it).

    `rows` are those of the dataset, `rows_remaining` those after the checkpoint. `ids` may be
    MADE_IDS.
    """

    fingerprint: str | None = None
    rows: int | None = None
    dimension: int | None = None
    rows_remaining: int | None = None
    checkpoint_found: bool | None = None
    ids: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str | bytes]) -> DatasetHeaders:
        def number(name: str) -> int | None:
            text = str(metadata.get(name))
            return int(text) if _NUMBER.fullmatch(text) else None

        def text(name: str) -> str | None:
            return None if metadata.get(name) is None else str(metadata[name])

        found = metadata.get("checkpoint-found")
        return cls(
            fingerprint=text("dataset-fingerprint"),
            rows=number("dataset-rows"),
            dimension=number("dataset-dimension"),
            rows_remaining=number("rows-remaining"),
            checkpoint_found=None if found is None else found == "true",
            ids=text("dataset-ids"),
        )


class Progress:
    """The state of one read.

    `after`: the id of the last row that the caller has, "" for none; InvalidRequestError.
    `fingerprint`: the dataset that the rows must be from; None takes the first one seen.
    `max_tries`: calls in a row that may fail without a new row.
    """

    def __init__(
        self,
        after: str,
        *,
        max_tries: int,
        backoff: Backoff,
        jitter: Callable[[], float],
        fingerprint: str | None = None,
        on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:
        kind = IdKind.ULID if len(after) == IdKind.ULID.chars else IdKind.UUID
        self._last_id = parse_checkpoint(after, kind) if after else None
        self.after = after
        self.rows = 0
        self._id_kind = kind
        self._max_tries = max_tries
        self._backoff = backoff
        self._jitter = jitter
        self._on_retry = on_retry
        self._fingerprint = fingerprint
        self._rows_expected: int | None = None
        self._failed_tries = 0
        self._rows_before = 0  # at the last failure

    @property
    def is_complete(self) -> bool:
        """Whether every row that the server announced was delivered."""
        return self.rows == self._rows_expected

    def begin(self, headers: DatasetHeaders) -> None:
        """Take note of a call's headers; DatasetChangedError, RowOrderError."""
        known = self._fingerprint
        if known is None:
            self._fingerprint = headers.fingerprint
        elif headers.fingerprint not in (None, known):
            message = (
                f"the server's dataset is {_short(headers.fingerprint)}, the rows so far are"
                f" from {_short(known)}"
            )
            raise DatasetChangedError(message)
        if headers.rows_remaining is None:
            return
        expected = self.rows + headers.rows_remaining
        if headers.fingerprint == known is not None and self._rows_expected not in (None, expected):
            message = (
                f"the server announced {self._rows_expected} rows of dataset {_short(known)}, and"
                f" announces {expected} of them now"
            )
            raise RowOrderError(message)
        self._rows_expected = expected

    def deliver(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Take note of rows that the caller gets; RowOrderError if they don't follow."""
        self._id_kind = id_kind_of(batch.schema)
        ids = id_matrix(batch)
        self._check_order(ids)
        self._last_id = ids[-1].tobytes()
        self.after = self._text_of(self._last_id)
        self.rows += len(ids)
        if self._rows_expected is not None and self.rows > self._rows_expected:
            message = f"the server announced {self._rows_expected} rows and sent {self.rows}"
            raise RowOrderError(message)
        return batch

    def end(self) -> float | None:
        """Take note that a call ended with OK: as `fail`, for it may have ended early."""
        if self._rows_expected is None or self.is_complete:
            return None
        missing = self._rows_expected - self.rows
        return self.fail(Failure(Status.UNAVAILABLE, f"it ended {missing} rows early"))

    def fail(self, failure: Failure) -> float | None:
        """Return the seconds to wait before the next call; None if none is needed.

        Raises ServerFailedError where another try is useless, NoProgressError where there
        were too many.
        """
        if self.is_complete:
            return None
        if not failure.is_transient:
            raise ServerFailedError(failure)
        self._failed_tries = self._failed_tries + 1 if self.rows == self._rows_before else 0
        self._rows_before = self.rows
        if self._failed_tries >= self._max_tries:
            message = (
                f"no further row in {self._failed_tries} tries; the last one ended with"
                f" {failure.said}"
            )
            raise NoProgressError(message)
        wait = self._backoff.seconds(max(self._failed_tries, 1), self._jitter())
        seconds = failure.wait_seconds(wait)
        self._on_retry(f"{failure.said}; going on in {seconds:.1f} s")
        return seconds

    def _check_order(self, ids: NDArray[np.uint8]) -> None:
        high, low = halves(ids)
        ascends = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
        if self._last_id is not None and ids[0].tobytes() <= self._last_id:
            row, before = 0, self._last_id
        elif not ascends.all():
            row = int(ascends.argmin()) + 1
            before = ids[row - 1].tobytes()
        else:
            return
        here = ids[row].tobytes()
        what = "twice" if here == before else f"after {self._text_of(before)}"
        message = f"the server sent row {self._text_of(here)} {what}: ids must ascend"
        raise RowOrderError(message)

    def _text_of(self, id_: bytes) -> str:
        return str(ULID(id_) if self._id_kind is IdKind.ULID else UUID(bytes=id_))


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "unknown")[:12]

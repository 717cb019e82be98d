"""Sends a dataset to a Batch Server, blocking: a segment of rows a call.

Nothing but the proto is assumed of the receiver, and that a row which arrives again takes
its old one's place: a segment whose result got lost is sent again, whole.
`upload_segments` says what a result must be.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import grpc

from proto import embedding_stream_pb2 as pb
from streamer.chunking import pieces
from streamer.client.advice import Advice
from streamer.client.channel import DEFAULT_MAX_MESSAGE_BYTES, failure_of, open_channel
from streamer.client.upload_segments import UploadError, checked_result, id_text, segments
from streamer.codec.encode import RowEncoder
from streamer.codec.frames import PREFIX_BYTES
from streamer.errors import Status
from streamer.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamer.client.failures import Failure
    from streamer.client.upload_segments import Segment, SegmentResult
    from streamer.store import EmbeddingStore

# Bytes encoded at a time; grpcio asks for a message when the one before is on its way.
_SLICE_BYTES = 1 << 20


@dataclass(frozen=True)
class UploadPolicy:
    """How an upload is cut into calls, and how patient it is; times in seconds."""

    segment_rows: int = 10_000
    max_tries: int = 3
    backoff: Backoff = field(default_factory=lambda: Backoff(base_seconds=2.0, cap_seconds=60.0))
    call_seconds: float = 300.0
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep


class Uploader:
    """A connection to the EmbeddingUploadService at `target`, HOST:PORT.

    `credentials` (see `channel.tls_credentials`) make it TLS. `on_retry` is told, as a text,
    what went wrong before a segment is sent again.
    """

    def __init__(
        self,
        target: str,
        store: EmbeddingStore,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        policy: UploadPolicy = UploadPolicy(),
        on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:
        # If all of a million rows failed, the result would take 38 MB.
        self._channel = open_channel(target, credentials, DEFAULT_MAX_MESSAGE_BYTES)
        self._advice = Advice(target, credentials)
        service = pb.DESCRIPTOR.services_by_name["EmbeddingUploadService"]
        # Without serializers it takes and returns bytes.
        self._method: grpc.StreamUnaryMultiCallable[bytes, bytes] = self._channel.stream_unary(
            f"/{service.full_name}/UploadEmbeddings"
        )
        self._store = store
        self._encoder = RowEncoder(
            pb.DESCRIPTOR.message_types_by_name["Embedding"], store.schema, store.info.id_kind
        )
        self._policy = policy
        self._on_retry = on_retry

    def segments(self, after: bytes | None) -> Iterator[Segment]:
        """Return the rows whose id comes after `after`, None for all, as segments."""
        return segments(self._store.rows_after(after).slices, self._policy.segment_rows)

    def send(
        self, segment: Segment, on_sent: Callable[[int], None] = lambda _: None
    ) -> SegmentResult:
        """Send a segment until it is acknowledged; UploadError.

        Tried again, `max_tries` times in all, is what left no result behind: UNAVAILABLE, a
        stream that was cut off, ABORTED, or what carries a RetryInfo. Not so a deadline: the
        same rows would take as long. `on_sent` is told, from another thread, how many rows
        of the segment are on their way.
        """
        policy = self._policy
        name = f"the segment that begins with {id_text(self._store.info.id_kind, segment.first_id)}"
        failed_tries = 0
        while True:
            try:
                return checked_result(self._call(segment, on_sent), segment, self._store)
            except grpc.RpcError as error:
                failure = self._advice.added_to(failure_of(error))
            failed_tries += 1
            if not _may_work_later(failure) or failed_tries >= policy.max_tries:
                message = f"{name} {_ending(failure, failed_tries, policy.call_seconds)}"
                raise UploadError(message)
            wait = failure.wait_seconds(policy.backoff.seconds(failed_tries, policy.jitter()))
            self._on_retry(
                f"{name} is sent again in {wait:.1f} s (try {failed_tries + 1} of"
                f" {policy.max_tries}) after {failure.said}"
            )
            policy.sleep(wait)

    def _call(self, segment: Segment, on_sent: Callable[[int], None]) -> bytes:
        own_error: list[Exception] = []

        def messages() -> Iterator[bytes]:
            try:
                yield from self._messages(segment, on_sent)
            except Exception as error:
                own_error.append(error)
                raise

        call = self._method.future(messages(), timeout=self._policy.call_seconds)
        try:
            return call.result()
        except grpc.RpcError:
            if own_error:  # it outranks the cancellation that it caused
                raise own_error[0] from None
            raise
        finally:
            call.cancel()  # for Ctrl-C; a call that is over stays as it is

    def _messages(self, segment: Segment, on_sent: Callable[[int], None]) -> Iterator[bytes]:
        sent = 0
        for batch in segment.slices:
            for first, stop in pieces(self._encoder.sizes(batch) + PREFIX_BYTES, _SLICE_BYTES):
                on_sent(sent)
                yield from self._encoder.encode(batch.slice(first, stop - first)).messages()
                sent += stop - first
        on_sent(sent)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _may_work_later(failure: Failure) -> bool:
    return failure.is_transient and failure.status is not Status.DEADLINE_EXCEEDED


def _ending(failure: Failure, tries: int, call_seconds: float) -> str:
    if failure.status is Status.DEADLINE_EXCEEDED:
        return (
            f"had no result: {failure.said} (UPLOAD_TIMEOUT_SECONDS is {call_seconds:g};"
            " with UPLOAD_SEGMENT_ROWS segments can be made smaller)"
        )
    if _may_work_later(failure):
        return f"wasn't acknowledged in {tries} tries, the last of which ended with {failure.said}"
    return f"was refused with {failure.said}"

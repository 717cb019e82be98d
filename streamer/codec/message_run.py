"""Messages of a client stream as they come: many in one buffer, to be decoded together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamer.codec.cursor import Spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

# What a message takes in memory beside its bytes.
_MESSAGE_BYTES = 64
# Single messages that are put together, at most.
_RUN_MESSAGES = 64
_RUN_BYTES = 1 << 20


class MessageRun:
    """Protobuf messages: number i is data[starts[i]:ends[i]]; in between may be anything."""

    __slots__ = ("data", "ends", "starts")

    def __init__(
        self,
        data: bytes,
        starts: Sequence[int] | NDArray[np.int64],
        ends: Sequence[int] | NDArray[np.int64],
    ) -> None:
        self.data = data
        self.starts = starts
        self.ends = ends

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> MessageRun:
        """Put single messages together."""
        ends = np.cumsum([len(message) for message in messages], dtype=np.int64).tolist()
        return cls(b"".join(messages), [0, *ends[:-1]][: len(ends)], ends)

    @classmethod
    def joined(cls, runs: Sequence[MessageRun]) -> MessageRun:
        """Put the messages of several runs into one."""
        data = b"".join(run.data for run in runs)
        places = np.cumsum([0, *(len(run.data) for run in runs)], dtype=np.int64)
        spans = [run.spans for run in runs]
        nothing = np.empty(0, np.int64)
        starts = [span.starts + place for span, place in zip(spans, places, strict=False)]
        ends = [span.ends + place for span, place in zip(spans, places, strict=False)]
        return cls(data, np.concatenate([nothing, *starts]), np.concatenate([nothing, *ends]))

    @property
    def held_bytes(self) -> int:
        """Roughly what the run takes in memory."""
        return len(self.data) + _MESSAGE_BYTES * len(self)

    @property
    def spans(self) -> Spans:
        return Spans(np.array(self.starts, np.int64), np.array(self.ends, np.int64))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> bytes:
        """Return a message, copied."""
        return self.data[self.starts[number] : self.ends[number]]

    def __iter__(self) -> Iterator[bytes]:
        """Yield each message, copied."""
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageRun) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"MessageRun({len(self)} messages, {len(self.data)} bytes)"


def runs_of(messages: Iterable[bytes]) -> Iterator[MessageRun]:
    """Put single messages together, a few at a time, as they are asked for."""
    run: list[bytes] = []
    size = 0
    for message in messages:
        run.append(message)
        size += len(message)
        if len(run) >= _RUN_MESSAGES or size >= _RUN_BYTES:
            yield MessageRun.of(run)
            run, size = [], 0
    if run:
        yield MessageRun.of(run)

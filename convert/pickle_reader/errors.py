"""The two ways in which a pickle can be refused; each says at which byte."""

from __future__ import annotations

_MAX_SHOWN = 700


class PickleReaderError(Exception):
    """Base of both; `offset` is the byte of the file at which the trouble begins."""

    def __init__(self, message: str, offset: int) -> None:
        # What the file says may be long, and may hold control characters.
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message[:_MAX_SHOWN])
        super().__init__(f"{shown} (at byte {offset})")
        self.message = message
        self.offset = offset


class UnsupportedPickle(PickleReaderError):  # noqa: N818 - what it is, not what went wrong
    """The pickle says something that no embeddings pickle needs, or that is too much."""


class EndlessValue(UnsupportedPickle):
    """A value contains itself, or too many others in each other."""


class DamagedPickle(PickleReaderError):  # noqa: N818
    """The bytes are no whole pickle."""

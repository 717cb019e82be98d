"""The two ways in which a pickle can be refused; each says at which byte."""

from __future__ import annotations

_MAX_SHOWN = 700


def printable(text: str) -> str:
    """Return `text` with controls and lone surrogates escaped; letters of any script stay."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class PickleReaderError(Exception):
    """Base of both; `offset` is the byte of the file at which the trouble begins."""

    def __init__(self, message: str, offset: int) -> None:
        # What the file says may be long, and may hold control characters.
        super().__init__(f"{printable(message[:_MAX_SHOWN])} (at byte {offset})")
        self.message = message
        self.offset = offset


class UnsupportedPickle(PickleReaderError):  # noqa: N818 - what it is, not what went wrong
    """The pickle says something that no embeddings pickle needs, or that is too much."""


class EndlessValue(UnsupportedPickle):
    """A value contains itself, or too many others in each other."""


class DamagedPickle(PickleReaderError):  # noqa: N818
    """The bytes are no whole pickle."""

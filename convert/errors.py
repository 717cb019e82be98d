"""What can go wrong in a conversion, each with the exit code of the command."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with everything escaped that a terminal could take for a command."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class ConvertError(Exception):
    """Base of every expected failure; its text is shown as it is, without a traceback."""

    exit_code = 1


class UnreadableSourceError(ConvertError):
    """The source is missing, damaged, or not a shape that can be converted."""

    exit_code = 2


class RefusedPickleError(UnreadableSourceError):
    """The pickle names something that no embeddings pickle needs; nothing was run."""


class InvalidRowsError(ConvertError):
    """Some rows can't be converted; the text counts and shows them."""


class DuplicateIdsError(ConvertError):
    """Two rows have the same id."""


class OutputError(ConvertError):
    """The Arrow file can't be written; the old one, if any, is untouched."""

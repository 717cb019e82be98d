"""What can go wrong in a conversion: each ends the command with exit code 1."""

from __future__ import annotations

from convert.foreign_text import fit_lines, fit_to_show


class ConvertError(Exception):
    """Base of every expected failure; its text is shown without a traceback.

    It is one line that is fit to show, whatever it quotes.
    """

    def __str__(self) -> str:
        return fit_to_show(super().__str__())


class RowsError(ConvertError):
    """Some rows are at fault; the text has more lines, which quote what they take from rows."""

    def __str__(self) -> str:
        return fit_lines(Exception.__str__(self))


class UnreadableSourceError(ConvertError):
    """The source is missing, damaged, or not a shape that can be converted."""


class MissingFieldsError(UnreadableSourceError):
    """Fields have no column; the text has a line a field, which quotes what it takes of names."""

    def __str__(self) -> str:
        return fit_lines(Exception.__str__(self))


class RefusedPickleError(UnreadableSourceError):
    """The pickle names something that no embeddings pickle needs; nothing was run."""


class InvalidRowsError(RowsError):
    """Some rows can't be converted; the text counts and shows them."""


class DuplicateIdsError(RowsError):
    """Two rows have the same id."""


class OutputError(ConvertError):
    """The Arrow file can't be written; the old one, if any, is untouched."""

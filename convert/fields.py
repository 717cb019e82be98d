"""Which column of a source is which field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.errors import UnreadableSourceError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# The names each field goes by: the documented one, then that of the team's own pickle.
COLUMN_NAMES = {
    "id": ("id",),
    "company_name": ("company_name", "Company Name"),
    "exp_years": ("exp_years", "Exp Years"),
    "english_level": ("english_level", "English Level"),
    "primary_keyword": ("primary_keyword", "Primary Keyword"),
    "vector": ("job_post_vectors", "vector"),
}
OPTIONAL_FIELDS = frozenset({"id"})


class FieldNames:
    """What a source may call each field: the known names, or the one that `columns` says."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._asked_for = columns
        self._known = {
            field: (columns[field],) if field in columns else known
            for field, known in COLUMN_NAMES.items()
        }
        self._all = {name for known in self._known.values() for name in known}

    def may_be(self, name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
        """Whether a column of that name may be a field."""
        return str(name) in self._all

    def choose(self, present: Collection[Any]) -> dict[str, Any]:
        """Return the column of each field that is there.

        UnreadableSourceError: two columns are there for one field.
        """
        chosen = {}
        named = {str(name): name for name in present}
        for field, known in self._known.items():
            found = [named[name] for name in known if name in named]
            if len(found) > 1:
                message = (
                    f"{field}: there is {' and '.join(map(repr, found))}; choose with --column"
                )
                raise UnreadableSourceError(message)
            if found:
                chosen[field] = found[0]
        return chosen

    def require(self, present: Collection[Any]) -> None:
        """Raise UnreadableSourceError if the column of a field that must be there isn't."""
        chosen = self.choose(present)
        for field, known in self._known.items():
            is_optional = field in OPTIONAL_FIELDS and field not in self._asked_for
            if field not in chosen and not is_optional:
                have = ", ".join(repr(str(name)) for name in present) or "none"
                message = (
                    f"there is no column {' or '.join(map(repr, known))} for {field}; "
                    f"say which with --column {field}=NAME (columns: {have})"
                )
                raise UnreadableSourceError(message)

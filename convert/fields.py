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

    def by_field(self, present: Collection[Any]) -> dict[str, list[Any]]:
        """Return the columns of each field that is there, in the order of COLUMN_NAMES."""
        found = {
            field: [name for name in present if str(name) in known]
            for field, known in self._known.items()
        }
        return {field: names for field, names in found.items() if names}

    def choose(self, present: Collection[Any]) -> dict[str, Any]:
        """Return the column of each field that some rows have.

        UnreadableSourceError: two columns are there for one field.
        """
        by_field = self.by_field(present)
        for field, names in by_field.items():
            if len(names) > 1:
                found = " and ".join(repr(str(name)) for name in names)
                message = f"{field}: there is {found}; choose with --column"
                raise UnreadableSourceError(message)
        return {field: name for field, (name,) in by_field.items()}

    def require(self, present: Collection[Any], source: str) -> None:
        """Raise UnreadableSourceError if the column of a field that must be there isn't."""
        found = self.by_field(present)
        for field, known in self._known.items():
            is_optional = field in OPTIONAL_FIELDS and field not in self._asked_for
            if field not in found and not is_optional:
                have = ", ".join(repr(str(name)) for name in present) or "none"
                message = (
                    f"{source}: there is no column {' or '.join(map(repr, known))} for {field}; "
                    f"say which with --column {field}=NAME (columns: {have})"
                )
                raise UnreadableSourceError(message)

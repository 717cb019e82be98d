"""Which column of a source is which field."""

from __future__ import annotations

import difflib
import itertools
import shlex
from typing import TYPE_CHECKING, Any

from convert.columns.numbered import NumberedNames, NumberedPattern, pattern_of, plain_name
from convert.errors import MissingFieldsError, UnreadableSourceError
from convert.foreign_text import fit_to_show, quoted
from convert.pickle_reader import IndexName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

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
# What a field that may be left empty (--empty) holds then, as messages say it.
EMPTY_VALUES = {
    "company_name": '""', "exp_years": "0", "english_level": '""', "primary_keyword": '""',
}  # fmt: skip
# Names that are no slip of the pen, but are often given.
_NICKNAMES = {"vector": ("embedding", "embeddings", "emb", "vec"), "exp_years": ("experience",)}
_SHOWN_NAMES = 30
# Of names that are compared with those of a field: more, or longer ones, would take seconds.
_MOST_COMPARED = 1000
_MOST_COMPARED_CHARS = 60
_NUMBER = "*"


class FieldNames:
    """What a source may call each field: the known names, or the one that `columns` says.

    A name for the vector may have one `*`, which stands for a number: it then has one column
    a dimension. Fields of `empty` may have no column.
    """

    def __init__(self, columns: Mapping[str, str], empty: Collection[str] = ()) -> None:
        self._optional = {field for field in OPTIONAL_FIELDS if field not in columns} | {*empty}
        self._known = {
            field: (columns[field],) if field in columns else known
            for field, known in COLUMN_NAMES.items()
        }
        self._plain = {field: set(map(plain_name, known)) for field, known in self._known.items()}
        self._all = {name for known in self._plain.values() for name in known}
        vector = columns.get("vector", "")
        self._numbered = NumberedPattern(vector) if vector.count(_NUMBER) == 1 else None

    def may_be(self, name: Any) -> bool:  # noqa: ANN401 - a column's name may be a number
        """Whether a column of that name may be a field."""
        return plain_name(name) in self._all or self._is_numbered(name)

    def by_field(self, present: Collection[Any]) -> dict[str, list[Any]]:
        """Return the columns of each field that is there, in the order of COLUMN_NAMES.

        Those of a vector that has several are together one, a NumberedNames.
        """
        found = {}
        for field, known in self._known.items():
            names = [name for name in present if plain_name(name) in self._plain[field]]
            found[field] = _preferred([name for name in names if str(name) in known] or names)
        if self._numbered is not None and not found["vector"]:
            numbered = NumberedNames(filter(self._is_numbered, present))
            found["vector"] = [numbered] if numbered else []
        return {field: names for field, names in found.items() if names}

    def choose(self, present: Collection[Any], source: str) -> dict[str, Any]:
        """Return the column of each field that some rows have; a NumberedNames if it has several.

        UnreadableSourceError: two columns are there for one field, or of several one is missing.
        """
        by_field = self.by_field(present)
        for field, names in by_field.items():
            if len(names) > 1:
                shown = list(dict.fromkeys(quoted(plain_name(name)) for name in names))
                message = f"{source}: {field}: there is {' and '.join(shown)}; choose with --column"
                if len(shown) == 1:
                    message = (
                        f"{source}: {field}: {len(names)} columns are called {shown[0]}; "
                        "rename all but one"
                    )
                raise UnreadableSourceError(message)
        chosen = {field: name for field, (name,) in by_field.items()}
        vector = chosen.get("vector")
        if self._numbered is not None and isinstance(vector, NumberedNames):
            chosen["vector"] = self._numbered.in_order(vector, source)
        return chosen

    def require(self, present: Collection[Any], source: str) -> None:
        """Raise MissingFieldsError if the columns of fields that must be there aren't."""
        found = self.by_field(present)
        missing = [f for f in self._known if f not in found and f not in self._optional]
        if not missing:
            return
        taken = {name for names in found.values() for name in names}
        free = [str(name) for name in present if name not in taken]
        free = [name for name in free if len(name) <= _MOST_COMPARED_CHARS]
        said = f"{len(missing)} field{' has' if len(missing) == 1 else 's have'} no column"
        lines = [f"{fit_to_show(source)}: {said}:"]
        lines += [f"  {self._missing(field, free)}" for field in missing]
        lines.append(f"its columns: {_listed(present)}")
        raise MissingFieldsError("\n".join(lines))

    def _missing(self, field: str, free: Sequence[str]) -> str:
        """Return what to do about a field without a column; `free` are columns of no field."""
        known = self._known[field]
        near = _nearest([*known, *_NICKNAMES.get(field, ())], free)
        line = f"there is no column {' or '.join(map(quoted, known))} for {field}"
        pattern = pattern_of(free) if field == "vector" else None
        if pattern is not None:
            near = [pattern]
            line += f"; has it one column a dimension, {quoted(pattern)}?"
        elif near:
            line += f"; nearest: {', '.join(map(quoted, near))}"
        option = shlex.quote(f"{field}={near[0]}") if near else f"{field}=NAME"
        line += f" (--column {fit_to_show(option)}"
        if field in EMPTY_VALUES:
            line += f", or --empty {field}: {EMPTY_VALUES[field]} in every row"
        return f"{line})"

    def _is_numbered(self, name: Any) -> bool:  # noqa: ANN401
        return self._numbered is not None and self._numbered.fits(name)


def _nearest(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that are like those `wanted`, of which the first count most."""
    by_form: dict[str, str] = {}
    for name in itertools.islice(names, _MOST_COMPARED):
        by_form.setdefault(_bare(name), name)
    found = [form for known in wanted for form in difflib.get_close_matches(_bare(known), by_form)]
    return [by_form[form] for form in dict.fromkeys(found)][:3]


def _bare(name: str) -> str:
    """Return letters and digits alone: of "Company Name" companyname."""
    return "".join(filter(str.isalnum, plain_name(name).casefold()))


def _listed(names: Collection[Any]) -> str:
    shown = [quoted(str(name)) for name in itertools.islice(names, _SHOWN_NAMES)]
    if len(names) > len(shown):
        shown.append(f"and {len(names) - len(shown):,} others")
    return ", ".join(shown) or "none"


def _preferred(names: list[Any]) -> list[Any]:
    """Return columns without those that were an index, if there are others."""
    return [name for name in names if not isinstance(name, IndexName)] or names

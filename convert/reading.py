"""One pass over a source: its rows validated and written in the order in which they come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from convert.column_bytes import source_bytes
from convert.columns.named_ids import NAMED_NOTHING, NamedIds
from convert.columns.numbered import ColumnPerDimension, NumberedNames
from convert.columns.vector_text import parsed_vectors
from convert.id_text import IdKind
from convert.ids import MISSING_ID, IdMode, Ids, generated_ids, id_texts, kept_ids
from convert.pickle_reader import Batch
from convert.problems import Problem, Problems
from convert.schema import TEXT_FIELDS
from convert.validation import text_column, years_column
from convert.vectors import fill_matrix, vector_lengths
from convert.writer import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from convert.dataset.dictionary import Dictionary
    from convert.pickle_reader import Values
    from convert.vectors import Vectors


# Of vectors that are taken at once: a batch of 384 floats a row.
_PIECE_BYTES = 6 << 20


class Shape(NamedTuple):
    """What all rows have in common; what the first ones have is a guess at it."""

    mode: IdMode
    id_kind: IdKind
    dimension: int


class _Fields:
    """The columns of a batch, by field; a field that has none is null in every row."""

    def __init__(self, batch: Batch, names: Mapping[str, Any], first_row: int) -> None:
        self.rows = range(first_row, first_row + batch.rows)
        self._batch = batch
        self._names = names

    @property
    def vector(self) -> Vectors:
        names = self._names.get("vector")
        if isinstance(names, NumberedNames):
            return ColumnPerDimension([self._batch.columns[name] for name in names])
        return self["vector"]

    def __getitem__(self, name: str) -> Values:
        column = self._names.get(name)
        if column in self._batch.columns:
            return self._batch.columns[column]
        return [None] * len(self.rows)


@dataclass(frozen=True)
class IdWishes:
    """How ids come about: None if the source decides.

    `time_ms` and `seed` shape made ones, `named` makes UUIDv5s of values.
    """

    mode: IdMode | None
    time_ms: int
    seed: Callable[[], bytes]
    named: NamedIds = NAMED_NOTHING


@dataclass
class Reading:
    """What a pass has found so far.

    `guess` says what is right; without one the rows of the first batch are taken to be
    typical. `true_shape` is that of most rows seen. `ids` are 16 bytes a row; made ones, which
    ascend, aren't held. `foreign_ids` counts those of the source that are no UUIDs (ULIDs).
    `dictionaries` (of TEXT_FIELDS),
    `nulls_replaced` and `source_bytes` are by field.
    """

    wishes: IdWishes
    guess: Shape | None = None
    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)
    rows: int = 0
    has_ids: bool = False
    foreign_ids: int = 0
    ids: bytearray = field(default_factory=bytearray)
    problems: Problems = field(default_factory=Problems)
    nulls_replaced: Counter[str] = field(default_factory=Counter)
    source_bytes: Counter[str] = field(default_factory=Counter)
    _id_lengths: Counter[int] = field(default_factory=Counter)
    _dimensions: Counter[int] = field(default_factory=Counter)

    @property
    def shape(self) -> Shape:
        return self.guess or self.true_shape

    @property
    def text_row_bytes(self) -> float:
        """Bytes of distinct texts that a row has brought on average."""
        return sum(d.nbytes for d in self.dictionaries.values()) / self.rows

    def look(self, batch: Batch, names: Mapping[str, Any]) -> Batch:
        """Look at a batch, whose columns are fields by `names`; return it ready to be taken.

        The first one makes the guess, if there is none.
        """
        for name, column in names.items():
            for each in column if isinstance(column, NumberedNames) else (column,):
                self.source_bytes[name] += source_bytes(batch.columns[each])
        vector = names.get("vector")
        if vector in batch.columns:  # parsed before rows that share a text are taken apart
            columns = {**batch.columns, vector: parsed_vectors(batch.columns[vector])}
            batch = Batch(batch.rows, columns, batch.row)
        if self.guess is None:
            first = Reading(self.wishes)
            first._count(_Fields(batch, names, 0), names)
            self.guess = first.true_shape
        return batch

    @property
    def rows_at_once(self) -> int:
        """How many rows of what `look` returned are to be taken at once."""
        return max(_PIECE_BYTES // max(4 * self.shape.dimension, 1), 1)

    @property
    def true_shape(self) -> Shape:
        mode = self.wishes.mode or (IdMode.KEEP if self.has_ids else IdMode.UUID7)
        if mode is IdMode.KEEP:
            is_ulid = self._id_lengths[IdKind.ULID.chars] > self.rows // 2
            kind = IdKind.ULID if is_ulid else IdKind.UUID
        else:
            kind = IdKind.ULID if mode is IdMode.ULID else IdKind.UUID
        dimensions = [size for size, _ in self._dimensions.most_common() if size]
        return Shape(mode, kind, dimensions[0] if dimensions else 0)

    def take(
        self, batch: Batch, names: Mapping[str, Any], matrix: NDArray[np.float32]
    ) -> tuple[Rows, list[Problem]]:
        """Validate the rows of a batch, whose columns are fields by `names`.

        Their vectors become `matrix`. Rows that have problems hold nothing useful.
        """
        fields = _Fields(batch, names, self.rows)
        lengths, texts = self._count(fields, names)
        problems: list[Problem] = []

        def add(name: str, reasons: Mapping[int, str]) -> None:
            problems.extend(Problem(fields.rows[row], name, why) for row, why in reasons.items())

        ids = self._ids(fields, texts, batch)
        add("id", ids.problems)
        years = years_column(fields["exp_years"])
        add("exp_years", years.problems)
        self.nulls_replaced["exp_years"] += years.nulls_replaced
        narrow = {"id": ids.values, "exp_years": years.values.to_numpy()}
        for name in TEXT_FIELDS:
            column = text_column(fields[name])
            add(name, column.problems)
            self.nulls_replaced[name] += column.nulls_replaced
            narrow[name] = self.dictionaries[name].places(column)
        add("vector", fill_matrix(matrix, fields.vector, lengths))
        if problems:
            self.problems.add(problems)
        return Rows(narrow, matrix), problems

    def _count(
        self, fields: _Fields, names: Mapping[str, Any]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """Count what tells the true shape; return the vectors' lengths and the ids' texts."""
        lengths, texts = vector_lengths(fields.vector), id_texts(fields["id"])
        self.rows += len(texts)
        self.has_ids |= "id" in names
        self._dimensions.update(lengths.tolist())
        self._id_lengths.update(map(len, texts))
        return lengths, texts

    def _ids(self, fields: _Fields, texts: list[str], batch: Batch) -> Ids:
        mode, kind, _ = self.shape
        if mode.is_made:
            return generated_ids(mode, fields.rows, self.wishes.time_ms, self.wishes.seed())
        if mode is IdMode.UUID5:
            ids = self.wishes.named.ids(batch)
        else:
            ids = kept_ids(fields["id"], texts, kind)
            self.foreign_ids += sum(why != MISSING_ID for why in ids.problems.values())
        self.ids += ids.values.tobytes()
        return ids

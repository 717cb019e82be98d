"""What references to the memo stand for, of rows that were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.memo import is_kept

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from convert.pickle_reader.state import State

# Rows after which a column whose rows refer to no text is taken for one to which nobody
# refers; unless something is read again so often that it isn't.
_TRIAL_ROWS = 10_000
_MOST_REREAD = 100
# What references stood for, held to be at hand: names of at most 256 bytes.
_MAX_RECALLED = 20_000


class References:
    """Texts of rows that others may refer to, and what references stood for lately.

    Texts are remembered as if they had been let go, but not those of a column that refers to
    none, such as ids; whatever refers to those, to a row or to the vector of another row reads
    it again.
    """

    def __init__(self) -> None:
        self.recalled: dict[int, Any] = {}
        # Columns in which a text was referred to, by number.
        self._shared: set[int] = set()
        self._rows_tried = 0

    def start(self) -> None:
        """Begin with rows whose columns are others."""
        self._shared.clear()
        self._rows_tried = 0

    def count(self, rows: int) -> None:
        self._rows_tried += rows

    def share(self, column: int) -> None:
        """Take note that something refers to a column."""
        self._shared.add(column)

    def remember(
        self, state: State, column: int, entries: NDArray[np.int64], texts: Iterable[object]
    ) -> None:
        """Hold texts of a column, which are `entries` of the memo, if they may be referred to."""
        is_known = self._rows_tried > _TRIAL_ROWS and state.memo.times_reread <= _MOST_REREAD
        if not is_known or column in self._shared:
            state.memo.young.update(zip(entries.tolist(), texts, strict=True))

    def recall(self, state: State, column: int, number: int, size: int, offset: int) -> Any:  # noqa: ANN401
        """Return entry `number` of a memo that has `size` entries; it is asked for at `offset`."""
        self._shared.add(column)
        value = state.live.get(number, self)
        if value is self:
            value = state.recall(number, size, offset)
        if is_kept(value):
            if len(self.recalled) == _MAX_RECALLED:
                self.recalled.clear()
            self.recalled[number] = value
        return value

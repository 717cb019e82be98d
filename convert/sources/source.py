"""What all sources are: rows, as batches of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.pickle_reader import Batch


class Source(Protocol):
    """Rows, which can be read more than once.

    `paths` are the files that hold them, `parts` the sources that a folder is made of (else
    itself), `others` the files of a folder that aren't read, `size` the bytes that their
    reading counts. `path_columns` is what the files' paths add to their rows, b"" if nothing.
    As reading goes on, `kind` says what the source is, `last_read` the file that the last
    batch came from, `columns` which names were seen, in order of appearance, `rows` how many
    rows there are so far (in column-major files all of them from the beginning),
    `globals_named` what the pickles name, and at which byte first.
    """

    @property
    def size(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def parts(self) -> Sequence[Source]: ...
    @property
    def others(self) -> Sequence[Path]: ...
    @property
    def last_read(self) -> Path: ...
    @property
    def path_columns(self) -> bytes: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> Collection[Any]: ...
    @property
    def globals_named(self) -> Mapping[str, int]: ...

    def files(self) -> Sequence[Path]:
        """Return the files that are there now: a folder looks again."""

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield all rows in batches; `wanted(name)` says which columns are handed out.

        `advance` is told how much more of `size` was read. UnreadableSourceError, also
        after the last batch: the file can't be read, is damaged, or is refused.
        """

"""What the sources that are one file have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.pickle_reader import Batch
    from convert.sources.content import Content


class OneFile(ABC):
    """The part of `convert.sources.source.Source` that isn't the reading of rows."""

    def __init__(self, content: Content) -> None:
        self.paths: Sequence[Path] = (content.path,)
        self.parts: Sequence[OneFile] = (self,)
        self.others: Sequence[Path] = ()
        self.last_read = content.path
        self.path_columns = b""
        self.kind = content.kind.what
        self.rows = 0
        self.columns: Collection[Any] = ()
        self.globals_named: Mapping[str, int] = {}
        self._content = content
        self._path = content.path

    @property
    def size(self) -> int:
        return self._content.size

    def files(self) -> Sequence[Path]:
        return self.paths

    @abstractmethod
    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]: ...

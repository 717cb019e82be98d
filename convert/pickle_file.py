"""A pickle as a source; `convert.pickle_reader` reads what is in it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from convert.errors import RefusedPickleError, UnreadableSourceError
from convert.pickle_reader import Batch, PickleReaderError, UnsupportedPickle, open_pickle
from convert.sources.kinds import JOBLIB_REMEDY, remedy_for
from convert.sources.one_file import OneFile

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator

    from convert.sources.content import Content

_OLD_BEGINNINGS = frozenset({b"(", b"]", b"}", b"c"})  # of protocols 0 and 1


class PickleFile(OneFile):
    """The rows of a pickle: a list of dicts, or a DataFrame."""

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._is_modern = True

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows; RefusedPickleError: it names what no embeddings pickle needs."""
        with self._named_errors():
            yield from self._rows(self._content.mapped(advance), wanted, advance)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnsupportedPickle as error:
            self._refuse_joblib()
            message = f"{self._path}: {error}"
            if not self._is_modern:
                message += "; it may be no pickle at all: protocols from 2 on begin with 0x80"
            raise RefusedPickleError(message) from error
        except PickleReaderError as error:
            self._refuse_joblib()
            message = f"{self._path} is not a whole pickle of embeddings: {error}"
            raise UnreadableSourceError(message) from error
        except MemoryError:
            message = f"{self._path}: reading it needs more memory than there is"
            raise UnreadableSourceError(message) from None

    def _rows(
        self, mapped: mmap.mmap, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        content = open_pickle(mapped)
        self._is_modern = content.protocol > 1 or mapped[:1] in _OLD_BEGINNINGS
        self.globals_named = content.globals_named
        told = _Share(self._content.file_bytes / len(mapped), advance)
        for batch in content.batches(wanted, advance=told):
            self.rows, self.columns = content.rows, content.columns
            self.kind = f"{content.kind}, pickle protocol {content.protocol}"
            self._refuse_joblib()
            yield Batch(batch.rows, batch.columns, self._whole_row(batch))
            del batch
        self.rows, self.columns = content.rows, content.columns
        self._refuse_joblib()

    def _refuse_joblib(self) -> None:
        """Raise RefusedPickleError if joblib put the bytes of arrays between the opcodes."""
        if any(name.startswith("joblib.") for name in self.globals_named):
            message = f"{self._path} is a joblib file; {remedy_for(JOBLIB_REMEDY, self._path)}"
            raise RefusedPickleError(message)

    def _whole_row(self, batch: Batch) -> Callable[[int], dict[Any, Any]]:
        def whole_row(row: int) -> dict[Any, Any]:
            with self._named_errors():
                return batch.row(row)

        return whole_row


class _Share:
    """Tells `advance` a share of the bytes that it is told of."""

    def __init__(self, share: float, advance: Callable[[int], None]) -> None:
        self._share = share
        self._advance = advance
        self._bytes = 0
        self._told = 0

    def __call__(self, count: int) -> None:
        self._bytes += count
        told = round(self._share * self._bytes)
        self._advance(told - self._told)
        self._told = told

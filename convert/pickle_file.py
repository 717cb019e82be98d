"""A pickle, compressed or not, as a source; `convert.pickle_reader` reads what is in it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import mmap
import tempfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from convert.errors import OutputError, RefusedPickleError, UnreadableSourceError
from convert.pickle_reader import Batch, PickleReaderError, UnsupportedPickle, open_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

_OLD_BEGINNINGS = frozenset({b"(", b"]", b"}", b"c"})  # of protocols 0 and 1
COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst"})
_UNPACKED_BYTES = 1 << 20  # a read
# What is unpacked at most, for a byte of the file: floats shrink to a half, text to a tenth,
# a file made to fill disks to a thousandth.
_MOST_UNPACKED = 200
_UNPACKED_ALWAYS = 64 << 20


class PickleFile:
    """The rows of the pickle at `path`: a list of dicts, or a DataFrame."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.paths = (path,)
        self.parts = (self,)
        self.rows = 0
        self.columns: Collection[Any] = ()
        self.globals_named: dict[str, int] = {}
        self.kind = "a pickle"
        self._path = path
        self._scratch = scratch
        self._file_bytes = path.stat().st_size
        self._is_modern = True
        self._is_compressed = path.suffix in COMPRESSED_SUFFIXES
        self._unpacked: mmap.mmap | None = None

    @property
    def size(self) -> int:
        """A compressed file is read twice at first: to unpack it, and what that gave."""
        return (1 + (self._is_compressed and self._unpacked is None)) * self._file_bytes

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows; RefusedPickleError: it names what no embeddings pickle needs."""
        with self._named_errors():
            yield from self._rows(self._mapped(advance), wanted, advance)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnsupportedPickle as error:
            message = f"{self._path}: {error}"
            if not self._is_modern:
                message += "; it may be no pickle at all: protocols from 2 on begin with 0x80"
            raise RefusedPickleError(message) from error
        except PickleReaderError as error:
            message = f"{self._path} is not a whole pickle of embeddings: {error}"
            raise UnreadableSourceError(message) from error
        except OSError as error:
            message = f"{self._path}: {error.strerror or error}"
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
        told = _Share(self._file_bytes / len(mapped), advance)
        for batch in content.batches(wanted, advance=told):
            self.rows, self.columns = content.rows, content.columns
            self.kind = f"{content.kind}, pickle protocol {content.protocol}"
            yield Batch(batch.rows, batch.columns, self._whole_row(batch))
            del batch
        self.rows, self.columns = content.rows, content.columns

    def _whole_row(self, batch: Batch) -> Callable[[int], dict[Any, Any]]:
        def whole_row(row: int) -> dict[Any, Any]:
            with self._named_errors():
                return batch.row(row)

        return whole_row

    def _mapped(self, advance: Callable[[int], None]) -> mmap.mmap:
        """Return the pickle's bytes; what was unpacked is kept for the next pass."""
        if not self._is_compressed:
            with self._path.open("rb") as file:
                return self._map(file)
        if self._unpacked is None:
            try:
                with tempfile.TemporaryFile(dir=self._scratch) as file:
                    for block in self._unpack(advance):
                        file.write(block)
                    file.flush()
                    self._unpacked = self._map(file)
            except OSError as error:
                message = f"{self._path} can't be unpacked in {self._scratch}: {error.strerror}"
                raise OutputError(message) from error
        return self._unpacked

    def _map(self, file: IO[bytes]) -> mmap.mmap:
        if not file.seek(0, 2):
            message = f"{self._path} is empty"
            raise UnreadableSourceError(message)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _unpack(self, advance: Callable[[int], None]) -> Iterator[bytes]:
        most = _UNPACKED_ALWAYS + _MOST_UNPACKED * self._file_bytes
        done, size = 0, 0
        try:
            with self._path.open("rb") as raw, _unpacking(raw, self._path.suffix) as stream:
                while block := stream.read(_UNPACKED_BYTES):
                    size += len(block)
                    if size > most:
                        message = (
                            f"{self._path} unpacks to more than {_MOST_UNPACKED} times its size; "
                            "if it is sound, unpack it first"
                        )
                        raise UnreadableSourceError(message)
                    yield block
                    before, done = done, min(raw.tell(), self._file_bytes)
                    advance(done - before)
        except (EOFError, lzma.LZMAError, zlib.error, pa.ArrowException, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else None
            message = f"{self._path} can't be unpacked: {said or error}"
            raise UnreadableSourceError(message) from error


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


def _unpacking(file: IO[bytes], suffix: str) -> IO[bytes] | gzip.GzipFile | pa.NativeFile:
    match suffix:
        case ".gz":
            return gzip.open(file)
        case ".bz2":
            return bz2.open(file)
        case ".xz":
            return lzma.open(file)
        case _:
            return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")

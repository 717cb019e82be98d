"""A pickle, compressed or not, as a source; `convert.pickle_reader` reads what is in it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import mmap
import tempfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from convert.errors import RefusedPickleError, UnreadableSourceError
from convert.pickle_reader import Batch, PickleReaderError, UnsupportedPickle, open_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

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
        self.rows = 0
        self.columns: Collection[Any] = ()
        self.globals_named: dict[str, int] = {}
        self.kind = "a pickle"
        self._path = path
        self._scratch = scratch
        self._file_bytes = path.stat().st_size
        self._is_compressed = path.suffix in COMPRESSED_SUFFIXES
        self._unpacked: IO[bytes] | None = None
        # A compressed file is read twice: to unpack it, and what that gave.
        self.size = (1 + self._is_compressed) * self._file_bytes

    def batches(
        self, wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        """Yield the rows; RefusedPickleError: it names what no embeddings pickle needs."""
        try:
            if self._is_compressed:
                if self._unpacked is None:
                    self._unpacked = self._unpack(advance)
                yield from self._rows(self._unpacked, wanted, advance)
            else:
                with self._path.open("rb") as file:
                    yield from self._rows(file, wanted, advance)
        except UnsupportedPickle as error:
            message = f"{self._path}: {error}"
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
        self, file: IO[bytes], wanted: Callable[[Any], bool], advance: Callable[[int], None]
    ) -> Iterator[Batch]:
        size = file.seek(0, 2)
        if not size:
            message = f"{self._path} is empty"
            raise UnreadableSourceError(message)
        content = open_pickle(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self.globals_named = content.globals_named
        told = _Share(self._file_bytes / size, advance)
        for batch in content.batches(wanted, advance=told):
            self.rows, self.columns = content.rows, content.columns
            self.kind = f"{content.kind}, pickle protocol {content.protocol}"
            yield batch
        self.rows, self.columns = content.rows, content.columns

    def _unpack(self, advance: Callable[[int], None]) -> IO[bytes]:
        unpacked = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - lives with self
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
                    unpacked.write(block)
                    before, done = done, min(raw.tell(), self._file_bytes)
                    advance(done - before)
        except (EOFError, lzma.LZMAError, zlib.error, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            message = f"{self._path} can't be unpacked: {error}"
            raise UnreadableSourceError(message) from error
        unpacked.flush()
        return unpacked


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

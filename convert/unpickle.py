"""Reads a pickle without running anything that it names.

`read_pickle` is the only way in. What comes out is made of Python's own values and of
`convert.stand_ins`. A name that has no stand-in raises RefusedPickleError before
anything is called; whatever else is wrong with the file is UnreadableSourceError.
"""

from __future__ import annotations

import bz2
import contextlib
import copyreg
import gc
import gzip
import io
import lzma
import pickle
import resource
from typing import IO, TYPE_CHECKING, Any

import psutil
import pyarrow as pa

from convert.errors import RefusedPickleError, UnreadableSourceError
from convert.pickle_globals import GLOBALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Bytes a read. The unpickler asks for a few bytes at a time; 1 MiB took as long as 64 KiB.
_READ_BYTES = 1 << 20
# Bytes of memory that a byte of pickle may need: the list of dicts takes 5, a list of
# empty lists, the worst that means something, 30. Compressed, text shrinks tenfold.
_MEMORY_PER_BYTE = 32
_MEMORY_PER_COMPRESSED_BYTE = 320
_MEMORY_ALWAYS = 1 << 30
_COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst"})


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        try:
            return GLOBALS[module, name]
        except KeyError:
            shown = ascii(f"{module}.{name}")[1:-1]  # it may hold control characters
            message = f"the pickle names {shown}, which no embeddings pickle needs"
            raise RefusedPickleError(message) from None

    def persistent_load(self, pid: object) -> Any:  # noqa: ANN401
        shown = f"{pid:.40}" if isinstance(pid, str) else type(pid).__name__
        message = f"the pickle refers to data outside of it (persistent id {shown!a})"
        raise RefusedPickleError(message)


def read_pickle(path: Path, advance: Callable[[int], None]) -> object:
    """Unpickle the file at `path`; `advance` is told how many more bytes of it were read.

    .gz, .bz2, .xz and .zst are decompressed on the way.
    """
    try:
        with path.open("rb", buffering=0) as raw:
            file = _decompressed(io.BufferedReader(_Counted(raw, advance), _READ_BYTES), path)
            with _no_garbage_collection(), _memory_limit(path), _no_cached_extensions():
                content = _InertUnpickler(file).load()
                if file.read(1):  # at the end, compressed files prove their checksum
                    message = "something follows its end"
                    raise pickle.UnpicklingError(message)  # noqa: TRY301
                return content
    except RefusedPickleError:
        raise
    except MemoryError:
        message = (
            f"{path}: unpickling needs more memory than this machine has left, or than a whole "
            "pickle of its size could need"
        )
        raise UnreadableSourceError(message) from None
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise UnreadableSourceError(message) from None
    except Exception as error:
        # A damaged pickle fails in any way that a wrong value can: as EOFError, KeyError,
        # UnicodeDecodeError, OverflowError, RecursionError ... whatever met it first.
        message = f"{path} is not a whole pickle of embeddings: {_described(error)}"
        raise UnreadableSourceError(message) from error


def _described(error: Exception) -> str:
    text = str(error) or "it ends too early"
    return text if isinstance(error, pickle.UnpicklingError) else f"{text} ({type(error).__name__})"


def _decompressed(file: io.BufferedReader, path: Path) -> IO[bytes] | gzip.GzipFile:
    match path.suffix:
        case ".gz":
            return gzip.open(file)
        case ".bz2":
            return bz2.open(file)
        case ".xz":
            return io.BufferedReader(lzma.open(file), _READ_BYTES)
        case ".zst":
            stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
            return io.BufferedReader(stream, _READ_BYTES)
        case _:
            return file


class _Counted(io.RawIOBase):
    """A raw file that reports what is read from it."""

    def __init__(self, raw: io.RawIOBase | io.FileIO, advance: Callable[[int], None]) -> None:
        self._raw = raw
        self._advance = advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401
        count = self._raw.readinto(buffer)
        self._advance(count or 0)
        return count


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare the collector millions of new objects, again and again: 10.2 s became 3.8 s."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _memory_limit(path: Path) -> Iterator[None]:
    """Make a damaged length a MemoryError instead of the end of other processes.

    One flipped bit can claim a memo of 2**31 entries. The limit is what the file's size
    can explain, and never more than the machine has left.
    """
    compressed = path.suffix in _COMPRESSED_SUFFIXES
    growth = _MEMORY_PER_COMPRESSED_BYTE if compressed else _MEMORY_PER_BYTE
    explained = _MEMORY_ALWAYS + growth * path.stat().st_size
    room = min(explained, psutil.virtual_memory().available)
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = psutil.Process().memory_info().data + room
    limits = [limit for limit in (wanted, before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


@contextlib.contextmanager
def _no_cached_extensions() -> Iterator[None]:
    """Keep objects that another pickle's EXT opcodes fetched from bypassing find_class."""
    copyreg.clear_extension_cache()
    yield

"""The bytes of a file, which are unpacked first where it is compressed.

How a file is compressed is told by its first bytes; its name may be any. What is unpacked lies
in a file without a name, so that it is gone when nobody uses it any more.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import mmap
import re
import tempfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from convert.errors import OutputError, UnreadableSourceError
from convert.sources.kinds import (
    COMPRESSED_TWICE,
    HEAD_BYTES,
    Kind,
    kind_of,
    kind_of_archive,
    member_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A name's ending that says that a file is compressed; any case, any of the ways.
COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst", ".zstd", ".zip"})
_UNPACKED_BYTES = 1 << 20  # a read
# What is unpacked at most, for a byte of the file: floats shrink to a half, text to a tenth,
# a file made to fill disks to a thousandth.
_MOST_UNPACKED = 200
_UNPACKED_ALWAYS = 64 << 20
_UNPACKING_ERRORS = (
    EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, pa.ArrowException,
    RuntimeError,  # of zipfile: a password, or a way to compress that Python lacks
)  # fmt: skip


class Compression(NamedTuple):
    """`blocks` yields what a file unpacks to, no more than _UNPACKED_BYTES at once."""

    name: str
    beginning: re.Pattern[bytes]
    blocks: Callable[[IO[bytes]], Iterator[bytes]]


def _stream_blocks(open_: Callable[[IO[bytes]], Any], file: IO[bytes]) -> Iterator[bytes]:
    with open_(file) as stream:
        yield from iter(functools.partial(stream.read, _UNPACKED_BYTES), b"")


def _zlib_blocks(file: IO[bytes]) -> Iterator[bytes]:
    unpacking = zlib.decompressobj()
    while not unpacking.eof:
        packed = unpacking.unconsumed_tail or file.read(_UNPACKED_BYTES)
        block = unpacking.decompress(packed, _UNPACKED_BYTES)
        if not packed and not block:
            message = "it ends too early"
            raise EOFError(message)
        yield block


def _zip_blocks(file: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive, archive.open(member_of(archive.namelist())) as member:
        yield from iter(functools.partial(member.read, _UNPACKED_BYTES), b"")


def _zstd(file: IO[bytes]) -> pa.NativeFile:
    return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")


def _by(name: str, beginning: bytes, blocks: Callable[[IO[bytes]], Iterator[bytes]]) -> Compression:
    return Compression(name, re.compile(beginning, re.DOTALL), blocks)


_ZIP = _by("zip", rb"PK(?:\x03\x04|\x05\x06)", _zip_blocks)
_COMPRESSIONS = (
    _by("gzip", rb"\x1f\x8b", functools.partial(_stream_blocks, gzip.open)),
    _by("bzip2", rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", functools.partial(_stream_blocks, bz2.open)),
    _by("xz", rb"\xfd7zXZ\0", functools.partial(_stream_blocks, lzma.open)),
    _by("zstd", rb"\x28\xb5\x2f\xfd", functools.partial(_stream_blocks, _zstd)),
    _ZIP,
    # As Python writes it, without a size; joblib does.
    _by("lzma", rb"\x5d\0\0..\xff{8}", functools.partial(_stream_blocks, lzma.open)),
    _by("zlib", rb"\x78[\x01\x5e\x9c\xda]", _zlib_blocks),  # joblib
)  # fmt: skip


class Content:
    """The bytes of the file at `path`; compressed ones are unpacked in the folder `scratch`.

    `kind` is what they are once they are unpacked. UnreadableSourceError: the file is damaged
    at its beginning.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path = path
        self.file_bytes = path.stat().st_size
        self._scratch = scratch
        self._unpacked: mmap.mmap | None = None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            self._compression = _compression_of(head)
            if self._compression is None:
                self.kind = kind_of(head, path.name)
            else:
                with self._named_errors():
                    self.kind = self._kind_inside(self._compression, file)

    @property
    def size(self) -> int:
        """The bytes that reading counts: a compressed file is unpacked at first, then read."""
        is_packed = self._compression is not None and self._unpacked is None
        return (1 + is_packed) * self.file_bytes

    def mapped(self, advance: Callable[[int], None]) -> mmap.mmap:
        """Return the bytes; what was unpacked is kept for the next time.

        `advance` is told how many bytes of the file were unpacked. UnreadableSourceError: it is
        empty, damaged, or unpacks to too much. OutputError: there is no room to unpack it.
        """
        if self._compression is None:
            try:
                with self.path.open("rb") as file:
                    return self._map(file)
            except OSError as error:
                message = f"{self.path}: {error.strerror or error}"
                raise UnreadableSourceError(message) from error
        if self._unpacked is None:
            try:
                with tempfile.TemporaryFile(dir=self._scratch) as file:
                    for block in self._unpack(self._compression, advance):
                        file.write(block)
                    file.flush()
                    self._unpacked = self._map(file)
            except OSError as error:
                message = f"{self.path} can't be unpacked in {self._scratch}: {error.strerror}"
                raise OutputError(message) from error
        return self._unpacked

    def _map(self, file: IO[bytes]) -> mmap.mmap:
        if not file.seek(0, 2):
            message = f"{self.path} is empty"
            raise UnreadableSourceError(message)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _kind_inside(self, compression: Compression, file: IO[bytes]) -> Kind:
        name = self.path.name
        if self.path.suffix.lower() in COMPRESSED_SUFFIXES:
            name = self.path.stem
        if compression is _ZIP:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
            kind = kind_of_archive(names)
            if kind is not None:
                return kind
            name = member_of(names)
        file.seek(0)
        head = next((block for block in compression.blocks(file) if block), b"")[:HEAD_BYTES]
        return COMPRESSED_TWICE if _compression_of(head) else kind_of(head, name)

    def _unpack(self, compression: Compression, advance: Callable[[int], None]) -> Iterator[bytes]:
        most = _UNPACKED_ALWAYS + _MOST_UNPACKED * self.file_bytes
        done, size = 0, 0
        with self._named_errors(), self.path.open("rb") as raw:
            for block in compression.blocks(raw):
                size += len(block)
                if size > most:
                    message = (
                        f"{self.path} unpacks to more than {_MOST_UNPACKED} times its size; "
                        "if it is sound, unpack it first"
                    )
                    raise UnreadableSourceError(message)
                yield block
                before, done = done, max(done, min(raw.tell(), self.file_bytes))
                advance(done - before)
        advance(self.file_bytes - done)  # a zip file lists its files behind them

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except _UNPACKING_ERRORS as error:
            said = error.strerror if isinstance(error, OSError) else None
            message = f"{self.path} can't be unpacked: {said or error}"
            raise UnreadableSourceError(message) from error


def _compression_of(head: bytes) -> Compression | None:
    found = next((each for each in _COMPRESSIONS if each.beginning.match(head)), None)
    if found is not None and found.name == "zlib":  # two bytes that text may begin with, too
        try:
            zlib.decompressobj().decompress(head, 1)
        except zlib.error:
            return None
    return found

"""The SHA-256 of a source, made beside its reading."""

from __future__ import annotations

import hashlib
import mmap
import threading
from typing import TYPE_CHECKING

from convert.errors import UnreadableSourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# Bytes for which the interpreter lock is let go at once: with 1 MiB, waiting for the lock
# took longer than the hashing.
_BLOCK_BYTES = 32 << 20
_POLL_SECONDS = 0.1


class Digest:
    """Hashes files in a thread, while the body of a `with` goes on.

    Of one file it is the SHA-256 of its bytes, of several that of their digests in order,
    behind which comes what else counts, `rest`.
    """

    def __init__(self, paths: Sequence[Path], rest: bytes = b"") -> None:
        self._paths = paths
        self._rest = rest
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self._is_given_up = False
        self._done = 0
        self._result = b""
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._is_given_up = True
        self._thread.join()

    def wait(self, advance: Callable[[int], None] = lambda _count: None) -> bytes:
        """Return the 32 bytes; `advance` is told how many more bytes were hashed."""
        told = 0
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            told, before = self._done, told
            advance(told - before)
        if self._error is not None:
            message = f"{self._error.filename}: {self._error.strerror or self._error}"
            raise UnreadableSourceError(message)
        return self._result

    def _run(self) -> None:
        try:
            digests = [self._file_digest(path) for path in self._paths]
        except OSError as error:
            self._error = error
            return
        several = hashlib.sha256(b"".join(digests) + self._rest).digest()
        self._result = several if len(digests) > 1 or self._rest else digests[0]

    def _file_digest(self, path: Path) -> bytes:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size:
                with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
                    for begin in range(0, size, _BLOCK_BYTES):
                        if self._is_given_up:
                            break
                        with memoryview(content)[begin : begin + _BLOCK_BYTES] as block:
                            digest.update(block)
                            self._done += len(block)
        return digest.digest()

"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from convert.errors import OutputError
from convert.signals import endings_deferred

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def partial(out: Path) -> Iterator[IO[bytes]]:
    """Open a file that may take the place of `out`: see `put_in_place`.

    It lies beside `out` under a name that nothing reads, and is locked while its writer
    lives: what is unlocked was left behind by a writer that was killed, and is removed.
    OutputError: the file system refuses, then or in the body of the `with`.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_file():  # a folder, a device, a pipe
            message = f"{out} can't be written: it is no regular file"
            raise OutputError(message)
        remove_leftovers(out)
        with contextlib.ExitStack() as cleanup:
            with endings_deferred():  # one that comes in between would leave the file behind
                file = cleanup.enter_context(_locked_partial(out))
                cleanup.callback(Path(file.name).unlink, missing_ok=True)
            yield file
    except OSError as error:
        message = f"{out} can't be written: {error.strerror or error}; it is as it was before"
        raise OutputError(message) from error


def put_in_place(file: IO[bytes], out: Path) -> None:
    """Make `file`, a partial one, the file at `out`, in one step that lasts."""
    file.flush()
    os.fsync(file.fileno())
    name = Path(file.name)
    name.chmod(0o666 & ~_umask())
    name.replace(out)
    _sync_folder(out.parent)


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `out` when the body of the `with` went well."""
    with partial(out) as file:
        yield file
        put_in_place(file, out)


def _locked_partial(out: Path) -> IO[bytes]:
    while True:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - the caller closes it
            dir=out.parent, prefix=f".{out.name}.", suffix=".partial", delete=False
        )
        fcntl.flock(file, fcntl.LOCK_EX)
        if Path(file.name).exists():  # nobody took it for a leftover before it was locked
            return file
        file.close()


def remove_leftovers(out: Path) -> None:
    """Remove what killed writers of `out` left behind."""
    for partial in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        # One that is gone, in use or not ours to remove is left to somebody else.
        with contextlib.suppress(OSError), partial.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

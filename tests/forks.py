"""Our commands in processes of their own that are forked from one that has imported everything.

A start takes a hundredth of the half second of processor time that an interpreter and its imports
take. For tests of what a command does; not for those of its start, its memory or its signals.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CONTEXT = multiprocessing.get_context("forkserver")
# Not streamer.__main__, which is to be run.
_CONTEXT.set_forkserver_preload(["streamer.cli.upload", "streamer.diagnosis"])


class Ended:
    """What a command that has ended left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def run_module(
    module: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
) -> Ended:
    """Do what `python -m module arguments` does in `folder`, with nothing to read."""
    with tempfile.TemporaryDirectory() as said:
        files = [str(Path(said, name)) for name in ("out", "err")]
        call = (module, list(arguments), str(folder), dict(environment), files)
        process = _CONTEXT.Process(target=_become, args=call)
        process.start()
        process.join()
        code = process.exitcode
        process.close()
        assert code is not None
        return Ended(code, *(Path(file).read_text(encoding="utf-8") for file in files))


def _become(
    module: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[str]
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

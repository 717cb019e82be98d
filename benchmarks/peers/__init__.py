"""Servers and a client of other gRPC implementations, built outside the tree.

They are what someone would write who uses that implementation as its manual says.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from interop.toolchains import MissingToolchainError, build_cpp, build_java

_FOLDER = Path(__file__).parent


class Peers(NamedTuple):
    """The beginnings of command lines, by program; by language, why one is missing."""

    commands: dict[str, list[str]]
    missing: dict[str, str]


def build_peers(folder: Path) -> Peers:
    """Build what there are toolchains for; interop.toolchains.BuildError."""
    peers = Peers({}, {})
    for language, build in (("cpp", build_cpp), ("java", build_java)):
        out = folder / language
        out.mkdir()
        sources = [path for path in (_FOLDER / language).iterdir() if path.suffix != ".pyc"]
        try:
            peers.commands.update(build(out, *sources))
        except MissingToolchainError as error:
            peers.missing[language] = str(error)
    return peers

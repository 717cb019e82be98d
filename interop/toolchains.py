"""Builds the clients of `interop/clients` outside the tree.

Each `build_...` makes what its clients need in a folder of its caller's and returns the
beginning of their command lines, by client; TARGET and RPC are to follow. It raises
MissingToolchainError if the system lacks something, BuildError if a build fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_CLIENTS = ROOT / "interop" / "clients"
_PROTO = "proto/embedding_stream.proto"
# Where Debian's Java packages put their jars.
_JARS = Path("/usr/share/java")
_CPP_LIBRARIES = ("grpc++", "protobuf", "libcrypto")
# A cold compiler on a machine that is busy with other things.
_BUILD_SECONDS = 300


class MissingToolchainError(Exception):
    """The system lacks something that interop/install.sh installs."""


class BuildError(Exception):
    """A compiler refused; its output is the text."""


def build_python(_folder: Path) -> dict[str, list[str]]:
    names = ("grpcio_sync", "grpcio_aio")
    return {name: [sys.executable, "-m", f"interop.clients.python.{name}"] for name in names}


def build_node(_folder: Path) -> dict[str, list[str]]:
    node = require_command("node")
    _require_files(_CLIENTS / "node" / "node_modules" / "@grpc" / "grpc-js")
    return {"grpc_js": [node, str(_CLIENTS / "node" / "client.js"), str(ROOT / _PROTO)]}


def build_java(folder: Path, *programs: Path) -> dict[str, list[str]]:
    """Build the clients, or else `programs`: each a file named after its main class."""
    java, javac = require_command("java"), require_command("javac")
    plugin, protoc = require_command("grpc_java_plugin"), require_command("protoc")
    _require_files(*(_JARS / f"{name}.jar" for name in ("grpc-stub", "grpc-netty", "protobuf")))
    _run([
        protoc, f"-I{ROOT}", f"--java_out={folder}", f"--plugin=protoc-gen-grpc-java={plugin}",
        f"--grpc-java_out={folder}", _PROTO,
    ])  # fmt: skip
    class_path = f"{folder}:{_JARS}/*"
    sources = programs or tuple((_CLIENTS / "java").glob("*.java"))
    generated = folder.rglob("io/**/*.java")
    _run([
        javac, "-nowarn", "-d", str(folder), "-cp", class_path, *map(str, (*sources, *generated))
    ])  # fmt: skip
    return {source.stem: [java, "-cp", class_path, source.stem] for source in sources}


def build_cpp(folder: Path, *programs: Path) -> dict[str, list[str]]:
    """Build the clients, or else `programs`: each a file named after its program."""
    compiler, pkg_config = require_command("g++"), require_command("pkg-config")
    plugin, protoc = require_command("grpc_cpp_plugin"), require_command("protoc")
    try:
        flags = _run([pkg_config, "--cflags", "--libs", *_CPP_LIBRARIES]).split()
    except BuildError as error:
        raise MissingToolchainError(str(error)) from error
    _run([
        protoc, f"-I{ROOT}", f"--cpp_out={folder}", f"--plugin=protoc-gen-grpc={plugin}",
        f"--grpc_out={folder}", _PROTO,
    ])  # fmt: skip
    generated = [str(path) for path in folder.rglob("*.pb.cc")]
    built: dict[str, list[str]] = {}
    for source in programs or (_CLIENTS / "cpp").glob("*.cc"):
        program = str(folder / source.stem)
        _run([
            compiler, "-std=c++17", "-O2", f"-I{folder}", "-o", program, str(source), *generated,
            *flags,
        ])  # fmt: skip
        built[source.stem] = [program]
    return built


def require_command(name: str, *folders: str) -> str:
    """Return the path of the program `name`, in one of `folders` or where the shell looks."""
    path = shutil.which(name, path=os.pathsep.join((*folders, os.environ.get("PATH", ""))))
    if path is None:
        message = f"there is no {name}: interop/install.sh installs it"
        raise MissingToolchainError(message)
    return path


def _require_files(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            message = f"there is no {path}: interop/install.sh installs it"
            raise MissingToolchainError(message)


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
    )
    if done.returncode:
        raise BuildError(done.stdout + done.stderr)
    return done.stdout

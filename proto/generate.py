"""Generates the Python code of the wire contract: `python -m proto.generate FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

SOURCE = "proto/embedding_stream.proto"


def generate(out: Path, source: str = SOURCE, stub_options: str = "") -> None:
    """Write messages, services and their type stubs beside each other under `out`.

    `source` is a path from the project's root, and `stub_options` are mypy-protobuf's.
    RuntimeError on failure.
    """
    root = Path(__file__).parent.parent
    plugins = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"-I{root}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--mypy_grpc_out={stub_options}:{out}",
        str(root / source),
    ]
    if protoc.main(arguments) != 0:
        message = f"protoc failed on {source}"
        raise RuntimeError(message)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))

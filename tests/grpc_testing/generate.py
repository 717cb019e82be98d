"""Generates the Python code of interop.proto: `python -m tests.grpc_testing.generate FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

SOURCE = "tests/grpc_testing/interop.proto"


def generate(out: Path) -> None:
    """Write messages, services and stubs to `out`/tests/grpc_testing; RuntimeError on failure."""
    root = Path(__file__).parent.parent.parent
    plugins = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"-I{root}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        # A servicer that leaves a method out answers UNIMPLEMENTED: tests do that.
        f"--mypy_grpc_out=generate_concrete_servicer_stubs:{out}",
        str(root / SOURCE),
    ]
    if protoc.main(arguments) != 0:
        message = f"protoc failed on {SOURCE}"
        raise RuntimeError(message)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))

"""Generates the Python code of interop.proto: `python -m tests.grpc_testing.generate FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from proto import generate as contract


def generate(out: Path) -> None:
    """Write messages, services and stubs to `out`/tests/grpc_testing; RuntimeError on failure."""
    # A servicer that leaves a method out answers UNIMPLEMENTED: tests do that.
    contract.generate(out, "tests/grpc_testing/interop.proto", "generate_concrete_servicer_stubs")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))

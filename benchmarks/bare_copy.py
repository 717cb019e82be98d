"""Writes a file of COPY's binary format into a table, and does nothing else.

python -m benchmarks.bare_copy postgresql://... TABLE FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg

_PIECE_BYTES = 1 << 20


def main() -> None:
    dsn, table, path = sys.argv[1:]
    with (
        psycopg.connect(dsn) as connection,
        Path(path).open("rb") as file,
        connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as copy,
    ):
        while piece := file.read(_PIECE_BYTES):
            copy.write(piece)


if __name__ == "__main__":
    main()

"""What both Python clients tell of a stream: rows, their digest, and the time taken."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proto import embedding_stream_pb2 as pb


class Report:
    """Takes rows in order of arrival; the clock starts with it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._rows = 0
        self._digest = hashlib.sha256()

    def add(self, row: pb.Embedding) -> None:
        for text in (row.id, row.company_name, row.english_level, row.primary_keyword):
            utf8 = text.encode()
            self._digest.update(struct.pack(">I", len(utf8)) + utf8)
        count = len(row.vector)
        self._digest.update(struct.pack(">iI", row.exp_years, count))
        self._digest.update(struct.pack(f"<{count}f", *row.vector))
        self._rows += 1

    def print(self) -> None:
        seconds = time.perf_counter() - self._started
        print(
            json.dumps({
                "rows": self._rows,
                "digest": self._digest.hexdigest(),
                "seconds": round(seconds, 3),
            })
        )  # fmt: skip

"""The wire engine without gathering: blocks joined, as TLS needs them, but in plain text.

python -m benchmarks.joined_server DATASET.arrow KEPT_HEAD_BYTES
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from streamer.dataset import Dataset
from streamer.engines.wire.engine import WireEngine
from streamer.service import EmbeddingService


def main() -> None:
    data, kept_head_bytes = sys.argv[1:]
    dataset = Dataset(Path(data), kept_head_bytes=int(kept_head_bytes))
    service = EmbeddingService(dataset, chunk_rows=lambda _: 300, max_message_bytes=16 << 20)
    engine = WireEngine(service, host="127.0.0.1", port=0, max_workers=16, gathers=False)
    print(f"listening on {engine.address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

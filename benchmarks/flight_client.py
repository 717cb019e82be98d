"""Reads DoGet to its end, batch by batch, in Arrow's own C++ code.

    python -m benchmarks.flight_client TARGET REPEATS

Prints one [bytes, seconds, seconds to the first batch] a repeat as JSON, as
benchmarks.draining_client does; the bytes are those of the stream in Arrow's IPC format.
"""

from __future__ import annotations

import json
import sys
import time

import pyarrow as pa
from pyarrow import flight


def _ipc_bytes(batches: list[pa.RecordBatch]) -> int:
    """Return what `batches` take as an IPC stream, which is what Flight sends."""
    sink = pa.MockOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return int(sink.size())


def main() -> None:
    target, repeats = sys.argv[1:]
    with flight.connect(f"grpc://{target}") as client:
        ticket = flight.Ticket(b"")
        size = _ipc_bytes([chunk.data for chunk in client.do_get(ticket)])
        found = []
        for _ in range(int(repeats)):
            begin = time.perf_counter()
            first = 0.0
            for _chunk in client.do_get(ticket):
                first = first or time.perf_counter() - begin
            found.append([size, time.perf_counter() - begin, first])
    print(json.dumps(found))


if __name__ == "__main__":
    main()

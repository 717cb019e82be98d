"""The same rows over Arrow Flight: the record batches of the file, as they are.

python -m benchmarks.flight_server DATASET.arrow
"""

from __future__ import annotations

import sys

import pyarrow as pa
from pyarrow import feather, flight


class FlightServer(flight.FlightServerBase):  # type: ignore[misc] # pyarrow has no types
    def __init__(self, table: pa.Table) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._table = table

    def do_get(
        self, _context: flight.ServerCallContext, _ticket: flight.Ticket
    ) -> flight.RecordBatchStream:
        return flight.RecordBatchStream(self._table)


def main() -> None:
    server = FlightServer(feather.read_table(sys.argv[1], memory_map=True))
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    server.serve()


if __name__ == "__main__":
    main()

"""The wire engine: an HTTP/2 server that writes whole blocks of messages.

server     listener, event loop, pools              threads and sockets
links      a connection's bytes; segments: addresses
session    a connection's calls; call: one of them  event loop
handlers   methods as generators of Frames          pool threads
connection HTTP/2 and gRPC, of which the others know nothing; with request, messages,
           metadata, meter, limits, data_frames     pure
"""

from streamer.engines.wire.server import WireServer

__all__ = ["WireServer"]

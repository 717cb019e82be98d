"""The wire engine: an HTTP/2 server that writes whole blocks of messages.

engine        what `serve` starts: EmbeddingService, health, reflection
server        listeners, event loop, pools
..._link      a connection's bytes; link: what both kinds have in common
pump          one link after another; segments: raw addresses
session       a connection's calls; turns: which of them sends; call: one of them
context       what a call's method sees
handlers      methods as generators of Frames, run in the pools' threads
connection    HTTP/2 and gRPC, pure, and so is all that it imports
"""

from streamer.engines.wire.server import WireServer

__all__ = ["WireServer"]

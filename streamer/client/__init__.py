"""The other end of the stream: reads a dataset from a server, and sends one to a server."""

from streamer.client.aio import AsyncBatchStream, AsyncEmbeddingClient
from streamer.client.client import BatchStream, EmbeddingClient
from streamer.client.reading import ReadPolicy, Rpc

__all__ = [
    "AsyncBatchStream",
    "AsyncEmbeddingClient",
    "BatchStream",
    "EmbeddingClient",
    "ReadPolicy",
    "Rpc",
]

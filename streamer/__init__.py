"""Streams the rows of a converted Arrow file to any gRPC client, column-wise."""

from convert import __version__

__all__ = ["__version__"]

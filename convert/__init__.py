"""Rewrites an embeddings pickle, once, into a UUID-sorted Arrow file.

`convert.schema` and `convert.id_text` are the file contract, and all that the
streamer imports from here, but for the version, which both packages share; nothing here
imports the streamer.
"""

# The one place that says it: the packaging reads it here, and a checkout needs no installation.
__version__ = "0.1.0"

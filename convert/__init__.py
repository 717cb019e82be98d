"""Rewrites an embeddings pickle, once, into a UUID-sorted Arrow file.

`convert.schema` and `convert.id_text` are the file contract, and all that the
streamer imports from here; nothing here imports the streamer.
"""

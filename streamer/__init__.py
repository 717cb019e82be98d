"""Streams the rows of a converted Arrow file to any gRPC client, column-wise."""

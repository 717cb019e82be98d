"""Servers that put the service's Frames on a socket."""

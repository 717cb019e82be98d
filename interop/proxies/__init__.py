"""Tested configurations of six proxies, and what runs them.

The files beside this one are what users copy (docs/proxies.md): each listens on 8080 in clear
text and on 8443 with TLS, and passes calls on to `streamer serve` on 50051 and, if they upload
rows, to `streamer receive` on 50052. Tests put ports of their own in place of these.
"""

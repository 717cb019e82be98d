"""Where a server listens."""

from __future__ import annotations

import errno
import socket

from streamer.errors import StreamerError

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class AddressError(StreamerError):
    """The server can't listen on the address it was given."""


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen, one for each address of `host`, and never block.

    With port 0 they share the port that the system picks. AddressError says what is wrong
    and what to do.
    """
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            shared_port = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(_listen(family, kind, protocol, (str(address[0]), shared_port)))
            except OSError as error:
                # A name may have an address of a family that this machine doesn't use.
                if not listeners or error.errno not in _NOT_HERE:
                    raise
    except OSError as error:
        for listener in listeners:
            listener.close()
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "the port is in use; choose another with --port or GRPC_PORT"
        message = f"can't listen on {format_address(host, port)}: {why}"
        raise AddressError(message) from None
    return listeners


def _listen(family: int, kind: int, protocol: int, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = address[0] != "::"  # that one stands for IPv4's addresses, too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

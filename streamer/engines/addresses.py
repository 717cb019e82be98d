"""Where a server listens: HOST and PORT, with or without brackets, or unix:PATH."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from convert.foreign_text import quoted
from streamer.errors import StreamerError

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIX = "unix:"
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un of Linux, without the NUL at its end
# RFC 6761 section 6.3: the name means this machine, also where /etc/hosts knows one of them alone.
_LOCALHOST = ("127.0.0.1", "::1")


class AddressError(StreamerError):
    """The server can't listen on the address it was given."""


class NoAddressError(AddressError):
    """This is no address."""

    exit_code = 2


def any_host() -> str:
    """Return the host that stands for all of this machine's addresses, IPv6's where it has any."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - what is asked for


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen, one for each address of `host`, and never block.

    With port 0 they share the port that the system picks; unix:PATH has none. AddressError says
    what is wrong and what to do. To be closed by `close_listeners`.
    """
    listeners: list[socket.socket] = []
    try:
        if host.startswith(UNIX):
            return [_listen_at(_socket_path(host))]
        for family, address in _addresses(host):
            shared_port = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(_listen(family, address, shared_port))
            except OSError as error:
                # A name may have an address of a family that this machine doesn't use.
                if not listeners or error.errno not in _NOT_HERE:
                    raise
    except OSError as error:
        close_listeners(listeners)
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE and not host.startswith(UNIX):
            why = "the port is in use; choose another with --port or GRPC_PORT"
        message = f"can't listen on {format_address(host, port)}: {why}"
        raise AddressError(message) from None
    except ValueError:  # what no resolver is asked for, such as a label of 64 characters
        message = f"can't listen on {quoted(host)}: it is neither a name nor an address"
        raise NoAddressError(message) from None
    return listeners


def close_listeners(listeners: list[socket.socket]) -> None:
    """Close them; a socket file is removed, which is nobody else's while they listen."""
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):
                Path(os.fsdecode(listener.getsockname())).unlink()
        listener.close()


def bound_port(listeners: list[socket.socket]) -> int:
    """Return the port that listeners share, 0 for a socket file."""
    is_unix = listeners[0].family == socket.AF_UNIX
    return 0 if is_unix else int(listeners[0].getsockname()[1])


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets, or unix:PATH."""
    if host.startswith(UNIX):
        return host
    host = _without_brackets(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def counted_address(host: str) -> str:
    """Return what connections of one client have in common: its address, of IPv6 the /64.

    Whoever has one address of IPv6 commonly has all of its /64 (RFC 6177).
    """
    address = _parsed(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    network = ipaddress.IPv6Address(int(address) >> 64 << 64)
    return f"{network}/64"


def is_local(host: str) -> bool:
    """Return whether a server that listens on `host` is reached from this machine alone."""
    if host.startswith(UNIX):
        return True
    try:
        return all(_is_loopback(address) for _, address in _addresses(host))
    except OSError:  # nobody can listen there, or nobody knows
        return False


def _is_loopback(address: str) -> bool:
    return _parsed(address).is_loopback


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; one of IPv4 that IPv6 has mapped is IPv4's."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _without_brackets(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _addresses(host: str) -> Iterator[tuple[int, str]]:
    names = _LOCALHOST if host == "localhost" else (_without_brackets(host),)
    for name in names:
        for family, *_, address in socket.getaddrinfo(
            name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            yield family, str(address[0])


def _listen(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = address != "::"  # that one stands for IPv4's addresses, too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.bind((address, port))
        return _listening(listener)
    except OSError:
        listener.close()
        raise


def _socket_path(host: str) -> str:
    """Return PATH of unix:PATH; AddressError if no file can have it.

    To the system an empty path, or one that begins with NUL, is a socket without a file.
    """
    path = host.removeprefix(UNIX)
    why = ""
    if not path:
        why = "unix: wants the path of a socket file"
    elif "\0" in path:
        why = "no file can have a NUL in its path"
    elif len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        why = f"the path is too long: a socket file's has {_MAX_SOCKET_PATH_BYTES} bytes at most"
    if why:
        message = f"can't listen on {quoted(host)}: {why}"
        raise NoAddressError(message)
    return path


def _listen_at(path: str) -> socket.socket:
    """Listen at a socket file; one that a killed server has left is replaced."""
    _remove_if_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        return _listening(listener)
    except OSError:
        listener.close()
        raise


def _remove_if_stale(path: str) -> None:
    """Remove a socket file at which nobody listens; OSError for any other file."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file, and it is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # a server that is busy answers in its own time
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another server listens there")


def _listening(listener: socket.socket) -> socket.socket:
    listener.listen(socket.SOMAXCONN)
    listener.settimeout(0)
    return listener

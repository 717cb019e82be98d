"""Options of the commands that call a server: where it is, and whether by TLS."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from convert.foreign_text import quoted
from streamer.client.channel import ChannelError, tls_credentials
from streamer.engines.tls import refuse_password

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_FILE = click.Path(path_type=Path, dir_okay=False)
_MAX_PORT = 65_535


class HostPort(click.ParamType[str]):
    """HOST:PORT, [ADDRESS]:PORT for IPv6, or unix:PATH."""

    name = "HOST:PORT"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:  # fmt: skip
        if re.fullmatch(r"unix:[^\0]+", value):
            return value
        match = re.fullmatch(r"(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.%]+\]):([0-9]{1,5})", value)
        if match is None or not 0 < int(match[1]) <= _MAX_PORT:
            self.fail(f"{quoted(value)} is not HOST:PORT, nor unix:PATH", param, ctx)
        return value


def tls_options(command: _Command) -> _Command:
    """Add --tls, --tls-ca, --tls-cert and --tls-key, the arguments of `credentials`."""
    for option in reversed([
        click.option("--tls", is_flag=True, help="TLS, the server known to the system's CAs."),
        click.option("--tls-ca", type=_FILE, help="TLS; PEM file of the CA that the server has."),
        click.option("--tls-cert", type=_FILE, help="TLS; PEM file of the client's certificate."),
        click.option("--tls-key", type=_FILE, help="PEM file of its key."),
    ]):  # fmt: skip
        command = option(command)
    return command


def credentials(
    *, tls: bool, ca: Path | None, cert: Path | None, key: Path | None
) -> grpc.ChannelCredentials | None:
    """Return credentials for what was asked for, None for plain text; ChannelError."""
    if not (tls or ca or cert or key):
        return None
    loaded = tls_credentials(ca, cert, key)
    # The C-core would say of a file that is no certificate that the server is unavailable.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        option = "--tls-ca is no certificate"
        if ca:
            context.load_verify_locations(ca)
        option = "--tls-cert and --tls-key are no certificate and its key"
        if cert and key:
            context.load_cert_chain(cert, key, password=refuse_password)
    except (OSError, ValueError) as error:
        message = f"{option} in PEM: {error}"
        raise ChannelError(message) from None
    return loaded

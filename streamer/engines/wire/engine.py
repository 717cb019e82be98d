"""The wire engine as commands start it: one of our services, health and reflection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.engines.hosting import add_standard_services, hosted
from streamer.engines.wire.handlers import block_handler, upload_handler
from streamer.engines.wire.limits import Limits
from streamer.engines.wire.server import WireServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamer.engines.tls import Certificates
    from streamer.service import EmbeddingService
    from streamer.upload_service import UploadService


class WireEngine:
    """A running server; it listens on `port`, `address` is HOST:PORT.

    `gathers`: send vectors from where they lie in the file, which needs plain text; with
    `certificates`, or without `gathers`, blocks are joined first.
    """

    def __init__(
        self,
        service: EmbeddingService | UploadService,
        *,
        host: str,
        port: int,
        max_workers: int,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        certificates: Certificates | None = None,
        gathers: bool = True,
        alias_packages: Sequence[str] = (),
    ) -> None:
        """Listen and accept calls; AddressError if that can't be had."""
        self._server = WireServer(
            host=host,
            port=port,
            limits=limits,
            max_workers=max_workers,
            tls=certificates.server_context if certificates else None,
        )
        methods = hosted(service, alias_packages)
        gathers = gathers and certificates is None
        handlers = {
            name: upload_handler(method, limits.stall_seconds)
            for name, method in methods.uploads.items()
        }
        for name, method in methods.streams.items():
            handlers[name] = block_handler(method, gathers=gathers)
        for name in methods.names:
            self._server.add_handlers(name, handlers)
        self._health = add_standard_services(self._server, methods)
        self.port = self._server.port
        self.address = self._server.address
        self._health.start()
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, wait for those under way, end those that take longer."""
        self._health.stop()
        self._server.stop(grace_seconds)

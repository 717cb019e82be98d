"""The server: an event loop in a thread of its own, its listener, sessions and pools."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamer.engines.hosting import format_address, listening_socket
from streamer.engines.wire.handlers import Pool, servicer_handler
from streamer.engines.wire.limits import Limits
from streamer.engines.wire.links import Pump, SocketLink, TransportLink

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    import grpc

    from streamer.engines.wire.handlers import Handler
    from streamer.engines.wire.session import Session

_log = logging.getLogger(__name__)

# Unary methods of servicers are quick; health checks are all there is of them.
_CALL_WORKERS = 2
# How often sessions are looked at for what takes too long.
_CHECK_SECONDS = 1.0
# After the grace: for the last words to leave.
_LAST_WORDS_SECONDS = 2.0
_RETRY_ACCEPT_SECONDS = 1.0


@dataclass
class _CallDetails:
    """What grpcio's generic handlers are asked with."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class WireServer:
    """Answers gRPC calls on `port` once started; `address` is HOST:PORT.

    Servicers are added as to a grpc.Server, by generated add_...Servicer_to_server
    functions, before `start`. `tls` returns the context for the next connection; None
    means plain text.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        max_workers: int = 16,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """Bind the address; AddressError if that can't be had."""
        self.limits = limits
        self._tls = tls
        self._listener = listening_socket(host, port)
        self._listener.settimeout(0)  # never block
        self.port: int = self._listener.getsockname()[1]
        self.address = format_address(host, self.port)
        self._methods: dict[str, Handler | None] = {}
        self._generic_handlers: list[grpc.GenericRpcHandler] = []
        workers = {
            # Encoding takes a core each; more threads would only take turns.
            Pool.BLOCKS: min(max_workers, os.cpu_count() or 1),
            Pool.CALLS: _CALL_WORKERS,
            Pool.STREAMS: max_workers,
        }
        self.pools: Mapping[Pool, Executor] = {
            pool: ThreadPoolExecutor(count, thread_name_prefix=f"wire-{pool.name.lower()}")
            for pool, count in workers.items()
        }
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._pump = Pump(self.loop)
        self._sessions: set[Session] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._refused = 0
        self._empty = asyncio.Event()

    # The part of grpc.Server that generated functions use.

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._generic_handlers += handlers

    def add_registered_method_handlers(
        self, service: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Do nothing: generated functions register the same methods generically before."""

    def add_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Add methods that yield blocks."""
        self._methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def handlers(self, path: str, /) -> Handler | None:
        """Return what answers calls of `path`, None if nothing does."""
        if path in self._methods:
            return self._methods[path]
        for generic in self._generic_handlers:
            found = generic.service(_CallDetails(path))
            if found is not None:
                self._methods[path] = servicer_handler(found)
                return self._methods[path]
        return None

    def start(self) -> None:
        self._thread.start()
        self.loop.call_soon_threadsafe(self._begin)

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, wait for those under way, end those that take longer."""
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(grace_seconds), self.loop).result()
        for pool in self.pools.values():
            pool.shutdown()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def closed(self, session: Session) -> None:
        self._sessions.discard(session)
        if not self._sessions:
            self._empty.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _begin(self) -> None:
        self.loop.add_reader(self._listener.fileno(), self._accept)
        self.loop.call_later(_CHECK_SECONDS, self._check)

    def _accept(self) -> None:
        try:
            peer_socket, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # out of file descriptors: trying at once would only spin
            _log.error("can't accept connections: %s", error)
            self.loop.remove_reader(self._listener.fileno())
            self.loop.call_later(_RETRY_ACCEPT_SECONDS, self._begin)
            return
        if len(self._sessions) + len(self._handshakes) >= self.limits.max_connections:
            peer_socket.close()
            self._refused += 1
            return
        peer_socket.settimeout(0)  # never block
        peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            link = SocketLink(self, self._pump, peer_socket, _peer(address))
            self._add(link.session)
        else:
            task = self.loop.create_task(self._shake_hands(self._tls, peer_socket, address))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(
        self,
        tls: Callable[[], ssl.SSLContext],
        peer_socket: socket.socket,
        address: tuple[str, int],
    ) -> None:
        try:
            _, link = await self.loop.connect_accepted_socket(
                lambda: TransportLink(self, self._pump, _peer(address)),
                peer_socket,
                ssl=tls(),
                ssl_handshake_timeout=self.limits.handshake_seconds,
            )
        except OSError as error:  # ssl.SSLError and timeouts included
            _log.info("TLS handshake with %s failed: %s", _peer(address), error)
            peer_socket.close()
        else:
            self._add(link.session)

    def _add(self, session: Session) -> None:
        self._sessions.add(session)
        self._empty.clear()

    def _check(self) -> None:
        self.loop.call_later(_CHECK_SECONDS, self._check)
        if self._refused:
            _log.warning(
                "refused %d connections: there are %d, as many as MAX_CONNECTIONS allows",
                self._refused, len(self._sessions),
            )  # fmt: skip
            self._refused = 0
        for session in list(self._sessions):
            session.guarded(session.check_times)

    async def _stop(self, grace_seconds: float) -> None:
        self.loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for task in self._handshakes:
            task.cancel()
        for wait_seconds, end in (
            (grace_seconds, "drain"),
            (_LAST_WORDS_SECONDS, "cut_off"),
        ):
            for session in list(self._sessions):
                getattr(session, end)()
            if self._sessions:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._empty.wait(), wait_seconds)
        for session in list(self._sessions):
            session.abort()


def _peer(address: tuple[str, int]) -> str:
    """Return a peer's address as grpcio writes it."""
    host, port = address[:2]
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

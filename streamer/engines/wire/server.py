"""The server: an event loop in a thread of its own, its listener, sessions and pools."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from streamer.engines.addresses import (
    bound_port,
    close_listeners,
    counted_address,
    format_address,
    listening_sockets,
)
from streamer.engines.hosting import start_threads
from streamer.engines.wire.context import CallFailedError
from streamer.engines.wire.flood import FloodAccount
from streamer.engines.wire.handlers import Pool, servicer_handler
from streamer.engines.wire.limits import Limits
from streamer.engines.wire.pump import Pump
from streamer.engines.wire.session import Session
from streamer.engines.wire.socket_link import SocketLink
from streamer.engines.wire.stream import HeldOfAll
from streamer.engines.wire.times import LAST_WORDS_SECONDS
from streamer.engines.wire.tls_link import TlsLink
from streamer.errors import Status

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from streamer.engines.wire.handlers import Handler
    from streamer.engines.wire.metadata import Metadatum
    from streamer.engines.wire.request import RequestHead

_log = logging.getLogger(__name__)

# For servicers' methods with one message each way, which are taken to be quick: health checks
# are, and nothing that takes long may keep them waiting.
_CALL_WORKERS = 2
# How often sessions are looked at for what takes too long.
_CHECK_SECONDS = 1.0
_RETRY_ACCEPT_SECONDS = 1.0
_CREDENTIALS = "3i"  # struct ucred of Linux: pid, uid, gid


@dataclass
class _CallDetails(grpc.HandlerCallDetails):
    """What grpcio's generic handlers are asked with."""

    method: str
    invocation_metadata: tuple[Metadatum, ...]


class _Workers(ThreadPoolExecutor):
    @property
    def waiting(self) -> int:
        """How many tasks no thread has taken yet."""
        return self._work_queue.qsize()


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
        self._listeners = listening_sockets(host, port)
        self.port = bound_port(self._listeners)
        self.address = format_address(host, self.port)
        self._methods: dict[str, Handler] = {}
        self._generic_handlers: list[grpc.GenericRpcHandler] = []
        workers = {
            # Encoding takes a core each; more threads would only take turns.
            Pool.BLOCKS: min(max_workers, os.cpu_count() or 1),
            Pool.CALLS: _CALL_WORKERS,
            Pool.STREAMS: max_workers,
            Pool.UPLOADS: max_workers,
            Pool.CALLBACKS: 1,  # as grpcio has it
        }
        self._workers = {
            pool: _Workers(count, thread_name_prefix=f"wire-{pool.name.lower()}")
            for pool, count in workers.items()
        }
        self.pools: Mapping[Pool, Executor] = self._workers
        self.loop = _new_event_loop()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._pump = Pump(self.loop)
        self.intake = Pump(self.loop)
        self.held = HeldOfAll()
        self.flood = FloodAccount(limits.flood_tolerance, self.loop.time())
        self._sessions: set[Session] = set()
        self._addresses: dict[Session, str] = {}  # of those that aren't at a socket file
        self.open_streams = 0
        self._refused: Counter[str] = Counter()
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

    def is_busy(self, pool: Pool) -> bool:
        """Whether as many calls wait for a thread as may."""
        return self._workers[pool].waiting >= self.limits.max_waiting_calls

    def handler_for(self, head: RequestHead) -> Handler | None:
        """Return what answers a call, None if nothing does; CallFailedError.

        Generic handlers are asked each time: what they say may depend on the metadata.
        """
        if head.path in self._methods:
            return self._methods[head.path]
        details = _CallDetails(head.path, head.metadata)
        try:
            for generic in self._generic_handlers:
                if (found := generic.service(details)) is not None:
                    return servicer_handler(found, self.limits.stall_seconds)
        except Exception:
            _log.exception("a generic handler failed")
            raise CallFailedError(Status.UNKNOWN, "Error in service handler!") from None
        return None

    def start(self) -> None:
        for pool in (Pool.BLOCKS, Pool.CALLS, Pool.CALLBACKS):
            start_threads(self._workers[pool])
        self._thread.start()
        self.loop.call_soon_threadsafe(self._listen)
        self.loop.call_soon_threadsafe(self._check)

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

    def opened(self, session: Session) -> None:
        self._sessions.add(session)
        self._empty.clear()

    def closed(self, session: Session) -> None:
        self._sessions.discard(session)
        self._addresses.pop(session, None)
        if not self._sessions:
            self._empty.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _listen(self) -> None:
        for listener in self._listeners:
            self.loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer_socket, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # out of file descriptors: trying at once would only spin
            _log.error("can't accept connections: %s", error)
            for each in self._listeners:
                self.loop.remove_reader(each)
            self.loop.call_later(_RETRY_ACCEPT_SECONDS, self._listen)
            return
        is_unix = peer_socket.family == socket.AF_UNIX
        counted = "" if is_unix else counted_address(address[0])
        if bound := self._reached_bound(counted):
            peer_socket.close()
            self._refused[bound] += 1
            return
        peer_socket.settimeout(0)  # never block
        if not is_unix:
            peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = _peer_name(peer_socket, address)
        link = (
            SocketLink(self, self._pump, peer_socket, peer)
            if self._tls is None
            else TlsLink(self, self._pump, peer_socket, peer, self._tls())
        )
        if counted:
            self._addresses[link.session] = counted

    def _reached_bound(self, address: str) -> str:
        """Return what keeps another connection out, for the log; nothing if it may come."""
        limits = self.limits
        if len(self._sessions) >= limits.max_connections:
            return f"{limits.max_connections} that MAX_CONNECTIONS"
        most = limits.max_connections_per_address
        if most is None or not address:
            return ""
        same = sum(each == address for each in self._addresses.values())
        return f"{most} that MAX_CONNECTIONS_PER_ADDRESS" if same >= most else ""

    def _check(self) -> None:
        self.loop.call_later(_CHECK_SECONDS, self._check)
        for bound, refused in self._refused.items():
            _log.warning("refused connections: %d more than the %s allows", refused, bound)
        self._refused.clear()
        for session in list(self._sessions):
            session.guarded(session.check_times)

    async def _stop(self, grace_seconds: float) -> None:
        for listener in self._listeners:
            self.loop.remove_reader(listener)
        close_listeners(self._listeners)
        self._listeners = []
        for end, wait_seconds in (
            (Session.drain, grace_seconds),
            (Session.cut_off, LAST_WORDS_SECONDS),
            (Session.abort, LAST_WORDS_SECONDS),
        ):
            for session in list(self._sessions):
                end(session)
            if self._sessions:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._empty.wait(), wait_seconds)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's where it is installed; the extra `uvloop` does that."""
    if importlib.util.find_spec("uvloop"):
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
        return loop
    return asyncio.new_event_loop()


def _peer_name(peer_socket: socket.socket, address: Any) -> str:  # noqa: ANN401 - as accept has it
    """Return a peer's address as grpcio writes it; of one at a socket file, its process."""
    if peer_socket.family == socket.AF_UNIX:
        size = struct.calcsize(_CREDENTIALS)
        credentials = peer_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack(_CREDENTIALS, credentials)
        return f"unix:pid={pid},uid={uid}"
    host, port = address[:2]
    host = host.removeprefix("::ffff:")  # IPv4, by way of a listener for both
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

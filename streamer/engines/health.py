"""The standard health service: whether the process runs, and whether it can answer calls.

The empty name is SERVING for as long as the process runs. The service's own names are
SERVING while its `check` passes, which a thread tries every few seconds: health checks,
however many, read what it has found, and Watch tells each change.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health, health_pb2

from streamer.errors import StreamerError, answer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    import grpc

_log = logging.getLogger(__name__)

_STATUSES = health_pb2.HealthCheckResponse
# A look takes 2 us while a sound file stays the same; a damaged one is read each time, 2.3 ms
# with 142,000 rows. However large it is, looks take no more than this share of a processor.
_LOOKING_SHARE = 0.05


class Health:
    """What health checks are answered of one service.

    `check` raises what the service's calls would be answered now, and is called every
    `check_seconds` from `start` on. `stop` makes the service NOT_SERVING for good. With a
    `watch_pool` each Watch has a thread of it.
    """

    def __init__(
        self,
        names: Sequence[str],
        check: Callable[[], object],
        check_seconds: float,
        watch_pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.servicer = health.HealthServicer()
        if watch_pool is not None:
            _watch_in_threads(self.servicer, watch_pool)
        self._names = names
        self._check = check
        self._check_seconds = check_seconds
        self._trouble: str | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._say(_STATUSES.SERVING)

    def start(self) -> None:
        """Look once, and from then on again and again in a thread."""
        self._look()
        threading.Thread(target=self._run, name="health", daemon=True).start()

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
            self._say(_STATUSES.NOT_SERVING)

    def _run(self) -> None:
        pause = self._check_seconds
        while not self._stopping.wait(pause):
            begin = time.thread_time()
            self._look()
            pause = max(self._check_seconds, (time.thread_time() - begin) / _LOOKING_SHARE)

    def _look(self) -> None:
        trouble = failure = None
        try:
            self._check()
        except Exception as error:  # one that nobody has foreseen is an answer, too
            status, text = answer_for(error)
            trouble = f"{status.name}: {text}"
            failure = None if isinstance(error, StreamerError) else error
        with self._lock:
            if trouble == self._trouble or self._stopping.is_set():
                return
            had_trouble, self._trouble = self._trouble is not None, trouble
            if trouble is None:
                _log.info("%s is SERVING again", self._names[0])
                self._say(_STATUSES.SERVING)
            else:
                _log.warning(
                    "%s is NOT_SERVING: calls get %s", self._names[0], trouble, exc_info=failure
                )
                if not had_trouble:
                    self._say(_STATUSES.NOT_SERVING)

    def _say(self, status: int) -> None:
        for name in self._names:
            self.servicer.set(name, status)


def _watch_in_threads(servicer: Any, pool: ThreadPoolExecutor) -> None:  # noqa: ANN401
    """Let each Watch wait for changes in a thread of its own.

    By itself the servicer tells watchers by callbacks while it holds its lock, and grpcio's
    return when the message has been sent: one watcher that takes nothing, or cancels at that
    moment, and no health check is answered any more.
    """
    watch = servicer.Watch

    def watch_blocking(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        return watch(request, context)

    watch_blocking.experimental_thread_pool = pool  # type: ignore[attr-defined]
    servicer.Watch = watch_blocking

"""A stock Batch Server on the generated code, which answers as a test wants.

In the test's process, calls are answered by a script:

    with BatchServer([store, refuse(StatusCode.INTERNAL, "disk full")]) as server: ...

As a process of its own (`BatchProcess`) it can be killed: rows are kept in a file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc

from proto import embedding_stream_pb2 as pb
from proto import embedding_stream_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    Answer = Callable[["BatchServer", Iterator[pb.Embedding], grpc.ServicerContext], Any]

_ROOT = Path(__file__).parent.parent


class BatchServer(pb_grpc.EmbeddingUploadServiceServicer):
    """Answers call n as `script[n]` says, and stores all rows when the script is over.

    `stored` is the table: id to row, a later one in an earlier one's place. `calls` holds
    the ids that each call brought.
    """

    def __init__(
        self,
        script: Sequence[Answer] = (),
        *,
        port: int = 0,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._script = list(script)
        self.stored: dict[str, pb.Embedding] = {}
        self.calls: list[list[str]] = []
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_EmbeddingUploadServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{port}"
        self.port = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        self.target = f"127.0.0.1:{self.port}"

    def UploadEmbeddings(  # noqa: N802 - the generated name
        self, request_iterator: Any, context: Any
    ) -> Any:
        number = len(self.calls)
        self.calls.append([])
        answer = self._script[number] if number < len(self._script) else store
        return answer(self, self._noted(request_iterator, number), context)

    def _noted(self, rows: Iterator[pb.Embedding], number: int) -> Iterator[pb.Embedding]:
        for row in rows:
            self.calls[number].append(row.id)
            yield row

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def store(
    server: BatchServer, rows: Iterator[pb.Embedding], _context: grpc.ServicerContext
) -> pb.UploadResult:
    """Store all rows."""
    count = 0
    for row in rows:
        server.stored[row.id] = row
        count += 1
    return pb.UploadResult(total_count=count, success_count=count)


def fail(ids: Collection[str]) -> Answer:
    """Store all rows but those with `ids`."""

    def answer(
        server: BatchServer, rows: Iterator[pb.Embedding], _context: grpc.ServicerContext
    ) -> pb.UploadResult:
        taken = list(rows)
        failed = [row.id for row in taken if row.id in ids]
        server.stored.update({row.id: row for row in taken if row.id not in ids})
        return pb.UploadResult(
            total_count=len(taken),
            success_count=len(taken) - len(failed),
            failed_count=len(failed),
            failed_ids=failed,
        )

    return answer


def say(**result: Any) -> Answer:
    """Read all rows and return this UploadResult, whatever they were."""

    def answer(
        _server: BatchServer, rows: Iterator[pb.Embedding], _context: grpc.ServicerContext
    ) -> pb.UploadResult:
        for _ in rows:
            pass
        return pb.UploadResult(**result)

    return answer


def refuse(
    status: grpc.StatusCode,
    text: str = "",
    *,
    after_rows: int = 0,
    trailers: Sequence[tuple[str, bytes]] = (),
) -> Answer:
    """Take some rows, then end the call with `status`."""

    def answer(
        _server: BatchServer, rows: Iterator[pb.Embedding], context: grpc.ServicerContext
    ) -> NoReturn:
        for _ in zip(range(after_rows), rows, strict=False):
            pass
        context.set_trailing_metadata(tuple(trailers))
        context.abort(status, text)

    return answer


def wait_for(is_over: Callable[[], object], then: Answer = store) -> Answer:
    """Take no row before `is_over` returns."""

    def answer(
        server: BatchServer, rows: Iterator[pb.Embedding], context: grpc.ServicerContext
    ) -> Any:
        is_over()
        return then(server, rows, context)

    return answer


class BatchProcess:
    """A Batch Server in a process of its own, which keeps the ids it stored in `table`.

    It ends by SIGKILL after its `die_after`th row, or, `die_before_result`, when all rows of
    its first call are stored and nothing has been answered.
    """

    def __init__(
        self, table: Path, *, port: int = 0, die_after: int = 0, die_before_result: bool = False
    ) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.batch_server", str(table), str(port),
                str(die_after), str(int(die_before_result)),
            ],
            cwd=_ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        self.target = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def _main(table: str, port: str, die_after: str, die_before_result: str) -> None:
    with Path(table).open("a") as file:

        def answer(
            _server: BatchServer, rows: Iterator[pb.Embedding], _context: grpc.ServicerContext
        ) -> pb.UploadResult:
            count = 0
            for row in rows:
                file.write(f"{row.id}\n")
                file.flush()
                count += 1
                if count == int(die_after):
                    os.kill(os.getpid(), signal.SIGKILL)
            if int(die_before_result):
                os.kill(os.getpid(), signal.SIGKILL)
            return pb.UploadResult(total_count=count, success_count=count)

        with BatchServer([answer] * 1000, port=int(port)) as server:
            print(server.port, flush=True)  # noqa: T201 - this is how the test learns it
            signal.pause()


if __name__ == "__main__":
    _main(*sys.argv[1:])

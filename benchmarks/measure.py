"""Timing, memory sampling, and the processes that benchmarks talk to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
# Seconds between looks at a process's memory.
_SAMPLE_SECONDS = 0.02


def seconds_of(action: Callable[[], object]) -> float:
    """Return how long `action` takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def interleaved(repeats: int, **actions: Callable[[], object]) -> dict[str, list[float]]:
    """Time each action `repeats` times, in turn, so that noise meets all of them alike."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()  # warm: caches, page faults, allocators
    for _ in range(repeats):
        for name, action in actions.items():
            samples[name].append(seconds_of(action))
    return samples


def anonymous_bytes(pid: int) -> int:
    """Return a process's anonymous resident memory; mapped files don't count."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


class Run(NamedTuple):
    """What a process printed, how long it took, and its peak of anonymous memory."""

    out: str
    seconds: float
    peak_anonymous_bytes: int


def run_python(*arguments: str) -> Run:
    """Run Python in a process of its own, its memory sampled; raises if it fails."""
    begin = time.perf_counter()
    peak = 0
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:

        def sample() -> None:
            nonlocal peak
            while process.poll() is None:
                peak = max(peak, anonymous_bytes(process.pid))
                time.sleep(_SAMPLE_SECONDS)

        sampler = threading.Thread(target=sample)
        sampler.start()
        out, _ = process.communicate()
        sampler.join()
    if process.returncode != 0:
        message = f"{arguments} ended with {process.returncode}"
        raise RuntimeError(message)
    return Run(out, time.perf_counter() - begin, peak)


class Server(NamedTuple):
    """A server process that accepts calls at `target`."""

    target: str
    pid: int

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@contextlib.contextmanager
def serving(*command: str, **environment: str) -> Iterator[Server]:
    """Run a program that prints `listening on HOST:PORT`, as long as the body runs."""
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                message = f"{command} did not start"
                raise RuntimeError(message)
            yield Server(f"127.0.0.1:{line.rsplit(':', 1)[1].strip()}", process.pid)
        finally:
            process.terminate()


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of this project."""
    return (sys.executable, "-m", name, *arguments)


def streamer(
    data: Path, engine: str = "wire", **environment: str
) -> contextlib.AbstractContextManager[Server]:
    """Serve `data` with the project's own server."""
    command = module(
        "streamer", "serve", "--data", str(data), "--host", "127.0.0.1", "--port", "0",
        "--engine", engine, "--log-level", "WARNING",
    )  # fmt: skip
    return serving(*command, **environment)


class Drained(NamedTuple):
    """What the grpcio client saw of a stream."""

    messages: int
    message_bytes: int
    seconds: float
    first_message_seconds: float


def drain(
    target: str, rpc: str, *, chunk_size: int = 0, repeats: int = 1, streams: int = 1
) -> list[Drained]:
    """Let a grpcio client read streams to their end, `streams` at once, `repeats` times."""
    run = run_python(
        "-m", "benchmarks.drain", target, rpc, str(chunk_size), str(repeats), str(streams)
    )
    found: list[list[Any]] = json.loads(run.out)
    return [Drained(*values) for values in found]


class Pass(NamedTuple):
    """What a client that only counts saw of a stream, or of several at once."""

    data_bytes: int
    seconds: float
    first_byte_seconds: float


def count_bytes(target: str, rpc: str, *options: str) -> list[Pass]:
    """Let benchmarks.draining_client read streams; `options` are its own."""
    run = run_python("-m", "benchmarks.draining_client", target, rpc, *options)
    return passes(run.out)


def passes(printed: str) -> list[Pass]:
    """Return what a client that only counts has printed."""
    found: list[list[Any]] = json.loads(printed)
    return [Pass(*values) for values in found]

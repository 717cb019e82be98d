"""Runs a proxy by its configuration file, in front of servers of a test.

MissingToolchainError: the system lacks the proxy; ProxyError: it doesn't work.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grpc

from interop.toolchains import require_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONFIGURATIONS = Path(__file__).parent
# Where interop/install.sh puts what PyPI has, and where Debian puts daemons.
_PLACES = (Path(__file__).parent.parent / ".venv" / "bin", Path("/usr/sbin"))
_TLS_FOLDER = "/etc/streamer/tls"
_SECONDS = 60.0
# nginx.conf is a part of a larger file, as Debian's package has one.
_AROUND_NGINX = """\
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    fastcgi_temp_path fastcgi;
    proxy_temp_path proxy;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    include nginx.conf;
}
"""


class ProxyError(Exception):
    """A proxy ended, or passes no call on; its output is the text."""


class Proxy(NamedTuple):
    """How to run a proxy in a folder that has its configuration files."""

    name: str
    files: tuple[str, ...]
    arguments: tuple[str, ...]
    version: str  # the argument that makes it print its version

    def program(self) -> str:
        return require_command(self.name, *map(str, _PLACES))

    def printed_version(self) -> str:
        done = subprocess.run(
            [self.program(), self.version],
            capture_output=True, text=True, check=True, timeout=_SECONDS,
        )  # fmt: skip
        match = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
        assert match, done
        return match[0]


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("nginx", ("nginx.conf",), ("-p", ".", "-c", "around.conf", "-e", "stderr"), "-v"),
        Proxy("haproxy", ("haproxy.cfg",), ("-db", "-f", "haproxy.cfg"), "-v"),
        Proxy("nghttpx", ("nghttpx.conf",), ("--conf=nghttpx.conf",), "--version"),
        # One thread, so that all clients share one connection to the server.
        Proxy(
            "envoy", ("envoy.yaml",),
            ("-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1"), "--version",
        ),
        Proxy(
            "traefik", ("traefik.yaml", "traefik-routes.yaml"),
            ("--configFile=traefik.yaml",), "version",
        ),
        Proxy("caddy", ("Caddyfile",), ("run", "--config", "Caddyfile"), "version"),
    )
}  # fmt: skip


class RunningProxy(NamedTuple):
    """Where a proxy listens, as HOST:PORT, and the file with what it says."""

    target: str
    tls_target: str
    log: Path


@contextlib.contextmanager
def running(
    proxy: Proxy, folder: Path, *, streamer: str, receiver: str, tls_folder: Path
) -> Iterator[RunningProxy]:
    """Run `proxy`, in `folder`, in front of two servers (HOST:PORT on the loopback).

    `tls_folder` has what the configurations look for in /etc/streamer/tls.
    """
    program = proxy.program()
    plain, tls = _free_ports(2)
    ports = {
        "8080": str(plain),
        "8443": str(tls),
        "50051": streamer.rpartition(":")[2],
        "50052": receiver.rpartition(":")[2],
    }
    for name in proxy.files:
        text = (_CONFIGURATIONS / name).read_text()
        (folder / name).write_text(_filled_in(text, ports, tls_folder))
    if proxy.name == "nginx":
        (folder / "around.conf").write_text(_AROUND_NGINX)
    log = folder / "log"
    with log.open("w") as log_file:
        process = subprocess.Popen(
            [program, *proxy.arguments],
            cwd=folder, stdout=log_file, stderr=log_file, start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
    try:
        _wait_until_it_passes_calls_on(process, f"127.0.0.1:{plain}", log)
        yield RunningProxy(f"127.0.0.1:{plain}", f"localhost:{tls}", log)
    finally:
        _end(process)


def _filled_in(text: str, ports: Mapping[str, str], tls_folder: Path) -> str:
    text = re.sub(r"\b(8080|8443|50051|50052)\b", lambda match: ports[match[0]], text)
    return text.replace(_TLS_FOLDER, str(tls_folder))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_it_passes_calls_on(
    process: subprocess.Popen[bytes], target: str, log: Path
) -> None:
    """Wait for an answer of a server; some proxies listen before they know their routes."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    end = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(target, own) as channel:
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            check(b"")
            return
        time.sleep(0.05)
    raise ProxyError(log.read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and its children."""
    process.terminate()
    try:
        process.wait(_SECONDS / 3)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

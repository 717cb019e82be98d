"""The command `python -m streamer`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streamer.commands import inspect
from streamer.commands.serve import serve
from streamer.config import Engine, LogLevel, load_settings
from streamer.errors import StreamerError
from streamer.logs import configure_logging

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_SERVE_EPILOG = """\b
Each option goes before its variable in the environment, which goes before .env.
Further settings (see README.md): MAX_WORKERS, CHUNK_SIZE, MAX_MESSAGE_SIZE,
HEAD_CACHE_SIZE, SHUTDOWN_GRACE_SECONDS, LOG_FILE; TLS_CERT, TLS_KEY, TLS_CLIENT_CA;
MAX_CONNECTIONS, MAX_STREAMS, MAX_STREAMS_PER_CONNECTION, MAX_HEADER_LIST_SIZE,
MAX_REQUEST_SIZE, HANDSHAKE_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS,
STALL_TIMEOUT_SECONDS.

\b
Examples:
  python -m streamer serve
  python -m streamer serve --data jobs.arrow --host 127.0.0.1 --port 0
  CHUNK_SIZE=1000 LOG_LEVEL=DEBUG python -m streamer serve
"""


@click.group("python -m streamer")
def main() -> None:
    """Stream embeddings from an Arrow file that `python -m convert` made.

    Exit codes: 0 done, 1 something is wrong with the file or the address, 2 wrong
    options or settings.
    """


@main.command("serve", epilog=_SERVE_EPILOG)
@click.option("--data", type=click.Path(path_type=Path), help="The dataset file. [DATA_PATH]")
@click.option("--host", help="Address to listen on. [GRPC_HOST, else 0.0.0.0]")
@click.option("--port", type=int, help="Port; 0 picks a free one. [GRPC_PORT, else 50051]")
@click.option(
    "--engine", type=click.Choice([engine.value for engine in Engine]),
    help="What puts the rows on the wire: wire, this project's own HTTP/2 server, some fifty"
    " times faster row by row; or grpcio, gRPC's C-core. [ENGINE, else wire]",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice([level.value for level in LogLevel]),
    help="DEBUG shows every chunk. [LOG_LEVEL, else INFO]",
)  # fmt: skip
def _serve(
    data: Path | None,
    host: str | None,
    port: int | None,
    engine: str | None,
    log_level: str | None,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C.

    Prints one line, `listening on HOST:PORT`, once it accepts calls. A new dataset file
    that takes the place of the old one is served from the next call on.
    """
    settings = load_settings(
        data_path=data, grpc_host=host, grpc_port=port, engine=engine, log_level=log_level
    )
    try:
        configure_logging(settings.log_level, settings.log_file)
    except OSError as error:
        message = f"LOG_FILE {settings.log_file}: {error.strerror or error}"
        raise click.UsageError(message) from None
    serve(settings)


@main.command("info")
@_FILE
def _info(file: Path) -> None:
    """Show schema, rows, first and last id, and fingerprint of FILE."""
    inspect.info(file)


@main.command("verify")
@_FILE
def _verify(file: Path) -> None:
    """Check all of FILE: format, order, uniqueness, UTF-8, nulls, NaN and infinity."""
    inspect.verify(file)


def run() -> None:
    """Run the command; what is wrong becomes one line and an exit code."""
    try:
        main(prog_name="python -m streamer")
    except StreamerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()

"""`python -m streamer serve`."""

from __future__ import annotations

from pathlib import Path

import click

from streamer.cli.options import log_as
from streamer.commands.serve import serve
from streamer.commands.signals import outlive_hangups
from streamer.config import Engine, LogLevel, OnUnknownCheckpoint, load_settings

_EPILOG = """\b
Each option goes before its variable in the environment, which goes before .env.
Further settings (see README.md): MAX_WORKERS, CHUNK_SIZE, MAX_MESSAGE_SIZE,
HEAD_CACHE_SIZE, SERVICE_ALIASES, SHUTDOWN_GRACE_SECONDS, LOG_FILE;
TLS_CERT, TLS_KEY, TLS_CLIENT_CA; MAX_CONNECTIONS, MAX_STREAMS,
MAX_STREAMS_PER_CONNECTION, MAX_HEADER_LIST_SIZE, MAX_REQUEST_SIZE,
HANDSHAKE_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS, STALL_TIMEOUT_SECONDS,
MAX_CONNECTIONS_PER_ADDRESS, MAX_CONNECTION_AGE_SECONDS,
MAX_CONNECTION_AGE_GRACE_SECONDS, FLOOD_TOLERANCE.

\b
Examples:
  python -m streamer serve
  python -m streamer serve --data jobs.arrow --host 127.0.0.1 --port 0
  CHUNK_SIZE=1000 LOG_LEVEL=DEBUG python -m streamer serve
"""


@click.command("serve", epilog=_EPILOG)
@click.option("--data", type=click.Path(path_type=Path), help="The dataset file. [DATA_PATH]")
@click.option(
    "--host", help="Address to listen on, or unix:PATH. [GRPC_HOST, else all of this machine's]"
)
@click.option("--port", type=int, help="Port; 0 picks a free one. [GRPC_PORT, else 50051]")
@click.option(
    "--engine", type=click.Choice([engine.value for engine in Engine]),
    help="What puts the rows on the wire: wire, this project's own HTTP/2 server, some fifty"
    " times faster row by row; or grpcio, gRPC's C-core. [ENGINE, else wire]",
)  # fmt: skip
@click.option(
    "--on-unknown-checkpoint", type=click.Choice([choice.value for choice in OnUnknownCheckpoint]),
    help="Whether a call may begin after an id that is no row of the dataset."
    " [ON_UNKNOWN_CHECKPOINT, else accept]",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice([level.value for level in LogLevel]),
    help="DEBUG shows every chunk. [LOG_LEVEL, else INFO]",
)  # fmt: skip
def command(
    *, data: Path | None, host: str | None, port: int | None, engine: str | None,
    on_unknown_checkpoint: str | None, log_level: str | None,
) -> None:  # fmt: skip
    """Answer gRPC calls until SIGTERM or Ctrl-C; README.md says what other signals do.

    Prints one line, `listening on HOST:PORT`, once it accepts calls. A new dataset file
    that takes the place of the old one is served from the next call on.
    """
    settings = load_settings(
        data_path=data,
        grpc_host=host,
        grpc_port=port,
        engine=engine,
        on_unknown_checkpoint=on_unknown_checkpoint,
        log_level=log_level,
    )
    log_as(settings)
    outlive_hangups()
    serve(settings)

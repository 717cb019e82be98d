"""`python -m streamer upload`."""

from __future__ import annotations

from pathlib import Path

import click

from streamer.cli.channel_options import HostPort, credentials, tls_options
from streamer.cli.options import RowId, log_as
from streamer.commands.upload import UploadOptions, upload
from streamer.config import load_settings

_EPILOG = """\b
Settings (see README.md): BATCH_SERVER_HOST, BATCH_SERVER_PORT, UPLOAD_SEGMENT_ROWS,
UPLOAD_TRIES, UPLOAD_RETRY_SECONDS, UPLOAD_TIMEOUT_SECONDS; LOG_FILE, LOG_LEVEL.

\b
Examples:
  python -m streamer upload --to batch.example:50052
  python -m streamer upload --to batch.example:50052 --restart
"""


@click.command("upload", epilog=_EPILOG)
@click.option("--data", type=click.Path(path_type=Path), help="The dataset file. [DATA_PATH]")
@click.option(
    "--to", type=HostPort(),
    help="The Batch Server. [BATCH_SERVER_HOST:BATCH_SERVER_PORT, else localhost:50052]",
)  # fmt: skip
@click.option(
    "--after", type=RowId(), help="Begin after this id, whatever was uploaded before."
)  # fmt: skip
@click.option(
    "--restart", is_flag=True, help="Begin at the first row, whatever was uploaded before."
)
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False),
    help="Keeps how far the upload has come. [the data file's name with .upload.json]",
)  # fmt: skip
@click.option(
    "--failed-ids", type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the ids of rows that failed. [the data file's name with"
    " .failed-ids.txt]",
)  # fmt: skip
@tls_options
def command(
    data: Path | None, to: str | None, after: str | None, state: Path | None,
    failed_ids: Path | None, *,
    restart: bool, tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:  # fmt: skip
    """Send the dataset to a Batch Server, row by row, in segments that it acknowledges.

    Whatever breaks it off, running it again goes on after the last acknowledged segment.
    Exit code 1 if it broke off or a row failed.
    """
    if after and restart:
        message = "--after and --restart each say where to begin"
        raise click.UsageError(message)
    settings = load_settings(data_path=data)
    log_as(settings, is_server=False)
    options = UploadOptions(
        to, after, state, failed_ids, credentials(tls=tls, ca=tls_ca, cert=tls_cert, key=tls_key),
        restart=restart,
    )  # fmt: skip
    upload(settings, options)

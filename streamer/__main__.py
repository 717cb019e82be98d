"""The command `python -m streamer`."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import sys
import traceback
from typing import TYPE_CHECKING

import click

from convert.streams import prepare_streams
from convert.terminal import Command, complain, complain_of, ends_by_signal
from streamer import __version__
from streamer.commands.say import record
from streamer.diagnosis import be_diagnosable
from streamer.errors import StreamerError
from streamer.heap import is_limited, keep_little

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where each subcommand is declared. Only the one that is called is imported: all of them
# take half a second.
_COMMANDS = {
    "serve": "streamer.cli.serve:command",
    "info": "streamer.cli.inspect:info",
    "verify": "streamer.cli.inspect:verify",
    "peek": "streamer.cli.peek:command",
    "pull": "streamer.cli.pull:command",
    "upload": "streamer.cli.upload:command",
    "receive": "streamer.cli.receive:command",
}


class _Commands(Command, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name == "pull" or is_limited():  # whose memory is promised to be small
            keep_little()
        module, _, name = _COMMANDS[cmd_name].partition(":")
        with _no_garbage_collection():
            command: click.Command = getattr(importlib.import_module(module), name)
        return command


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Let the collector pass by what modules make, which stays: a tenth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@click.command("python -m streamer", cls=_Commands)
@click.version_option(__version__, message="embedding-streamer %(version)s")
def main() -> None:
    """Stream embeddings from an Arrow file that `python -m convert` made.

    Exit codes: 0 done, 1 something is wrong with a file, a peer, the database or a row, 2
    wrong options or settings, 3 (pull alone) the server has another dataset than the table,
    130 or 143 ended by SIGINT or SIGTERM (a server ends with 0).
    """


def run() -> None:
    """Run the command; what is wrong becomes one line and an exit code."""
    be_diagnosable()
    with ends_by_signal():
        prepare_streams()
        try:
            main(prog_name="python -m streamer")
        except StreamerError as error:
            complain_of(error)
            record(f"error: {error}", logging.ERROR)
            sys.exit(error.exit_code)
        except Exception:  # nobody has foreseen it
            for line in traceback.format_exc().splitlines():
                complain(line)
                record(line, logging.CRITICAL)
            sys.exit(1)


if __name__ == "__main__":
    run()

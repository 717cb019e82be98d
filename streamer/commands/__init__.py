"""The subcommands of `python -m streamer`: each turns options into calls of the rest."""

"""The command line: options and help of each subcommand; `streamer.commands` does the work."""

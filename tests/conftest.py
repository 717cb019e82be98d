"""What all tests share."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background lets them, and the processes that they
# start, ignore Ctrl-C; the tests of Ctrl-C would wait for it forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup does the same with the hangup of a terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

"""What all tests share."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background lets them, and the processes that they
# start, ignore Ctrl-C and Ctrl-\, nohup the hangup of a terminal; the tests of these would
# wait for them forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)

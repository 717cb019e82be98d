"""What all tests share."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell that starts the tests in the background lets them, and the processes that they
# start, ignore Ctrl-C and Ctrl-\, nohup the hangup of a terminal; the tests of these would
# wait for them forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)

# Hypothesis has limits on how long an example, and making one, may take: they say more about the
# machine than about the code. What a fixture made once is used by all examples on purpose.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_log_settings_stay() -> Iterator[None]:
    """Let no command that a test runs in this process leave its log settings to the next test."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler).__module__.startswith("streamer."):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(logging.WARNING)
    logging.getLogger("streamer").setLevel(logging.NOTSET)


COSTLY = Path(__file__).with_name("costly.txt")


def costly_tests() -> frozenset[str]:
    """Return the functions, and single cases, that `make check` leaves out."""
    lines = COSTLY.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those, for `-m "not costly"`."""
    costly = costly_tests()
    for item in items:
        if not costly.isdisjoint({item.nodeid, item.nodeid.partition("[")[0]}):
            item.add_marker("costly")

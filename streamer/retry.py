"""How long to wait before something is tried again. Pure: no clock, no sleep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential, capped, with jitter, so that many clients don't come back at once.

    Try n (from 1) is followed by a wait of `base_seconds` * 2 ** (n - 1), at most
    `cap_seconds`, and up to half as much again.
    """

    base_seconds: float = 0.2
    cap_seconds: float = 20.0

    def seconds(self, failed_tries: int, jitter: float) -> float:
        """Return the seconds to wait after `failed_tries` in a row; `jitter` is in [0, 1)."""
        # Beyond 2 ** 64 every cap is reached, and the power would overflow a float.
        wait = self.base_seconds * 2.0 ** min(failed_tries - 1, 64)
        return min(wait, self.cap_seconds) * (1 + jitter / 2)

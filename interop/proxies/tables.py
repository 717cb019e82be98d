"""What came of the cases of interop/test_proxies.py, as Markdown: results, and frames."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from interop.proxies.running import PROXIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# By proxy and case: `OK`, or what came instead; and frames by kind.
Results = dict[tuple[str, str], str]
Frames = dict[tuple[str, str], Counter[str]]

_PIECE_BYTES = 16_384
# Columns of the table of frames; updates are given for each 16 KiB that the server sent.
_UPDATES = ("WINDOW_UPDATE of a stream", "WINDOW_UPDATE of the connection")
_TOTALS = (
    "connections", "HEADERS", "RST_STREAM", "SETTINGS", "SETTINGS answer", "PING", "PING answer",
    "PRIORITY", "GOAWAY", "DATA", "server: HEADERS", "server: RST_STREAM", "server: DATA",
    "server: WINDOW_UPDATE", "server: PING", "server: GOAWAY",
)  # fmt: skip


def results_table(results: Results) -> str:
    """Return a line a case and a column a proxy, with the proxy's version."""
    proxies = [name for name in PROXIES if any(proxy == name for proxy, _ in results)]
    heads = [f"{name} {PROXIES[name].printed_version()}" for name in proxies]
    cases = dict.fromkeys(case for _, case in results)
    lines = ([case, *(results.get((name, case), "-") for name in proxies)] for case in cases)
    return _table(["case", *heads], lines)


def frames_table(frames: Frames) -> str:
    """Return a line a proxy and case, with what the proxy sent while the case ran."""
    heads = ["proxy", "case", "MiB sent to it", *(f"{name}, per 16 KiB" for name in _UPDATES)]
    return _table([*heads, *_UPDATES, *_TOTALS], map(_frames_line, frames, frames.values()))


def _frames_line(of: tuple[str, str], counts: Mapping[str, int]) -> list[str]:
    sent = counts.get("server: bytes of DATA", 0)
    pieces = sent / _PIECE_BYTES
    updates = [f"{counts.get(name, 0) / pieces:.2f}" if pieces else "" for name in _UPDATES]
    totals = [f"{counts.get(name, 0):,}" for name in (*_UPDATES, *_TOTALS)]
    return [*of, f"{sent / 2**20:.1f}", *updates, *totals]


def _table(heads: list[str], lines: Iterable[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)

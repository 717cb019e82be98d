"""Horizontal bars as a PNG. Needs matplotlib, which only this module uses."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HIGHLIGHTED, _PLAIN, _INK, _FAINT = "#1f6fb4", "#b4bac1", "#22272d", "#69717a"
_INCHES = (9.0, 4.9)
_DOTS_PER_INCH = 160


def draw_bars(
    bars: dict[str, float], *, title: str, caption: str, highlighted: str, path: Path
) -> None:
    """Draw `bars` by value, linear from 0; those whose label begins with `highlighted` stand out.

    ImportError without matplotlib.
    """
    figure = importlib.import_module("matplotlib.figure").Figure(_INCHES, _DOTS_PER_INCH)
    axes = figure.add_axes((0.27, 0.17, 0.65, 0.71))
    ordered = sorted(bars.items(), key=lambda bar: bar[1])
    labels, values = zip(*ordered, strict=True)
    colors = [_HIGHLIGHTED if label.startswith(highlighted) else _PLAIN for label in labels]
    drawn = axes.barh(labels, values, color=colors, height=0.66)
    axes.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=5, color=_INK, fontsize=10)
    axes.set_xlim(0, max(values) * 1.12)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.tick_params(axis="y", labelcolor=_INK, labelsize=10.5)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(_FAINT)
    figure.text(0.03, 0.93, title, color=_INK, fontsize=13, weight="bold")
    figure.text(0.03, 0.035, caption, color=_FAINT, fontsize=8, linespacing=1.5)
    figure.savefig(path, metadata={"Software": None})

"""What a benchmark run found: one table for people, one JSON file for programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_LIBRARIES = ("grpcio", "h2", "numpy", "pandas", "protobuf", "pyarrow")


@dataclass(frozen=True)
class Result:
    """An answer to one question.

    `value` is what the bar is about: a ratio to the baseline, or a figure of its own.
    `must_reach` is such a bar: ">= 50", "<= 150 MB", "" for a figure that is only
    reported. `samples` holds every repetition, in seconds unless its key says otherwise.
    """

    question: str
    ours: str
    baseline: str
    value: float
    unit: str
    must_reach: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the bar was reached; None if there is none."""
        if not self.must_reach:
            return None
        comparison, bar = self.must_reach.split()[:2]
        return self.value >= float(bar) if comparison == ">=" else self.value <= float(bar)


@dataclass
class Results:
    """All results of a run; `rows` says what size it was."""

    rows: int
    quick: bool
    found: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.found.append(result)

    def table(self) -> str:
        """Return the results as lines of text."""
        marks = {True: "reached", False: "MISSED", None: ""}
        lines = [("question", "ours", "baseline", "result", "must reach", "")]
        for r in self.found:
            bar = marks[r.reached] if not self.quick else ""
            lines.append(
                (r.question, r.ours, r.baseline, f"{r.value:,.2f} {r.unit}", r.must_reach, bar)
            )
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def write(self, path: Path) -> None:
        """Write everything as JSON, with the machine's description."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "rows": self.rows,
            "quick": self.quick,
            "machine": describe_machine(),
            "results": [{**asdict(r), "reached": r.reached} for r in self.found],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def describe_machine() -> dict[str, Any]:
    """Return what a reader must know to compare figures."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }

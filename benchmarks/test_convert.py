"""What does a conversion cost, against merely loading the pickle?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import run_python
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.conftest import Sources

_LOAD = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"


@pytest.mark.parametrize("shape", ["records", "dataframe64"])
def test_convert(sources: Sources, results: Results, folder: Path, shape: str) -> None:
    """The whole command, start of Python included; the baseline, too."""
    source = str(getattr(sources, shape))
    baseline = run_python("-c", _LOAD, source)
    ours = run_python("-m", "convert", source, "-o", str(folder / f"{shape}.arrow"))

    samples = {"ours": [ours.seconds], "baseline": [baseline.seconds]}
    peak = {
        "ours": ours.peak_anonymous_bytes / 1e6,
        "baseline": baseline.peak_anonymous_bytes / 1e6,
    }
    results.add(
        Result(
            f"convert {shape}, seconds",
            f"{ours.seconds:.1f} s",
            f"pickle.load: {baseline.seconds:.1f} s",
            ours.seconds / baseline.seconds,
            "x the time",
            samples=samples,
        )
    )
    results.add(
        Result(
            f"convert {shape}, peak anonymous memory",
            f"{peak['ours']:,.0f} MB",
            f"pickle.load: {peak['baseline']:,.0f} MB",
            peak["ours"] / peak["baseline"],
            "x the memory",
        )
    )

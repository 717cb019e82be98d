"""What does a conversion cost, against merely loading the pickle?"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from benchmarks.large_pickle import write_large_pickle
from benchmarks.measure import Run, run_python
from benchmarks.results import Result, Results

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.conftest import Sources

_LOAD = {
    "records": "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))",
    "dataframe64": "import pandas, sys; pandas.read_pickle(sys.argv[1])",
}
_BASELINES = {"records": "pickle.load", "dataframe64": "pandas.read_pickle"}
_MOST_TIMES = {"records": 0.5, "dataframe64": 2.0}
# Of arrays: times what pickle.load takes, which makes an object a row, not one a float.
_ARRAYS = {
    ("records32", 384): 1.5,
    ("records64", 384): 1.5,
    ("dataframe32", 384): 1.5,
    ("dataframe64", 384): 1.5,
    ("records32", 128): 2.0,
    ("dataframe32", 128): 2.0,
    ("records32", 8): 4.0,
    ("dataframe32", 8): 4.0,
    ("dataframe32", 64): 4.0,
}
_ARRAYS_BYTES = 200_000_000
_LEAST_ROW_BYTES = 100  # but for the floats
_MOST_MEGABYTES = 200
_ROUNDS = 5
_DIMENSION = 384
_LARGER = 10
# Memory that a row may take: its id, and its place in the order.
_ROW_BYTES = 16 + 8


def _median(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _peak_megabytes(runs: list[Run]) -> float:
    return max(run.peak_anonymous_bytes for run in runs) / 1e6


def _convert(source: Path, *options: str) -> Run:
    """Convert as a user would, start of Python included."""
    out = source.with_suffix(".arrow")
    return run_python("-m", "convert", str(source), "-o", str(out), "--force", *options)


@pytest.mark.parametrize("shape", _LOAD)
def test_convert(sources: Sources, results: Results, shape: str) -> None:
    """The whole command, start of Python included; the baseline, too, in turn."""
    source = getattr(sources, shape)
    ours: list[Run] = []
    baseline: list[Run] = []
    for _ in range(_ROUNDS):
        baseline.append(run_python("-c", _LOAD[shape], str(source)))
        ours.append(_convert(source))

    samples = {
        "ours": [run.seconds for run in ours],
        "baseline": [run.seconds for run in baseline],
    }
    results.add(
        Result(
            f"convert {shape}, seconds",
            f"{_median(ours):.1f} s",
            f"{_BASELINES[shape]}: {_median(baseline):.1f} s",
            _median(ours) / _median(baseline),
            "x the time",
            must_reach=f"<= {_MOST_TIMES[shape]} x",
            samples=samples,
        )
    )
    results.add(
        Result(
            f"convert {shape}, peak anonymous memory",
            f"{_peak_megabytes(ours):,.0f} MB",
            f"{_BASELINES[shape]}: {_peak_megabytes(baseline):,.0f} MB",
            _peak_megabytes(ours),
            "MB",
            must_reach=f"<= {_MOST_MEGABYTES} MB",
        )
    )


@pytest.mark.parametrize(("shape", "dimension"), _ARRAYS)
def test_convert_arrays(results: Results, folder: Path, shape: str, dimension: int) -> None:
    """Vectors that are NumPy's arrays, in a file of 200 MB or more."""
    item_bytes = 8 if shape.endswith("64") else 4
    rows = results.rows
    if not results.quick:
        rows = max(rows, _ARRAYS_BYTES // (item_bytes * dimension + _LEAST_ROW_BYTES))
    source = folder / "arrays.pkl"
    run_python(
        "data/make_sample.py", "--rows", str(rows), "--dim", str(dimension), "--shape", shape,
        "--out", str(source),
    )  # fmt: skip
    ours: list[Run] = []
    baseline: list[Run] = []
    for _ in range(_ROUNDS):
        baseline.append(run_python("-c", _LOAD["records"], str(source)))
        ours.append(_convert(source))
    name = f"convert {shape} of {dimension} floats ({source.stat().st_size / 1e6:,.0f} MB)"
    source.unlink()

    results.add(
        Result(
            f"{name}, seconds",
            f"{_median(ours):.1f} s, {_peak_megabytes(ours):,.0f} MB",
            f"pickle.load: {_median(baseline):.1f} s, {_peak_megabytes(baseline):,.0f} MB",
            _median(ours) / _median(baseline),
            "x the time",
            must_reach=f"<= {_ARRAYS[shape, dimension]} x",
            samples={
                "ours": [run.seconds for run in ours],
                "baseline": [run.seconds for run in baseline],
            },
        )
    )
    assert _peak_megabytes(ours) <= _MOST_MEGABYTES


def test_convert_in_order(sources: Sources, results: Results) -> None:
    """Ids that are made ascend: rows are written once, where they stay."""
    spilled = [_convert(sources.records) for _ in range(_ROUNDS)]
    straight = [_convert(sources.records, "--ids", "uuid7") for _ in range(_ROUNDS)]

    results.add(
        Result(
            "convert records that are in order, seconds",
            f"{_median(straight):.1f} s",
            f"in no order: {_median(spilled):.1f} s",
            _median(straight) / _median(spilled),
            "x the time",
        )
    )


def test_convert_large(
    sources: Sources, results: Results, folder: Path, pytestconfig: pytest.Config
) -> None:
    """Ten times the rows: as many times the time, and the memory of ids and order more."""
    if not (results.quick or pytestconfig.getoption("--large")):
        pytest.skip("--large: writes 5 GB, and as much again while it converts")
    rows = _LARGER * results.rows
    large = folder / "large.pkl"
    write_large_pickle(large, rows, _DIMENSION)
    ours = _convert(large)
    reference = [_convert(sources.records) for _ in range(_ROUNDS)]
    large.unlink()
    large.with_suffix(".arrow").unlink()

    most = _peak_megabytes(reference) + rows * _ROW_BYTES / 1e6
    results.add(
        Result(
            f"convert {_LARGER} times the records, seconds",
            f"{ours.seconds:.1f} s",
            f"once: {_median(reference):.1f} s",
            ours.seconds / _median(reference),
            "x the time",
            must_reach=f"<= {1.1 * _LARGER:g} x",
        )
    )
    results.add(
        Result(
            f"convert {_LARGER} times the records, peak anonymous memory",
            f"{_peak_megabytes([ours]):,.0f} MB",
            f"once: {_peak_megabytes(reference):,.0f} MB",
            _peak_megabytes([ours]),
            "MB",
            must_reach=f"<= {most:.0f} MB",
        )
    )

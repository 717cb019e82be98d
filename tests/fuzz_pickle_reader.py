"""Fuzzes the pickle reader by coverage, by hand: nothing but its two errors may come out.

    pip install atheris; python tests/fuzz_pickle_reader.py FOLDER -max_total_time=300

FOLDER keeps the inputs found. With little held, so that small inputs reach what large
files do. A crash, a hang of more than five seconds or 1 GB of memory is a finding.
"""

from __future__ import annotations

import collections
import pickle
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["convert.pickle_reader"]):
    from convert.pickle_reader import (
        PickleReaderError,
        machine,
        memo,
        open_pickle,
        state,
    )
    from convert.pickle_reader.alike import pace, references, vectors


def read_all(data: bytes) -> None:
    """Read everything that can be asked for."""
    scan = open_pickle(data)
    try:
        for batch in scan.batches(lambda name: name != "skipped", batch_rows=3):
            for row in range(batch.rows):
                batch.row(row)
            for column in batch.columns.values():
                len(column)
    except PickleReaderError:
        pass


def seeds(folder: Path) -> None:
    """Put the fixtures and a few small pickles into `folder`."""
    folder.mkdir(exist_ok=True)
    for path in (Path(__file__).parent / "pickles").glob("*.pkl"):
        (folder / path.name).write_bytes(path.read_bytes())
    row = {"id": "a", "v": [0.5, 1.5, 2.5], "n": {"x": (1, 2.5, {3}), "y": "long" * 99}}
    for protocol in range(6):
        rows = [row, dict(row), row, {"id": "b", "skipped": [row] * 5}]
        (folder / f"records-{protocol}").write_bytes(pickle.dumps(rows, protocol))
    alike = [{"id": f"{n}", "m": "same", "n": n, "o": None, "v": [0.5, n / 2]} for n in range(9)]
    (folder / "alike").write_bytes(pickle.dumps(alike, 4))
    levels = pd.MultiIndex.from_arrays([["x", "y"], [0.5, 1.5]], names=["a", None])
    frame = pd.DataFrame({"a": ["x", "y"]}, index=levels)
    table = {"t": ["a", "b"], "v": np.arange(80.0).reshape(2, 40), "df": frame, "k": 3}
    (folder / "dict").write_bytes(pickle.dumps({**table, "s": pd.Series([1, 2])}, 4))
    (folder / "tuple").write_bytes(pickle.dumps((*table.values(), (0.5, 1.5)), 5))
    others = [collections.defaultdict(int, a=1, p=Path("x")), collections.OrderedDict(a=2)]
    (folder / "others").write_bytes(pickle.dumps(others, 2))
    arrays = [{"id": f"{n}", "v": np.full(9, n, np.float32)} for n in range(9)]
    frame = pd.DataFrame(arrays * 3)
    for protocol in (4, 5):
        (folder / f"arrays-{protocol}").write_bytes(pickle.dumps(arrays, protocol))
        (folder / f"frame-{protocol}").write_bytes(pickle.dumps(frame, protocol))


def main() -> None:
    for module, name, value in (
        (state, "_CHECKPOINT_BYTES", 1), (machine, "_LUMP_ITEMS", 4),
        (state, "_PIECE_ROWS", 2), (machine, "_PAUSE_BYTES", 16),
        (references, "_TRIAL_ROWS", 1), (references, "_MAX_RECALLED", 1),
        (pace, "_LEAST_BYTES", 100), (pace, "WORTH_IT", 1), (vectors, "WORTH_IT", 4),
        (memo, "_ASKED", 1), (memo, "_GENERATION", 1), (memo, "_RECENT", 1),
    ):  # fmt: skip
        setattr(module, name, value)
    seeds(Path(sys.argv[1]))
    atheris.Setup([*sys.argv, "-timeout=5", "-rss_limit_mb=1024", "-max_len=4096"], read_all)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""What a conversion holds in memory, measured in processes of their own."""

from __future__ import annotations

import gc
import json
import pickle
import struct
import uuid
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convert.errors import InvalidRowsError, OutputError
from convert.inspect import inspect
from convert.memory import no_garbage_collection
from convert.pickle_reader import vectors
from convert.pickle_reader.frames import Table
from convert.pickle_reader.known import KNOWN
from convert.pickle_reader.memo import Memo
from convert.pickle_reader.plain import Plain
from convert.pickle_reader.python_values import make_dict
from convert.pickle_reader.stand_ins import Known
from convert.rejects import rejects_path
from tests import pickles as p

if TYPE_CHECKING:
    from pathlib import Path

_MB = 1e6

_MEASURED = """
import json, sys, threading
from pathlib import Path
from convert.options import Options
from convert.pipeline import convert
from tests.pickles import Quiet

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) << 10

peak, is_over = anonymous(), threading.Event()
def watch():
    global peak
    while not is_over.wait(0.002):
        peak = max(peak, anonymous())
source = Path(sys.argv[1])
watcher = threading.Thread(target=watch)
watcher.start()
report = convert(Options(source, source.with_suffix(".arrow"), {}, force=True), Quiet())
is_over.set()
watcher.join()
print(json.dumps([report.info.rows, peak, report.peak_bytes]))
"""


class _Measured:
    """Rows converted, the peak of anonymous memory, and what the report says that it was."""

    def __init__(self, source: Path) -> None:
        process = p.run_python(source.parent, "-c", _MEASURED, str(source))
        assert 0 == process.returncode, process.stderr
        self.rows, self.peak, self.reported = json.loads(process.stdout)


def _write(path: Path, rows: int, dimension: int, shape: str, *, is_sorted: bool = False) -> Path:
    """Write rows with random ids and vectors of few different floats."""
    random = np.random.default_rng(rows)
    ids = [str(uuid.UUID(bytes=random.bytes(16))) for _ in range(rows)]
    columns: dict[str, Any] = {
        "id": sorted(ids) if is_sorted else ids,
        "company_name": [f"Company {n % 1000}" for n in range(rows)],
        "exp_years": [n % 30 for n in range(rows)],
        "english_level": ["basic"] * rows,
        "primary_keyword": ["Java"] * rows,
    }
    floats = np.linspace(-1, 1, dimension)
    if shape == "records":
        values = floats.tolist()
        columns["job_post_vectors"] = [list(values) for _ in range(rows)]
        names = list(columns)
        content: Any = [
            dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        path.write_bytes(pickle.dumps(content, 4))
    elif shape == "frame":
        columns["job_post_vectors"] = [floats.copy() for _ in range(rows)]
        path.write_bytes(pickle.dumps(pd.DataFrame(columns), 4))
    else:
        columns["job_post_vectors"] = pa.FixedSizeListArray.from_arrays(
            np.tile(floats, rows), dimension
        )
        table = pa.table(columns)
        if shape == "parquet":
            pq.write_table(table, path, compression="none", use_dictionary=["company_name"])
        else:
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, 10_000)
    return path


@pytest.mark.parametrize(
    ("shape", "rows", "plain", "most"),
    [("records", 23_000, 280, 100), ("frame", 60_000, 184, 100), ("parquet", 100_000, 307, 220)],
)
def test_a_conversion_doesnt_hold_its_source(
    shape: str, rows: int, plain: int, most: int, tmp_path: Path
) -> None:
    """What would take `plain` megabytes takes less than `most` more than one row does."""
    base = _Measured(_write(tmp_path / "one.pkl", 1, 384, shape))
    large = _Measured(_write(tmp_path / "jobs.pkl", rows, 384, shape))

    assert (tmp_path / "jobs.pkl").stat().st_size > 70 * _MB
    assert (1, rows) == (base.rows, large.rows)
    assert large.peak - base.peak < most * _MB < plain * _MB
    for measured in (base, large):
        assert measured.peak == pytest.approx(measured.reported, rel=0.15)


@pytest.mark.parametrize(
    ("shape", "is_sorted"),
    [("records", True), ("records", False), ("frame", False), ("arrow", False)],
)
def test_memory_grows_by_little_more_than_the_ids(
    shape: str, tmp_path: Path, *, is_sorted: bool
) -> None:
    """40 bytes a row and noise, for 20,000 rows more, of 1,150 bytes in the source each."""
    small, large = (
        _Measured(_write(tmp_path / f"{rows}.pkl", rows, 128, shape, is_sorted=is_sorted))
        for rows in (10_000, 30_000)
    )

    assert (10_000, 30_000) == (small.rows, large.rows)
    assert large.peak - small.peak < 40 * 20_000 + 12 * _MB


def test_rows_that_are_read_again_take_no_more(tmp_path: Path) -> None:
    """A first pass that went wrong is forgotten before the second begins."""
    path = tmp_path / "jobs.pkl"
    once = _Measured(_write(path, 12_000, 128, "records"))
    content = pickle.loads(path.read_bytes())
    for record in content[4096:]:
        record["id"] = f"{uuid.UUID(record['id']).int % 8**25:026d}"
    path.write_bytes(pickle.dumps(content, 4))
    process = p.run_convert(tmp_path, path, "--skip-invalid")

    assert 0 == process.returncode, process.stderr
    assert "(4,096 rejected)" in process.stdout
    reported = float(process.stdout.split("peak memory")[1].split()[0].replace(",", ""))
    assert reported * _MB < once.peak + 50 * _MB


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> _Measured:
    """Return what 5,000 rows take whose texts are short."""
    folder = tmp_path_factory.mktemp("base")
    return _Measured(p.write_pickle(folder / "base.pkl", p.make_records(5_000)))


@pytest.mark.parametrize("letter", ["a", "ü"])
@pytest.mark.parametrize("shape", ["records", "frame", "categories"])
def test_a_long_text_that_rows_share_is_held_once(
    shape: str, letter: str, base: _Measured, tmp_path: Path
) -> None:
    """A pickle of 500 KB whose texts, written out, were 1.5 GB."""
    records = p.make_records(5_000)
    text = letter * 100_000
    shared = [
        {**record, "company_name": text, "english_level": text, "primary_keyword": text}
        for record in records
    ]
    content: Any = shared if shape == "records" else pd.DataFrame(shared, dtype=object)
    if shape == "categories":
        kind = pd.CategoricalDtype([text])
        codes = np.zeros(len(content), np.int8)
        content["company_name"] = pd.Categorical.from_codes(codes, dtype=kind)
    source = p.write_pickle(tmp_path / "jobs.pkl", content)
    measured = _Measured(source)

    assert source.stat().st_size < 2 * _MB
    assert 5_000 == measured.rows
    assert measured.peak - base.peak < 25 * _MB


_LIMITED = """
import sys
from pathlib import Path
from tests import pickles as p
p.import_lazy_modules()
p.limit_resources()
with p.calls_on_long_text() as calls:
    try:
        p.convert_file(Path(sys.argv[1]))
    finally:
        print(len(calls))
"""


def _counted(kind: type, method: str) -> Any:
    """Return a patch that notes the calls of a method, which does what it did."""
    return mock.patch.object(kind, method, autospec=True, side_effect=getattr(kind, method))


def test_a_long_vector_that_rows_share_is_read_once(tmp_path: Path) -> None:
    """60,000 whole numbers where two floats belong, in 2,400 rows: 1.2 GB, written out."""
    numbers = [1] * 60_000
    records = [
        {**record, "job_post_vectors": [0.5, 1.5] if row % 5 < 3 else numbers}
        for row, record in enumerate(p.make_records(6_000))
    ]
    source = p.write_pickle(tmp_path / "jobs.pkl", records)
    with (
        _counted(Memo, "spend") as read_again,
        _counted(Plain, "_container") as made,
        mock.patch.object(vectors, "_floats_of", wraps=vectors._floats_of) as looked_at,
        pytest.raises(InvalidRowsError) as caught,
    ):
        p.convert_file(source)

    assert "2,400 of 6,000 rows are invalid" in str(caught.value)
    assert "60000 values, not 2 as most rows have" in str(caught.value)
    at_most = 2 * len(numbers)  # once for each batch of 4,096 rows
    assert sum(call.args[1] for call in read_again.call_args_list) < source.stat().st_size
    assert sum(len(call.args[1]) for call in made.call_args_list) <= at_most + 100
    assert sum(len(call.args[0]) for call in looked_at.call_args_list) <= at_most + 2 * 6_000


def _limited(source: Path) -> str:
    """Convert within 2 GiB, going over long texts ten times at most; return standard error."""
    process = p.run_python(source.parent, "-c", _LIMITED, str(source))
    assert int(process.stdout) <= 10, process.stdout
    return process.stderr


@pytest.mark.parametrize("name", ["id", "exp_years", "job_post_vectors"])
def test_a_long_category_that_rows_share_is_looked_at_once(name: str, tmp_path: Path) -> None:
    """A text of a megabyte where none belongs, in 5,000 rows: an error at once."""
    table = pd.DataFrame(p.make_records(5_000))
    kind = pd.CategoricalDtype(["x" * 1_000_000])
    table[name] = pd.Categorical.from_codes(np.zeros(len(table), np.int8), dtype=kind)

    assert "rows are invalid" in _limited(p.write_pickle(tmp_path / "jobs.pkl", table))


def test_chunks_that_are_one_chunk_are_refused(tmp_path: Path) -> None:
    """A megabyte that a column of Arrow refers to a thousand times."""
    chunk = p.arrow_array("int8", [p.NONE, p.arrow_buffer(p.raw(bytes(1_000_000)))], rows=1_000_000)
    chunks = p.list_of(p.kept(chunk, 7), *[p.again(7)] * 1000)
    column = p.arrow_column(p.called(p.named("pyarrow.lib", "chunked_array"), chunks))
    source = tmp_path / "jobs.pkl"
    source.write_bytes(p.one_row_frame(exp_years=column))

    assert "more chunks than the file has room for" in _limited(source)


@pytest.mark.parametrize("kind", ["category", "Int64"])
def test_what_columns_share_is_made_once_or_not_at_all(kind: str, tmp_path: Path) -> None:
    """Ignored columns aren't made; `inspect`, which wants all, makes what they share once."""
    table = pd.DataFrame(p.make_records(2_000)).copy()
    if kind == "category":
        shared: Any = pd.CategoricalDtype([f"skill {number}" for number in range(200_000)])
        column = pd.Series(pd.Categorical.from_codes(np.zeros(len(table), np.int8), dtype=shared))
    else:
        column = pd.Series([1, None] * 1_000, dtype="Int64")
    base = _Measured(p.write_pickle(tmp_path / "base.pkl", table))
    for number in range(300):
        table[f"column {number}"] = column.array
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    with _counted(Table, "_categories") as made:
        assert 306 == len(inspect(source, p.Quiet()).types)

    assert (kind == "category") == made.call_count
    assert _Measured(source).peak - base.peak < 30 * _MB


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_numbers_of_two_kinds_in_long_vectors_are_no_reason_to_refuse(
    shape: str, tmp_path: Path
) -> None:
    """JSON writes 0.0 as 0: a few whole numbers among 3,072 floats."""
    records = p.make_records(1_100)
    for row, record in enumerate(records):
        record["job_post_vectors"] = [float(place % 77) + row for place in range(3_072)]
        record["job_post_vectors"][row % 3_000 : row % 3_000 + 1500 : 300] = [0] * 5
    content = records if shape == "records" else pd.DataFrame(records)
    source = p.write_pickle(tmp_path / "jobs.pkl", content)

    assert (1_100, 3_072) == (
        _Measured(source).rows,
        p.info_of(source.with_suffix(".arrow")).dimension,
    )


def test_rows_of_nothing_are_refused(tmp_path: Path) -> None:
    """Arrow files that say 2**40 rows of nulls, or have rows that share their items."""
    nulls = pa.record_batch({"id": pa.nulls(7)})
    items = pa.array(np.zeros(50_000))
    rows = [np.zeros(20_000, np.int32), np.full(20_000, 50_000, np.int32)]
    views = pa.ListViewArray.from_arrays(*map(pa.array, rows), items)
    for batch, said in (
        (nulls, "1,099,511,627,776 rows without a value"),
        (pa.record_batch({"id": pa.array([b""] * 7, pa.binary(0))}), "rows without a value"),
        (pa.record_batch({"job_post_vectors": views}), "share their 50,000 items"),
    ):
        source = tmp_path / "jobs.arrow"
        with pa.ipc.new_file(source, batch.schema) as file:
            file.write_batch(batch)
        if batch.num_rows == 7:
            seven, many = (rows.to_bytes(8, "little") for rows in (7, 1 << 40))
            source.write_bytes(source.read_bytes().replace(seven, many))

        assert said in _limited(source)


@pytest.mark.parametrize("name", ["id", "company_name"])
def test_a_long_value_that_rows_of_an_arrow_file_share_is_made_once(
    name: str, tmp_path: Path
) -> None:
    """A text of a megabyte where none belongs, in 4,000 rows."""
    records = p.make_records(4_000)
    text = pa.array(["x" * 1_000_000])
    views = struct.pack("<i4sii", 1_000_000, b"xxxx", 0, 0) * len(records)
    buffers = [None, pa.py_buffer(views), text.buffers()[2]]
    column = pa.Array.from_buffers(pa.string_view(), len(records), buffers)
    table = pa.Table.from_pylist(records)
    table = table.set_column(table.schema.get_field_index(name), name, column)
    source = tmp_path / "jobs.arrow"
    with pa.ipc.new_file(source, table.schema) as file:
        file.write_table(table)
    said = _limited(source)

    assert ("" if name == "company_name" else "4,000 of 4,000 rows are invalid") in said
    assert "Memory" not in said


def test_rejected_rows_of_a_frame_are_made_in_good_time(tmp_path: Path) -> None:
    """Each column is gone through once, not once for every row that is left out."""
    table = pd.DataFrame(p.make_records(12_000), dtype=object)
    table["id"] = "none"
    table.loc[0, "id"] = p.SOME_ID
    table["Text"] = [f"text {number}" for number in range(len(table))]
    source = p.write_pickle(tmp_path / "jobs.pkl", table)
    with _counted(Plain, "items") as counted:
        report = p.convert_file(source, skip_invalid=True)

    assert report is not None
    assert 11_999 == report.rejected
    assert counted.call_count < 500


def test_a_value_that_is_refused_spoils_its_own_row_only(tmp_path: Path) -> None:
    """In a column that is ignored, where another row is left out: that row is written whole."""
    table = pd.DataFrame(p.make_records(50), dtype=object)
    table.loc[49, "id"] = "none"
    endless: list[Any] = [1]
    endless.append(endless)
    table["Class"] = pd.Series([np.float64] + [None] * 49, dtype=object)
    table["Endless"] = pd.Series([endless] + ["x" * 100_000] * 49, dtype=object)
    with mock.patch.dict(KNOWN, {("numpy", "float64"): Known("numpy.float64", make_dict)}):
        source = p.write_pickle(tmp_path / "jobs.pkl", table)
        report = p.convert_file(source, skip_invalid=True)

    assert report is not None
    assert 1 == report.rejected
    (line,) = rejects_path(p.arrow_path(source)).read_text(encoding="utf-8").splitlines()
    assert "x" * 100_000 == json.loads(line)["values"]["Endless"]


def test_rejected_rows_that_share_their_values_do_not_fill_the_disk(tmp_path: Path) -> None:
    """A text of a megabyte in a column that is ignored, in 3,000 rows that are left out."""
    text = "x" * 1_000_000
    records = [{**record, "id": "none", "Text": text} for record in p.make_records(3_000)]
    source = p.write_pickle(tmp_path / "jobs.pkl", [*p.make_records(10), *records])

    with pytest.raises(OutputError, match="refer to the same large values"):
        p.convert_file(source, skip_invalid=True)
    assert [source] == list(tmp_path.iterdir())


def test_long_vectors_are_taken_a_few_rows_at_a_time(tmp_path: Path) -> None:
    """2,000 rows of 16,000 floats, 128 MB: less memory than half of them."""
    records = p.make_records(2_000)
    random = np.random.default_rng(0)
    for record in records:
        record["job_post_vectors"] = random.random(16_000, np.float32)
    base = _Measured(_write(tmp_path / "one.pkl", 1, 384, "frame"))
    large = _Measured(p.write_pickle(tmp_path / "jobs.pkl", pd.DataFrame(records)))

    assert 2_000 == large.rows
    assert large.peak - base.peak < 60 * _MB


_PEAKS = """
import json, sys, time
import numpy as np
from convert.memory import PeakMemory
with PeakMemory() as nothing:
    pass
with PeakMemory() as mapped:
    file = np.memmap(sys.argv[1], np.uint8, "r")
    assert file.sum() == 0
    time.sleep(0.1)
with PeakMemory() as much:
    content = np.ones(40 << 20, np.uint8)
    time.sleep(0.1)
    del content
with PeakMemory() as after:
    pass
print(json.dumps([peak.bytes for peak in (nothing, mapped, much, after)]))
"""


def test_the_peak_is_that_of_the_body(tmp_path: Path) -> None:
    """What is taken and let go inside counts; mapped files, which the kernel can drop, don't."""
    (tmp_path / "a").write_bytes(bytes(64 << 20))
    process = p.run_python(tmp_path, "-c", _PEAKS, str(tmp_path / "a"))
    assert 0 == process.returncode, process.stderr
    nothing, mapped, much, after = json.loads(process.stdout)

    assert 5 << 20 < nothing
    assert mapped - nothing < 20 << 20
    assert 35 << 20 < much - nothing < 60 << 20
    assert after - nothing < 20 << 20


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_garbage_collection_is_left_as_it_was(*, was_on: bool, fails: bool) -> None:
    """It is off inside, whatever it was before and however the body ends."""

    def body() -> None:
        with no_garbage_collection():
            assert not gc.isenabled()
            if fails:
                raise ZeroDivisionError

    (gc.enable if was_on else gc.disable)()
    try:
        if fails:
            with pytest.raises(ZeroDivisionError):
                body()
        else:
            body()
        assert was_on is gc.isenabled()
    finally:
        gc.enable()

"""Pickles made by hand, opcode by opcode, and ways to convert them.

The first part builds pickles that no pickler would write: each function returns the
opcodes that leave one value on the unpickler's stack. The second part converts files, in
this process or in others that may crash, run out of memory or be killed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pyarrow as pa
from ulid import ULID

from convert import writer
from convert.errors import ConvertError
from convert.id_text import IdKind
from convert.options import Options
from convert.pickle_reader import Pickle
from convert.pipeline import convert
from convert.report import Phases, Report
from convert.schema import DatasetInfo
from convert.source import open_source
from convert.validation import python_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ROOT = Path(__file__).parent.parent
FIELDS = (
    "id", "company_name", "exp_years", "english_level", "primary_keyword", "job_post_vectors",
)  # fmt: skip

NONE, TRUE, FALSE, EMPTY_TUPLE, POP = b"N", b"\x88", b"\x89", b")", b"0"


def text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: float) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def list_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"l"


def dict_of(items: Mapping[str, bytes]) -> bytes:
    return b"(" + b"".join(text(key) + value for key, value in items.items()) + b"d"


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def made(kind: bytes, *arguments: bytes) -> bytes:
    """Call __new__ alone, without __init__."""
    return kind + tuple_of(*arguments) + b"\x81"


def built(value: bytes, state: bytes) -> bytes:
    return value + state + b"b"


def kept(value: bytes, place: int) -> bytes:
    """Put `value` into the memo, from where `again` gets the same object."""
    return value + b"q" + bytes([place])


def again(place: int) -> bytes:
    return b"h" + bytes([place])


def pickled(value: bytes) -> bytes:
    return b"\x80\x04" + value + b"."


def dtype(
    spec: str, order: str = "<", *, size: int = -1, flags: int = 0, rest: tuple[bytes, ...] = ()
) -> bytes:
    """Pickle a NumPy dtype with any state."""
    state = (number(3), text(order), NONE, NONE, NONE, number(size), number(size), number(flags))
    return built(called(named("numpy", "dtype"), text(spec), FALSE, TRUE), tuple_of(*state, *rest))


RECONSTRUCT = named("numpy.core.multiarray", "_reconstruct")
NDARRAY = named("numpy", "ndarray")
INT64 = dtype("i8")
FIVE = raw(struct.pack("<q", 5))


def array_state(shape: bytes, kind: bytes, data: bytes) -> bytes:
    return tuple_of(number(1), shape, kind, FALSE, data)


def array(shape: bytes, kind: bytes, data: bytes) -> bytes:
    empty = called(RECONSTRUCT, NDARRAY, tuple_of(number(0)), raw(b"b"))
    return built(empty, array_state(shape, kind, data))


def objects(*items: bytes) -> bytes:
    """Pickle a one-dimensional array of objects."""
    return array(tuple_of(number(len(items))), dtype("O8", "|", flags=63), list_of(*items))


def index(labels: bytes) -> bytes:
    kind = named("pandas.core.indexes.base", "Index")
    state = dict_of({"data": labels, "name": NONE})
    return called(named("pandas.core.indexes.base", "_new_Index"), kind, state)


def slice_of(start: int, stop: int) -> bytes:
    return called(named("builtins", "slice"), number(start), number(stop), number(1))


def block(values: bytes, placement: bytes) -> bytes:
    unpickle = named("pandas._libs.internals", "_unpickle_block")
    return called(unpickle, values, placement, number(2))


def frame(*blocks: bytes, labels: bytes | None = None) -> bytes:
    """Pickle a DataFrame of these blocks, labelled with FIELDS unless said otherwise."""
    labels = index(objects(*map(text, FIELDS))) if labels is None else labels
    manager = called(
        named("pandas.core.internals.managers", "BlockManager"),
        tuple_of(*blocks),
        list_of(labels, NONE),
    )
    return built(made(named("pandas.core.frame", "DataFrame")), dict_of({"_mgr": manager}))


SOME_ID = "00000000-0000-4000-8000-00000000000a"
OTHER_ID = "00000000-0000-4000-8000-00000000000b"
_ROW = {
    "id": text(SOME_ID),
    "company_name": text("Acme"),
    "exp_years": number(5),
    "english_level": text("basic"),
    "primary_keyword": text("Java"),
    "job_post_vectors": list_of(number(0.5)),
}
SOUND_ROW = {
    "id": SOME_ID, "company_name": "Acme", "exp_years": 5, "english_level": "basic",
    "primary_keyword": "Java", "vector": [0.5],
}  # fmt: skip


def record(**fields: bytes) -> bytes:
    return dict_of({**_ROW, **fields})


def one_row_frame(**columns: bytes) -> bytes:
    """Pickle a whole DataFrame of one row, some columns of which are given."""
    values = {**{name: objects(value) for name, value in _ROW.items()}, **columns}
    blocks = (block(v, slice_of(place, place + 1)) for place, v in enumerate(values.values()))
    return pickled(frame(*blocks))


def arrow_type(alias: str) -> bytes:
    return called(named("pyarrow.lib", "type_for_alias"), text(alias))


def arrow_state(
    kind: str | bytes, buffers: Iterable[bytes], *, rows: int = 1, nulls: int = 0, offset: int = 0,
    children: bytes | None = None, dictionary: bytes = NONE,
) -> bytes:  # fmt: skip
    """Pickle what an Arrow array is made of; `kind` is an alias, or a type pickled."""
    return tuple_of(
        kind if isinstance(kind, bytes) else arrow_type(kind),
        number(rows), number(nulls), number(offset), list_of(*buffers),
        list_of() if children is None else children, dictionary,
    )  # fmt: skip


def arrow_array(kind: str | bytes, buffers: Iterable[bytes], **state: Any) -> bytes:
    return called(named("pyarrow.lib", "_restore_array"), arrow_state(kind, buffers, **state))


def arrow_buffer(data: bytes) -> bytes:
    return called(named("pyarrow.lib", "py_buffer"), data)


def arrow_column(values: bytes) -> bytes:
    kind = named("pandas.core.arrays.string_arrow", "ArrowStringArray")
    return built(made(kind), dict_of({"_dtype": NONE, "_pa_array": values}))


class Quiet(Phases):
    """Phases without bars, for tests that convert hundreds of files."""

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        begin = time.perf_counter()
        yield lambda _count: None
        del total
        self.seconds[name] = time.perf_counter() - begin


def ignore(_count: int) -> None:
    """Be told of progress and do nothing."""


def convert_file(source: Path, out: Path | None = None, **options: Any) -> Report | None:
    """Convert in this process, to the source's path with .arrow behind it.

    Nothing is synced to the disk: that is slow, and only a power cut would show it.
    """
    out = out or arrow_path(source)
    with mock.patch("os.fsync"):
        return convert(Options(source, out, options.pop("columns", {}), **options), Quiet())


def read_rows(path: Path, advance: Callable[[int], None] = ignore) -> list[dict[Any, Any]]:
    """Return all rows of a source, whole; all of its columns are read as well."""
    rows = []
    for batch in open_source(path, path.parent).batches(lambda _name: True, advance):
        for column in batch.columns.values():
            python_values(column)
        rows += [batch.row(row) for row in range(batch.rows)]
    return rows


@contextlib.contextmanager
def small_batches(read: int, written: int) -> Iterator[None]:
    """Read so many rows at once, write record batches of so many, order three at a time.

    Of vectors of three floats two are taken at once.
    """
    with (
        mock.patch.dict(Pickle.batches.__kwdefaults__, batch_rows=read),
        mock.patch("convert.arrow_file.BATCH_ROWS", read),
        mock.patch("convert.writer.BATCH_ROWS", written),
        mock.patch("convert.permute._block_rows", return_value=3),
        mock.patch("convert.reading._PIECE_BYTES", 24),
    ):
        yield


def arrow_path(source: Path) -> Path:
    return source.with_name(f"{source.name}.arrow")


def write_pickle(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def info_of(path: Path) -> DatasetInfo:
    with path.open("rb") as file:
        return DatasetInfo.from_metadata(pa.ipc.open_file(file).schema.metadata)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read a dataset file with Arrow alone: its rows, in order, ids as text."""
    with path.open("rb") as file:
        rows: list[dict[str, Any]] = pa.ipc.open_file(file).read_all().to_pylist()
    print_id = str if info_of(path).id_kind is IdKind.UUID else _ulid_text
    return [{**row, "id": print_id(row["id"])} for row in rows]


def _ulid_text(value: uuid.UUID) -> str:
    return str(ULID(value.bytes))


def make_records(rows: int = 6, dimension: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Return sound records with random UUIDs, in no order."""
    chance = random.Random(seed)
    return [
        {
            "id": str(uuid.UUID(int=chance.getrandbits(128))),
            "company_name": chance.choice(["Acme", "한빛소프트", "", "Zeta & Söhne"]),
            "exp_years": chance.choice([0, 1, 5, 10]),
            "english_level": chance.choice(["basic", "upper"]),
            "primary_keyword": chance.choice(["Java", "Go", "QA"]),
            "job_post_vectors": [chance.randrange(-64, 64) / 64 for _ in range(dimension)],
        }
        for _ in range(rows)
    ]


def rows_expected(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what `rows_of` shows of `make_records`, converted: sorted, the vector renamed."""
    renamed = [{**record, "vector": record["job_post_vectors"]} for record in records]
    for row in renamed:
        del row["job_post_vectors"]
    return sorted(renamed, key=lambda row: str(row["id"]))


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which `convert` and these tests can be imported anywhere."""
    kept_ones = {k: v for k, v in os.environ.items() if k not in {"PKL_PATH", "DATA_PATH"}}
    return {**kept_ones, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **extra}


def run_convert(
    folder: Path, *arguments: str | Path, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command in `folder`."""
    return run_python(folder, "-m", "convert", *map(str, arguments), **extra)


def run_python(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment(**extra), capture_output=True, text=True, check=False,
    )  # fmt: skip


def run_function(folder: Path, call: str) -> Any:
    """Call a function of this module in a process of its own; return what it returns, as JSON."""
    code = f"import json; from tests import pickles; print(json.dumps(pickles.{call}))"
    process = run_python(folder, "-W", "error", "-c", code)
    if process.returncode:
        message = f"exit code {process.returncode}:\n{process.stdout}\n{process.stderr}"
        raise AssertionError(message)
    return json.loads(process.stdout)


# Bytes of address space that reading a small pickle may take in addition.
_ROOM_BYTES = 2 << 30
# Seconds of processor time, for what would never end: an honest small pickle takes 0.05.
_ENDLESS_SECONDS = 300


def limit_resources(more_bytes: int = _ROOM_BYTES) -> None:
    """Let this process grow by so many bytes, come to an end, and leave no core file."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (_ENDLESS_SECONDS, _ENDLESS_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def calls_on_long_text() -> Iterator[list[str]]:
    """Note which methods of texts of 100,000 characters and more are called: each goes over it."""
    calls: list[str] = []

    def note(_frame: object, event: str, function: Any) -> None:
        owner = function.__self__ if event == "c_call" else None
        if isinstance(owner, str) and len(owner) >= 100_000:
            calls.append(function.__name__)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def outcome(source: Path, *, only_read: bool = False) -> str:
    """Convert and say what came of it: "converted", or the error's class and text."""
    try:
        if only_read:
            read_rows(source)
        else:
            convert_file(source, skip_invalid=True, force=True)
    except ConvertError as error:
        return f"ConvertError {type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "converted"


def outcome_within(source: str, more_bytes: int) -> str:
    """Return the outcome of reading a file in a process that may grow by so many bytes."""
    import_lazy_modules()
    limit_resources(more_bytes)
    return outcome(Path(source))


def outcomes(folder: str) -> dict[str, str]:
    """Return the outcome of each pickle in `folder`, or the signal that ended its process."""
    import_lazy_modules()
    found = {}
    for source in sorted(Path(folder).glob("*.pkl")):
        said = source.with_suffix(".outcome")
        child = os.fork()
        if not child:
            limit_resources()
            said.write_text(outcome(source), encoding="utf-8", errors="backslashreplace")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        found[source.stem] = f"signal {ended}" if ended else said.read_text(encoding="utf-8")
    return found


def outcomes_of(folder: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write each pickle below `folder` and return its outcome."""
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.pkl").write_bytes(content)
    found: dict[str, str] = run_function(folder, f"outcomes({str(folder)!r})")
    return found


def unexpected_outcomes(steps: dict[str, int], *, only_read: bool) -> list[str]:
    """Read or convert files, with every `step`-th bit of each flipped; return unforeseen errors.

    `steps`: by path. A file that ends this process stays, as `flipped` beside the path.
    """
    limit_resources()
    found = []
    for path, step in steps.items():
        content = bytearray(Path(path).read_bytes())
        source = Path(path).with_name("flipped")
        for bit in range(0, 8 * len(content), step):
            content[bit // 8] ^= 1 << bit % 8
            source.write_bytes(content)
            content[bit // 8] ^= 1 << bit % 8
            said = outcome(source, only_read=only_read)
            if not said.startswith(("converted", "ConvertError ")):
                found.append(f"{path}, bit {bit}: {said}")
    return found


def whole_truncations(steps: dict[str, int]) -> list[str]:
    """Convert files that end too early, at every `step`-th byte; return what was no error."""
    limit_resources()
    found = []
    for path, step in steps.items():
        content = Path(path).read_bytes()
        source = Path(path).with_name("cut")
        for size in range(0, len(content), step):
            source.write_bytes(content[:size])
            said = outcome(source)
            if not said.startswith("ConvertError UnreadableSourceError"):
                found.append(f"{path}, {size} bytes: {said}")
    return found


@dataclass
class Killed:
    """What was left of the file at `out` by conversions that were killed."""

    broken: int = 0
    partials_left: int = 0
    partials_after_next_run: int = 0


def kill_conversions(sources: list[str], out: str, seed: int, kills: int) -> dict[str, int]:
    """Kill conversions to `out`, of the sources in turn, at random moments.

    They write a batch a row, so that most of their time is spent on writing.
    """
    import_lazy_modules()
    setattr(writer, "BATCH_ROWS", 1)  # noqa: B010 - as monkeypatch does
    chance = random.Random(seed)
    whole = set()
    for source in sources:
        begin = time.perf_counter()
        _in_fork(functools.partial(convert_file, Path(source), Path(out), force=True))
        seconds = time.perf_counter() - begin
        whole.add(Path(out).read_bytes())
    result = Killed()
    for _ in range(kills):
        child = os.fork()
        if not child:
            while True:
                for source in sources:
                    convert_file(Path(source), Path(out), force=True)
        time.sleep(seconds * (1 + 2 * chance.random()))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        result.broken += Path(out).read_bytes() not in whole
        result.partials_left += bool(partials(Path(out).parent))
    _in_fork(functools.partial(convert_file, Path(sources[0]), Path(out)))
    result.partials_after_next_run = len(partials(Path(out).parent))
    return vars(result)


def import_lazy_modules() -> None:
    """Make pyarrow import pandas now, once, instead of in every fork (0.4 s)."""
    pa.array([None], from_pandas=True)


def _in_fork(action: Callable[[], object]) -> None:
    """Act in a fork, so that this process starts no threads and stays fit for forking."""
    child = os.fork()
    if not child:
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        message = f"the fork ended with status {status}"
        raise RuntimeError(message)


def partials(folder: Path) -> list[Path]:
    """Return the temporary files of conversions, running or killed."""
    return [path for path in folder.iterdir() if path.name.endswith(".partial")]

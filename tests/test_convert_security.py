"""Pickles that try to run code, and pickles that are forged or damaged, as sources."""

from __future__ import annotations

import bz2
import contextlib
import copyreg
import gc
import gzip
import lzma
import os
import pickle
import re
import resource
import signal
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from convert.errors import ConvertError, RefusedPickleError, UnreadableSourceError
from convert.options import Options
from convert.pickle_reader.known import KNOWN
from convert.pipeline import convert
from tests import forged as f
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _written(folder: Path, content: bytes, suffix: str = ".pkl") -> Path:
    source = folder / f"source{suffix}"
    source.write_bytes(content)
    return source


def _read(folder: Path, content: bytes, suffix: str = ".pkl") -> list[dict[Any, Any]]:
    return p.read_rows(_written(folder, content, suffix))


# Code in pickles: names that are not on the list.


def test_the_gadgets_work_where_nothing_refuses_them(tmp_path: Path) -> None:
    """What is refused below does run code when `pickle.loads` reads it."""
    for number, gadget in enumerate(f.GADGETS.values()):
        (tmp_path / f"{number}.pkl").write_bytes(gadget(tmp_path / f"{number}.canary"))
    load_each = (
        "import contextlib, pathlib, pickle\n"
        "for path in pathlib.Path().glob('*.pkl'):\n"
        "    with contextlib.suppress(ValueError, TypeError): pickle.loads(path.read_bytes())\n"
    )
    p.run_python(tmp_path, "-c", load_each)
    time.sleep(0.1)
    ran = {int(path.stem) for path in tmp_path.glob("*.canary")}

    assert [] == [name for number, name in enumerate(f.GADGETS) if number not in ran]


@pytest.mark.parametrize("name", f.GADGETS)
def test_a_name_that_runs_code_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    """The error names the global, and what it would have done isn't done."""
    canary = tmp_path / "canary"

    with pytest.raises(RefusedPickleError) as refused:
        _read(tmp_path, f.GADGETS[name](canary))

    assert re.search(rf"(names|of the class) {re.escape(name)}\b", str(refused.value))
    assert not canary.exists()


@pytest.mark.parametrize(("module", "name"), f.OTHER_NAMES)
def test_a_name_that_is_not_listed_exactly_is_refused(
    module: str, name: str, tmp_path: Path
) -> None:
    """A name counts as a whole: not its module, not the object that it leads to."""
    with pytest.raises(RefusedPickleError) as refused:
        _read(tmp_path, p.pickled(p.named(module, name)))

    assert f"names {module}.{name}," in str(refused.value)


@pytest.mark.parametrize("depth", range(1, 4))
def test_an_object_is_not_made_wherever_it_is(depth: int, tmp_path: Path) -> None:
    """A gadget deep in the values of a row is no value of a field, and runs nothing."""
    canary = tmp_path / "canary"
    value = p.called(p.named("os", "system"), f.touch(canary))
    for _ in range(depth):
        value = p.list_of(p.text("before"), value)

    content = p.pickled(p.list_of(p.record(), p.record(company_name=value)))
    with pytest.raises(ConvertError, match="row 1: company_name: list instead of text"):
        p.convert_file(_written(tmp_path, content))
    assert not canary.exists()


_EXTENSIONS = [b"\x82\xf0", b"\x83\x40\x9c", b"\x84\x00\x00\x10\x00"]


@pytest.mark.parametrize("opcode", _EXTENSIONS)
@pytest.mark.parametrize("cached", [False, True])
def test_an_extension_code_is_no_way_round_the_list(
    opcode: bytes, tmp_path: Path, *, cached: bool
) -> None:
    """EXT1, EXT2 and EXT4 stand for names too, even after another unpickler looked them up."""
    code = int.from_bytes(opcode[1:], "little")
    content = b"\x80\x02" + opcode + b"."
    copyreg.add_extension("os", "system", code)
    try:
        if cached:
            assert os.system is pickle.loads(content)
        with pytest.raises(RefusedPickleError, match="an extension code"):
            _read(tmp_path, content)
    finally:
        copyreg.remove_extension("os", "system", code)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("opcode", _EXTENSIONS)
def test_an_unknown_extension_code_is_refused_too(opcode: bytes, tmp_path: Path) -> None:
    """A code that stands for nothing here may stand for anything elsewhere."""
    with pytest.raises(RefusedPickleError, match="an extension code"):
        _read(tmp_path, b"\x80\x02" + opcode + b".")


@pytest.mark.parametrize(
    "content", [b"Pjobs.db\n.", p.pickled(p.text("jobs.db") + b"Q")], ids=["PERSID", "BINPERSID"]
)
def test_a_persistent_id_is_refused(content: bytes, tmp_path: Path) -> None:
    """A pickle may not refer to what is outside of it."""
    with pytest.raises(RefusedPickleError, match="persistent"):
        _read(tmp_path, content)


def test_a_refused_value_is_not_quoted_at_length(tmp_path: Path) -> None:
    """A value that doubles with every level takes 8 MB of text: it is shortened, not built."""
    value = p.EMPTY_TUPLE
    for _ in range(21):
        value = p.kept(value, 1) + p.POP + p.tuple_of(p.again(1), p.again(1))

    with pytest.raises(RefusedPickleError) as refused:
        _read(tmp_path, p.pickled(value + b"Q"))

    assert len(str(refused.value)) < 1000


def test_what_is_allowed_is_of_the_reader_itself() -> None:
    """No class or function of pandas, NumPy or Python is ever given to a pickle."""
    calls = [known.call for known in KNOWN.values() if known is not None]

    assert all(call.__module__.startswith("convert.pickle_reader.") for call in calls)


@pytest.mark.parametrize("state", ["attributes", "slots"])
def test_a_pickle_cannot_change_what_it_names(state: str, tmp_path: Path) -> None:
    """BUILD sets attributes: on a function of this program they would outlive the pickle."""
    attributes = p.dict_of({"tampered": p.TRUE})
    changed = []
    for (module, name), value in KNOWN.items():
        content = p.built(
            p.named(module, name),
            attributes if state == "attributes" else p.tuple_of(p.NONE, attributes),
        )
        with pytest.raises(ConvertError):
            _read(tmp_path, p.pickled(content))
        if any(hasattr(known, "tampered") for known in (value, getattr(value, "call", None))):
            changed.append(f"{module}.{name}")

    assert [] == changed


_REFUSED_BY_COMMAND: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "system": (f.GADGETS["posix.system"], "posix.system"),
    "eval": (f.GADGETS["builtins.eval"], "builtins.eval"),
    "f2py": (f.GADGETS["numpy.f2py.crackfortran.myeval"], "numpy.f2py.crackfortran.myeval"),
    "dotted": (f.GADGETS["uuid.os.system"], "uuid.os.system"),
    "inst": (f.GADGETS["subprocess.call"], "subprocess.call"),
    "persistent": (lambda canary: p.pickled(p.text(canary.name) + b"Q"), "persistent"),
    "extension": (lambda _canary: b"\x80\x02\x82\xf0.", "extension"),
    "cut off": (lambda _canary: pickle.dumps(p.make_records(), 4)[:-1], "not a whole pickle"),
}


@pytest.mark.parametrize("case", _REFUSED_BY_COMMAND)
def test_the_command_refuses_with_exit_code_1_and_writes_nothing(case: str, tmp_path: Path) -> None:
    """One line says what was refused; no traceback, no output, nothing left behind."""
    gadget, said = _REFUSED_BY_COMMAND[case]
    _written(tmp_path, gadget(tmp_path / "canary"))

    process = p.run_convert(tmp_path, "source.pkl", "--skip-invalid")

    assert 1 == process.returncode
    assert said in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert ["source.pkl"] == [path.name for path in tmp_path.iterdir()]


# Forged states of NumPy, Arrow and pandas: each pickle must end in an error.


@pytest.fixture(scope="module")
def forged_outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Convert every forged pickle in a process of its own."""
    by_number = {f"{number:03}": content for number, content in enumerate(f.FORGED.values())}
    said = p.outcomes_of(tmp_path_factory.mktemp("forged") / "pickles", by_number)
    return dict(zip(f.FORGED, said.values(), strict=True))


@pytest.mark.parametrize("case", f.FORGED)
def test_a_forged_pickle_is_an_error(case: str, forged_outcomes: dict[str, str]) -> None:
    """It ends in an error of this program: no crash, no other exception, no dataset."""
    assert "ConvertError" == forged_outcomes[case].split(" ", 1)[0], forged_outcomes[case]


def test_a_forged_pickle_is_sound_but_for_the_forgery(tmp_path: Path) -> None:
    """The frame that the forged ones vary converts; so do its columns as NumPy and Arrow."""
    sound = {
        "objects": p.one_row_frame(),
        "numbers": f.years(p.array(f.ONE, p.INT64, p.FIVE)),
        "flags are ignored": f.years(p.array(f.ONE, p.dtype("i8", flags=63), p.FIVE)),
        "Arrow": f.company(
            p.arrow_column(
                p.arrow_array(
                    "string",
                    [
                        p.NONE,
                        p.arrow_buffer(p.raw(struct.pack("<ii", 0, 4))),
                        p.arrow_buffer(p.raw(b"Acme")),
                    ],
                )
            )
        ),
        "categories": f.company(
            f.categorical(
                f.TWO_CODES, f.category_type(p.index(p.objects(p.text("Zeta"), p.text("Acme"))))
            )
        ),
        "mask": f.years(
            f.masked(
                p.array(f.ONE, p.INT64, p.FIVE),
                p.array(f.ONE, p.dtype("b1", "|"), p.raw(b"\0")),
            )
        ),
        "records": p.pickled(p.list_of(p.record())),
    }
    rows = {}
    for name, content in sound.items():
        source = tmp_path / f"{name}.pkl"
        source.write_bytes(content)
        p.convert_file(source)
        rows[name] = p.rows_of(p.arrow_path(source))

    assert {name: [p.SOUND_ROW] for name in sound} == rows


def test_what_was_validated_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    """Opcodes that write into the memory of an Arrow array come too late, or not at all."""
    said = p.outcomes_of(tmp_path / "pickles", {"source": f.mutated_after_validation()})["source"]
    if said != "converted":
        assert said.startswith("ConvertError "), said
        return
    [row] = p.rows_of(tmp_path / "pickles" / "source.pkl.arrow")

    assert {**p.SOUND_ROW, "company_name": "a"} == row


# Damage: what a disk or a broken download makes of a sound pickle.


def _sound_pickles() -> dict[str, bytes]:
    records = p.make_records(rows=1, dimension=2)
    vectors = [np.array(records[0]["job_post_vectors"])]
    table = pd.DataFrame({**pd.DataFrame(records), "job_post_vectors": vectors})
    return {"records": pickle.dumps(records, 4), "frame": pickle.dumps(table, 4)}


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_every_truncation_is_an_error(shape: str, tmp_path: Path) -> None:
    """However many bytes are there, it is noticed that some are missing."""
    content = _sound_pickles()[shape]
    for size in range(len(content)):
        with pytest.raises(UnreadableSourceError):
            _read(tmp_path, content[:size])

    assert 1 == len(_read(tmp_path, content))


@pytest.mark.parametrize(
    ("shape", "step", "only_read"),
    [("records", 1, True), ("records", 7, False), ("frame", 13, True), ("frame", 41, False)],
)
def test_a_flipped_bit_is_an_error_or_another_value(
    shape: str, step: int, tmp_path: Path, *, only_read: bool
) -> None:
    """No bit makes the reader crash, raise anything unforeseen or take all memory."""
    source = _written(tmp_path, _sound_pickles()[shape])
    call = f"unexpected_outcomes({ {str(source): step} }, only_read={only_read})"

    assert [] == p.run_function(tmp_path, call)


@pytest.mark.parametrize("after", [b"\0", b".", b"\x80\x04]."], ids=["NUL", "stop", "a pickle"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_bytes_behind_the_end_are_an_error(after: bytes, suffix: str, tmp_path: Path) -> None:
    """A file that doesn't end where its pickle ends is not the file that was written."""
    content = _sound_pickles()["records"] + after
    compressed = _COMPRESS[suffix](content) if suffix else content

    with pytest.raises(UnreadableSourceError):
        _read(tmp_path, compressed, f".pkl{suffix}")


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda content: gzip.compress(content, 0, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", _COMPRESS)
def test_a_flipped_bit_in_a_compressed_pickle_is_an_error(suffix: str, tmp_path: Path) -> None:
    """The checksum of the format is looked at: a wrong value is never taken for a right one."""
    content = _sound_pickles()["records"]
    sound = _read(tmp_path, content)
    compressed = bytearray(_COMPRESS[suffix](content))
    wrong = []
    for bit in range(0, 8 * len(compressed), 5):
        compressed[bit // 8] ^= 1 << bit % 8
        try:
            if sound != _read(tmp_path, bytes(compressed), f".pkl{suffix}"):
                wrong.append(bit)
        except UnreadableSourceError:
            pass
        compressed[bit // 8] ^= 1 << bit % 8

    assert [] == wrong


@pytest.mark.parametrize("suffix", [*_COMPRESS, ".zst"])
def test_every_truncation_of_a_compressed_pickle_is_an_error(suffix: str, tmp_path: Path) -> None:
    """A download that broke off is noticed, even if only the checksum is missing."""
    content = _sound_pickles()["records"]
    if suffix == ".zst":
        compressed = pa.compress(content, "zstd", asbytes=True)
    else:
        compressed = _COMPRESS[suffix](content)
    whole = []
    for size in range(len(compressed)):
        try:
            _read(tmp_path, compressed[:size], f".pkl{suffix}")
        except UnreadableSourceError:
            continue
        whole.append(size)

    assert [] == whole


def test_a_damaged_text_that_no_field_needs_is_an_error_where_its_row_is_told(
    tmp_path: Path,
) -> None:
    """Long text that isn't looked at may be wrong; to keep a rejected row it is looked at."""
    wrong = b"X" + struct.pack("<I", 300) + b"\xff" * 300
    for content in (
        p.pickled(p.list_of(p.record(), p.record(id=p.NONE, extra=wrong))),
        p.pickled(p.list_of(p.record(), p.record(id=p.text(p.OTHER_ID), extra=wrong))),
    ):
        source = _written(tmp_path, content)
        if b"N" + p.text("company_name") in content:  # the id is None
            with pytest.raises(UnreadableSourceError, match=r"text in another encoding.*at byte"):
                p.convert_file(source, skip_invalid=True)
            assert [source] == list(tmp_path.iterdir())
        else:
            p.convert_file(source, skip_invalid=True)
            assert 2 == len(p.rows_of(p.arrow_path(source)))


_CUT = """
import contextlib, os, sys
from pathlib import Path
from convert.options import Options
from convert.pipeline import convert
from tests.pickles import Quiet

source, size = Path(sys.argv[1]), int(sys.argv[2])

class Cutting(Quiet):
    @contextlib.contextmanager
    def phase(self, name, total):
        with super().phase(name, total):
            yield lambda _count: os.truncate(source, size)

convert(Options(source, source.with_suffix(".arrow"), {}, force=True), Cutting())
"""


@pytest.mark.parametrize("size", [0, 8192, 300_000, 1_000_000])
def test_a_source_that_is_cut_while_it_is_read_costs_no_dataset(size: int, tmp_path: Path) -> None:
    """Whoever overwrites a mapped file may end the process; the old dataset stays as it is."""
    content = pickle.dumps(p.make_records(4000, 64), 4)
    source = _written(tmp_path, content)
    out = source.with_suffix(".arrow")
    p.convert_file(source, out)
    before = out.read_bytes()
    process = p.run_python(tmp_path, "-c", _CUT, str(source), str(size))

    assert process.returncode
    assert "UnreadableSourceError" in process.stderr or process.returncode == -signal.SIGBUS
    assert before == out.read_bytes()
    _written(tmp_path, content)
    p.convert_file(source, out, force=True)
    assert before == out.read_bytes()
    assert {source, out} == set(tmp_path.iterdir())


# The process that reads.


class _LookingPhases(p.Quiet):
    """Notes whether garbage is collected and how much memory is allowed, while a phase runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[bool, tuple[int, int]]] = set()

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        with super().phase(name, total):
            yield lambda _count: self.seen.add(_state())


def _state() -> tuple[bool, tuple[int, int]]:
    return gc.isenabled(), resource.getrlimit(resource.RLIMIT_DATA)


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_conversion_leaves_the_process_as_it_was(
    tmp_path: Path, *, was_on: bool, is_whole: bool
) -> None:
    """Collection is off while it runs, and afterwards what it was; limits aren't touched."""
    content = pickle.dumps(p.make_records(2000, 64), 4)
    source = _written(tmp_path, content if is_whole else content[:-1])
    (gc.enable if was_on else gc.disable)()
    phases, before = _LookingPhases(), _state()
    try:
        with contextlib.nullcontext() if is_whole else pytest.raises(UnreadableSourceError):
            convert(Options(source, p.arrow_path(source), {}), phases)

        assert before == _state()
        assert {(False, before[1])} == phases.seen
    finally:
        gc.enable()


_CLAIMS: dict[str, bytes] = {
    "a memo of 2**28 entries": b"\x80\x04Nr" + struct.pack("<I", 1 << 28) + b".",
    "a memo of 2**32 entries": b"\x80\x04]r" + struct.pack("<I", 2**32 - 1) + b".",
    "text of 4 GB": b"\x80\x04X" + struct.pack("<I", 2**32 - 1) + b"a.",
    "bytes of 2**64": b"\x80\x04\x8e" + b"\xff" * 8 + b"a.",
    "a bytearray of 2**40": p.pickled(
        p.called(p.named("builtins", "bytearray"), p.number(1 << 40))
    ),
    "an array of 2**40 rows": f.FORGED["rows that take no bytes"],
    "Arrow nulls without end": f.FORGED["nulls without end in every column"],
    "an index of 2**62 labels": p.pickled(
        p.frame(
            labels=p.called(
                p.named("pandas.core.indexes.base", "_new_Index"),
                p.named("pandas.core.indexes.range", "RangeIndex"),
                p.dict_of({"start": p.number(0), "stop": p.number(2**62), "step": p.number(1)}),
            )
        )
    ),
}


@pytest.mark.parametrize("case", _CLAIMS)
def test_what_a_file_claims_costs_no_memory(case: str, tmp_path: Path) -> None:
    """A few bytes that speak of gigabytes are an error at once, and next to nothing is taken."""
    source = _written(tmp_path, _CLAIMS[case])
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        with pytest.raises(UnreadableSourceError):
            p.convert_file(source)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20
    assert pa.total_allocated_bytes() - before < 1 << 20

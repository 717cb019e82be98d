"""Pickles that are forged, damaged or cut off: refused in time and in little memory."""

from __future__ import annotations

import copyreg
import datetime as dt
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.pickle_reader import DamagedPickle, PickleReaderError, UnsupportedPickle, open_pickle
from convert.pickle_reader.known import KNOWN
from convert.pickle_reader.memo import _MAX_REREAD, Memo
from tests import pickles as p
from tests.forged import FORGED, GADGETS, OTHER_NAMES
from tests.test_pickle_reader import small_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
_MAX = 2**62
# Instead of 64 MiB, which take four seconds to read again.
_REREAD_BYTES = 1 << 20


def read(content: bytes) -> list[dict[Any, Any]]:
    rows = []
    for batch in open_pickle(content).batches():
        rows += [batch.row(row) for row in range(batch.rows)]
    return rows


def refused(content: bytes) -> PickleReaderError | None:
    """Return the error that reading ends with; the offset is in the file, and little read twice."""
    found = None
    bytes_again = 0
    spend = Memo.spend

    def counted(memo: Memo, count: int, offset: int) -> None:
        nonlocal bytes_again
        bytes_again += count
        spend(memo, count, offset)

    with (
        mock.patch("convert.pickle_reader.memo._REREAD_ALWAYS", _REREAD_BYTES),
        mock.patch.object(Memo, "spend", counted),  # a mock takes forty times as long as reading
    ):
        try:
            read(content)
        except PickleReaderError as error:
            found = error
    # Twice what is granted: what goes beyond it was read before that is noticed.
    assert bytes_again <= 2 * (_REREAD_BYTES + _MAX_REREAD * len(content))
    if found is not None:
        assert 0 <= found.offset <= len(content)
        assert f"(at byte {found.offset})" in str(found)
        assert len(str(found)) < 1000
        assert str(found).isprintable()
    return found


# Code in pickles.


@pytest.fixture
def audited() -> Iterator[list[str]]:
    """Collect what is imported, opened, executed or started."""
    events: list[str] = []
    is_on = True

    def hook(event: str, _args: object) -> None:
        if is_on and event in {
            "import",
            "exec",
            "compile",
            "open",
            "os.system",
            "subprocess.Popen",
            "pickle.find_class",
        }:
            events.append(event)

    sys.addaudithook(hook)
    yield events
    is_on = False


@pytest.mark.parametrize("name", GADGETS)
def test_a_name_that_runs_code_is_refused_and_runs_nothing(
    name: str, tmp_path: Path, audited: list[str]
) -> None:
    """The error names the global and its byte; nothing is imported, opened or executed."""
    canary = tmp_path / "canary"
    content = GADGETS[name](canary)
    modules = set(sys.modules)
    audited.clear()
    with pytest.raises(UnsupportedPickle) as error:
        read(content)

    assert [] == audited
    assert modules == set(sys.modules)
    assert re.search(rf"(names|of the class) {re.escape(name)}\b", str(error.value))
    assert not canary.exists()


@pytest.mark.parametrize(("module", "name"), OTHER_NAMES)
def test_a_name_that_is_not_listed_exactly_is_refused(module: str, name: str) -> None:
    """A name counts as a whole."""
    with pytest.raises(UnsupportedPickle) as error:
        read(p.pickled(p.named(module, name)))

    assert f"names {module}.{name}," in str(error.value)


@pytest.mark.parametrize("opcode", [b"\x82\xf0", b"\x83\x40\x9c", b"\x84\x00\x00\x10\x00"])
def test_an_extension_code_is_refused_whatever_it_stands_for(opcode: bytes) -> None:
    """Registered by this program or not, looked up before or not."""
    code = int.from_bytes(opcode[1:], "little")
    copyreg.add_extension("os", "system", code)
    try:
        pickle.loads(b"\x80\x02" + opcode + b".")
        with pytest.raises(UnsupportedPickle, match="extension"):
            read(b"\x80\x02" + opcode + b".")
    finally:
        copyreg.remove_extension("os", "system", code)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("content", [b"Pjobs.db\n.", p.pickled(p.text("jobs.db") + b"Q")])
def test_a_persistent_id_is_refused(content: bytes) -> None:
    """A pickle may not refer to what is outside of it."""
    with pytest.raises(UnsupportedPickle, match="persistent"):
        read(content)


def test_nothing_that_is_known_takes_a_state_or_attributes() -> None:
    """BUILD changes no function or class of this program."""
    attributes = p.dict_of({"tampered": p.TRUE})
    for module, name in KNOWN:
        for state in (attributes, p.tuple_of(p.NONE, attributes)):
            assert refused(p.pickled(p.built(p.named(module, name), state)))
    assert not any(hasattr(known, "tampered") for known in KNOWN.values())


# Forged pickles.

# What is wrong with these is no matter of reading: neither times nor nulls fit in the fields.
_READABLE = {
    "Arrow times after the year 9999",
    "Arrow durations of 10**11 years",
    "times among years that are NaN",
    "Arrow nulls without end",
    "nulls without end in every column",
    "Arrow lists of nothing without end",
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_pickle_is_an_error(case: str) -> None:
    """Of this reader, with an offset."""
    assert (refused(FORGED[case]) is None) == (case in _READABLE)


def _row(value: bytes) -> bytes:
    return p.pickled(b"](" + p.dict_of({"a": value}) + b"e")


def _doubling(levels: int) -> bytes:
    value = p.EMPTY_TUPLE
    for _ in range(levels):
        value = p.kept(value, 1) + p.POP + p.tuple_of(p.again(1), p.again(1))
    return value


def _laughs(levels: int) -> bytes:
    """Pickle lists of ten references to the list before."""
    value = b"]\x94"
    for level in range(levels):
        value += (
            b"](" + b"j" + struct.pack("<I", level) + b"j" + struct.pack("<I", level) + b"e\x94"
        )
    return value


def _chained_rows(rows: int) -> bytes:
    """Pickle rows that hold the row before twice."""
    content = b"\x80\x04]\x94"
    for row in range(rows):
        again = b"N" if not row else b"j" + struct.pack("<I", row)
        content += b"}\x94(" + p.text("a") + again + p.text("b") + again + b"u" + b"a"
    return content + b"."


_HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no STOP": b"\x80\x04](}e",
    "STOP too early": b"\x80\x04](}.",
    "STOP on nothing": b"\x80\x04.",
    "STOP with two values": b"\x80\x04NN.",
    "data after STOP": b"\x80\x04]." + b"\0",
    "an unknown opcode": b"\x80\x04\xff.",
    "protocol 6": b"\x80\x06].",
    "a frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 3) + b"].",
    "a frame of 2**64": b"\x80\x04\x95" + b"\xff" * 8 + b"].",
    "LONG4 negative": b"\x80\x04\x8b" + struct.pack("<i", -5) + b"a.",
    "LONG4 of 2 GB": b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
    "BINSTRING negative": b"\x80\x02T" + struct.pack("<i", -1) + b"a.",
    "BINUNICODE8 huge": b"\x80\x04\x8d" + struct.pack("<Q", _MAX) + b"a.",
    "BINBYTES8 huge": b"\x80\x04\x8e" + b"\xff" * 8 + b"a.",
    "BYTEARRAY8 huge": b"\x80\x05\x96" + struct.pack("<Q", _MAX) + b"a.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "an integer of a megabyte": _row(b"\x8b" + struct.pack("<i", 1 << 20) + b"\1" * (1 << 20)),
    "INT of 5,000 digits": _row(b"I" + b"9" * 5000 + b"\n"),
    "a line without end": b"\x80\x04]V" + b"a" * (2 << 20),
    "GET of the unset": _row(b"h\x07"),
    "LONG_BINGET of the unset": _row(b"j\xff\xff\xff\xff"),
    "GET of no number": _row(b"gx\n"),
    "GET of a negative number": _row(b"g-1\n"),
    "PUT of nothing": b"\x80\x04\x94.",
    "PUT twice": _row(b"Nq\x05Nq\x0500N"),
    "MEMOIZE over a PUT": _row(b"Nq\x01N\x94N\x94000N"),
    "2,000 PUTs out of turn": _row(
        b"".join(b"Nr" + struct.pack("<I", 2 * n + 9) + b"0" for n in range(2000)) + b"N"
    ),
    "a list in itself": _row(b"]\x94h\x00a"),
    "a dict in itself": _row(b"}\x94" + p.text("x") + b"h\x00s"),
    "a tuple in itself": _row(b"](h\x00tq\x000h\x00"),
    "an array in itself": _row(
        p.built(
            p.called(p.RECONSTRUCT, p.NDARRAY, p.tuple_of(p.number(0)), p.raw(b"b")) + b"\x94",
            p.array_state(p.tuple_of(p.number(1)), p.dtype("O8", "|"), p.list_of(b"h\x00")),
        )
    ),
    "the rows in a row": b"\x80\x04]\x94(}(" + p.text("a") + b"h\x00ue.",
    "the rows in the rows": b"\x80\x04]\x94h\x00a.",
    "the rows twice": b"\x80\x04]2(}e\x86.",
    "rows that are thrown away": b"\x80\x04](" + b"}" * 10_000 + b"1.",
    "rows that become a tuple": b"\x80\x04](" + b"}" * 3000 + b"t.",
    "another value than the rows": b"\x80\x04](}e0N.",
    "a row that is changed later": (
        b"\x80\x04]\x94(}\x94" + b"}" * 3000 + b"e(h\x01" + p.text("a") + b"Nse."
    ),
    "lists a million deep": _row(b"]" * 10**6 + b"a" * (10**6 - 1)),
    "tuples a million deep": _row(b")" + b"\x85" * 10**6),
    "a tuple a million deep as a key": _row(b"}" + b")" + b"\x85" * 10**6 + b"Ns"),
    "a tuple a million deep in a set": _row(b"\x8f(" + b")" + b"\x85" * 10**6 + b"\x90"),
    "a million marks": b"\x80\x04]" + b"(" * 10**6 + b".",
    "20 million lists": b"\x80\x04](" + b"]" * 20_000_000 + b"e.",
    "a doubled tuple as a key": _row(b"}" + _doubling(30) + b"Ns"),
    "a doubled persistent id": p.pickled(_doubling(21) + b"Q"),
    "a list as a key": _row(b"}]Ns"),
    "a dict in a set": _row(b"\x8f(}\x90"),
    "colliding keys": _row(
        b"}(" + b"".join(b"\x8a\x11" + ((2**61 - 1) * n).to_bytes(17, "little") + b"N"
                         for n in range(1, 50_000)) + b"u"
    ),
    "keys that are tuples": _row(
        b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"\x85N" for n in range(50_000)) + b"u"
    ),
    "rows of the rows before": _chained_rows(5000),
    "BUILD of a list": _row(b"]}b"),
    "BUILD of text": _row(p.text("x") + b"}b"),
    "REDUCE of text": _row(p.text("x") + b")R"),
    "REDUCE of a list": _row(p.named("uuid", "UUID") + b"]R"),
    "NEWOBJ_EX with keywords": _row(
        p.named("uuid", "UUID") + b")" + p.dict_of({"x": b"N"}) + b"\x92"
    ),
    "NEWOBJ_EX with an Arrow buffer": _row(
        p.named("uuid", "UUID") + b")" + p.arrow_buffer(p.raw(b"x")) + b"\x92"
    ),
    "an array without a state": _row(
        p.called(p.RECONSTRUCT, p.NDARRAY, p.tuple_of(p.number(0)), p.raw(b"b"))
    ),
    "an array whose objects come later": _row(
        p.array(p.tuple_of(p.number(1)), p.dtype("O8", "|"), p.list_of(b"N") + b"q\x63")
        + b"h\x63Na0"
    ),
    "a class as a value": _row(p.named("uuid", "UUID")),
    "a global without a name": b"\x80\x04NN\x93.",
    "SETITEMS with an odd number": _row(b"}(" + p.text("a") + b"u"),
    "APPENDS to None": b"\x80\x04N(}e.",
    "APPEND to text": _row(p.text("x") + b"Na"),
    "ADDITEMS to a list": _row(b"](N\x90"),
    "text that is no UTF-8": _row(b"\x8c\x01\xff"),
    "long text that is no UTF-8": _row(b"X" + struct.pack("<I", 300) + b"\xff" * 300),
    "a date of no date": _row(p.called(p.named("datetime", "date"), p.raw(b"\0\0\0\0"))),
    "a decimal of words": _row(p.called(p.named("decimal", "Decimal"), p.text("x"))),
    "a float cut off": b"\x80\x04](G\0\0\0",
    "floats cut off": b"\x80\x04](" + b"G" * 50,
    "floats in a dict": _row(b"}(" + b"G" * 9 * 3 + b"u"),
    "a million floats and text": _row(b"](" + b"G" * 9 * (2 << 20) + p.text("x") + b"e"),
}  # fmt: skip


@pytest.mark.parametrize("case", _HOSTILE)
def test_a_hostile_pickle_is_refused_at_once(case: str) -> None:
    """With one of the two errors, before much is read again; some would never end."""
    content = _HOSTILE[case]

    assert refused(content) is not None
    if len(content) < 10_000:
        with small_limits():
            assert refused(content) is not None


def test_what_is_far_back_is_not_read_again_and_again() -> None:
    """40 KB each time, more often than is granted, of lists that take turns."""
    lists = [[number] * 20_000 for number in range(20)]
    with small_limits():
        error = refused(pickle.dumps([{"a": lists[row % 20]} for row in range(600)], 4))

    assert "reading would not end" in str(error)


def test_lists_of_lists_of_the_same_list_are_not_multiplied() -> None:
    """What is shared in a row stays shared; too deep is too deep."""
    levels = 40
    content = p.pickled(b"](" + p.dict_of({"a": _laughs(levels)[2:]}) + b"e")
    error = refused(content)

    assert error is None or isinstance(error, PickleReaderError)


# Damage.


def _sound() -> dict[str, bytes]:
    row = {
        "id": "a", "v": [0.5, 1.5, 2.5], "n": 7, "t": "long" * 99, "d": dt.date(2024, 1, 2),
        "x": {"y": (1, 2.5, {3}, b"b" * 300)}, "w": np.arange(40.0),
    }  # fmt: skip
    frame = pd.DataFrame(
        {
            "a": ["x", "y"], "c": pd.Series(["p", "q"], dtype="category"), "i": [1, 2],
            "m": pd.Series([1, None], dtype="Int16"), "t": pd.to_datetime(["2024-01-02"] * 2),
            "o": pd.Series([np.arange(40.0), [1.5, 2.5]], dtype=object),
        }
    )  # fmt: skip
    rows = [row, {**row, "id": "b"}, row]
    return {
        **{
            f"records {n}": pickle.dumps(rows if n > 1 else [{"a": [1.5, "x"]}] * 2, n)
            for n in range(6)
        },
        **{f"frame {n}": pickle.dumps(frame, n) for n in range(2, 6)},
    }


_SOUND = _sound()


@pytest.mark.parametrize("case", _SOUND)
def test_every_truncation_is_an_error(case: str) -> None:
    """However many bytes are there, it is noticed that some are missing."""
    content = _SOUND[case]

    assert refused(content) is None
    for size in range(len(content)):
        assert refused(content[:size]), size


@pytest.mark.parametrize("case", ["records 2", "records 4", "records 5", "frame 4", "frame 5"])
def test_every_wrong_byte_is_an_error_or_another_value(case: str) -> None:
    """Nothing but the two errors comes out, whatever a byte becomes."""
    content = bytearray(_SOUND[case])
    with small_limits():
        for place in range(0, len(content), 3):
            was = content[place]
            for wrong in (was ^ 1, was ^ 128, 0, 255, *b"(e."):
                content[place] = wrong
                refused(bytes(content))
            content[place] = was


edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "insert", "delete", "copy"]),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@settings(max_examples=500)
@given(case=st.sampled_from(list(_SOUND)), edits=edits, small=st.booleans())
def test_mutations_are_errors_or_other_values(
    case: str, edits: list[tuple[float, str, bytes]], *, small: bool
) -> None:
    """Bytes changed, put in, taken out and copied elsewhere."""
    content = _SOUND[case]
    for where, how, new in edits:
        place = int(where * len(content))
        head, tail = content[:place], content[place:]
        match how:
            case "set":
                content = head + new + tail[len(new) :]
            case "insert":
                content = head + new + tail
            case "delete":
                content = head + tail[len(new) :]
            case "copy":
                content = head + content[place // 2 : place // 2 + 10 * len(new)] + tail
    if small:
        with small_limits():
            refused(content)
    else:
        refused(content)


# Memory, in a process of its own.

_MEASURE = """
import mmap, sys
from convert.pickle_reader import PickleReaderError, open_pickle

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

with open(sys.argv[1], "rb") as file:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    before = peak = anonymous()
    def look(count):
        global peak
        peak = max(peak, anonymous())
    rows = 0
    said = ""
    try:
        for batch in open_pickle(data).batches(lambda name: name in ("id", "v"), advance=look):
            rows += batch.rows
            look(0)
    except PickleReaderError as error:
        said = type(error).__name__
print(rows, (peak - before) >> 10, said)
"""


def measured(path: Path) -> tuple[int, int, str]:
    """Return the rows read, MiB of anonymous memory, and the error."""
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    rows, mebibytes, said = out.split(" ")
    return int(rows), int(mebibytes), said.strip()


def test_text_that_is_skipped_costs_no_memory(tmp_path: Path) -> None:
    """200 MB of descriptions that nobody wants."""
    path = tmp_path / "jobs.pkl"
    path.write_bytes(
        pickle.dumps([{"id": str(n), "Long Description": f"{n}" * 20_000} for n in range(2500)])
    )
    rows, mebibytes, _ = measured(path)

    assert path.stat().st_size > 150 << 20
    assert 2500 == rows
    assert mebibytes < 20


@pytest.mark.parametrize("shape", ["records", "frame"])
def test_memory_does_not_grow_with_the_rows(shape: str, tmp_path: Path) -> None:
    """Three times the rows need the same, give or take the offsets of what is in a frame."""
    used = []
    for rows in (15_000, 45_000):
        source: Any = [{"id": f"id {n}", "v": [n + 0.5] * 50, "x": [n]} for n in range(rows)]
        if shape == "frame":
            source = pd.DataFrame(source).astype({"id": object})
        path = tmp_path / "jobs.pkl"
        path.write_bytes(pickle.dumps(source))
        found, mebibytes, _ = measured(path)
        assert rows == found
        used.append(mebibytes)

    assert used[1] < used[0] + 16


@pytest.mark.parametrize(
    "unit", [b"]", b"N", b"]\x94", b"(", b"K\x01\x85", b"]\x94h\x00"], ids=ascii
)
def test_memory_is_bounded_whatever_the_file_is_full_of(unit: bytes, tmp_path: Path) -> None:
    """100 MB of opcodes that only make things are refused before they are made."""
    path = tmp_path / "jobs.pkl"
    path.write_bytes(b"\x80\x04](" + unit * ((100 << 20) // len(unit)))
    _, mebibytes, said = measured(path)

    assert said
    assert mebibytes < 1200


def test_an_error_of_the_caller_stays_what_it_is() -> None:
    """What `wanted` raises comes out, for both shapes."""

    def wanted(_name: object) -> bool:
        raise KeyError

    for content in ([{"a": 1}], pd.DataFrame({"a": [1]})):
        with pytest.raises(KeyError):
            list(open_pickle(pickle.dumps(content)).batches(wanted))


def test_errors_say_whose_fault_it_is() -> None:
    """Damaged is what no pickler writes, unsupported what needs no embeddings pickle."""
    assert isinstance(refused(pickle.dumps([{"a": 1}])[:-1]), DamagedPickle)
    assert isinstance(refused(p.pickled(p.text("a") + b"Q")), UnsupportedPickle)

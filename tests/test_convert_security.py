"""Pickles that try to run code, and pickles that are forged or damaged."""

from __future__ import annotations

import bz2
import copyreg
import gc
import gzip
import lzma
import os
import pickle
import resource
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from convert.errors import ConvertError, RefusedPickleError, UnreadableSourceError
from convert.pickle_globals import GLOBALS
from convert.source import read_source
from convert.unpickle import read_pickle
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _read(folder: Path, content: bytes, suffix: str = ".pkl") -> object:
    source = folder / f"source{suffix}"
    source.write_bytes(content)
    return read_pickle(source, p.ignore)


# Code in pickles: names that are not on the list.


class _Calls:
    """Pickles itself as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    return p.pickled(p.called(p.named(module, name), *arguments))


def _touch(canary: Path) -> bytes:
    return p.text(f"touch {canary}")


def _touch_list(canary: Path) -> bytes:
    return p.list_of(p.text("touch"), p.text(str(canary)))


def _open(canary: Path) -> bytes:
    return p.text(f"open({str(canary)!r}, 'w').close()")


def _system_of(canary: Path, module: bytes) -> bytes:
    """Import a module first, then get its `system` by getattr, and call that."""
    get = p.named("builtins", "getattr")
    system = p.called(get, p.again(1), p.text("system"))
    return p.pickled(p.kept(module, 1) + p.POP + p.called(system, _touch(canary)))


# What creates the file named when `pickle.loads` reads it, by the global that is refused.
_GADGETS: dict[str, Callable[[Path], bytes]] = {
    "posix.system": lambda canary: pickle.dumps([_Calls(os.system, f"touch {canary}")], 4),
    "subprocess.check_output": lambda canary: pickle.dumps(
        {"id": _Calls(subprocess.check_output, ["touch", str(canary)])}, 5
    ),
    "os.system": lambda canary: _call("os", "system", _touch(canary)),
    "builtins.eval": lambda canary: _call("builtins", "eval", _open(canary)),
    "builtins.exec": lambda canary: _call("builtins", "exec", _open(canary)),
    "builtins.open": lambda canary: _call("builtins", "open", p.text(str(canary)), p.text("w")),
    "builtins.__import__": lambda canary: _system_of(
        canary, p.called(p.named("builtins", "__import__"), p.text("os"))
    ),
    "builtins.getattr": lambda canary: p.pickled(
        p.called(
            p.called(
                p.named("builtins", "getattr"),
                p.called(p.named("importlib", "import_module"), p.text("os")),
                p.text("system"),
            ),
            _touch(canary),
        )
    ),
    "numpy.f2py.crackfortran.myeval": lambda canary: _call(
        "numpy.f2py.crackfortran", "myeval", _open(canary)
    ),
    "numpy.testing._private.utils.runstring": lambda canary: _call(
        "numpy.testing._private.utils", "runstring", _open(canary), p.dict_of({})
    ),
    "pandas.compat.pickle_compat.loads": lambda canary: _call(
        "pandas.compat.pickle_compat", "loads", p.raw(_call("builtins", "exec", _open(canary)))
    ),
    "_pickle.loads": lambda canary: _call(
        "_pickle", "loads", p.raw(_call("builtins", "exec", _open(canary)))
    ),
    # A name with dots is looked up attribute by attribute.
    "uuid.os.system": lambda canary: _call("uuid", "os.system", _touch(canary)),
    # Other opcodes that call: NEWOBJ, OBJ, INST, and protocol 0 with Python 2's names.
    "subprocess.Popen": lambda canary: p.pickled(
        p.made(p.named("subprocess", "Popen")) + p.POP
        + p.called(p.named("subprocess", "Popen"), _touch_list(canary))
    ),
    "subprocess.getoutput": lambda canary: (
        b"\x80\x04(" + p.named("subprocess", "getoutput") + _touch(canary) + b"o."
    ),
    "subprocess.call": lambda canary: b"(" + _touch_list(canary) + b"isubprocess\ncall\n.",
    "__builtin__.eval": lambda canary: (
        b"c__builtin__\neval\n(V" + f"open({str(canary)!r}, 'w').close()".encode() + b"\ntR."
    ),
}  # fmt: skip

# Other names that are refused, whatever they would do.
_OTHER_NAMES = (
    ("builtins", "getattr"), ("builtins", "object"), ("builtins", "type"), ("builtins", "list"),
    ("builtins", "map"), ("builtins", "print"), ("operator", "attrgetter"),
    ("functools", "partial"), ("types", "FunctionType"), ("types", "CodeType"),
    ("copyreg", "_reconstructor"), ("copyreg", "add_extension"), ("_codecs", "decode"),
    ("codecs", "encode"), ("_codecs", "lookup"), ("sys", "exit"), ("ctypes", "string_at"),
    ("numpy", "load"), ("numpy", "memmap"), ("numpy", "fromfile"), ("numpy", "recarray"),
    ("numpy.ma.core", "_mareconstruct"), ("numpy.f2py", "compile"),
    ("numpy.f2py.crackfortran", "getlincoef"), ("numpy.testing._private.utils", "rundocs"),
    ("pandas", "read_pickle"), ("pandas", "eval"), ("pandas.io.pickle", "read_pickle"),
    ("pandas.compat.pickle_compat", "Unpickler"), ("pandas._libs.internals", "BlockManager"),
    ("pyarrow.lib", "foreign_buffer"), ("pyarrow.lib", "memory_map"),
    ("pyarrow.lib", "PythonFile"), ("pyarrow.lib", "py_buffer.__self__"),
    ("pyarrow.lib", "Array._import_from_c"), ("builtins", "bytearray.fromhex"),
    ("collections", "OrderedDict.__init__"), ("uuid", "UUID.__init__.__globals__"),
    ("datetime", "sys.modules"), ("numpy", "ndarray.tofile"), ("numpy", "dtype.__class__"),
    ("builtins.bytearray", ""), ("", "builtins.bytearray"), ("", ""), ("builtins", "Bytearray"),
    ("convert.stand_ins", "Frame"), ("tests.pickles", "run_convert"), ("posixpath", "join"),
)  # fmt: skip


def test_the_gadgets_work_where_nothing_refuses_them(tmp_path: Path) -> None:
    """What is refused below does run code when `pickle.loads` reads it."""
    for number, gadget in enumerate(_GADGETS.values()):
        (tmp_path / f"{number}.pkl").write_bytes(gadget(tmp_path / f"{number}.canary"))
    load_each = (
        "import contextlib, pathlib, pickle\n"
        "for path in pathlib.Path().glob('*.pkl'):\n"
        "    with contextlib.suppress(ValueError, TypeError): pickle.loads(path.read_bytes())\n"
    )
    p.run_python(tmp_path, "-c", load_each)
    time.sleep(0.1)
    ran = {int(path.stem) for path in tmp_path.glob("*.canary")}

    assert [] == [name for number, name in enumerate(_GADGETS) if number not in ran]


@pytest.mark.parametrize("name", _GADGETS)
def test_a_name_that_runs_code_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    """The error names the global, and what it would have done isn't done."""
    canary = tmp_path / "canary"

    with pytest.raises(RefusedPickleError) as refused:
        _read(tmp_path, _GADGETS[name](canary))

    assert f"names {name}," in str(refused.value)
    assert not canary.exists()


@pytest.mark.parametrize(("module", "name"), _OTHER_NAMES)
def test_a_name_that_is_not_listed_exactly_is_refused(
    module: str, name: str, tmp_path: Path
) -> None:
    """A name counts as a whole: not its module, not the object that it leads to."""
    with pytest.raises(RefusedPickleError) as refused:
        _read(tmp_path, p.pickled(p.named(module, name)))

    assert f"names {module}.{name}," in str(refused.value)


@pytest.mark.parametrize("depth", range(1, 4))
def test_a_name_is_refused_wherever_it_is(depth: int, tmp_path: Path) -> None:
    """A gadget deep in the values of a sound row is as bad as one in front."""
    canary = tmp_path / "canary"
    value = p.called(p.named("os", "system"), _touch(canary))
    for _ in range(depth):
        value = p.list_of(p.text("before"), value)

    with pytest.raises(RefusedPickleError, match=r"os\.system"):
        _read(tmp_path, p.pickled(p.list_of(p.record(), p.record(company_name=value))))
    assert not canary.exists()


@pytest.mark.parametrize("opcode", [b"\x82\xf0", b"\x83\x40\x9c", b"\x84\x00\x00\x10\x00"])
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
        with pytest.raises(RefusedPickleError, match=r"os\.system"):
            _read(tmp_path, content)
    finally:
        copyreg.remove_extension("os", "system", code)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("opcode", [b"\x82\xf0", b"\x83\x40\x9c", b"\x84\x00\x00\x10\x00"])
def test_an_unknown_extension_code_is_an_error(opcode: bytes, tmp_path: Path) -> None:
    """A code that stands for nothing makes the pickle unreadable."""
    with pytest.raises(UnreadableSourceError):
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


def test_what_is_allowed_is_plain_data_or_a_stand_in() -> None:
    """No class or function of pandas or NumPy is ever given to a pickle."""
    modules = {getattr(value, "__module__", "builtins") for value in GLOBALS.values()}

    assert modules <= {
        "builtins", "collections", "datetime", "decimal", "uuid", "convert.stand_ins",
        "pyarrow.lib",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["attributes", "slots"])
def test_a_pickle_cannot_change_what_it_names(state: str, tmp_path: Path) -> None:
    """BUILD sets attributes: on a function of this program they would outlive the pickle."""
    attributes = p.dict_of({"tampered": p.TRUE})
    changed = []
    for (module, name), value in GLOBALS.items():
        content = p.built(
            p.named(module, name),
            attributes if state == "attributes" else p.tuple_of(p.NONE, attributes),
        )
        with pytest.raises(ConvertError):
            read_source(_written(tmp_path, p.pickled(content)), {}, p.ignore)
        if hasattr(value, "tampered"):
            changed.append(f"{module}.{name}")
            delattr(value, "tampered")

    assert [] == changed


def _written(folder: Path, content: bytes) -> Path:
    source = folder / "source.pkl"
    source.write_bytes(content)
    return source


_REFUSED_BY_COMMAND: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "system": (_GADGETS["posix.system"], "posix.system"),
    "eval": (_GADGETS["builtins.eval"], "builtins.eval"),
    "f2py": (_GADGETS["numpy.f2py.crackfortran.myeval"], "numpy.f2py.crackfortran.myeval"),
    "dotted": (_GADGETS["uuid.os.system"], "uuid.os.system"),
    "inst": (_GADGETS["subprocess.call"], "subprocess.call"),
    "persistent": (lambda canary: p.pickled(p.text(canary.name) + b"Q"), "persistent"),
    "extension": (lambda _canary: b"\x80\x02\x82\xf0.", "extension"),
    "cut off": (lambda _canary: pickle.dumps(p.make_records(), 4)[:-1], "not a whole pickle"),
}


@pytest.mark.parametrize("case", _REFUSED_BY_COMMAND)
def test_the_command_refuses_with_exit_code_2_and_writes_nothing(case: str, tmp_path: Path) -> None:
    """One line says what was refused; no traceback, no output, nothing left behind."""
    gadget, said = _REFUSED_BY_COMMAND[case]
    _written(tmp_path, gadget(tmp_path / "canary"))

    process = p.run_convert(tmp_path, "source.pkl", "--skip-invalid")

    assert 2 == process.returncode
    assert said in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert ["source.pkl"] == [path.name for path in tmp_path.iterdir()]


# Forged states of NumPy, Arrow and pandas: each pickle must end in an error.


def _years(values: bytes) -> bytes:
    return p.one_row_frame(exp_years=values)


def _company(values: bytes) -> bytes:
    return p.one_row_frame(company_name=values)


def _arrow_text(*buffers: bytes, **state: Any) -> bytes:
    return _company(p.arrow_column(p.arrow_array("string", buffers, **state)))


def _arrow_years(*buffers: bytes, **state: Any) -> bytes:
    return _years(p.arrow_column(p.arrow_array("int64", buffers, **state)))


def _labelled(values: bytes, placement: bytes) -> bytes:
    """Pickle a frame whose one block has a placement of its own."""
    return p.pickled(p.frame(p.block(values, placement)))


def _mutated_after_validation() -> bytes:
    """Pickle an Arrow text whose offsets are changed after the array was made of them."""
    offsets = p.kept(p.called(p.named("builtins", "bytearray"), _OFFSETS), 3) + p.POP
    made = p.arrow_array("string", [p.NONE, p.arrow_buffer(p.again(3)), p.arrow_buffer(_A)])
    changes = b"".join(
        p.again(3) + p.number(place) + p.number(value) + b"s" + p.POP
        for place, value in zip(range(4, 8), (255, 255, 255, 127), strict=True)
    )
    return _company(p.arrow_column(offsets + p.kept(made, 5) + p.POP + changes + p.again(5)))


def _freed_after_sharing() -> bytes:
    """Pickle an Arrow array on the memory of a NumPy array, which is then given another state."""
    shape, bytes_ = p.tuple_of(p.number(8)), p.dtype("u1", "|")
    shared = p.kept(p.array(shape, bytes_, p.raw(bytes(8))), 3) + p.POP
    buffer = p.kept(p.arrow_buffer(p.again(3)), 4) + p.POP
    other = p.built(p.again(3), p.array_state(p.EMPTY_TUPLE, bytes_, p.raw(b"\1"))) + p.POP
    array = p.arrow_array("int64", [p.NONE, p.again(4)])
    return _years(p.arrow_column(shared + buffer + other + array))


def _categorical(codes: bytes, kind: bytes) -> bytes:
    made = p.kept(p.made(p.named("pandas.core.arrays.categorical", "Categorical")), 9)
    return p.built(made, p.tuple_of(codes, kind))


def _category_type(categories: bytes) -> bytes:
    made = p.made(p.named("pandas.core.dtypes.dtypes", "CategoricalDtype"))
    return p.built(made, p.dict_of({"categories": categories}))


def _masked(data: bytes, mask: bytes) -> bytes:
    made = p.made(p.named("pandas.core.arrays.integer", "IntegerArray"))
    return p.built(made, p.dict_of({"_data": data, "_mask": mask}))


def _indexes_in_indexes() -> bytes:
    kind = p.named("pandas.core.indexes.base", "Index")
    labels = p.objects(*map(p.text, p.FIELDS))
    for _ in range(2000):
        labels = p.called(kind, labels)
    return p.pickled(p.frame(labels=labels))


def _time() -> bytes:
    unit = p.tuple_of(p.raw(b"ns"), p.number(1), p.number(1), p.number(1))
    kind = p.dtype("M8", rest=(p.tuple_of(p.NONE, unit),))
    return p.called(p.named("numpy.core.multiarray", "scalar"), kind, p.FIVE)


def _nan() -> bytes:
    kind, value = p.dtype("f4"), p.raw(struct.pack("<f", float("nan")))
    return p.called(p.named("numpy.core.multiarray", "scalar"), kind, value)


def _times_and_nan() -> bytes:
    return p.objects(_time(), _nan())


def _deep_list() -> bytes:
    return b"]" * 200_000 + b"a" * 199_999


def _empty_rows(kind: bytes) -> bytes:
    return p.array(p.tuple_of(p.number(1 << 40)), kind, p.raw(b""))


_ONE, _NONE_ROWS = p.tuple_of(p.number(1)), p.tuple_of(p.number(0))
_OBJECT = p.dtype("O8", "|", flags=63)
_OFFSETS, _A = p.raw(struct.pack("<ii", 0, 1)), p.raw(b"a")
_FRAME = p.named("pandas.core.frame", "DataFrame")
_TWO_CODES = p.array(_ONE, p.dtype("i1", "|"), p.raw(b"\1"))
_MAX = 2**62

_FORGED: dict[str, bytes] = {
    # NumPy dtypes
    "dtype of a type": _years(p.called(p.named("numpy", "dtype"), p.NDARRAY)),
    "dtype of a list": _years(p.called(p.named("numpy", "dtype"), p.list_of(p.text("i8")))),
    "dtype unknown": _years(p.array(_ONE, p.dtype("nonsense"), p.FIVE)),
    "dtype structured": _years(p.array(_ONE, p.dtype("i4,i4"), p.FIVE)),
    "dtype with a shape": _years(p.array(_ONE, p.dtype("(2,)i4"), p.FIVE)),
    "dtype without a state": _years(p.array(_ONE, p.made(p.named("numpy", "dtype")), p.FIVE)),
    "dtype with fields": _years(
        p.array(
            _ONE,
            p.built(
                p.called(p.named("numpy", "dtype"), p.text("V8")),
                p.tuple_of(
                    p.number(3), p.text("|"), p.NONE, p.tuple_of(p.text("a")),
                    p.dict_of({"a": p.tuple_of(p.INT64, p.number(1 << 40))}),
                    p.number(8), p.number(1), p.number(16),
                ),
            ),
            p.FIVE,
        )
    ),
    "dtype with a subdtype": _years(
        p.array(
            _ONE,
            p.built(
                p.called(p.named("numpy", "dtype"), p.text("V8")),
                p.tuple_of(
                    p.number(3), p.text("|"), p.tuple_of(p.INT64, p.tuple_of(p.number(1 << 40))),
                    p.NONE, p.NONE, p.number(8), p.number(1), p.number(16),
                ),
            ),
            p.FIVE,
        )
    ),
    "dtype state too short": _years(
        p.array(_ONE, p.built(p.INT64, p.tuple_of(p.number(3))), p.FIVE)
    ),
    "text dtype with a negative size": _company(
        p.array(_ONE, p.dtype("U1", size=-4), p.raw(bytes(4)))
    ),
    "text dtype of 8 EB": _company(p.array(_ONE, p.dtype("U1", size=_MAX), p.raw(bytes(4)))),
    "datetime without a unit": _years(p.array(_ONE, p.dtype("M8"), p.FIVE)),
    "datetime with a forged unit": _years(
        p.array(
            _ONE,
            p.dtype("M8", rest=(p.tuple_of(p.NONE, p.tuple_of(p.raw(b"9" * 99), p.number(1))),)),
            p.FIVE,
        )
    ),
    "string dtype with pointers": _company(p.array(_ONE, p.dtype("T", "|"), p.raw(b"\x41" * 16))),
    # NumPy arrays
    "objects as bytes": _company(p.array(_ONE, _OBJECT, p.raw(b"\x41" * 8))),
    "objects as bytes, flags say numbers": _company(
        p.array(_ONE, p.dtype("O8", "|", flags=0), p.raw(b"\x41" * 8))
    ),
    "too few objects": _company(p.array(p.tuple_of(p.number(2)), _OBJECT, p.list_of(_A))),
    "too many objects": _company(p.array(_ONE, _OBJECT, p.list_of(_A, _A))),
    "objects as a tuple": _company(p.array(_ONE, _OBJECT, p.tuple_of(_A))),
    "too few bytes": _years(p.array(p.tuple_of(p.number(2)), p.INT64, p.FIVE)),
    "too many bytes": _years(p.array(_NONE_ROWS, p.INT64, p.FIVE)),
    "bytes as text": _years(p.array(_ONE, p.INT64, p.text("12345678"))),
    "negative shape": _years(p.array(p.tuple_of(p.number(-1)), p.INT64, p.FIVE)),
    "two negative sizes": _years(
        p.array(p.tuple_of(p.number(-1), p.number(-1)), p.INT64, p.FIVE)
    ),
    "shape that overflows": _years(
        p.array(p.tuple_of(*[p.number(1 << 32)] * 3), p.INT64, p.raw(b""))
    ),
    "empty, with a shape that overflows": _years(
        p.array(p.tuple_of(p.number(0), *[p.number(_MAX)] * 3), p.INT64, p.raw(b""))
    ),
    "shape of 100 dimensions": _years(p.array(p.tuple_of(*[p.number(1)] * 100), p.INT64, p.FIVE)),
    "shape of floats": _years(p.array(p.tuple_of(p.number(1.0)), p.INT64, p.FIVE)),
    "shape as a list": _years(p.array(p.list_of(p.number(1)), p.INT64, p.FIVE)),
    "no dimension": _years(p.array(p.EMPTY_TUPLE, p.INT64, p.FIVE)),
    "no dimension, an object": _company(p.array(p.EMPTY_TUPLE, _OBJECT, p.list_of(p.number(5)))),
    "array without a state": _years(
        p.called(p.RECONSTRUCT, p.NDARRAY, _NONE_ROWS, p.raw(b"b"))
    ),
    "array state too short": _years(
        p.built(p.called(p.RECONSTRUCT, p.NDARRAY, _NONE_ROWS, p.raw(b"b")), p.tuple_of(p.INT64))
    ),
    "array with a state twice": _freed_after_sharing(),
    "array of another class": _years(p.called(p.RECONSTRUCT, _FRAME, _ONE, p.raw(b"b"))),
    "ndarray called on a buffer": _years(p.called(p.NDARRAY, _ONE, p.INT64, p.FIVE, p.number(99))),
    "ndarray made": _years(p.made(p.NDARRAY, p.tuple_of(p.number(1 << 20)), p.INT64)),
    "buffer too short": _years(
        p.called(
            p.named("numpy._core.numeric", "_frombuffer"), _A, p.INT64, _ONE, p.text("C")
        )
    ),
    "buffer of objects": _company(
        p.called(
            p.named("numpy._core.numeric", "_frombuffer"),
            p.raw(b"\x41" * 8), _OBJECT, _ONE, p.text("C"),
        )
    ),
    "scalar too short": p.pickled(
        p.list_of(
            p.record(exp_years=p.called(p.named("numpy.core.multiarray", "scalar"), p.INT64, _A))
        )
    ),
    # Arrow
    "Arrow offsets too short": _arrow_text(p.NONE, p.arrow_buffer(_A), p.arrow_buffer(_A)),
    "Arrow offsets beyond the text": _arrow_text(
        p.NONE, p.arrow_buffer(p.raw(struct.pack("<ii", 0, 1 << 30))), p.arrow_buffer(_A)
    ),
    "Arrow offsets descending": _arrow_text(
        p.NONE, p.arrow_buffer(p.raw(struct.pack("<iii", 0, 1, 0))), p.arrow_buffer(_A), rows=2
    ),
    "Arrow offsets negative": _arrow_text(
        p.NONE, p.arrow_buffer(p.raw(struct.pack("<ii", -99999, 1))), p.arrow_buffer(_A)
    ),
    "Arrow text not UTF-8": _arrow_text(
        p.NONE, p.arrow_buffer(_OFFSETS), p.arrow_buffer(p.raw(b"\xff"))
    ),
    "Arrow buffers missing": _arrow_text(p.NONE, p.NONE, p.NONE),
    "Arrow buffers too few": _arrow_text(p.NONE, p.arrow_buffer(_OFFSETS)),
    "Arrow bitmap too short": _arrow_text(
        p.arrow_buffer(p.raw(b"")), p.arrow_buffer(_OFFSETS), p.arrow_buffer(_A), nulls=-1
    ),
    "Arrow nulls that aren't": _arrow_years(p.NONE, p.arrow_buffer(p.FIVE), nulls=1),
    "Arrow values too short": _arrow_years(p.NONE, p.arrow_buffer(_A)),
    "Arrow with negative rows": _arrow_years(p.NONE, p.arrow_buffer(p.FIVE), rows=-1),
    "Arrow with too many rows": _arrow_years(p.NONE, p.arrow_buffer(p.FIVE), rows=_MAX),
    "Arrow nulls without end": _years(p.arrow_column(p.arrow_array("null", [p.NONE], rows=_MAX))),
    "Arrow offset too large": _arrow_years(p.NONE, p.arrow_buffer(p.FIVE), offset=1 << 40),
    "Arrow offset negative": _arrow_years(p.NONE, p.arrow_buffer(p.FIVE), offset=-1),
    "Arrow offset far off": _arrow_years(p.NONE, p.arrow_buffer(p.FIVE), offset=-(1 << 40)),
    "Arrow text offset negative": _arrow_text(
        p.NONE, p.arrow_buffer(_OFFSETS), p.arrow_buffer(_A), offset=-(1 << 20)
    ),
    "Arrow text offset far off": _arrow_text(
        p.NONE, p.arrow_buffer(_OFFSETS), p.arrow_buffer(_A), offset=-(1 << 33)
    ),
    "Arrow with children": _arrow_years(
        p.NONE, p.arrow_buffer(p.FIVE), children=p.list_of(p.arrow_array("null", [p.NONE]))
    ),
    "Arrow with a dictionary": _arrow_years(
        p.NONE, p.arrow_buffer(p.FIVE), dictionary=p.arrow_array("null", [p.NONE])
    ),
    "Arrow chunks of other things": _company(
        p.arrow_column(
            p.called(p.named("pyarrow.lib", "chunked_array"), p.list_of(_FRAME, p.number(1)))
        )
    ),
    # pandas
    "frame without a state": p.pickled(p.made(_FRAME)),
    "frame class": p.pickled(_FRAME),
    "frame without blocks": p.pickled(p.built(p.made(_FRAME), p.dict_of({"_mgr": p.NONE}))),
    "frame without a manager": p.pickled(p.built(p.made(_FRAME), p.dict_of({}))),
    "frame with a state of text": p.pickled(p.built(p.made(_FRAME), p.text("_mgr"))),
    "block beyond the columns": _labelled(p.objects(_A), p.slice_of(6, 7)),
    "block far beyond the columns": _labelled(p.objects(_A), p.slice_of(0, _MAX)),
    "block at a negative column": _labelled(
        p.objects(_A), p.array(_ONE, p.INT64, p.raw(struct.pack("<q", -1)))
    ),
    "block at column 2**40": _labelled(
        p.objects(_A), p.array(_ONE, p.INT64, p.raw(struct.pack("<q", 1 << 40)))
    ),
    "block at column 0.5": _labelled(
        p.objects(_A), p.array(_ONE, p.dtype("f8"), p.raw(struct.pack("<d", 0.5)))
    ),
    "block at a column of text": _labelled(p.objects(_A), p.text("0")),
    "block nowhere": _labelled(p.objects(_A), p.NONE),
    "block with fewer rows than columns": _labelled(
        p.array(p.tuple_of(p.number(1), p.number(1)), p.INT64, p.FIVE), p.slice_of(0, 6)
    ),
    "block of three dimensions": _years(p.array(p.tuple_of(*[p.number(1)] * 3), p.INT64, p.FIVE)),
    "block of text": _company(p.text("Acme")),
    "block of rows of its own": _company(p.objects(_A, _A)),
    "labels missing": p.pickled(p.frame(labels=p.NONE)),
    "labels of lists": p.pickled(
        p.frame(p.block(p.objects(_A), p.slice_of(0, 1)), labels=p.index(p.objects(p.list_of())))
    ),
    "labels in 2,000 indexes": _indexes_in_indexes(),
    "text array without a state": _company(p.made(p.named("pandas.arrays", "StringArray"))),
    "text array with an empty state": _company(
        p.built(p.made(p.named("pandas.arrays", "StringArray")), p.tuple_of(p.NONE))
    ),
    "codes beyond the categories": _company(
        _categorical(_TWO_CODES, _category_type(p.index(p.objects(_A))))
    ),
    "codes that are no numbers": _company(
        _categorical(p.objects(_A), _category_type(p.index(p.objects(_A))))
    ),
    "codes missing": _company(_categorical(p.NONE, _category_type(p.index(p.objects(_A))))),
    "categories missing": _company(_categorical(_TWO_CODES, p.NONE)),
    "categories that are the categorical": _company(
        _categorical(_TWO_CODES, _category_type(p.again(9)))
    ),
    "mask too short": _years(
        _masked(
            p.array(_ONE, p.INT64, p.FIVE), p.array(_NONE_ROWS, p.dtype("b1", "|"), p.raw(b""))
        )
    ),
    "mask of numbers": _years(
        _masked(p.array(_ONE, p.INT64, p.FIVE), p.array(_ONE, p.INT64, p.FIVE))
    ),
    "mask missing": _years(_masked(p.array(_ONE, p.INT64, p.FIVE), p.NONE)),
    "categories in 200,000 lists": _company(
        _categorical(_TWO_CODES, _category_type(p.index(p.objects(_deep_list(), _deep_list()))))
    ),
    "masked times and NaN": _years(
        _masked(
            _times_and_nan(), p.array(p.tuple_of(p.number(2)), p.dtype("b1", "|"), p.raw(b"\0\0"))
        )
    ),
    "masked lists in 200,000 lists": _years(
        _masked(p.objects(_deep_list()), p.array(_ONE, p.dtype("b1", "|"), p.raw(b"\0")))
    ),
    "Arrow chunks of times and NaN": _company(
        p.arrow_column(
            p.called(
                p.named("pyarrow.lib", "chunked_array"), p.list_of(p.list_of(_time(), _nan()))
            )
        )
    ),
    "Arrow chunks in 200,000 lists": _company(
        p.arrow_column(
            p.called(p.named("pyarrow.lib", "chunked_array"), p.list_of(p.list_of(_deep_list())))
        )
    ),
    "Arrow times after the year 9999": _years(
        p.arrow_column(
            p.arrow_array("timestamp[s]", [p.NONE, p.arrow_buffer(p.raw(b"\x7f" * 8))])
        )
    ),
    "Arrow durations of 10**11 years": _years(
        p.arrow_column(p.arrow_array("duration[s]", [p.NONE, p.arrow_buffer(p.raw(b"\x7f" * 8))]))
    ),
    # Python's own
    "records with other keys than theirs": p.pickled(
        p.list_of(
            p.built(
                p.called(p.named("collections", "OrderedDict")),
                p.tuple_of(p.NONE, p.dict_of({"keys": p.named("uuid", "UUID")})),
            )
        )
    ),
    "records with values that aren't got": p.pickled(
        p.list_of(
            p.built(
                p.called(
                    p.named("collections", "OrderedDict"),
                    p.list_of(*(p.tuple_of(p.text(name), p.number(1)) for name in p.FIELDS)),
                ),
                p.dict_of({"get": p.named("builtins", "slice")}),
            )
        )
    ),
    "id with a number of 129 bits": p.pickled(
        p.list_of(
            p.record(
                id=p.built(p.made(p.named("uuid", "UUID")), p.dict_of({"int": p.number(1 << 128)}))
            )
        )
    ),
    "id with text for a number": p.pickled(
        p.list_of(
            p.record(id=p.built(p.made(p.named("uuid", "UUID")), p.dict_of({"int": p.text("1")})))
        )
    ),
    "times among years that are NaN": pickle.dumps(
        [
            {**record, "id": None, "exp_years": years}
            for record, years in zip(
                p.make_records(2), (pd.Timestamp("2024-01-01"), np.float32("nan")), strict=True
            )
        ],
        4,
    ),
    # Sizes that are claimed and not there
    "text of 4 EB": b"\x80\x04\x8d" + struct.pack("<Q", _MAX) + b"a.",
    "text of 4 GB": b"\x80\x04X" + struct.pack("<I", 2**32 - 1) + b"a.",
    "bytes of 4 EB": b"\x80\x04\x8e" + struct.pack("<Q", _MAX) + b"a.",
    "bytes of 2**64": b"\x80\x04\x8e" + b"\xff" * 8 + b"a.",
    "bytes of 4 GB": b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"a.",
    "bytearray of 4 EB": b"\x80\x05\x96" + struct.pack("<Q", _MAX) + b"a.",
    "bytearray called for": p.pickled(p.called(p.named("builtins", "bytearray"), p.number(_MAX))),
    "bytearray of what isn't there": p.pickled(
        p.called(p.named("builtins", "bytearray"), p.number(1 << 40))
    ),
    "number of 2 GB": b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
    "number of a negative size": b"\x80\x04\x8b" + struct.pack("<i", -1) + b"a.",
    "frame of 4 EB": b"\x80\x04\x95" + struct.pack("<Q", _MAX) + b"N.",
    "memo of 2**31": b"\x80\x04Nr" + struct.pack("<I", 2**31 - 1) + b".",
    "memo of 2**32": b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b".",
    "memo of what was never put": p.pickled(b"j" + struct.pack("<I", 2**31)),
    "out-of-band buffer": b"\x80\x05\x97.",
    "stack of nothing": p.pickled(p.POP),
    "protocol 255": b"\x80\xffN.",
    "lists in lists": p.pickled(b"]" * 50_000 + b"a" * 49_999),
    "rows that take no bytes": p.one_row_frame(
        **{name: _empty_rows(p.dtype("S1", "|", size=0)) for name in p.FIELDS}
    ),
    "nulls without end in every column": p.one_row_frame(
        **{
            name: p.arrow_column(p.arrow_array("null", [p.NONE], rows=1 << 40))
            for name in p.FIELDS
        }
    ),
    # Contents of other kinds
    "content is a dict": pickle.dumps({"id": [1]}, 4),
    "content is a text": pickle.dumps("id", 4),
    "content is nothing": pickle.dumps(None, 4),
    "content is a tuple of dicts": pickle.dumps(tuple(p.make_records()), 4),
    "content is a list of lists": pickle.dumps([["id", 1]], 4),
    "content is a class": p.pickled(p.named("pandas", "DataFrame")),
    "content is a matrix": pickle.dumps(np.zeros((2, 2)), 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def forged_outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Convert every forged pickle in a process of its own."""
    by_number = {f"{number:03}": content for number, content in enumerate(_FORGED.values())}
    said = p.outcomes_of(tmp_path_factory.mktemp("forged") / "pickles", by_number)
    return dict(zip(_FORGED, said.values(), strict=True))


@pytest.mark.parametrize("case", _FORGED)
def test_a_forged_pickle_is_an_error(case: str, forged_outcomes: dict[str, str]) -> None:
    """It ends in an error of this program: no crash, no other exception, no dataset."""
    assert "ConvertError" == forged_outcomes[case].split(" ", 1)[0], forged_outcomes[case]


def test_a_forged_pickle_is_sound_but_for_the_forgery(tmp_path: Path) -> None:
    """The frame that the forged ones vary converts; so do its columns as NumPy and Arrow."""
    sound = {
        "objects": p.one_row_frame(),
        "numbers": _years(p.array(_ONE, p.INT64, p.FIVE)),
        "flags are ignored": _years(p.array(_ONE, p.dtype("i8", flags=63), p.FIVE)),
        "Arrow": _company(
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
        "categories": _company(
            _categorical(
                _TWO_CODES, _category_type(p.index(p.objects(p.text("Zeta"), p.text("Acme"))))
            )
        ),
        "mask": _years(
            _masked(
                p.array(_ONE, p.INT64, p.FIVE),
                p.array(_ONE, p.dtype("b1", "|"), p.raw(b"\0")),
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
    said = p.outcomes_of(tmp_path / "pickles", {"source": _mutated_after_validation()})["source"]
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
    source = tmp_path / "source.pkl"
    for size in range(len(content)):
        source.write_bytes(content[:size])
        with pytest.raises(UnreadableSourceError):
            read_source(source, {}, p.ignore)
    source.write_bytes(content)

    assert 1 == read_source(source, {}, p.ignore).rows


@pytest.mark.parametrize(
    ("shape", "step", "only_read"),
    [("records", 1, True), ("records", 7, False), ("frame", 13, True), ("frame", 41, False)],
)
def test_a_flipped_bit_is_an_error_or_another_value(
    shape: str, step: int, tmp_path: Path, *, only_read: bool
) -> None:
    """No bit makes the reader crash, raise anything unforeseen or take all memory."""
    source = _written(tmp_path, _sound_pickles()[shape])
    call = f"unexpected_outcomes({str(source)!r}, {step}, only_read={only_read})"

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
    compressed = bytearray(_COMPRESS[suffix](content))
    wrong = []
    for bit in range(0, 8 * len(compressed), 5):
        compressed[bit // 8] ^= 1 << bit % 8
        try:
            if pickle.loads(content) != _read(tmp_path, bytes(compressed), f".pkl{suffix}"):
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


# The process that reads.


@pytest.mark.parametrize("content", [pickle.dumps(p.make_records(), 4), b"\x80\x04]"])
def test_reading_leaves_the_process_as_it_was(content: bytes, tmp_path: Path) -> None:
    """Collection is off and memory limited while unpickling, and only then."""
    seen = []
    before = gc.isenabled(), resource.getrlimit(resource.RLIMIT_DATA)

    def look(_count: int) -> None:
        seen.append((gc.isenabled(), resource.getrlimit(resource.RLIMIT_DATA)[0]))

    try:
        read_pickle(_written(tmp_path, content), look)
    except UnreadableSourceError:
        assert content.endswith(b"]")

    assert (True, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)) == before
    assert before == (gc.isenabled(), resource.getrlimit(resource.RLIMIT_DATA))
    assert {False} == {enabled for enabled, _ in seen}
    assert all(0 < limit for _, limit in seen)


def test_a_claim_must_be_explained_by_the_size_of_the_file(tmp_path: Path) -> None:
    """Ten bytes that ask for a memo of 4 GB get an error, not the memory."""
    content = b"\x80\x04Nr" + struct.pack("<I", 1 << 28) + b"."

    with pytest.raises(UnreadableSourceError, match="memory"):
        _read(tmp_path, content)


def test_collection_that_was_off_stays_off(tmp_path: Path) -> None:
    """Reading restores what it found, not what is usual."""
    gc.disable()
    try:
        read_pickle(_written(tmp_path, pickle.dumps([], 4)), p.ignore)
        assert not gc.isenabled()
    finally:
        gc.enable()

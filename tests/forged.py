"""Pickles that would run code, and pickles that are forged: what every reader must refuse."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


# Code in pickles: names that are not on the list.


class _Calls:
    """Pickles itself as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    return p.pickled(p.called(p.named(module, name), *arguments))


def touch(canary: Path) -> bytes:
    return p.text(f"touch {canary}")


def _touch_list(canary: Path) -> bytes:
    return p.list_of(p.text("touch"), p.text(str(canary)))


def _open(canary: Path) -> bytes:
    return p.text(f"open({str(canary)!r}, 'w').close()")


def _system_of(canary: Path, module: bytes) -> bytes:
    """Import a module first, then get its `system` by getattr, and call that."""
    get = p.named("builtins", "getattr")
    system = p.called(get, p.again(1), p.text("system"))
    return p.pickled(p.kept(module, 1) + p.POP + p.called(system, touch(canary)))


# What creates the file named when `pickle.loads` reads it, by the global that is refused.
GADGETS: dict[str, Callable[[Path], bytes]] = {
    "posix.system": lambda canary: pickle.dumps([_Calls(os.system, f"touch {canary}")], 4),
    "subprocess.check_output": lambda canary: pickle.dumps(
        {"id": _Calls(subprocess.check_output, ["touch", str(canary)])}, 5
    ),
    "os.system": lambda canary: _call("os", "system", touch(canary)),
    "builtins.eval": lambda canary: _call("builtins", "eval", _open(canary)),
    "builtins.exec": lambda canary: _call("builtins", "exec", _open(canary)),
    "builtins.open": lambda canary: _call("builtins", "open", p.text(str(canary)), p.text("w")),
    "builtins.__import__": lambda canary: _system_of(
        canary, p.called(p.named("builtins", "__import__"), p.text("os"))
    ),
    "builtins.getattr": lambda canary: p.pickled(
        p.called(
            p.called(p.named("builtins", "getattr"), p.NDARRAY, p.text("tofile")),
            p.called(p.RECONSTRUCT, p.NDARRAY, p.tuple_of(b"K\0"), p.raw(b"b")),
            p.text(str(canary)),
        )
    ),
    "importlib.import_module": lambda canary: p.pickled(
        p.called(
            p.called(
                p.named("builtins", "getattr"),
                p.called(p.named("importlib", "import_module"), p.text("os")),
                p.text("system"),
            ),
            touch(canary),
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
    "uuid.os.system": lambda canary: _call("uuid", "os.system", touch(canary)),
    # Other opcodes that call: NEWOBJ, OBJ, INST, and protocol 0 with Python 2's names.
    "subprocess.Popen": lambda canary: p.pickled(
        p.made(p.named("subprocess", "Popen")) + p.POP
        + p.called(p.named("subprocess", "Popen"), _touch_list(canary))
    ),
    "subprocess.getoutput": lambda canary: (
        b"\x80\x04(" + p.named("subprocess", "getoutput") + touch(canary) + b"o."
    ),
    "subprocess.call": lambda canary: b"(" + _touch_list(canary) + b"isubprocess\ncall\n.",
    "__builtin__.eval": lambda canary: (
        b"c__builtin__\neval\n(V" + f"open({str(canary)!r}, 'w').close()".encode() + b"\ntR."
    ),
}  # fmt: skip

# Other names that are refused, whatever they would do.
OTHER_NAMES = (
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
    ("convert.pickle_reader.pandas_values", "Frame"), ("tests.pickles", "run_convert"),
    ("posixpath", "join"),
)  # fmt: skip


# Forged states of NumPy, Arrow and pandas: each pickle must end in an error.


def years(values: bytes) -> bytes:
    return p.one_row_frame(exp_years=values)


def company(values: bytes) -> bytes:
    return p.one_row_frame(company_name=values)


def _arrow_text(*buffers: bytes, **state: Any) -> bytes:
    return company(p.arrow_column(p.arrow_array("string", buffers, **state)))


def _arrow_years(*buffers: bytes, **state: Any) -> bytes:
    return years(p.arrow_column(p.arrow_array("int64", buffers, **state)))


def _arrow_vectors(kind: bytes, *buffers: bytes, items: Iterable[bytes], **state: Any) -> bytes:
    """Pickle a column of Arrow lists of that type; `items` are the states of what is in them."""
    children = p.list_of(*items)
    column = p.arrow_column(p.arrow_array(kind, buffers, children=children, **state))
    return p.one_row_frame(job_post_vectors=column)


def _lists_of(*arguments: bytes) -> bytes:
    return p.called(p.named("pyarrow.lib", "list_"), *arguments)


def _doubles(count: int) -> bytes:
    """Pickle the state of an Arrow array of so many zeros."""
    return p.arrow_state("double", [p.NONE, p.arrow_buffer(p.raw(bytes(8 * count)))], rows=count)


def _arrow_codes(code: bytes, content: bytes) -> bytes:
    """Pickle a text column with a dictionary: one row, of that code; `content` is a state."""
    kind = p.called(
        p.named("pyarrow.lib", "dictionary"), p.arrow_type("int8"), p.arrow_type("string"), p.FALSE
    )
    return company(
        p.arrow_column(
            p.arrow_array(kind, [p.NONE, p.arrow_buffer(p.raw(code))], dictionary=content)
        )
    )


def _labelled(values: bytes, placement: bytes) -> bytes:
    """Pickle a frame whose one block has a placement of its own."""
    return p.pickled(p.frame(p.block(values, placement)))


def mutated_after_validation() -> bytes:
    """Pickle an Arrow text whose offsets are changed after the array was made of them."""
    offsets = p.kept(p.called(p.named("builtins", "bytearray"), _OFFSETS), 3) + p.POP
    made = p.arrow_array("string", [p.NONE, p.arrow_buffer(p.again(3)), p.arrow_buffer(_A)])
    changes = b"".join(
        p.again(3) + p.number(place) + p.number(value) + b"s" + p.POP
        for place, value in zip(range(4, 8), (255, 255, 255, 127), strict=True)
    )
    return company(p.arrow_column(offsets + p.kept(made, 5) + p.POP + changes + p.again(5)))


def _freed_after_sharing() -> bytes:
    """Pickle an Arrow array on the memory of a NumPy array, which is then given another state."""
    shape, bytes_ = p.tuple_of(p.number(8)), p.dtype("u1", "|")
    shared = p.kept(p.array(shape, bytes_, p.raw(bytes(8))), 3) + p.POP
    buffer = p.kept(p.arrow_buffer(p.again(3)), 4) + p.POP
    other = p.built(p.again(3), p.array_state(p.EMPTY_TUPLE, bytes_, p.raw(b"\1"))) + p.POP
    array = p.arrow_array("int64", [p.NONE, p.again(4)])
    return years(p.arrow_column(shared + buffer + other + array))


def categorical(codes: bytes, kind: bytes) -> bytes:
    made = p.kept(p.made(p.named("pandas.core.arrays.categorical", "Categorical")), 9)
    return p.built(made, p.tuple_of(codes, kind))


def category_type(categories: bytes) -> bytes:
    made = p.made(p.named("pandas.core.dtypes.dtypes", "CategoricalDtype"))
    return p.built(made, p.dict_of({"categories": categories}))


def masked(data: bytes, mask: bytes) -> bytes:
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


ONE, _NONE_ROWS = p.tuple_of(p.number(1)), p.tuple_of(p.number(0))
_OBJECT = p.dtype("O8", "|", flags=63)
_OFFSETS, _A = p.raw(struct.pack("<ii", 0, 1)), p.raw(b"a")
_FRAME = p.named("pandas.core.frame", "DataFrame")
TWO_CODES = p.array(ONE, p.dtype("i1", "|"), p.raw(b"\1"))
_MAX = 2**62
_LISTS = _lists_of(p.arrow_type("double"))
_PAIRS = _lists_of(p.arrow_type("double"), p.number(2))

FORGED: dict[str, bytes] = {
    # NumPy dtypes
    "dtype of a type": years(p.called(p.named("numpy", "dtype"), p.NDARRAY)),
    "dtype of a list": years(p.called(p.named("numpy", "dtype"), p.list_of(p.text("i8")))),
    "dtype unknown": years(p.array(ONE, p.dtype("nonsense"), p.FIVE)),
    "dtype structured": years(p.array(ONE, p.dtype("i4,i4"), p.FIVE)),
    "dtype with a shape": years(p.array(ONE, p.dtype("(2,)i4"), p.FIVE)),
    "dtype without a state": years(p.array(ONE, p.made(p.named("numpy", "dtype")), p.FIVE)),
    "dtype with fields": years(
        p.array(
            ONE,
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
    "dtype with a subdtype": years(
        p.array(
            ONE,
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
    "dtype state too short": years(
        p.array(ONE, p.built(p.INT64, p.tuple_of(p.number(3))), p.FIVE)
    ),
    "text dtype with a negative size": company(
        p.array(ONE, p.dtype("U1", size=-4), p.raw(bytes(4)))
    ),
    "text dtype of 8 EB": company(p.array(ONE, p.dtype("U1", size=_MAX), p.raw(bytes(4)))),
    "datetime without a unit": years(p.array(ONE, p.dtype("M8"), p.FIVE)),
    "datetime with a forged unit": years(
        p.array(
            ONE,
            p.dtype("M8", rest=(p.tuple_of(p.NONE, p.tuple_of(p.raw(b"9" * 99), p.number(1))),)),
            p.FIVE,
        )
    ),
    "string dtype with pointers": company(p.array(ONE, p.dtype("T", "|"), p.raw(b"\x41" * 16))),
    # NumPy arrays
    "objects as bytes": company(p.array(ONE, _OBJECT, p.raw(b"\x41" * 8))),
    "objects as bytes, flags say numbers": company(
        p.array(ONE, p.dtype("O8", "|", flags=0), p.raw(b"\x41" * 8))
    ),
    "too few objects": company(p.array(p.tuple_of(p.number(2)), _OBJECT, p.list_of(_A))),
    "too many objects": company(p.array(ONE, _OBJECT, p.list_of(_A, _A))),
    "objects as a tuple": company(p.array(ONE, _OBJECT, p.tuple_of(_A))),
    "too few bytes": years(p.array(p.tuple_of(p.number(2)), p.INT64, p.FIVE)),
    "too many bytes": years(p.array(_NONE_ROWS, p.INT64, p.FIVE)),
    "bytes as text": years(p.array(ONE, p.INT64, p.text("12345678"))),
    "negative shape": years(p.array(p.tuple_of(p.number(-1)), p.INT64, p.FIVE)),
    "two negative sizes": years(
        p.array(p.tuple_of(p.number(-1), p.number(-1)), p.INT64, p.FIVE)
    ),
    "shape that overflows": years(
        p.array(p.tuple_of(*[p.number(1 << 32)] * 3), p.INT64, p.raw(b""))
    ),
    "empty, with a shape that overflows": years(
        p.array(p.tuple_of(p.number(0), *[p.number(_MAX)] * 3), p.INT64, p.raw(b""))
    ),
    "shape of 100 dimensions": years(p.array(p.tuple_of(*[p.number(1)] * 100), p.INT64, p.FIVE)),
    "shape of floats": years(p.array(p.tuple_of(p.number(1.0)), p.INT64, p.FIVE)),
    "shape as a list": years(p.array(p.list_of(p.number(1)), p.INT64, p.FIVE)),
    "no dimension": years(p.array(p.EMPTY_TUPLE, p.INT64, p.FIVE)),
    "no dimension, an object": company(p.array(p.EMPTY_TUPLE, _OBJECT, p.list_of(p.number(5)))),
    "array without a state": years(
        p.called(p.RECONSTRUCT, p.NDARRAY, _NONE_ROWS, p.raw(b"b"))
    ),
    "array state too short": years(
        p.built(p.called(p.RECONSTRUCT, p.NDARRAY, _NONE_ROWS, p.raw(b"b")), p.tuple_of(p.INT64))
    ),
    "array with a state twice": _freed_after_sharing(),
    "array of another class": years(p.called(p.RECONSTRUCT, _FRAME, ONE, p.raw(b"b"))),
    "ndarray called on a buffer": years(p.called(p.NDARRAY, ONE, p.INT64, p.FIVE, p.number(99))),
    "ndarray made": years(p.made(p.NDARRAY, p.tuple_of(p.number(1 << 20)), p.INT64)),
    "buffer too short": years(
        p.called(
            p.named("numpy._core.numeric", "_frombuffer"), _A, p.INT64, ONE, p.text("C")
        )
    ),
    "buffer of objects": company(
        p.called(
            p.named("numpy._core.numeric", "_frombuffer"),
            p.raw(b"\x41" * 8), _OBJECT, ONE, p.text("C"),
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
    "Arrow nulls without end": years(p.arrow_column(p.arrow_array("null", [p.NONE], rows=_MAX))),
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
    "Arrow items of another type": _arrow_vectors(
        _LISTS, p.NONE, p.arrow_buffer(_OFFSETS),
        items=[p.arrow_state("int8", [p.NONE, p.arrow_buffer(_A)])],
    ),
    "Arrow lists without items": _arrow_vectors(
        _LISTS, p.NONE, p.arrow_buffer(_OFFSETS), items=[]
    ),
    "Arrow lists of two kinds of items": _arrow_vectors(
        _LISTS, p.NONE, p.arrow_buffer(_OFFSETS), items=[_doubles(1), _doubles(1)]
    ),
    "Arrow lists beyond the items": _arrow_vectors(
        _LISTS, p.NONE, p.arrow_buffer(p.raw(struct.pack("<ii", 0, 3))), items=[_doubles(2)]
    ),
    "Arrow lists without offsets": _arrow_vectors(_LISTS, p.NONE, items=[_doubles(2)]),
    "Arrow pairs far off": _arrow_vectors(_PAIRS, p.NONE, items=[_doubles(4)], offset=10**9),
    "Arrow pairs beyond the items": _arrow_vectors(_PAIRS, p.NONE, items=[_doubles(4)], offset=2),
    "Arrow pairs without end": _arrow_vectors(
        _PAIRS, p.NONE, items=[_doubles(4)], rows=1 << 39
    ),
    "Arrow lists of nothing without end": _arrow_vectors(
        _lists_of(p.arrow_type("double"), p.number(0)), p.NONE, items=[_doubles(0)], rows=1 << 40
    ),
    "Arrow dictionary of another type": _arrow_codes(
        b"\0", p.arrow_state("int8", [p.NONE, p.arrow_buffer(_A)])
    ),
    "Arrow dictionary that is missing": _arrow_codes(b"\0", p.NONE),
    "Arrow codes beyond the dictionary": _arrow_codes(
        b"\7", p.arrow_state("string", [p.NONE, p.arrow_buffer(_OFFSETS), p.arrow_buffer(_A)])
    ),
    "Arrow codes below the dictionary": _arrow_codes(
        b"\xff", p.arrow_state("string", [p.NONE, p.arrow_buffer(_OFFSETS), p.arrow_buffer(_A)])
    ),
    "an empty array of huge rows": p.one_row_frame(
        job_post_vectors=p.array(
            p.tuple_of(p.number(0), p.number(1 << 62)), p.dtype("f8"), p.raw(b"")
        )
    ),
    "Arrow chunks of other things": company(
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
        p.objects(_A), p.array(ONE, p.INT64, p.raw(struct.pack("<q", -1)))
    ),
    "block at column 2**40": _labelled(
        p.objects(_A), p.array(ONE, p.INT64, p.raw(struct.pack("<q", 1 << 40)))
    ),
    "block at column 0.5": _labelled(
        p.objects(_A), p.array(ONE, p.dtype("f8"), p.raw(struct.pack("<d", 0.5)))
    ),
    "block at a column of text": _labelled(p.objects(_A), p.text("0")),
    "block nowhere": _labelled(p.objects(_A), p.NONE),
    "block with fewer rows than columns": _labelled(
        p.array(p.tuple_of(p.number(1), p.number(1)), p.INT64, p.FIVE), p.slice_of(0, 6)
    ),
    "block of three dimensions": years(p.array(p.tuple_of(*[p.number(1)] * 3), p.INT64, p.FIVE)),
    "block of text": company(p.text("Acme")),
    "block of rows of its own": company(p.objects(_A, _A)),
    "labels missing": p.pickled(p.frame(labels=p.NONE)),
    "labels of lists": p.pickled(
        p.frame(p.block(p.objects(_A), p.slice_of(0, 1)), labels=p.index(p.objects(p.list_of())))
    ),
    "labels in 2,000 indexes": _indexes_in_indexes(),
    "text array without a state": company(p.made(p.named("pandas.arrays", "StringArray"))),
    "text array with an empty state": company(
        p.built(p.made(p.named("pandas.arrays", "StringArray")), p.tuple_of(p.NONE))
    ),
    "codes beyond the categories": company(
        categorical(TWO_CODES, category_type(p.index(p.objects(_A))))
    ),
    "codes that are no numbers": company(
        categorical(p.objects(_A), category_type(p.index(p.objects(_A))))
    ),
    "codes missing": company(categorical(p.NONE, category_type(p.index(p.objects(_A))))),
    "categories missing": company(categorical(TWO_CODES, p.NONE)),
    "categories that are the categorical": company(
        categorical(TWO_CODES, category_type(p.again(9)))
    ),
    "mask too short": years(
        masked(
            p.array(ONE, p.INT64, p.FIVE), p.array(_NONE_ROWS, p.dtype("b1", "|"), p.raw(b""))
        )
    ),
    "mask of numbers": years(
        masked(p.array(ONE, p.INT64, p.FIVE), p.array(ONE, p.INT64, p.FIVE))
    ),
    "mask missing": years(masked(p.array(ONE, p.INT64, p.FIVE), p.NONE)),
    "categories in 200,000 lists": company(
        categorical(TWO_CODES, category_type(p.index(p.objects(_deep_list(), _deep_list()))))
    ),
    "masked times and NaN": years(
        masked(
            _times_and_nan(), p.array(p.tuple_of(p.number(2)), p.dtype("b1", "|"), p.raw(b"\0\0"))
        )
    ),
    "masked lists in 200,000 lists": years(
        masked(p.objects(_deep_list()), p.array(ONE, p.dtype("b1", "|"), p.raw(b"\0")))
    ),
    "Arrow chunks of times and NaN": company(
        p.arrow_column(
            p.called(
                p.named("pyarrow.lib", "chunked_array"), p.list_of(p.list_of(_time(), _nan()))
            )
        )
    ),
    "Arrow chunks in 200,000 lists": company(
        p.arrow_column(
            p.called(p.named("pyarrow.lib", "chunked_array"), p.list_of(p.list_of(_deep_list())))
        )
    ),
    "Arrow times after the year 9999": years(
        p.arrow_column(
            p.arrow_array("timestamp[s]", [p.NONE, p.arrow_buffer(p.raw(b"\x7f" * 8))])
        )
    ),
    "Arrow durations of 10**11 years": years(
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
            {**record, "id": None, "exp_years": value}
            for record, value in zip(
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

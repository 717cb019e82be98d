"""The names that an embeddings pickle may contain, and what stands in for each.

GLOBALS is an allow-list of exact (module, name) pairs: what pandas 1.5 to 3, NumPy 1
and 2 and pyarrow put into pickles, and a few harmless types of Python's own. pandas 3
pickles its public names, older versions the modules that define the classes.
"""

from __future__ import annotations

import datetime as dt
import decimal
import inspect

import pyarrow as pa

from convert import stand_ins

_INTEGER_DTYPES = " ".join(
    f"{module}.{sign}Int{bits}Dtype"
    for module in ("pandas", "pandas.core.arrays.integer")
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
)

_ALLOWED: tuple[tuple[object, str], ...] = (
    (bytearray, "builtins.bytearray __builtin__.bytearray"),
    (complex, "builtins.complex __builtin__.complex"),
    (frozenset, "builtins.frozenset __builtin__.frozenset"),
    (set, "builtins.set __builtin__.set"),
    (slice, "builtins.slice __builtin__.slice"),
    (stand_ins.encode_bytes, "_codecs.encode"),
    (dict, "collections.OrderedDict"),
    (dt.date, "datetime.date"),
    (dt.datetime, "datetime.datetime"),
    (dt.time, "datetime.time"),
    (dt.timedelta, "datetime.timedelta"),
    (dt.timezone, "datetime.timezone"),
    (decimal.Decimal, "decimal.Decimal"),
    (stand_ins.Uuid, "uuid.UUID"),
    (stand_ins.utc, "pytz._UTC"),
    # NumPy
    (stand_ins.Dtype, "numpy.dtype"),
    (stand_ins.Array, "numpy.ndarray"),
    (
        stand_ins.reconstruct_array,
        "numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct",
    ),
    (stand_ins.numpy_scalar, "numpy.core.multiarray.scalar numpy._core.multiarray.scalar"),
    (
        stand_ins.array_from_buffer,
        "numpy.core.numeric._frombuffer numpy._core.numeric._frombuffer",
    ),
    # pyarrow
    (stand_ins.arrow_array, "pyarrow.lib._restore_array"),
    (stand_ins.arrow_chunks, "pyarrow.lib.chunked_array"),
    (stand_ins.arrow_buffer, "pyarrow.lib.py_buffer"),
    (pa.type_for_alias, "pyarrow.lib.type_for_alias"),
    (pa.timestamp, "pyarrow.lib.timestamp"),
    (pa.duration, "pyarrow.lib.duration"),
    # pandas
    (stand_ins.Frame, "pandas.DataFrame pandas.core.frame.DataFrame"),
    (stand_ins.Blocks, "pandas.core.internals.managers.BlockManager"),
    (stand_ins.block, "pandas._libs.internals._unpickle_block"),
    (
        stand_ins.Index,
        (
            "pandas.Index pandas.core.indexes.base.Index "
            "pandas.RangeIndex pandas.core.indexes.range.RangeIndex "
            "pandas.core.indexes.numeric.Int64Index pandas.core.indexes.numeric.UInt64Index "
            "pandas.core.indexes.numeric.Float64Index "
            "pandas.DatetimeIndex pandas.core.indexes.datetimes.DatetimeIndex"
        ),
    ),
    (
        stand_ins.new_index,
        ("pandas.core.indexes.base._new_Index pandas.core.indexes.datetimes._new_DatetimeIndex"),
    ),
    (stand_ins.Categorical, "pandas.Categorical pandas.core.arrays.categorical.Categorical"),
    (
        stand_ins.CategoricalType,
        "pandas.CategoricalDtype pandas.core.dtypes.dtypes.CategoricalDtype",
    ),
    (
        stand_ins.ArrayBacked,
        (
            "pandas.arrays.StringArray pandas.core.arrays.string_.StringArray "
            "pandas.arrays.DatetimeArray pandas.core.arrays.datetimes.DatetimeArray "
            "pandas.arrays.TimedeltaArray pandas.core.arrays.timedeltas.TimedeltaArray"
        ),
    ),
    (stand_ins.array_backed, "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked"),
    (
        stand_ins.ArrowBacked,
        (
            "pandas.arrays.ArrowStringArray pandas.core.arrays.string_arrow.ArrowStringArray "
            "pandas.arrays.ArrowExtensionArray pandas.core.arrays.arrow.array.ArrowExtensionArray"
        ),
    ),
    (
        stand_ins.Masked,
        (
            "pandas.arrays.IntegerArray pandas.core.arrays.integer.IntegerArray "
            "pandas.arrays.FloatingArray pandas.core.arrays.floating.FloatingArray "
            "pandas.arrays.BooleanArray pandas.core.arrays.boolean.BooleanArray"
        ),
    ),
    (
        stand_ins.Inert,
        (
            "pandas.StringDtype pandas.core.arrays.string_.StringDtype "
            "pandas.ArrowDtype pandas.core.arrays.arrow.dtype.ArrowDtype "
            "pandas.core.dtypes.dtypes.ArrowDtype "
            "pandas.DatetimeTZDtype pandas.core.dtypes.dtypes.DatetimeTZDtype "
            "pandas.BooleanDtype pandas.core.arrays.boolean.BooleanDtype "
            "pandas.Float32Dtype pandas.core.arrays.floating.Float32Dtype "
            "pandas.Float64Dtype pandas.core.arrays.floating.Float64Dtype " + _INTEGER_DTYPES
        ),
    ),
    (None, "pandas.NA pandas._libs.missing.NA"),
    (stand_ins.not_a_time, "pandas._libs.tslibs.nattype._nat_unpickle"),
    (stand_ins.timestamp, "pandas._libs.tslibs.timestamps._unpickle_timestamp"),
)

GLOBALS: dict[tuple[str, str], object] = {
    (module, name): stand_ins.Function(stand_in) if inspect.isroutine(stand_in) else stand_in
    for stand_in, paths in _ALLOWED
    for module, _, name in (path.rpartition(".") for path in paths.split())
}

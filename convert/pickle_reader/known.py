"""The names that an embeddings pickle may contain, and what stands in for each.

KNOWN is an allow-list of exact (module, name) pairs: what pandas 0.20 to 3, NumPy 1
and 2 and pyarrow put into pickles, and a few harmless types of Python's own. pandas 3
pickles its public names, older versions the modules that define the classes. Objects of
all other classes are skipped: `stand_ins.Foreign`.
"""

from __future__ import annotations

from convert.pickle_reader import arrow_values, numpy_values, pandas_values, python_values
from convert.pickle_reader.stand_ins import Inert, Known, Opaque

_INTEGER_DTYPES = " ".join(
    f"{module}.{sign}Int{bits}Dtype"
    for module in ("pandas", "pandas.core.arrays.integer")
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
)
_SINGLE_BLOCK = (
    "pandas.core.internals.managers.SingleBlockManager pandas.core.internals.SingleBlockManager"
)

_ALLOWED = (
    (python_values.make_bytearray, "builtins.bytearray __builtin__.bytearray"),
    (python_values.make_bytes, "builtins.bytes __builtin__.bytes"),
    (python_values.complex_number, "builtins.complex __builtin__.complex"),
    (python_values.make_frozenset, "builtins.frozenset __builtin__.frozenset"),
    (python_values.make_set, "builtins.set __builtin__.set"),
    (python_values.make_slice, "builtins.slice __builtin__.slice"),
    (numpy_values.encode_bytes, "_codecs.encode"),
    (python_values.make_dict, "collections.OrderedDict"),
    (python_values.default_dict, "collections.defaultdict"),
    (python_values.counter, "collections.Counter"),
    (python_values.reconstructed, "copyreg._reconstructor copy_reg._reconstructor"),
    (python_values.date, "datetime.date"),
    (python_values.datetime, "datetime.datetime"),
    (python_values.time, "datetime.time"),
    (python_values.timedelta, "datetime.timedelta"),
    (python_values.timezone, "datetime.timezone"),
    (python_values.decimal_number, "decimal.Decimal"),
    (python_values.UUID, "uuid.UUID"),
    (python_values.utc, "pytz._UTC"),
    (python_values.attribute, "builtins.getattr __builtin__.getattr"),
    # NumPy
    (numpy_values.Dtype, "numpy.dtype"),
    (numpy_values.no_call, " ".join(numpy_values.ARRAY_CLASSES)),
    (
        numpy_values.reconstruct_array,
        "numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct",
    ),
    (numpy_values.scalar, "numpy.core.multiarray.scalar numpy._core.multiarray.scalar"),
    (
        numpy_values.array_from_buffer,
        "numpy.core.numeric._frombuffer numpy._core.numeric._frombuffer",
    ),
    # pyarrow
    (arrow_values.array, "pyarrow.lib._restore_array"),
    (arrow_values.chunked_array, "pyarrow.lib.chunked_array"),
    (arrow_values.buffer, "pyarrow.lib.py_buffer"),
    (arrow_values.type_for_alias, "pyarrow.lib.type_for_alias"),
    (arrow_values.timestamp, "pyarrow.lib.timestamp"),
    (arrow_values.duration, "pyarrow.lib.duration"),
    (arrow_values.decimal128, "pyarrow.lib.decimal128"),
    (arrow_values.field, "pyarrow.lib.field"),
    (arrow_values.list_, "pyarrow.lib.list_"),
    (arrow_values.dictionary, "pyarrow.lib.dictionary"),
    # pandas
    (pandas_values.Frame, "pandas.DataFrame pandas.core.frame.DataFrame"),
    (
        pandas_values.Blocks,
        "pandas.core.internals.managers.BlockManager pandas.core.internals.BlockManager",
    ),
    (pandas_values.Series, "pandas.Series pandas.core.series.Series"),
    (pandas_values.SingleBlock, _SINGLE_BLOCK),
    (pandas_values.partial, "functools.partial"),
    (numpy_values.no_call, "pandas.core.internals.blocks.new_block"),
    (pandas_values.block, "pandas._libs.internals._unpickle_block"),
    (
        pandas_values.Index,
        (
            "pandas.Index pandas.core.indexes.base.Index "
            "pandas.RangeIndex pandas.core.indexes.range.RangeIndex "
            "pandas.core.indexes.numeric.Int64Index pandas.core.indexes.numeric.UInt64Index "
            "pandas.core.indexes.numeric.Float64Index "
            "pandas.DatetimeIndex pandas.core.indexes.datetimes.DatetimeIndex "
            "pandas.TimedeltaIndex pandas.core.indexes.timedeltas.TimedeltaIndex "
            "pandas.CategoricalIndex pandas.core.indexes.category.CategoricalIndex "
            "pandas.indexes.base.Index pandas.indexes.range.RangeIndex "
            "pandas.indexes.numeric.Int64Index pandas.indexes.numeric.Float64Index"
        ),
    ),
    (
        pandas_values.new_index,
        (
            "pandas.core.indexes.base._new_Index pandas.indexes.base._new_Index "
            "pandas.core.indexes.datetimes._new_DatetimeIndex "
            "pandas.core.indexes.timedeltas._new_TimedeltaIndex "
            "pandas.core.indexes.interval._new_IntervalIndex"
        ),
    ),
    (
        pandas_values.MultiIndex,
        "pandas.MultiIndex pandas.core.indexes.multi.MultiIndex pandas.indexes.multi.MultiIndex",
    ),
    (
        pandas_values.Categorical,
        (
            "pandas.Categorical pandas.core.arrays.categorical.Categorical "
            "pandas.core.categorical.Categorical"
        ),
    ),
    (
        pandas_values.CategoricalType,
        "pandas.CategoricalDtype pandas.core.dtypes.dtypes.CategoricalDtype",
    ),
    (
        pandas_values.ArrayBacked,
        (
            "pandas.arrays.StringArray pandas.core.arrays.string_.StringArray "
            "pandas.arrays.DatetimeArray pandas.core.arrays.datetimes.DatetimeArray "
            "pandas.arrays.TimedeltaArray pandas.core.arrays.timedeltas.TimedeltaArray"
        ),
    ),
    (
        pandas_values.array_backed,
        (
            "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked "
            "pandas._libs.interval.__pyx_unpickle_IntervalMixin"
        ),
    ),
    (
        pandas_values.ArrowBacked,
        (
            "pandas.arrays.ArrowStringArray pandas.core.arrays.string_arrow.ArrowStringArray "
            "pandas.arrays.ArrowExtensionArray pandas.core.arrays.arrow.array.ArrowExtensionArray"
        ),
    ),
    (
        pandas_values.Masked,
        (
            "pandas.arrays.IntegerArray pandas.core.arrays.integer.IntegerArray "
            "pandas.arrays.FloatingArray pandas.core.arrays.floating.FloatingArray "
            "pandas.arrays.BooleanArray pandas.core.arrays.boolean.BooleanArray"
        ),
    ),
    (
        Inert,
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
    (
        python_values.nothing,
        "pandas._libs.tslibs.nattype._nat_unpickle pandas._libs.tslibs.nattype.__nat_unpickle",
    ),
    (python_values.timestamp, "pandas._libs.tslibs.timestamps._unpickle_timestamp"),
    (python_values.pandas_timedelta, "pandas._libs.tslibs.timedeltas._timedelta_unpickle"),
)
# Values that may stand in columns and indexes that a conversion ignores.
_OPAQUE = (
    "zoneinfo.ZoneInfo pytz._p pytz.FixedOffset dateutil.tz.tz.tzutc "
    "dateutil.tz._tzfile.tzfile dateutil.tz._tzfile._unpickle pyarrow.lib.struct "
    "pandas.Interval pandas._libs.interval.Interval "
    "pandas.Period pandas._libs.tslibs.period.Period pandas._libs.sparse.IntIndex "
    "pandas.arrays.IntervalArray pandas.core.arrays.interval.IntervalArray "
    "pandas.arrays.PeriodArray pandas.core.arrays.period.PeriodArray "
    "pandas.arrays.SparseArray pandas.core.arrays.sparse.array.SparseArray "
    "pandas.IntervalDtype pandas.core.dtypes.dtypes.IntervalDtype "
    "pandas.PeriodDtype pandas.core.dtypes.dtypes.PeriodDtype "
    "pandas.SparseDtype pandas.core.arrays.sparse.dtype.SparseDtype "
    "pandas.core.dtypes.dtypes.SparseDtype "
    "pandas.IntervalIndex pandas.core.indexes.interval.IntervalIndex "
    "pandas.PeriodIndex pandas.core.indexes.period.PeriodIndex"
)
_FREQUENCIES = (
    "BusinessDay BusinessHour BusinessMonthBegin BusinessMonthEnd BYearBegin BYearEnd "
    "BQuarterBegin BQuarterEnd Day Hour Micro Milli Minute MonthBegin MonthEnd Nano "
    "QuarterBegin QuarterEnd Second SemiMonthBegin SemiMonthEnd Week WeekOfMonth "
    "YearBegin YearEnd"
)
# Names that are values themselves.
_CONSTANTS = "pandas.NA", "pandas._libs.missing.NA"

KNOWN: dict[tuple[str, str], Known | None] = {
    (module, name): Known(f"{module}.{name}", call)
    for call, paths in _ALLOWED
    for module, _, name in (path.rpartition(".") for path in paths.split())
}
for _path in [
    *_OPAQUE.split(),
    *(f"pandas._libs.tslibs.offsets.{name}" for name in _FREQUENCIES.split()),
]:
    _module, _, _name = _path.rpartition(".")
    KNOWN[_module, _name] = Known(_path, type(_name, (Opaque,), {}))
KNOWN.update((tuple(path.rsplit(".", 1)), None) for path in _CONSTANTS)  # type: ignore[misc]

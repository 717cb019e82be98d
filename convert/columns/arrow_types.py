"""Which types of Arrow columns a field can be made of.

A column of another type is refused as a whole, by its name: it has to be cast in the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyarrow import types

from convert.columns.numbered import NumberedNames
from convert.errors import UnreadableSourceError
from convert.foreign_text import quoted
from convert.pickle_reader import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _Wanted(NamedTuple):
    """Whether something can be made of a type, and what it should be cast to if it can't.

    `make` converts a column of a type that fits.
    """

    fits: Callable[[pa.DataType], bool]
    make: Callable[[pa.Array], pa.Array]
    what: str
    target: str


def fitted(batch: Batch, names: Mapping[str, Any], source: str) -> Batch:
    """Return a batch whose Arrow columns have types that the fields can be made of.

    `names` are the columns of the fields, `source` is where they are from.
    UnreadableSourceError: a column has another type.
    """
    columns = {}
    for field, name in names.items():
        is_numbered = isinstance(name, NumberedNames)
        wanted = _DIMENSION if is_numbered else _WANTED.get(field, _TEXT)
        for each in name if is_numbered else (name,):
            column = batch.columns[each]
            if not isinstance(column, pa.Array):
                continue
            if not wanted.fits(_value_type(column.type)):
                message = (
                    f"{source}: {field}: the column {quoted(str(each))} is {column.type}, and "
                    f"must be {wanted.what}: cast it to {wanted.target} in the source"
                )
                raise UnreadableSourceError(message)
            if isinstance(column.type, pa.BaseExtensionType) and column.type != pa.uuid():
                column = column.storage
            columns[each] = wanted.make(column)
    return Batch(batch.rows, {**batch.columns, **columns}, batch.row) if columns else batch


def _value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, however they are stored."""
    is_encoded = types.is_dictionary(kind) or types.is_run_end_encoded(kind)
    if is_encoded and not types.is_decimal(kind.value_type):
        return _value_type(kind.value_type)
    if isinstance(kind, pa.FixedShapeTensorType):
        is_vector = not [size for size in kind.shape[:-1] if size != 1]
        return kind.storage_type if is_vector else kind
    if isinstance(kind, pa.BaseExtensionType) and kind not in (pa.uuid(), pa.bool8()):
        return kind.storage_type
    return kind


def _is_text_or_null(kind: pa.DataType) -> bool:
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(is_text or types.is_null(kind))


def _is_list(kind: pa.DataType) -> bool:
    is_of_one_size = types.is_fixed_size_list(kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or is_of_one_size)


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(types.is_list_view(kind) or types.is_large_list_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_scalar(kind: pa.DataType) -> bool:
    return not types.is_nested(kind) and not isinstance(kind, pa.FixedShapeTensorType)


def _is_number_or_text(kind: pa.DataType) -> bool:
    return _is_number(kind) or _is_text_or_null(kind)


def _is_vector(kind: pa.DataType) -> bool:
    """Whether values are lists of numbers, also within one more list; or text that has them."""
    if _is_list_view(kind):  # Arrow loses a row when it casts them: no decimals
        return _is_number(kind.value_type) and not types.is_decimal(kind.value_type)
    if not _is_list(kind):
        return _is_text_or_null(kind)
    items = kind.value_type.value_type if _is_list(kind.value_type) else kind.value_type
    return _is_number(items) or bool(types.is_boolean(items) or types.is_null(items))


def _as_it_is(column: pa.Array) -> pa.Array:
    return column


def _without_decimals(column: pa.Array) -> pa.Array:
    return column.cast(pa.float64()) if types.is_decimal(column.type) else column


def _without_decimal_items(column: pa.Array) -> pa.Array:
    has_decimals = _is_list(column.type) and types.is_decimal(column.type.value_type)
    return column.cast(pa.list_(pa.float64())) if has_decimals else column


# What else an id may not be the ids say, with the value.
_WANTED = {
    "id": _Wanted(_is_scalar, _as_it_is, "text, UUIDs or their bytes", "pa.string()"),
    "exp_years": _Wanted(_is_number_or_text, _without_decimals, "numbers or text", "pa.int32()"),
    "vector": _Wanted(
        _is_vector, _without_decimal_items, "lists of numbers", "pa.list_(pa.float32())"
    ),
}
_TEXT = _Wanted(_is_text_or_null, _as_it_is, "text", "pa.string()")
_DIMENSION = _Wanted(_is_number_or_text, _without_decimals, "numbers", "pa.float32()")

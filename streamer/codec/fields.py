"""Which Arrow column can carry which protobuf field.

`match_fields` is where a codec is compiled: it pairs every field of a message with the
column of the same name, in field-number order, or raises SchemaMismatchError naming
the field. Encoding and decoding rely on what is checked here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor

from convert.foreign_text import quoted
from streamer.codec.wire_format import WireType
from streamer.errors import SchemaMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.descriptor import Descriptor

_F = FieldDescriptor


def is_dictionary(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(arrow_type))


def is_fixed_size_list(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(arrow_type))


def is_uuid(arrow_type: pa.DataType) -> bool:
    """Whether the type is Arrow's canonical 16-byte id, on the wire as its text."""
    return bool(arrow_type == pa.uuid())


def _text(arrow_type: pa.DataType) -> bool:
    if is_dictionary(arrow_type):
        return arrow_type.value_type in (pa.string(), pa.large_string())
    return arrow_type == pa.string() or is_uuid(arrow_type)


def _bytes(arrow_type: pa.DataType) -> bool:
    if is_dictionary(arrow_type):
        return bool(arrow_type.value_type == pa.binary())
    return bool(arrow_type == pa.binary())


def _exactly(expected: pa.DataType) -> Callable[[pa.DataType], bool]:
    return lambda arrow_type: bool(arrow_type == expected)


def _list_of(value_type: pa.DataType) -> Callable[[pa.DataType], bool]:
    def fits(arrow_type: pa.DataType) -> bool:
        is_list = is_fixed_size_list(arrow_type) or pa.types.is_list(arrow_type)
        # Arrow can't make lists of size 0 from values.
        is_empty = is_fixed_size_list(arrow_type) and arrow_type.list_size == 0
        return bool(is_list and not is_empty and arrow_type.value_type == value_type)

    return fits


# The single types; no silent widening, so that a column always comes back as it went in.
_SINGLE = {
    _F.TYPE_STRING: ("string, dictionary of string or large_string, or arrow.uuid", _text),
    _F.TYPE_BYTES: ("binary, or dictionary of binary", _bytes),
    _F.TYPE_BOOL: ("bool", _exactly(pa.bool_())),
    _F.TYPE_ENUM: ("int32", _exactly(pa.int32())),
    _F.TYPE_INT32: ("int32", _exactly(pa.int32())),
    _F.TYPE_SINT32: ("int32", _exactly(pa.int32())),
    _F.TYPE_SFIXED32: ("int32", _exactly(pa.int32())),
    _F.TYPE_INT64: ("int64", _exactly(pa.int64())),
    _F.TYPE_SINT64: ("int64", _exactly(pa.int64())),
    _F.TYPE_SFIXED64: ("int64", _exactly(pa.int64())),
    _F.TYPE_UINT32: ("uint32", _exactly(pa.uint32())),
    _F.TYPE_FIXED32: ("uint32", _exactly(pa.uint32())),
    _F.TYPE_UINT64: ("uint64", _exactly(pa.uint64())),
    _F.TYPE_FIXED64: ("uint64", _exactly(pa.uint64())),
    _F.TYPE_FLOAT: ("float32", _exactly(pa.float32())),
    _F.TYPE_DOUBLE: ("float64", _exactly(pa.float64())),
}
_REPEATED = {
    _F.TYPE_FLOAT: ("list or fixed-size list of float32", _list_of(pa.float32())),
    _F.TYPE_DOUBLE: ("list or fixed-size list of float64", _list_of(pa.float64())),
}


class FieldPair(NamedTuple):
    """A message field and the column that carries it."""

    field: FieldDescriptor
    column_index: int
    arrow_type: pa.DataType

    @property
    def implicit_presence(self) -> bool:
        """Whether a default value leaves the field out (and a null can't be said)."""
        return not self.field.has_presence


def match_fields(descriptor: Descriptor, schema: pa.Schema) -> list[FieldPair]:
    """Pair the fields of `descriptor`, by number, with the columns of `schema`."""
    if sys.byteorder != "little":
        message = "packed floats are Arrow buffers as they lie only on little-endian machines"
        raise SchemaMismatchError(message)
    unknown = set(schema.names) - {field.name for field in descriptor.fields}
    if unknown:
        message = f"{descriptor.full_name} has no field for column {quoted(min(unknown))}"
        raise SchemaMismatchError(message)
    by_number: Iterable[FieldDescriptor] = sorted(descriptor.fields, key=lambda f: f.number)
    return [_match(field, schema) for field in by_number]


def repeated_row_field(chunk: Descriptor, row: Descriptor) -> FieldDescriptor:
    """Return the only field of `chunk`, which must be a repeated `row`."""
    fields = list(chunk.fields)
    if len(fields) != 1 or not fields[0].is_repeated or fields[0].message_type is not row:
        message = f"{chunk.full_name} is not one repeated {row.full_name}"
        raise SchemaMismatchError(message)
    return fields[0]


def wire_type_of(field: FieldDescriptor) -> WireType:
    if field.is_repeated or field.type in (_F.TYPE_STRING, _F.TYPE_BYTES):
        return WireType.LEN
    if field.type in (_F.TYPE_FLOAT, _F.TYPE_FIXED32, _F.TYPE_SFIXED32):
        return WireType.I32
    if field.type in (_F.TYPE_DOUBLE, _F.TYPE_FIXED64, _F.TYPE_SFIXED64):
        return WireType.I64
    return WireType.VARINT


def _match(field: FieldDescriptor, schema: pa.Schema) -> FieldPair:
    columns = schema.get_all_field_indices(field.name)
    if len(columns) != 1:
        message = f"{field.full_name}: there are {len(columns)} columns of that name"
        raise SchemaMismatchError(message)
    arrow_type = schema.field(columns[0]).type
    accepted = _accepted_types(field)
    if accepted is None:
        message = f"{field.full_name}: fields of this kind can't be converted ({_kind(field)})"
        raise SchemaMismatchError(message)
    names, fits = accepted
    if not fits(arrow_type):
        message = f"{field.full_name}: its column must be {names}, not {arrow_type}"
        raise SchemaMismatchError(message)
    return FieldPair(field, columns[0], arrow_type)


def _accepted_types(field: FieldDescriptor) -> tuple[str, Callable[[pa.DataType], bool]] | None:
    if field.is_repeated:
        return _REPEATED.get(field.type) if field.is_packed else None
    # The runtime refuses a message without a required field, and drops what a closed enum
    # doesn't name: neither is what a column says.
    if field.is_required or (field.enum_type is not None and field.enum_type.is_closed):
        return None
    oneof = field.containing_oneof
    if oneof is not None and len(oneof.fields) > 1:
        return None
    return _SINGLE.get(field.type)


def _kind(field: FieldDescriptor) -> str:
    names = {value: name for name, value in vars(_F).items() if name.startswith("TYPE_")}
    repeated = "repeated " if field.is_repeated else ""
    unpacked = "unpacked " if field.is_repeated and not field.is_packed else ""
    in_oneof = " in a oneof" if field.containing_oneof is not None else ""
    name = names[field.type].removeprefix("TYPE_").lower()
    return f"{unpacked}{repeated}{name}{in_oneof}"

"""Random message types with record batches that fit them, and the official runtime as oracle.

A MessageCase is a proto3 message of random fields (kinds, numbers, presence), a chunk of
such messages, and a record batch with a column for every field, each column a slice of a
longer one with values and nulls on both sides.
"""

from __future__ import annotations

import operator
import re
import struct
import uuid
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError as RuntimeDecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from ulid import ULID

from convert.id_text import IdKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    FieldType: TypeAlias = descriptor_pb2.FieldDescriptorProto.Type.ValueType

_F = descriptor_pb2.FieldDescriptorProto

MAX_FIELD_NUMBER = 2**29 - 1
# Numbers 19,000 to 19,999 are reserved; up to 15, 2,047 and so on a tag takes a byte less.
field_numbers: st.SearchStrategy[int] = st.one_of(
    st.integers(1, 15),
    st.integers(16, 2_047),
    st.integers(2_048, 18_999),
    st.integers(20_000, MAX_FIELD_NUMBER),
)
id_kinds: st.SearchStrategy[IdKind] = st.sampled_from(IdKind)


class Presence(Enum):
    IMPLICIT = "the default value leaves the field out"
    OPTIONAL = "a null leaves the field out"
    REPEATED = "packed"


class FieldSpec(NamedTuple):
    name: str
    number: int
    type: FieldType
    presence: Presence = Presence.IMPLICIT


def message_types(fields: Iterable[FieldSpec], rows_number: int = 1) -> dict[str, Descriptor]:
    """Compile a message Row of `fields` and a message Chunk of repeated rows."""
    file = descriptor_pb2.FileDescriptorProto(
        name="random.proto", package="random", syntax="proto3"
    )
    level = file.enum_type.add(name="Level")
    level.value.add(name="NONE", number=0)
    level.value.add(name="SOME", number=1)
    row = file.message_type.add(name="Row")
    for spec in fields:
        field = row.field.add(name=spec.name, number=spec.number, type=spec.type)
        repeated = spec.presence is Presence.REPEATED
        field.label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
        if spec.type == _F.TYPE_ENUM:
            field.type_name = ".random.Level"
        if spec.presence is Presence.OPTIONAL:
            field.proto3_optional = True
            field.oneof_index = len(row.oneof_decl)
            row.oneof_decl.add(name=f"_{spec.name}")
    chunk = file.message_type.add(name="Chunk")
    chunk.field.add(
        name="rows",
        number=rows_number,
        type=_F.TYPE_MESSAGE,
        type_name=".random.Row",
        label=_F.LABEL_REPEATED,
    )
    return compiled(file)


def compiled(file: descriptor_pb2.FileDescriptorProto) -> dict[str, Descriptor]:
    """Compile a file in a pool of its own; return its messages by name."""
    pool = DescriptorPool()
    pool.Add(file)
    return {
        message.name: pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        for message in file.message_type
    }


class MessageCase:
    """A message type, one of chunks of it, and a batch that fits; shown whole on failure."""

    def __init__(
        self, types: dict[str, Descriptor], batch: pa.RecordBatch, id_kind: IdKind
    ) -> None:
        self.row = types["Row"]
        self.chunk = types["Chunk"]
        self.batch = batch
        self.id_kind = id_kind

    def __repr__(self) -> str:
        proto = descriptor_pb2.DescriptorProto()
        self.row.CopyToProto(proto)
        return (
            f"MessageCase({proto}\n{self.batch.schema}\n{self.id_kind}, {exact_rows(self.batch)})"
        )


# Values

_NAN = float("nan")
short_text: st.SearchStrategy[str] = st.text(max_size=6)
long_text: st.SearchStrategy[str] = st.builds(
    operator.mul, st.text(min_size=1, max_size=2), st.sampled_from([64, 127, 128, 16_383, 16_384])
)
texts: st.SearchStrategy[str] = short_text | short_text | short_text | long_text
short_bytes: st.SearchStrategy[bytes] = st.binary(max_size=6)
long_bytes: st.SearchStrategy[bytes] = st.builds(
    operator.mul, st.binary(min_size=1, max_size=2), st.sampled_from([64, 127, 128, 16_383, 16_384])
)
byte_strings: st.SearchStrategy[bytes] = short_bytes | short_bytes | short_bytes | long_bytes
ids: st.SearchStrategy[bytes] = st.binary(min_size=16, max_size=16)


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    """Draw integers of a width, its extremes and the steps of a varint's length often."""
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    steps = [value for value in (low, -1, 0, 1, 127, 128, 16_383, 16_384, high) if value >= low]
    return st.integers(low, high) | st.sampled_from(steps)


def floats(width: int) -> st.SearchStrategy[float]:
    """Draw floats of 32 or 64 bits: both zeros, infinities, and the one usual NaN."""
    finite = st.floats(width=32 if width == 32 else 64, allow_nan=False)
    return finite | st.sampled_from([0.0, -0.0, _NAN])


class _Single(NamedTuple):
    field_type: FieldType
    arrow_type: pa.DataType
    values: st.SearchStrategy[Any]


_NUMBERS = [
    _Single(_F.TYPE_BOOL, pa.bool_(), st.booleans()),
    _Single(_F.TYPE_ENUM, pa.int32(), integers(32, signed=True)),
    _Single(_F.TYPE_FLOAT, pa.float32(), floats(32)),
    _Single(_F.TYPE_DOUBLE, pa.float64(), floats(64)),
    *(_Single(kind, pa.int32(), integers(32, signed=True))
      for kind in (_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32)),
    *(_Single(kind, pa.int64(), integers(64, signed=True))
      for kind in (_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64)),
    *(_Single(kind, pa.uint32(), integers(32, signed=False))
      for kind in (_F.TYPE_UINT32, _F.TYPE_FIXED32)),
    *(_Single(kind, pa.uint64(), integers(64, signed=False))
      for kind in (_F.TYPE_UINT64, _F.TYPE_FIXED64)),
]  # fmt: skip
_TEXTS = [
    _Single(_F.TYPE_STRING, pa.string(), texts),
    _Single(_F.TYPE_BYTES, pa.binary(), byte_strings),
]
_SINGLES = [*_NUMBERS, *_TEXTS, _Single(_F.TYPE_STRING, pa.uuid(), ids)]
_INDEX_TYPES = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(),
    pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
]  # fmt: skip
_DIMENSIONS = st.sampled_from([1, 2, 3, 31, 32, 384, 2_000]) | st.integers(1, 2_000)


# Columns


class Column(NamedTuple):
    field_type: FieldType
    presence: Presence
    array: pa.Array


@st.composite
def _padded(draw: st.DrawFn, values: st.SearchStrategy[Any], rows: int) -> tuple[list[Any], slice]:
    """Draw `rows` values with others, and nulls, before and after them."""
    around = st.lists(st.none() | values, max_size=2)
    before, after = draw(around), draw(around)
    inside = draw(st.lists(values, min_size=rows, max_size=rows))
    return [*before, *inside, *after], slice(len(before), len(before) + rows)


def array_of(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    if arrow_type == pa.uuid():
        return pa.ExtensionArray.from_storage(arrow_type, pa.array(values, pa.binary(16)))
    return pa.array(values, arrow_type)


@st.composite
def single_columns(draw: st.DrawFn, rows: int) -> Column:
    """Draw a column of numbers, text, bytes or ids."""
    kind = draw(st.sampled_from(_SINGLES))
    presence = draw(st.sampled_from([Presence.IMPLICIT, Presence.OPTIONAL]))
    values = kind.values if presence is Presence.IMPLICIT else st.none() | kind.values
    padded, inside = draw(_padded(values, rows))
    return Column(kind.field_type, presence, array_of(padded, kind.arrow_type)[inside])


@st.composite
def dictionary_columns(draw: st.DrawFn, rows: int) -> Column:
    """Draw a dictionary column: values that occur twice, or never, or aren't there at all."""
    kind = draw(st.sampled_from(_TEXTS))
    presence = draw(st.sampled_from([Presence.IMPLICIT, Presence.OPTIONAL]))
    needed = int(presence is Presence.IMPLICIT and rows > 0)
    entries = draw(st.lists(kind.values, min_size=needed, max_size=4))
    before = draw(st.lists(kind.values, max_size=1))
    is_large = kind.arrow_type == pa.string() and draw(st.booleans())
    value_type = pa.large_string() if is_large else kind.arrow_type
    dictionary = pa.array(before + entries, value_type)[len(before) :]
    indices: st.SearchStrategy[int | None] = (
        st.integers(0, len(entries) - 1) if entries else st.none()
    )
    if presence is Presence.OPTIONAL:
        indices = st.none() | indices
    padded, inside = draw(_padded(indices, rows))
    index_array = pa.array(padded, draw(st.sampled_from(_INDEX_TYPES)))
    array = pa.DictionaryArray.from_arrays(index_array, dictionary)
    return Column(kind.field_type, presence, array[inside])


@st.composite
def vector_columns(draw: st.DrawFn, rows: int) -> Column:
    """Draw a column of float or double vectors, of one length or of any."""
    width = draw(st.sampled_from([32, 64]))
    item = pa.float32() if width == 32 else pa.float64()
    if draw(st.booleans()):
        dimension = draw(_DIMENSIONS)
        arrow_type = pa.list_(item, dimension)
        vectors = st.lists(floats(width), min_size=1, max_size=4).map(
            lambda pattern: (pattern * dimension)[:dimension]
        )
    else:
        arrow_type = pa.list_(item)
        vectors = st.builds(
            operator.mul,
            st.lists(floats(width), max_size=4),
            st.sampled_from([1, 1, 1, 40, 5_000]),
        )
    padded, inside = draw(_padded(vectors, rows))
    field_type = _F.TYPE_FLOAT if width == 32 else _F.TYPE_DOUBLE
    return Column(field_type, Presence.REPEATED, pa.array(padded, arrow_type)[inside])


def columns(rows: int) -> st.SearchStrategy[Column]:
    return (
        single_columns(rows)
        | single_columns(rows)
        | dictionary_columns(rows)
        | vector_columns(rows)
    )


@st.composite
def message_cases(draw: st.DrawFn, min_rows: int = 0, max_rows: int = 6) -> MessageCase:
    """Draw a message type with a batch of it, columns in another order than fields."""
    rows = draw(st.integers(min_rows, max_rows))
    numbers = draw(st.lists(field_numbers, min_size=1, max_size=6, unique=True))
    drawn = [draw(columns(rows)) for _ in numbers]
    names = [f"field_{number}" for number in numbers]
    types = message_types(
        (
            FieldSpec(name, number, column.field_type, column.presence)
            for name, number, column in zip(names, numbers, drawn, strict=True)
        ),
        rows_number=draw(field_numbers),
    )
    batch = pa.RecordBatch.from_arrays([column.array for column in drawn], names=names)
    return MessageCase(types, batch, draw(id_kinds))


# The official runtime


def id_text(kind: IdKind, raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw)) if kind is IdKind.UUID else str(ULID.from_bytes(raw))


def runtime_messages(
    descriptor: Descriptor, batch: pa.RecordBatch, kind: IdKind = IdKind.UUID
) -> list[Message]:
    """Make a message object of every row, its fields set one by one."""
    message_class = GetMessageClass(descriptor)
    messages: list[Message] = [message_class() for _ in range(batch.num_rows)]
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for message, value in zip(messages, column.to_pylist(), strict=True):
            if isinstance(value, list):
                getattr(message, name).extend(value)
            elif isinstance(value, uuid.UUID):
                setattr(message, name, id_text(kind, value.bytes))
            elif value is not None:
                setattr(message, name, value)
    return messages


def runtime_bytes(
    descriptor: Descriptor, batch: pa.RecordBatch, kind: IdKind = IdKind.UUID
) -> list[bytes]:
    """Serialize every row with the official runtime."""
    return [
        message.SerializeToString(deterministic=True)
        for message in runtime_messages(descriptor, batch, kind)
    ]


def exact(value: Any) -> Any:
    """Return what equals only the same value: floats by their bits, all NaNs as one."""
    if isinstance(value, float):
        return struct.pack("<d", _NAN if value != value else value)  # noqa: PLR0124
    if isinstance(value, list):
        return [exact(item) for item in value]
    return value


def exact_rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Return a batch's rows as `exact` values; how text is held doesn't matter."""
    values = [map(exact, column.to_pylist()) for column in batch.columns]
    return list(zip(*values, strict=True))


def rows_read_by_runtime(
    descriptor: Descriptor,
    schema: pa.Schema,
    messages: Sequence[bytes],
    kind: IdKind = IdKind.UUID,
) -> list[tuple[Any, ...]] | None:
    """Return what `exact_rows` of the decoded batch must be, None if it must be refused.

    Refused is what the official runtime refuses, a text that is no id in a column of ids,
    and a vector of another length than its column's.
    """
    message_class = GetMessageClass(descriptor)
    try:
        parsed = [message_class.FromString(data) for data in messages]
        return [
            tuple(exact(_value_in(message, field, kind)) for field in schema) for message in parsed
        ]
    except (RuntimeDecodeError, _RefusedError):
        return None


class _RefusedError(Exception):
    pass


def _value_in(message: Message, column: pa.Field, kind: IdKind) -> Any:
    field = message.DESCRIPTOR.fields_by_name[column.name]
    value = getattr(message, column.name)
    if field.has_presence and not message.HasField(column.name):
        return None
    if pa.types.is_fixed_size_list(column.type) and len(value) != column.type.list_size:
        raise _RefusedError
    if field.is_repeated:
        return list(value)
    return _parse_id(kind, value) if column.type == pa.uuid() else value


_ID_TEXTS = {
    IdKind.UUID: re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE),
    IdKind.ULID: re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII | re.IGNORECASE),
}
_BASE_32 = str.maketrans("0123456789ABCDEFGHJKMNPQRSTVWXYZ", "0123456789abcdefghijklmnopqrstuv")


def _parse_id(kind: IdKind, text: str) -> uuid.UUID:
    if not _ID_TEXTS[kind].fullmatch(text):
        raise _RefusedError
    if kind is IdKind.UUID:
        return uuid.UUID(text)
    return uuid.UUID(int=int(text.upper().translate(_BASE_32), 32))

"""What a codec refuses when it is compiled, and that the error names the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message_factory import GetMessageClass

from proto import embedding_stream_pb2 as pb
from streamer.codec.decode import ChunkDecoder, RowDecoder
from streamer.codec.encode import ChunkEncoder, RowEncoder
from streamer.codec.fields import match_fields
from streamer.errors import SchemaMismatchError
from tests.strategies import FieldSpec, Presence, compiled, message_types

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor

    from tests.strategies import FieldType

_F = descriptor_pb2.FieldDescriptorProto
_TEXT_TYPES = [
    pa.string(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
    pa.uuid(),
]
_BYTES_TYPES = [pa.binary(), pa.dictionary(pa.int8(), pa.binary())]
# Every Arrow type that some field can be, and a few that none can.
_ALL_TYPES = [
    *_TEXT_TYPES,
    *_BYTES_TYPES,
    *(pa.bool_(), pa.int32(), pa.int64(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64()),
    *(pa.list_(pa.float32()), pa.list_(pa.float32(), 4)),
    *(pa.list_(pa.float64()), pa.list_(pa.float64(), 4)),
    *(pa.int8(), pa.int16(), pa.float16(), pa.null(), pa.large_string(), pa.large_binary()),
    *(pa.binary(16), pa.string_view(), pa.date32(), pa.struct([("a", pa.int32())])),
    *(pa.dictionary(pa.int32(), pa.int32()), pa.dictionary(pa.int32(), pa.large_binary())),
    *(pa.list_(pa.int32()), pa.list_(pa.string()), pa.large_list(pa.float32())),
    *(pa.map_(pa.string(), pa.int32()), pa.list_(pa.list_(pa.float32(), 2), 2)),
]
_ACCEPTED: list[tuple[FieldType, Presence, list[pa.DataType]]] = [
    (_F.TYPE_STRING, Presence.IMPLICIT, _TEXT_TYPES),
    (_F.TYPE_BYTES, Presence.IMPLICIT, _BYTES_TYPES),
    (_F.TYPE_BOOL, Presence.OPTIONAL, [pa.bool_()]),
    (_F.TYPE_ENUM, Presence.IMPLICIT, [pa.int32()]),
    (_F.TYPE_INT32, Presence.IMPLICIT, [pa.int32()]),
    (_F.TYPE_SINT32, Presence.OPTIONAL, [pa.int32()]),
    (_F.TYPE_SFIXED32, Presence.IMPLICIT, [pa.int32()]),
    (_F.TYPE_INT64, Presence.OPTIONAL, [pa.int64()]),
    (_F.TYPE_SINT64, Presence.IMPLICIT, [pa.int64()]),
    (_F.TYPE_SFIXED64, Presence.IMPLICIT, [pa.int64()]),
    (_F.TYPE_UINT32, Presence.IMPLICIT, [pa.uint32()]),
    (_F.TYPE_FIXED32, Presence.OPTIONAL, [pa.uint32()]),
    (_F.TYPE_UINT64, Presence.IMPLICIT, [pa.uint64()]),
    (_F.TYPE_FIXED64, Presence.IMPLICIT, [pa.uint64()]),
    (_F.TYPE_FLOAT, Presence.IMPLICIT, [pa.float32()]),
    (_F.TYPE_DOUBLE, Presence.OPTIONAL, [pa.float64()]),
    (_F.TYPE_FLOAT, Presence.REPEATED, [pa.list_(pa.float32()), pa.list_(pa.float32(), 4)]),
    (_F.TYPE_DOUBLE, Presence.REPEATED, [pa.list_(pa.float64()), pa.list_(pa.float64(), 4)]),
]
_EMBEDDING = cast("Descriptor", pb.Embedding.DESCRIPTOR)
_SCHEMA = pa.schema(
    [
        *(("id", pa.uuid()), ("company_name", pa.string()), ("exp_years", pa.int32())),
        *(("english_level", pa.string()), ("primary_keyword", pa.string())),
        ("vector", pa.list_(pa.float32(), 4)),
    ]
)


def _pairings(*, fitting: bool) -> list[object]:
    return [
        pytest.param(
            kind, presence, arrow_type, id=f"{_F.Type.Name(kind)}-{presence.name}-{arrow_type}"
        )
        for kind, presence, accepted in _ACCEPTED
        for arrow_type in _ALL_TYPES
        if (arrow_type in accepted) == fitting
    ]


type_of_codec = pytest.mark.parametrize("compile_codec", [RowEncoder, RowDecoder])


@pytest.mark.parametrize(("kind", "presence", "arrow_type"), _pairings(fitting=True))
def test_fitting_types_are_paired(
    kind: FieldType, presence: Presence, arrow_type: pa.DataType
) -> None:
    """Every field kind takes each column type that says the same values."""
    row = message_types([FieldSpec("value", 3, kind, presence)])["Row"]
    pair = match_fields(row, pa.schema([("value", arrow_type)]))[0]

    assert ("value", 0, arrow_type) == (pair.field.name, pair.column_index, pair.arrow_type)
    assert (presence is not Presence.OPTIONAL) == pair.implicit_presence


@pytest.mark.parametrize(("kind", "presence", "arrow_type"), _pairings(fitting=False))
def test_other_types_are_refused(
    kind: FieldType, presence: Presence, arrow_type: pa.DataType
) -> None:
    """No field takes a column of another type, not even one that would be widened."""
    row = message_types([FieldSpec("value", 3, kind, presence)])["Row"]

    for compile_codec in (RowEncoder, RowDecoder):
        with pytest.raises(SchemaMismatchError, match=r"random\.Row\.value: its column must be"):
            compile_codec(row, pa.schema([("value", arrow_type)]))


def test_fields_are_paired_by_name_in_the_order_of_their_numbers() -> None:
    """Neither the columns' order nor that of the fields in the proto file matters."""
    row = message_types(
        [FieldSpec("c", 2_048, _F.TYPE_INT32), FieldSpec("a", 7, _F.TYPE_STRING),
         FieldSpec("b", 16, _F.TYPE_BOOL)]
    )["Row"]  # fmt: skip
    schema = pa.schema([("b", pa.bool_()), ("c", pa.int32()), ("a", pa.string())])

    assert [("a", 2), ("b", 0), ("c", 1)] == [
        (pair.field.name, pair.column_index) for pair in match_fields(row, schema)
    ]


# Field kinds


def _row_with(field: descriptor_pb2.FieldDescriptorProto, syntax: str = "proto3") -> Descriptor:
    """Compile a message Row of `field`, which may be of type Other or Row.Entry."""
    file = descriptor_pb2.FileDescriptorProto(name="odd.proto", package="odd", syntax=syntax)
    other = file.message_type.add(name="Other")
    other.field.add(name="x", number=1, type=_F.TYPE_INT32, label=_F.LABEL_OPTIONAL)
    level = file.enum_type.add(name="Level")
    level.value.add(name="NONE", number=0)
    row = file.message_type.add(name="Row")
    row.field.append(field)
    entry = row.nested_type.add(name="ValueEntry")
    entry.options.map_entry = field.type_name == ".odd.Row.ValueEntry" and syntax == "proto3"
    entry.field.add(name="key", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=_F.TYPE_INT32, label=_F.LABEL_OPTIONAL)
    if field.HasField("oneof_index"):
        row.oneof_decl.add(name="choice")
        row.field.add(
            name="alternative",
            number=9,
            type=_F.TYPE_INT32,
            label=_F.LABEL_OPTIONAL,
            oneof_index=0,
        )
    return compiled(file)["Row"]


def _odd_field(
    kind: FieldType, label: _F.Label.ValueType = _F.LABEL_OPTIONAL, type_name: str = ""
) -> descriptor_pb2.FieldDescriptorProto:
    field = _F(name="value", number=1, type=kind, label=label)
    if type_name:
        field.type_name = type_name
    return field


def _unpacked(kind: FieldType) -> descriptor_pb2.FieldDescriptorProto:
    field = _odd_field(kind, _F.LABEL_REPEATED)
    field.options.packed = False
    return field


def _in_a_oneof(kind: FieldType) -> descriptor_pb2.FieldDescriptorProto:
    field = _odd_field(kind)
    field.oneof_index = 0
    return field


@pytest.mark.parametrize(
    ("field", "arrow_type", "kind"),
    [
        pytest.param(field, arrow_type, kind, id=kind)
        for field, arrow_type, kind in [
            (_odd_field(_F.TYPE_STRING, _F.LABEL_REPEATED), pa.list_(pa.string()), "string"),
            (_odd_field(_F.TYPE_BYTES, _F.LABEL_REPEATED), pa.list_(pa.binary()), "bytes"),
            (_odd_field(_F.TYPE_INT32, _F.LABEL_REPEATED), pa.list_(pa.int32()), "int32"),
            (_odd_field(_F.TYPE_BOOL, _F.LABEL_REPEATED), pa.list_(pa.bool_()), "bool"),
            (_odd_field(_F.TYPE_FIXED64, _F.LABEL_REPEATED), pa.list_(pa.uint64()), "fixed64"),
            (_odd_field(_F.TYPE_MESSAGE, type_name=".odd.Other"), pa.struct([]), "message"),
            (
                _odd_field(_F.TYPE_MESSAGE, _F.LABEL_REPEATED, ".odd.Row.ValueEntry"),
                pa.map_(pa.string(), pa.int32()),
                "repeated message",
            ),
            (_unpacked(_F.TYPE_FLOAT), pa.list_(pa.float32(), 4), "unpacked repeated float"),
            (_unpacked(_F.TYPE_DOUBLE), pa.list_(pa.float64()), "unpacked repeated double"),
            (_in_a_oneof(_F.TYPE_INT64), pa.int64(), "int64 in a oneof"),
            (_in_a_oneof(_F.TYPE_STRING), pa.string(), "string in a oneof"),
        ]
    ],
)
@type_of_codec
def test_unsupported_kinds_are_refused(
    compile_codec: Callable[[Descriptor, pa.Schema], object],
    field: descriptor_pb2.FieldDescriptorProto,
    arrow_type: pa.DataType,
    kind: str,
) -> None:
    """What a column can't carry is refused with the field's name and what it is."""
    columns = [("value", arrow_type)]
    if field.HasField("oneof_index"):
        columns.append(("alternative", pa.int32()))

    with pytest.raises(SchemaMismatchError, match=rf"odd\.Row\.value: .*{kind}\)"):
        compile_codec(_row_with(field), pa.schema(columns))


@pytest.mark.parametrize(
    ("field", "arrow_type"),
    [
        pytest.param(_odd_field(_F.TYPE_GROUP, type_name=".odd.Row.ValueEntry"), pa.struct([]),
                     id="group"),
        pytest.param(_odd_field(_F.TYPE_FLOAT, _F.LABEL_REPEATED), pa.list_(pa.float32()),
                     id="repeated float, unpacked by default"),
        # A null would have to be left out, and the runtime refuses to write such a message.
        pytest.param(_odd_field(_F.TYPE_INT32, _F.LABEL_REQUIRED), pa.int32(), id="required"),
        # The runtime drops the numbers that a closed enum doesn't name.
        pytest.param(_odd_field(_F.TYPE_ENUM, type_name=".odd.Level"), pa.int32(),
                     id="closed enum"),
    ],
)  # fmt: skip
@type_of_codec
def test_what_only_proto2_has_is_refused(
    compile_codec: Callable[[Descriptor, pa.Schema], object],
    field: descriptor_pb2.FieldDescriptorProto,
    arrow_type: pa.DataType,
) -> None:
    """Groups, required fields, closed enums and unpacked floats aren't what columns say."""
    row = _row_with(field, syntax="proto2")

    with pytest.raises(SchemaMismatchError, match=r"value"):
        compile_codec(row, pa.schema([("value", arrow_type)]))


def test_a_oneof_of_one_field_is_an_optional_field() -> None:
    """With nothing to exclude, a oneof of one member only says that it may be absent."""
    file = descriptor_pb2.FileDescriptorProto(name="one.proto", package="one", syntax="proto3")
    message = file.message_type.add(name="Row")
    message.oneof_decl.add(name="choice")
    message.field.append(_in_a_oneof(_F.TYPE_INT32))
    row = compiled(file)["Row"]
    batch = pa.record_batch({"value": pa.array([None, 0, 1], pa.int32())})
    written = list(RowEncoder(row, batch.schema).encode(batch).messages())

    row_class = GetMessageClass(row)
    assert [row_class(), row_class(value=0), row_class(value=1)] == [
        row_class.FromString(message) for message in written
    ]
    assert batch == RowDecoder(row, batch.schema).decode_messages(written)


@type_of_codec
def test_vectors_of_no_floats_are_refused(
    compile_codec: Callable[[Descriptor, pa.Schema], object],
) -> None:
    """A fixed-size list of size 0 can't be made from values: Arrow divides by the size."""
    schema = _SCHEMA.set(5, pa.field("vector", pa.list_(pa.float32(), 0)))

    with pytest.raises(SchemaMismatchError, match=r"embedding\.Embedding\.vector"):
        compile_codec(_EMBEDDING, schema)


# Columns


@pytest.mark.parametrize("name", _SCHEMA.names)
@type_of_codec
def test_a_missing_column_is_refused(
    compile_codec: Callable[[Descriptor, pa.Schema], object], name: str
) -> None:
    """A field without a column is named."""
    schema = _SCHEMA.remove(_SCHEMA.get_field_index(name))

    with pytest.raises(SchemaMismatchError, match=rf"embedding\.Embedding\.{name}: .* 0 columns"):
        compile_codec(_EMBEDDING, schema)


@type_of_codec
def test_an_extra_column_is_refused(
    compile_codec: Callable[[Descriptor, pa.Schema], object],
) -> None:
    """A column without a field is named: its values would be lost silently."""
    schema = _SCHEMA.append(pa.field("position", pa.string()))

    with pytest.raises(SchemaMismatchError, match=r"embedding\.Embedding .*'position'"):
        compile_codec(_EMBEDDING, schema)


@pytest.mark.parametrize("name", _SCHEMA.names)
@type_of_codec
def test_a_duplicate_column_is_refused(
    compile_codec: Callable[[Descriptor, pa.Schema], object], name: str
) -> None:
    """Of two columns of one name neither is preferred."""
    schema = _SCHEMA.append(_SCHEMA.field(name))

    with pytest.raises(SchemaMismatchError, match=rf"embedding\.Embedding\.{name}: .* 2 columns"):
        compile_codec(_EMBEDDING, schema)


# Chunks


def _chunk_types(row_label: _F.Label.ValueType, *, with_total: bool) -> dict[str, Descriptor]:
    file = descriptor_pb2.FileDescriptorProto(name="odd.proto", package="odd", syntax="proto3")
    row = file.message_type.add(name="Row")
    row.field.add(name="value", number=1, type=_F.TYPE_INT32, label=_F.LABEL_OPTIONAL)
    chunk = file.message_type.add(name="Chunk")
    chunk.field.add(
        name="rows", number=1, type=_F.TYPE_MESSAGE, type_name=".odd.Row", label=row_label
    )
    if with_total:
        chunk.field.add(name="total", number=2, type=_F.TYPE_INT32, label=_F.LABEL_OPTIONAL)
    return compiled(file)


def _odd_chunks() -> dict[str, tuple[Descriptor, Descriptor]]:
    single = _chunk_types(_F.LABEL_OPTIONAL, with_total=False)
    further = _chunk_types(_F.LABEL_REPEATED, with_total=True)
    plain = _chunk_types(_F.LABEL_REPEATED, with_total=False)
    return {
        "of a single row": (single["Chunk"], single["Row"]),
        "with a further field": (further["Chunk"], further["Row"]),
        "of rows of another type": (plain["Chunk"], single["Row"]),
        "of repeated floats": (
            message_types([FieldSpec("value", 1, _F.TYPE_FLOAT, Presence.REPEATED)])["Row"],
            plain["Row"],
        ),
        "that is a row": (plain["Row"], plain["Row"]),
    }


@pytest.mark.parametrize(("chunk", "row"), _odd_chunks().values(), ids=_odd_chunks())
def test_a_chunk_is_one_field_of_repeated_rows(chunk: Descriptor, row: Descriptor) -> None:
    """Any other message is refused as a chunk, by encoder and decoder alike."""
    schema = pa.schema([("value", pa.int32())])

    with pytest.raises(SchemaMismatchError, match=rf"{chunk.full_name} is not one repeated"):
        ChunkEncoder(chunk, RowEncoder(row, schema))
    with pytest.raises(SchemaMismatchError, match=rf"{chunk.full_name} is not one repeated"):
        ChunkDecoder(chunk, RowDecoder(row, schema))

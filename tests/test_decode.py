"""Messages to record batches: whatever a peer sends is read as the official runtime reads it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError as RuntimeDecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.codec.cursor import Spans
from streamer.codec.decode import ChunkDecoder, RowDecoder
from streamer.codec.encode import RowEncoder
from streamer.codec.frames import PREFIX_BYTES
from streamer.codec.wire_format import WireType, tag
from streamer.errors import DecodeError
from tests import strategies
from tests.strategies import (
    FieldSpec,
    MessageCase,
    Presence,
    exact_rows,
    message_types,
    rows_read_by_runtime,
    runtime_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_F = FieldDescriptorProto
EMBEDDING = cast("Descriptor", pb.Embedding.DESCRIPTOR)
ROW_CHUNK = cast("Descriptor", pb.RowChunk.DESCRIPTOR)
SCHEMA = pa.schema(
    [
        ("id", pa.uuid()),
        ("company_name", pa.dictionary(pa.int32(), pa.string())),
        ("exp_years", pa.int32()),
        ("english_level", pa.string()),
        ("primary_keyword", pa.string()),
        ("vector", pa.list_(pa.float32(), 2)),
    ]
)
ID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"


def embedding(**changes: Any) -> pb.Embedding:
    """Make a message that fits SCHEMA, but for `changes`."""
    fields = {
        "id": ID_TEXT,
        "company_name": "Zeta & Söhne",
        "exp_years": 300,
        "english_level": "B2",
        "primary_keyword": "字",
        "vector": [1.0, -0.0],
    }
    return pb.Embedding(**{**fields, **changes})


GOOD = embedding().SerializeToString()


def decoder_of(case: MessageCase) -> RowDecoder:
    return RowDecoder(case.row, case.batch.schema, case.id_kind)


def rows_or_refusal(decode: Callable[[], pa.RecordBatch]) -> list[tuple[Any, ...]] | None:
    """Return the rows that `decode` makes, None if it raises DecodeError."""
    try:
        return exact_rows(decode())
    except DecodeError:
        return None


def refusal(messages: Sequence[bytes], schema: pa.Schema = SCHEMA) -> str:
    with pytest.raises(DecodeError) as caught:
        RowDecoder(EMBEDDING, schema).decode_messages(messages)
    return str(caught.value)


def rows_of(messages: Sequence[bytes], schema: pa.Schema = SCHEMA) -> list[tuple[Any, ...]] | None:
    decoder = RowDecoder(EMBEDDING, schema)
    return rows_or_refusal(lambda: decoder.decode_messages(messages))


def without_runtime(decoder: RowDecoder | ChunkDecoder) -> None:
    """Take the official runtime away from a decoder: to fall back on it is an error."""
    decoder._message = cast("Any", None)


# What encoders and the runtime write


@given(strategies.message_cases())
def test_decoding_undoes_encoding(case: MessageCase) -> None:
    """Any batch comes back with its schema and values; prefixes between messages don't matter."""
    frames = RowEncoder(case.row, case.batch.schema, case.id_kind).encode(case.batch)
    offsets = frames.offsets.astype(np.int64)
    spans = Spans(offsets[:-1] + PREFIX_BYTES, offsets[1:])
    decoded = decoder_of(case).decode(bytes(memoryview(frames.data)), spans)

    assert case.batch.schema == decoded.schema
    assert exact_rows(case.batch) == exact_rows(decoded)
    decoded.validate(full=True)


@settings(max_examples=50)
@given(strategies.message_cases())
def test_what_the_runtime_writes_is_read_without_it(case: MessageCase) -> None:
    """Messages in canonical order are cut into columns, not parsed one by one."""
    messages = runtime_bytes(case.row, case.batch, case.id_kind)
    decoder = decoder_of(case)
    without_runtime(decoder)

    assert exact_rows(case.batch) == exact_rows(decoder.decode_messages(messages))


@pytest.mark.parametrize("id_text", [ID_TEXT, ID_TEXT.upper(), ID_TEXT[:20] + ID_TEXT[20:].upper()])
def test_a_golden_embedding_is_read(id_text: str) -> None:
    """The golden bytes of an Embedding, ids in any letter case, are its values."""
    message = (
        b"\x0a\x24" + id_text.encode() + b"\x12\x05Acm\xc3\xa9"
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x22\x02B2\x2a\x03\xe5\xad\x97"
        b"\x32\x08\x00\x00\x80\x3f\x00\x00\x20\xc0"
    )
    decoded = RowDecoder(EMBEDDING, SCHEMA).decode_messages([message])

    assert [
        {
            "id": uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
            "company_name": "Acmé",
            "exp_years": -1,
            "english_level": "B2",
            "primary_keyword": "字",
            "vector": [1.0, -2.5],
        }
    ] == decoded.to_pylist()


@pytest.mark.parametrize("text", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav"])
def test_a_ulid_is_read_in_any_letter_case(text: str) -> None:
    """The text of a ULID becomes its 16 bytes."""
    decoder = RowDecoder(EMBEDDING, SCHEMA, IdKind.ULID)
    decoded = decoder.decode_messages([embedding(id=text).SerializeToString()])

    assert ["01563e3a-b5d3-d676-4c61-efb99302bd5b"] == [str(i) for i in decoded["id"].to_pylist()]


@pytest.mark.parametrize("schema", [SCHEMA, pa.schema(list(SCHEMA)[::-1])])
def test_no_messages_are_an_empty_batch(schema: pa.Schema) -> None:
    """Of nothing comes a batch of the schema without rows."""
    decoded = RowDecoder(EMBEDDING, schema).decode_messages([])

    assert schema.empty_table().to_batches() == [] == decoded.to_pylist()
    assert schema == decoded.schema


def test_decoded_columns_own_their_memory() -> None:
    """No column is a view on the bytes that came in, which a caller may reuse."""
    data = GOOD * 3
    ends = np.arange(1, 4) * len(GOOD)
    decoded = RowDecoder(EMBEDDING, SCHEMA).decode(data, Spans(ends - len(GOOD), ends))
    begin = pa.py_buffer(data).address

    columns = [*decoded.columns, decoded["company_name"].dictionary, decoded["vector"].values]
    buffers = [buffer for column in columns for buffer in column.buffers() if buffer is not None]
    assert [] == [b for b in buffers if begin <= b.address < begin + len(data)]


# What other peers may write


def split_at_varint(data: bytes, start: int = 0) -> tuple[bytes, bytes]:
    """Split before and after the first varint's last byte, from `start` on."""
    end = next(index for index in range(start, len(data)) if data[index] < 0x80) + 1
    return data[:end], data[end:]


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def overlong(varint: bytes, length: int) -> bytes:
    """Write a varint in `length` bytes, groups of zeros in front of its end."""
    more = length - len(varint)
    if more <= 0:
        return varint
    return varint[:-1] + bytes([varint[-1] | 0x80]) + b"\x80" * (more - 1) + b"\0"


def fields_of(message: Message) -> dict[str, bytes]:
    """Serialize each field of a message that is there on its own."""
    fields = {}
    for field, value in message.ListFields():
        single = type(message)()
        if field.is_repeated:
            getattr(single, field.name).extend(value)
        else:
            setattr(single, field.name, value)
        fields[field.name] = single.SerializeToString(deterministic=True)
    return fields


def explicit_default(descriptor: Descriptor, name: str) -> bytes:
    """Write a field's default value although it could be left out."""
    field = descriptor.fields_by_name[name]
    if field.is_repeated or field.type in (_F.TYPE_STRING, _F.TYPE_BYTES):
        return tag(field.number, WireType.LEN) + b"\0"
    if field.type in (_F.TYPE_FLOAT, _F.TYPE_FIXED32, _F.TYPE_SFIXED32):
        return tag(field.number, WireType.I32) + bytes(4)
    if field.type in (_F.TYPE_DOUBLE, _F.TYPE_FIXED64, _F.TYPE_SFIXED64):
        return tag(field.number, WireType.I64) + bytes(8)
    return tag(field.number, WireType.VARINT) + b"\0"


@st.composite
def unknown_fields(draw: st.DrawFn, descriptor: Descriptor) -> bytes:
    """Draw a field, of any wire type, that the message doesn't have."""
    known = set(descriptor.fields_by_number)
    number = draw(strategies.field_numbers.filter(lambda number: number not in known))
    contents = {
        WireType.VARINT: st.integers(0, 2**64 - 1).map(varint),
        WireType.I64: st.binary(min_size=8, max_size=8),
        WireType.LEN: st.binary(max_size=20).map(lambda data: bytes([len(data)]) + data),
        WireType.I32: st.binary(min_size=4, max_size=4),
    }
    wire_type = draw(st.sampled_from(sorted(contents)))
    return tag(number, wire_type) + draw(contents[wire_type])


@st.composite
def vector_parts(draw: st.DrawFn, descriptor: Descriptor, name: str, piece: bytes) -> list[bytes]:
    """Draw a packed field in two parts, or with a tag before every value."""
    field = descriptor.fields_by_name[name]
    width = 4 if field.type == _F.TYPE_FLOAT else 8
    header, _ = split_at_varint(piece, len(tag(field.number, WireType.LEN)))
    data = piece[len(header) :]
    if draw(st.booleans()):
        each = tag(field.number, WireType.I32 if width == 4 else WireType.I64)
        return [each + data[at : at + width] for at in range(0, len(data), width)]
    cut = width * draw(st.integers(0, len(data) // width))
    single = GetMessageClass(descriptor)
    parts = []
    for part in (data[:cut], data[cut:]):
        message = single()
        getattr(message, name).extend(np.frombuffer(part, f"<f{width}").tolist())
        parts.append(message.SerializeToString() or explicit_default(descriptor, name))
    return parts


@st.composite
def with_overlong_varints(draw: st.DrawFn, piece: bytes) -> bytes:
    """Draw another way to write a field: tag and length in up to 5 bytes, a value in 10."""
    field_tag, rest = split_at_varint(piece)
    wire_type = field_tag[0] & 7
    field_tag = overlong(field_tag, draw(st.integers(1, 5)))
    if wire_type in (WireType.VARINT, WireType.LEN):
        number, data = split_at_varint(rest)
        most = 10 if wire_type == WireType.VARINT else 5
        rest = overlong(number, draw(st.integers(1, most))) + data
    return field_tag + rest


@st.composite
def peer_messages(draw: st.DrawFn, case: MessageCase) -> list[bytes]:
    """Draw messages that no known runtime writes and every one reads.

    Fields stand in any order, several times, in parts, with needlessly long numbers,
    beside unknown ones, and with defaults that could be left out.
    """
    parsed = strategies.runtime_messages(case.row, case.batch, case.id_kind)
    rows = [fields_of(message) for message in parsed]
    messages = []
    for row in rows:
        pieces: list[bytes] = []
        for name, piece in row.items():
            is_split = case.row.fields_by_name[name].is_repeated and draw(st.booleans())
            pieces += draw(vector_parts(case.row, name, piece)) if is_split else [piece]
        if draw(st.booleans()):
            twice = draw(
                st.sampled_from([field for other in rows for field in other.values()] or [b""])
            )
            pieces.insert(draw(st.integers(0, len(pieces))), twice)
        if draw(st.booleans()):
            missing = sorted(set(case.batch.schema.names) - set(row))
            pieces += [explicit_default(case.row, name) for name in missing]
        if draw(st.booleans()):
            pieces.insert(draw(st.integers(0, len(pieces))), draw(unknown_fields(case.row)))
        if draw(st.booleans()):
            pieces = [draw(with_overlong_varints(piece)) if piece else b"" for piece in pieces]
        if draw(st.booleans()):
            pieces = draw(st.permutations(pieces))
        messages.append(b"".join(pieces))
    return messages


@settings(max_examples=150)
@given(strategies.message_cases(min_rows=1, max_rows=4), st.data())
def test_what_any_peer_may_write_is_read_like_the_runtime_does(
    case: MessageCase, data: st.DataObject
) -> None:
    """Shuffled, repeated, split, unpacked, unknown, overlong: the values are the runtime's."""
    messages = data.draw(peer_messages(case))

    expected = rows_read_by_runtime(case.row, case.batch.schema, messages, case.id_kind)
    assert expected == rows_or_refusal(lambda: decoder_of(case).decode_messages(messages))


FIELDS = fields_of(embedding())
UNPACKED_VECTOR = b"\x35\0\0\x80\x3f\x35\0\0\0\x80"
ODD_MESSAGES = {
    "fields in reverse": b"".join(reversed(FIELDS.values())),
    "the id last": b"".join(list(FIELDS.values())[1:]) + FIELDS["id"],
    "an id that is corrected": b"\x0a\x03bad" + GOOD,
    "an id that is corrected at the end": b"\x0a\x03bad" + GOOD[38:] + FIELDS["id"],
    "a text twice": GOOD + b"\x12\x01A",
    "a number twice": GOOD + b"\x18\x07",
    "a number that goes back to its default": GOOD + b"\x18\x00",
    "unknown fields around": b"\x38\x01" + GOOD + b"\x42\x00",
    "an unknown group": GOOD + b"\x3b\x08\x01\x3c",
    "an unpacked vector": GOOD[:-10] + UNPACKED_VECTOR,
    "a vector in two parts": GOOD[:-10] + b"\x32\x04\0\0\x80\x3f\x32\x04\0\0\0\x80",
    "a vector with an empty part": GOOD[:-10] + b"\x32\0" + FIELDS["vector"],
    "a vector packed and unpacked": GOOD[:-10] + b"\x32\x04\0\0\x80\x3f\x35\0\0\0\x80",
    "a vector before everything else": UNPACKED_VECTOR + GOOD[:-10],
    "an overlong tag": b"\x8a\x80\x00" + GOOD[1:],
    "an overlong length": b"\x0a\xa4\x80\x80\x80\x00" + GOOD[2:],
    "an overlong number": GOOD.replace(
        b"\x18\xac\x02", b"\x18\xac" + b"\x82" + b"\x80" * 7 + b"\0"
    ),
    "a number of more than 32 bits": GOOD + b"\x18\xff\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("message", ODD_MESSAGES.values(), ids=ODD_MESSAGES)
def test_odd_messages_are_read_like_the_runtime_does(message: bytes) -> None:
    """Between canonical messages as well, what is odd but valid has the runtime's values."""
    messages = [GOOD, message, GOOD]

    expected = rows_read_by_runtime(EMBEDDING, SCHEMA, messages)
    assert expected is not None
    assert expected == rows_of(messages)


@settings(max_examples=50)
@given(st.permutations(list(FIELDS.values())))
def test_fields_may_come_in_any_order(pieces: list[bytes]) -> None:
    """Every order of an Embedding's fields gives the same row."""
    assert rows_of([GOOD]) == rows_of([b"".join(pieces)])


@pytest.mark.parametrize(
    ("kind", "arrow_type"),
    [
        (_F.TYPE_INT32, pa.int32()),
        (_F.TYPE_INT64, pa.int64()),
        (_F.TYPE_UINT32, pa.uint32()),
        (_F.TYPE_UINT64, pa.uint64()),
        (_F.TYPE_SINT32, pa.int32()),
        (_F.TYPE_SINT64, pa.int64()),
        (_F.TYPE_BOOL, pa.bool_()),
        (_F.TYPE_ENUM, pa.int32()),
    ],
)
@settings(max_examples=50)
@given(values=st.lists(st.binary(max_size=10).map(
    lambda data: bytes(byte | 0x80 for byte in data)
), min_size=1), ends=st.integers(0, 0x7F))  # fmt: skip
def test_varints_of_any_length_are_read_like_the_runtime_does(
    kind: strategies.FieldType, arrow_type: pa.DataType, values: list[bytes], ends: int
) -> None:
    """Up to 10 bytes any varint is a value, cut to the field's width; above none is."""
    row = message_types([FieldSpec("value", 1, kind)])["Row"]
    schema = pa.schema([("value", arrow_type)])
    messages = [b"\x08" + value + bytes([ends]) for value in values]
    decoder = RowDecoder(row, schema)

    expected = rows_read_by_runtime(row, schema, messages)
    assert expected == rows_or_refusal(lambda: decoder.decode_messages(messages))


# What is no message


@pytest.mark.parametrize("kept", range(len(GOOD)))
def test_a_message_cut_short_is_read_like_the_runtime_does(kept: int) -> None:
    """At every byte: what is missing at the end is refused, or absent as it says."""
    messages = [GOOD, GOOD[:kept], GOOD]

    assert rows_read_by_runtime(EMBEDDING, SCHEMA, messages) == rows_of(messages)


@pytest.mark.parametrize("position", range(len(GOOD)))
def test_a_flipped_bit_is_read_like_the_runtime_does(position: int) -> None:
    """Every bit of every byte: refused, or other values, the runtime's."""
    for bit in range(8):
        flipped = bytes([GOOD[position] ^ 1 << bit])
        messages = [GOOD[:position] + flipped + GOOD[position + 1 :], GOOD]
        assert rows_read_by_runtime(EMBEDDING, SCHEMA, messages) == rows_of(messages)


@st.composite
def garbled_messages(draw: st.DrawFn, messages: list[bytes]) -> list[bytes]:
    """Draw the messages with damage done to some of them."""
    garbled = list(messages)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(garbled) - 1))
        message = garbled[index]
        start = draw(st.integers(0, min(len(message), 60)))
        end = start + draw(st.integers(0, 3))
        tails = [message[end:], b"", garbled[draw(st.integers(0, len(garbled) - 1))]]
        garbled[index] = (
            message[:start] + draw(st.binary(max_size=3)) + draw(st.sampled_from(tails))
        )
    return garbled


@settings(max_examples=150)
@given(strategies.message_cases(min_rows=1, max_rows=3), st.data())
def test_garbage_is_refused_or_read_like_the_runtime_does(
    case: MessageCase, data: st.DataObject
) -> None:
    """Damaged messages of any type raise DecodeError and nothing else, if the runtime does."""
    intact = runtime_bytes(case.row, case.batch, case.id_kind)
    messages = data.draw(garbled_messages(intact) | st.lists(st.binary(max_size=30)))

    expected = rows_read_by_runtime(case.row, case.batch.schema, messages, case.id_kind)
    assert expected == rows_or_refusal(lambda: decoder_of(case).decode_messages(messages))


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), min_size=1))
def test_random_bytes_are_refused_or_read_like_the_runtime_does(messages: list[bytes]) -> None:
    """Whatever bytes come in as Embeddings without required ids, the answer is the runtime's."""
    schema = SCHEMA.set(0, pa.field("id", pa.string())).set(
        5, pa.field("vector", pa.list_(pa.float32()))
    )

    assert rows_read_by_runtime(EMBEDDING, schema, messages) == rows_of(messages, schema)


def test_a_varint_of_more_than_ten_bytes_is_refused() -> None:
    """Even if what follows its tenth byte looks like the next field."""
    row = message_types([FieldSpec("a", 1, _F.TYPE_INT32), FieldSpec("b", 2, _F.TYPE_INT32)])["Row"]
    schema = pa.schema([("a", pa.int32()), ("b", pa.int32())])
    message = b"\x08" + b"\x80" * 10 + b"\x10\x01"

    assert rows_read_by_runtime(row, schema, [message]) is None
    with pytest.raises(DecodeError, match=r"random\.Row"):
        RowDecoder(row, schema).decode_messages([message])


@pytest.mark.parametrize("list_type", [pa.list_(pa.float32(), 2), pa.list_(pa.float32())])
@pytest.mark.parametrize("sizes", [(9, 8), (9, 7), (10, 10), (11, 9)])
def test_a_vector_that_is_not_whole_floats_is_refused(
    sizes: tuple[int, int], list_type: pa.DataType
) -> None:
    """Bytes over or under are an error, also if those of two rows add up."""
    schema = SCHEMA.set(5, pa.field("vector", list_type))
    messages = [GOOD[:-10] + b"\x32" + bytes([size]) + bytes(size) for size in sizes]

    assert rows_read_by_runtime(EMBEDDING, schema, messages) is None
    assert "embedding.Embedding" in refusal(messages, schema)


@pytest.mark.parametrize("length", range(6, 11))
def test_a_length_of_more_than_five_bytes_is_refused(length: int) -> None:
    """A length is 32 bits; the runtime takes none that is written in more than 5 bytes."""
    message = b"\x0a" + overlong(b"\x24", length) + GOOD[2:]

    assert rows_read_by_runtime(EMBEDDING, SCHEMA, [message]) is None
    assert refusal([message])


BAD_MESSAGES = {
    "id too short": ("id", embedding(id="0123").SerializeToString()),
    "id empty": ("id", embedding(id="").SerializeToString()),
    "id with a wrong digit": ("id", embedding(id=ID_TEXT[:-1] + "g").SerializeToString()),
    "id without hyphens": ("id", embedding(id=ID_TEXT.replace("-", "")).SerializeToString()),
    "id of 36 bytes, not characters": ("id", embedding(id="字" * 12).SerializeToString()),
    "text not UTF-8": ("primary_keyword", GOOD.replace("字".encode(), b"\xed\xa0\x80")),
    "text in a dictionary not UTF-8": (
        "company_name",
        GOOD.replace("ö".encode(), b"\xff\xff"),
    ),
    "vector empty": ("vector", embedding(vector=[]).SerializeToString()),
    "vector too short": ("vector", embedding(vector=[1.0]).SerializeToString()),
    "vector too long": ("vector", embedding(vector=[1.0, 2.0, 3.0]).SerializeToString()),
}


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize(("field", "bad"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_value_that_does_not_fit_is_named(field: str, bad: bytes, row: int) -> None:
    """Text that is no UTF-8, text that is no id, a vector too short: field and row are told."""
    messages = [GOOD] * 3
    messages[row] = bad
    text = refusal(messages)

    assert f"embedding.Embedding.{field}: " in text
    assert f"row {row} " in text


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("name", ["id too short", "id empty", "vector too short", "vector empty"])
def test_a_value_that_does_not_fit_is_named_among_odd_messages(name: str, row: int) -> None:
    """Field and row are told when the runtime had to read the messages, too."""
    field, bad = BAD_MESSAGES[name]
    messages = [ODD_MESSAGES["unknown fields around"]] * 3
    messages[row] = b"\x38\x01" + bad
    text = refusal(messages)

    assert f"embedding.Embedding.{field}: " in text
    assert f"row {row} " in text


def test_a_ulid_is_no_uuid() -> None:
    """An id of the other kind is refused by each."""
    ulid = embedding(id="01ARZ3NDEKTSV4RRFFQ69G5FAV").SerializeToString()

    assert "row 0 is not the text of a uuid" in refusal([ulid])
    with pytest.raises(DecodeError, match="row 1 is not the text of a ulid"):
        RowDecoder(EMBEDDING, SCHEMA, IdKind.ULID).decode_messages([ulid, GOOD])


def test_more_texts_than_a_dictionary_can_number_are_refused() -> None:
    """With 8-bit indices, 129 different texts are an error of the messages, naming the field."""
    schema = SCHEMA.set(1, pa.field("company_name", pa.dictionary(pa.int8(), pa.string())))
    messages = [embedding(company_name=str(i)).SerializeToString() for i in range(129)]

    assert rows_of(messages[:128]) == rows_of(messages[:128], schema)
    assert "embedding.Embedding.company_name" in refusal(messages, schema)


class _TwoGib:
    """What has a length and nothing else."""

    def __len__(self) -> int:
        return 2**31


def test_two_gib_at_once_are_refused_unread() -> None:
    """Arrow's offsets don't reach so far; only the length is looked at."""
    none = np.array([], np.int64)

    with pytest.raises(DecodeError, match="2147483648 bytes at once"):
        RowDecoder(EMBEDDING, SCHEMA).decode(cast("bytes", _TwoGib()), Spans(none, none))


# Presence


@pytest.mark.parametrize(
    ("presence", "expected"),
    [(Presence.IMPLICIT, [0, 0, 5]), (Presence.OPTIONAL, [None, 0, 5])],
)
def test_absence_is_null_or_the_default(presence: Presence, expected: list[int | None]) -> None:
    """An absent field is null where presence is tracked; a default that was sent is a value."""
    row = message_types([FieldSpec("value", 1, _F.TYPE_INT32, presence)])["Row"]
    decoder = RowDecoder(row, pa.schema([("value", pa.int32())]))

    assert expected == decoder.decode_messages([b"", b"\x08\0", b"\x08\x05"])["value"].to_pylist()


@pytest.mark.parametrize("unknown", [b"", b"\x10\x01"], ids=["canonical", "by the runtime"])
def test_an_absent_optional_id_is_null_and_an_empty_one_is_refused(unknown: bytes) -> None:
    """Empty text is no id, and not the same as none."""
    row = message_types([FieldSpec("value", 1, _F.TYPE_STRING, Presence.OPTIONAL)])["Row"]
    decoder = RowDecoder(row, pa.schema([("value", pa.uuid())]))
    good = b"\x0a\x24" + ID_TEXT.encode() + unknown

    decoded = decoder.decode_messages([unknown, good, unknown])
    assert [None, uuid.UUID(ID_TEXT), None] == decoded["value"].to_pylist()
    with pytest.raises(DecodeError, match=r"random\.Row\.value: row 1 "):
        decoder.decode_messages([unknown, b"\x0a\0" + unknown])


# Chunks


def chunk_decoder() -> ChunkDecoder:
    return ChunkDecoder(ROW_CHUNK, RowDecoder(EMBEDDING, SCHEMA))


def chunk_rows(data: bytes) -> list[tuple[Any, ...]] | None:
    return rows_or_refusal(lambda: chunk_decoder().decode(data))


def chunk_rows_of_runtime(data: bytes) -> list[tuple[Any, ...]] | None:
    try:
        rows = pb.RowChunk.FromString(data).rows
    except RuntimeDecodeError:
        return None
    return rows_read_by_runtime(EMBEDDING, SCHEMA, [row.SerializeToString() for row in rows])


@settings(max_examples=50)
@given(strategies.message_cases(max_rows=5))
def test_a_chunk_of_the_runtime_is_read_without_it(case: MessageCase) -> None:
    """A chunk of any message type has the rows that were put into it."""
    rows = strategies.runtime_messages(case.row, case.batch, case.id_kind)
    data = GetMessageClass(case.chunk)(rows=rows).SerializeToString(deterministic=True)
    decoder = decoder_of(case)
    chunks = ChunkDecoder(case.chunk, decoder)
    without_runtime(decoder)
    without_runtime(chunks)
    decoded = chunks.decode(data)

    assert case.batch.schema == decoded.schema
    assert exact_rows(case.batch) == exact_rows(decoded)


@settings(max_examples=50)
@given(strategies.message_cases(min_rows=1, max_rows=4), st.data())
def test_a_chunk_of_any_peer_is_read_like_the_runtime_does(
    case: MessageCase, data: st.DataObject
) -> None:
    """Odd rows, unknown fields between them, overlong lengths: the rows are the runtime's."""
    messages = data.draw(peer_messages(case))
    header = tag(case.chunk.fields_by_name["rows"].number, WireType.LEN)
    pieces = [header + varint(len(message)) + message for message in messages]
    if data.draw(st.booleans()):
        pieces = [data.draw(with_overlong_varints(piece)) for piece in pieces]
    for _ in range(data.draw(st.integers(0, 2))):
        unknown = data.draw(unknown_fields(case.chunk))
        pieces.insert(data.draw(st.integers(0, len(pieces))), unknown)

    expected = rows_read_by_runtime(case.row, case.batch.schema, messages, case.id_kind)
    decoder = ChunkDecoder(case.chunk, decoder_of(case))
    assert expected == rows_or_refusal(lambda: decoder.decode(b"".join(pieces)))


def test_an_empty_chunk_has_no_rows() -> None:
    """A chunk without bytes is a batch without rows."""
    decoded = chunk_decoder().decode(b"")

    assert 0 == decoded.num_rows
    assert SCHEMA == decoded.schema


TWO_ROWS = pb.RowChunk(rows=[embedding(), embedding(exp_years=0)]).SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x01" + TWO_ROWS,
        TWO_ROWS + b"\x1a\x03abc",
        TWO_ROWS + b"\x13\x08\x01\x14",
        b"\x10\x01",
    ],
    ids=["before", "after", "a group", "alone"],
)
def test_unknown_fields_in_a_chunk_are_passed_over(data: bytes) -> None:
    """What a newer peer adds to a chunk doesn't hide its rows."""
    expected = chunk_rows_of_runtime(data)

    assert expected is not None
    assert expected == chunk_rows(data)


@pytest.mark.parametrize("kept", range(len(TWO_ROWS)))
def test_a_chunk_cut_short_is_read_like_the_runtime_does(kept: int) -> None:
    """Cut between rows a chunk has fewer, cut anywhere else it is refused."""
    assert chunk_rows_of_runtime(TWO_ROWS[:kept]) == chunk_rows(TWO_ROWS[:kept])


@settings(max_examples=200)
@given(garbled_messages([TWO_ROWS, TWO_ROWS]))
def test_a_garbled_chunk_is_refused_or_read_like_the_runtime_does(garbled: list[bytes]) -> None:
    """Damaged chunks raise DecodeError and nothing else, if the runtime does."""
    for data in garbled:
        assert chunk_rows_of_runtime(data) == chunk_rows(data)


@pytest.mark.parametrize("length", range(6, 12))
def test_a_row_length_of_more_than_five_bytes_is_refused(length: int) -> None:
    """The lengths of rows, too, are 32 bits in 5 bytes at most."""
    data = b"\x0a" + overlong(bytes([len(GOOD)]), length) + GOOD

    assert chunk_rows_of_runtime(data) is None
    with pytest.raises(DecodeError):
        chunk_decoder().decode(data)


def test_a_value_that_does_not_fit_is_named_in_a_chunk() -> None:
    """The row that is told counts within the chunk."""
    data = pb.RowChunk(rows=[embedding(), embedding(vector=[1.0])]).SerializeToString()

    with pytest.raises(DecodeError, match=r"embedding\.Embedding\.vector: row 1 "):
        chunk_decoder().decode(data)

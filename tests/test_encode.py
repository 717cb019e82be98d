"""Record batches to messages: byte for byte what the official runtime writes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.buffers import memory_of
from streamer.codec import encode_text
from streamer.codec.encode import ChunkEncoder, RowEncoder
from streamer.errors import EncodeError
from tests import strategies
from tests.strategies import FieldSpec, MessageCase, Presence, message_types, runtime_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.descriptor import Descriptor
    from numpy.typing import NDArray

    from streamer.codec.frames import JoinedFrames

    ColumnsOfKinds: TypeAlias = list[tuple[pa.Array, tuple[strategies.FieldType, Presence]]]

_F = FieldDescriptorProto
EMBEDDING = cast("Descriptor", pb.Embedding.DESCRIPTOR)
ROW_CHUNK = cast("Descriptor", pb.RowChunk.DESCRIPTOR)
MIB = 1 << 20


def encoder_of(case: MessageCase) -> RowEncoder:
    return RowEncoder(case.row, case.batch.schema, case.id_kind)


def chunk_encoder_of(case: MessageCase) -> ChunkEncoder:
    return ChunkEncoder(case.chunk, encoder_of(case))


def runtime_chunks(case: MessageCase, starts: list[int]) -> list[bytes]:
    """Serialize the rows as chunks that begin at `starts` with the official runtime."""
    rows = strategies.runtime_messages(case.row, case.batch, case.id_kind)
    chunk_class = GetMessageClass(case.chunk)
    return [
        chunk_class(rows=rows[start:end]).SerializeToString(deterministic=True)
        for start, end in pairwise([*starts, len(rows)])
    ]


def framed(messages: list[bytes]) -> bytes:
    """Put the prefix of gRPC over HTTP/2 before each message."""
    return b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)


def bytes_of(frames: JoinedFrames) -> bytes:
    return bytes(memoryview(frames.data)[int(frames.offsets[0]) : int(frames.offsets[-1])])


def bytes_asked_for() -> int:
    """Return the bytes that Arrow has ever allocated, whether or not they are freed."""
    return int(pa.default_memory_pool().total_bytes_allocated())


def encoder_of_one(
    column: pa.Array,
    kind: strategies.FieldType,
    presence: Presence = Presence.IMPLICIT,
    number: int = 1,
) -> tuple[RowEncoder, pa.RecordBatch]:
    """Compile an encoder of messages of one field, and a batch of its column."""
    batch = pa.record_batch({"value": column})
    row = message_types([FieldSpec("value", number, kind, presence)])["Row"]
    return RowEncoder(row, batch.schema), batch


def encode_one(
    column: pa.Array, kind: strategies.FieldType, presence: Presence = Presence.IMPLICIT
) -> list[bytes]:
    encoder, batch = encoder_of_one(column, kind, presence)
    return list(encoder.encode(batch).messages())


def embeddings(rows: int, dimension: int = 3, seed: int = 0) -> pa.RecordBatch:
    """Make a batch of Embedding rows with text in dictionaries."""
    random = np.random.default_rng(seed)
    words = pa.array([f"w{seed}", "", "ü", "字" * 50, "x" * 200])
    text = [
        pa.DictionaryArray.from_arrays(random.integers(0, len(words), rows, np.int32), words)
        for _ in range(3)
    ]
    vectors = random.standard_normal((rows, dimension), np.float32)
    return pa.record_batch(
        {
            "id": strategies.array_of([random.bytes(16) for _ in range(rows)], pa.uuid()),
            "company_name": text[0],
            "exp_years": pa.array(random.integers(-1, 20, rows), pa.int32()),
            "english_level": text[1],
            "primary_keyword": text[2],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        }
    )


@st.composite
def chunk_starts(draw: st.DrawFn, rows: int) -> list[int]:
    """Draw where chunks of `rows` rows begin, the first at 0; none if there are no rows."""
    if rows == 0:
        return []
    return [0, *sorted(draw(st.sets(st.integers(1, rows - 1)) if rows > 1 else st.just(set())))]


# Rows


@given(strategies.message_cases())
def test_messages_are_what_the_runtime_writes(case: MessageCase) -> None:
    """For any message type and batch, message i is the runtime's own of row i."""
    frames = encoder_of(case).encode(case.batch)

    assert runtime_bytes(case.row, case.batch, case.id_kind) == list(frames.messages())
    assert case.batch.num_rows == len(frames) == frames.rows


@settings(max_examples=50)
@given(strategies.message_cases())
def test_sizes_are_the_lengths_of_the_messages(case: MessageCase) -> None:
    """What sizes() says before anything is encoded is what the messages turn out to take."""
    expected = [len(message) for message in runtime_bytes(case.row, case.batch, case.id_kind)]
    sizes = encoder_of(case).sizes(case.batch)

    assert np.int64 == sizes.dtype
    assert expected == sizes.tolist()


@settings(max_examples=50)
@given(strategies.message_cases())
def test_frames_are_length_prefixed_messages(case: MessageCase) -> None:
    """The buffer is, for each message, a zero byte, its big-endian length, and itself."""
    frames = encoder_of(case).encode(case.batch)

    expected = framed(runtime_bytes(case.row, case.batch, case.id_kind))
    assert expected == bytes_of(frames)
    assert len(expected) == frames.nbytes


@settings(max_examples=50)
@given(strategies.message_cases(max_rows=8), st.data())
def test_a_slice_is_encoded_like_a_copy_of_it(case: MessageCase, data: st.DataObject) -> None:
    """Whatever a slice's parents hold around it, its bytes are those of its own rows."""
    start = data.draw(st.integers(0, case.batch.num_rows))
    length = data.draw(st.integers(0, case.batch.num_rows - start))
    part = case.batch.slice(start, length)
    copy = pa.RecordBatch.from_arrays(
        [pa.concat_arrays([column, column[:0]]) for column in part.columns], schema=part.schema
    )
    encoder = encoder_of(case)

    expected = list(encoder.encode(case.batch).messages())[start : start + length]
    assert expected == list(encoder.encode(part).messages())
    assert expected == list(encoder.encode(copy).messages())


@settings(max_examples=50)
@given(strategies.message_cases(max_rows=0), st.booleans())
def test_an_empty_batch_is_no_messages(case: MessageCase, in_chunks: bool) -> None:  # noqa: FBT001
    """Neither rows nor chunks of no rows are anything at all."""
    none = np.array([], np.int64)
    frames = (
        chunk_encoder_of(case).encode(case.batch, none)
        if in_chunks
        else encoder_of(case).encode(case.batch)
    )

    assert [] == list(frames.messages())
    assert (0, 0, 0) == (len(frames), frames.rows, frames.nbytes)


# Chunks


@given(strategies.message_cases(max_rows=8), st.data())
def test_chunks_are_what_the_runtime_writes(case: MessageCase, data: st.DataObject) -> None:
    """Wherever chunks begin, each is the runtime's own of the same rows."""
    starts = data.draw(chunk_starts(case.batch.num_rows))
    frames = chunk_encoder_of(case).encode(case.batch, np.array(starts, np.int64))

    expected = runtime_chunks(case, starts)
    assert expected == list(frames.messages())
    assert framed(expected) == bytes_of(frames)
    assert (len(starts), case.batch.num_rows) == (len(frames), frames.rows)


@settings(max_examples=50)
@given(strategies.message_cases())
def test_chunk_sizes_are_what_each_row_adds(case: MessageCase) -> None:
    """A row's size within a chunk is that of a chunk of it alone."""
    every_row = list(range(case.batch.num_rows))
    expected = [len(chunk) for chunk in runtime_chunks(case, every_row)]

    assert expected == chunk_encoder_of(case).sizes(case.batch).tolist()


# Golden bytes

GOLDEN_BATCH = pa.record_batch(
    {
        "id": strategies.array_of(
            [bytes.fromhex("00112233445566778899aabbccddeeff"), b"\xff" * 16], pa.uuid()
        ),
        "company_name": pa.array(["Acmé", ""]),
        "exp_years": pa.array([-1, 300], pa.int32()),
        "english_level": pa.array(["B2", ""]),
        "primary_keyword": pa.array(["字", ""]),
        "vector": pa.array([[1.0, -0.0], [0.0, -2.5]], pa.list_(pa.float32(), 2)),
    }
)
GOLDEN_ROWS = [
    (
        "0a2430303131323233332d343435352d363637372d383839392d616162626363646465656666"  # 1: id
        "120541636dc3a9"  # 2: company_name
        "18ffffffffffffffffff01"  # 3: exp_years, sign-extended to 64 bits
        "22024232"  # 4: english_level
        "2a03e5ad97"  # 5: primary_keyword
        "32080000803f00000080"  # 6: vector, packed
    ),
    (
        "0a2466666666666666662d666666662d666666662d666666662d666666666666666666666666"
        "18ac02"
        "320800000000000020c0"
    ),
]
# 1: rows, with their lengths
GOLDEN_CHUNK = "0a4b" + GOLDEN_ROWS[0] + "0a33" + GOLDEN_ROWS[1]


def test_an_embedding_has_its_golden_bytes() -> None:
    """Messages of the wire contract never change."""
    encoder = RowEncoder(EMBEDDING, GOLDEN_BATCH.schema)

    assert GOLDEN_ROWS == [message.hex() for message in encoder.encode(GOLDEN_BATCH).messages()]


def test_an_embedding_with_a_ulid_has_its_golden_bytes() -> None:
    """In a dataset of ULIDs, ids are 26 characters of Crockford's base 32."""
    encoder = RowEncoder(EMBEDDING, GOLDEN_BATCH.schema, IdKind.ULID)

    last_id = "0a1a375a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
    assert (
        last_id + GOLDEN_ROWS[1][2 * 38 :] == list(encoder.encode(GOLDEN_BATCH).messages())[1].hex()
    )


def test_a_row_chunk_has_its_golden_bytes() -> None:
    """A chunk is its rows, each with a tag and its length in front."""
    encoder = ChunkEncoder(ROW_CHUNK, RowEncoder(EMBEDDING, GOLDEN_BATCH.schema))

    assert [GOLDEN_CHUNK] == [
        message.hex() for message in encoder.encode(GOLDEN_BATCH, np.array([0])).messages()
    ]


def test_frames_have_their_golden_bytes() -> None:
    """Prefixes and messages alternate in one buffer."""
    encoder = RowEncoder(EMBEDDING, GOLDEN_BATCH.schema)

    assert (
        "000000004b" + GOLDEN_ROWS[0] + "0000000033" + GOLDEN_ROWS[1]
        == bytes_of(encoder.encode(GOLDEN_BATCH)).hex()
    )


# Values at the edges


@pytest.mark.parametrize("kind", [_F.TYPE_FLOAT, _F.TYPE_DOUBLE])
def test_a_negative_zero_is_sent_and_a_zero_is_not(kind: strategies.FieldType) -> None:
    """The default is the one zero whose bits are all 0."""
    arrow_type = pa.float32() if kind == _F.TYPE_FLOAT else pa.float64()
    positive, negative = encode_one(pa.array([0.0, -0.0], arrow_type), kind)

    assert b"" == positive
    assert ("0d00000080" if kind == _F.TYPE_FLOAT else "090000000000000080") == negative.hex()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 70_000])
@pytest.mark.parametrize("char", ["x", "é", "字", "😀"])
def test_text_of_any_length_is_what_the_runtime_writes(length: int, char: str) -> None:
    """On both sides of each step of the length's own length, plain and from a dictionary."""
    column = pa.array(["short", char * length, "", "x" * length])

    expected = [GetMessageClass(message_types(
        [FieldSpec("value", 1, _F.TYPE_STRING)]
    )["Row"])(value=value).SerializeToString() for value in column.to_pylist()]  # fmt: skip
    assert expected == encode_one(column, _F.TYPE_STRING)
    assert expected == encode_one(column.dictionary_encode(), _F.TYPE_STRING)


@settings(max_examples=60)
@given(st.integers(1, 2_000), st.integers(0, 4), st.integers(0, 2**32), st.booleans())
def test_vectors_of_any_dimension_are_what_the_runtime_writes(
    dimension: int,
    rows: int,
    seed: int,
    double: bool,  # noqa: FBT001
) -> None:
    """From 1 to 2,000 values, in a list of that size or of any."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((rows, dimension)) * 10.0 ** random.integers(-30, 30)
    item = pa.float64() if double else pa.float32()
    kind = _F.TYPE_DOUBLE if double else _F.TYPE_FLOAT
    fixed = pa.array(list(values), pa.list_(item, dimension))
    ragged = fixed.cast(pa.list_(item))

    row = message_types([FieldSpec("value", 1, kind, Presence.REPEATED)])["Row"]
    expected = runtime_bytes(row, pa.record_batch({"value": fixed}))
    assert expected == encode_one(fixed, kind, Presence.REPEATED)
    assert expected == encode_one(ragged, kind, Presence.REPEATED)


@settings(max_examples=50)
@given(npst.arrays(np.uint32, st.tuples(st.integers(0, 5), st.just(6))))
def test_vectors_keep_every_bit(bits: NDArray[np.uint32]) -> None:
    """Any 32 bits are passed on, whatever NaN they may be."""
    floats = pa.array(bits.ravel().view(np.float32))
    column = pa.FixedSizeListArray.from_arrays(floats, 6)

    assert [b"\x0a\x18" + row.astype("<u4").tobytes() for row in bits] == encode_one(
        column, _F.TYPE_FLOAT, Presence.REPEATED
    )


# Nulls


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (_F.TYPE_STRING, pa.array(["a", None])),
        (_F.TYPE_STRING, pa.array(["a", None]).dictionary_encode()),
        (_F.TYPE_BYTES, pa.array([b"a", None])),
        (_F.TYPE_STRING, strategies.array_of([bytes(16), None], pa.uuid())),
        (_F.TYPE_BOOL, pa.array([True, None])),
        (_F.TYPE_SINT64, pa.array([1, None], pa.int64())),
        (_F.TYPE_FIXED32, pa.array([1, None], pa.uint32())),
        (_F.TYPE_DOUBLE, pa.array([1, None], pa.float64())),
    ],
)
def test_a_null_where_it_cannot_be_said_is_refused(
    kind: strategies.FieldType, column: pa.Array
) -> None:
    """A null in a field of implicit presence would come out as its default."""
    encoder, batch = encoder_of_one(column, kind)

    for encode in (encoder.sizes, encoder.encode):
        with pytest.raises(EncodeError, match=r"random\.Row\.value: .*null"):
            encode(batch)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], None], pa.list_(pa.float32(), 2)),
        pa.array([[1, 2], [3, None]], pa.list_(pa.float32(), 2)),
        pa.array([[1, 2], None], pa.list_(pa.float32())),
        pa.array([[1, 2], [None]], pa.list_(pa.float32())),
    ],
)
def test_a_null_in_a_vector_is_refused(column: pa.Array) -> None:
    """Neither a whole vector nor one of its values may be null."""
    encoder, batch = encoder_of_one(column, _F.TYPE_FLOAT, Presence.REPEATED)

    with pytest.raises(EncodeError, match=r"random\.Row\.value: .*null"):
        encoder.encode(batch)


@pytest.mark.parametrize("list_type", [pa.list_(pa.float32(), 2), pa.list_(pa.float32())])
def test_nulls_outside_a_slice_do_not_matter(list_type: pa.DataType) -> None:
    """Vectors beside the slice may be null, wholly or in part."""
    column = pa.array([None, [None, 1], [2, 3], [4, None], None], list_type)

    assert [bytes.fromhex("0a080000004000004040")] == encode_one(
        column[2:3], _F.TYPE_FLOAT, Presence.REPEATED
    )


def test_a_null_in_a_dictionary_is_refused() -> None:
    """A dictionary's value, unlike a row, must not be null."""
    column = pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None]))
    encoder, batch = encoder_of_one(column, _F.TYPE_STRING, Presence.OPTIONAL)

    with pytest.raises(EncodeError, match=r"random\.Row\.value: .*null"):
        encoder.encode(batch)


def test_a_dictionary_column_of_nulls_alone_has_no_fields() -> None:
    """With nothing but nulls the dictionary is empty, and so is every message."""
    column = pa.array([None, None], pa.string()).dictionary_encode()

    assert [b"", b""] == encode_one(column, _F.TYPE_STRING, Presence.OPTIONAL)


# Too much at once


def zeros(values: int, item: pa.DataType) -> pa.Array:
    """Make an array of zeros, which the system gives no memory before they are looked at."""
    data = pa.py_buffer(np.zeros(values * item.byte_width, np.uint8))
    return pa.Array.from_buffers(item, values, [None, data])


def texts_of_one_mib(distinct: int, rows: int) -> pa.Array:
    values = [str(i) + "x" * MIB for i in range(distinct)]
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(values))


def vectors(rows: int, dimension: int, item: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(zeros(rows * dimension, item), dimension)


def lists(rows: int, values: int, item: pa.DataType) -> pa.Array:
    offsets = pa.array(np.linspace(0, values, rows + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, zeros(values, item))


TEXT = (_F.TYPE_STRING, Presence.IMPLICIT)
FLOATS = (_F.TYPE_FLOAT, Presence.REPEATED)
DOUBLES = (_F.TYPE_DOUBLE, Presence.REPEATED)
# Columns that make messages of 2 GiB and more, but take next to no memory themselves.
HUGE_COLUMNS: dict[str, Callable[[], ColumnsOfKinds]] = {
    "text of a small dictionary": lambda: [(texts_of_one_mib(1, 3_000), TEXT)],
    "text of a large dictionary": lambda: [(texts_of_one_mib(17, 3_000), TEXT)],
    "vectors of one length": lambda: [(vectors(2**20, 512, pa.float32()), FLOATS)],
    "one vector": lambda: [(lists(1, 2**29, pa.float32()), FLOATS)],
    "vectors of any length": lambda: [(lists(1_000, 2**28, pa.float64()), DOUBLES)],
    "two columns of less": lambda: [
        (vectors(2**10, 2**18, pa.float32()), FLOATS),
        (vectors(2**10, 2**17, pa.float64()), DOUBLES),
    ],
    # 4,096 bytes under the limit without the prefixes, or lengths of rows, of 1,024 rows.
    "less before the prefixes": lambda: [(vectors(2**10, 2**19 - 2, pa.float32()), FLOATS)],
}


@pytest.mark.parametrize("name", HUGE_COLUMNS)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_two_gib_at_once_are_refused_without_being_made(name: str, *, in_chunks: bool) -> None:
    """Messages of 2 GiB or more are an EncodeError before memory for them is asked for."""
    columns = HUGE_COLUMNS[name]()
    types = message_types(
        FieldSpec(f"value_{number}", number, *field)
        for number, (_, field) in enumerate(columns, start=1)
    )
    names = [f"value_{number}" for number in range(1, len(columns) + 1)]
    batch = pa.RecordBatch.from_arrays([column for column, _ in columns], names=names)
    rows = RowEncoder(types["Row"], batch.schema)
    chunks = ChunkEncoder(types["Chunk"], rows)
    before = bytes_asked_for()

    with pytest.raises(EncodeError, match=rf"a batch of {batch.num_rows} rows takes \d+ bytes"):
        chunks.encode(batch, np.array([0])) if in_chunks else rows.encode(batch)
    assert 64 * MIB > bytes_asked_for() - before


def test_two_gib_are_refused_if_only_the_prefixes_of_chunks_make_them() -> None:
    """1,024 chunks take 5 bytes each more than what is in them, 4,096 bytes under the limit."""
    types = message_types([FieldSpec("value", 1, *FLOATS)])
    batch = pa.record_batch({"value": vectors(2**10, 2**19 - 3, pa.float32())})
    encoder = ChunkEncoder(types["Chunk"], RowEncoder(types["Row"], batch.schema))

    assert 2**31 - 4_096 == encoder.sizes(batch).sum()
    with pytest.raises(EncodeError, match=rf"takes {2**31 + 1_024} bytes"):
        encoder.encode(batch, np.arange(2**10))


# What an encoder keeps


def test_alternating_dictionaries_do_not_mix() -> None:
    """An encoder that keeps the last dictionary's values tells it from the next one's."""
    batches = [embeddings(20, seed=seed) for seed in (1, 2)]
    encoder = RowEncoder(EMBEDDING, batches[0].schema)

    for batch in batches * 3:
        assert runtime_bytes(EMBEDDING, batch) == list(encoder.encode(batch).messages())


LOWER = pa.array(["a", "bc", "", "d"])
# Arrow's own function writes other text between the same offsets.
UPPER = pc.ascii_upper(LOWER)


@given(
    st.lists(
        st.tuples(st.sampled_from([LOWER, UPPER]), st.integers(0, 4), st.integers(0, 4)),
        min_size=2,
        max_size=30,
    )
)
def test_dictionaries_in_shared_memory_do_not_mix(parts: list[tuple[pa.Array, int, int]]) -> None:
    """Slices of one dictionary, and two on the same offsets, are different dictionaries."""
    dictionaries = [whole.slice(start, length) for whole, start, length in parts]
    encoder, _ = encoder_of_one(dictionaries[0].dictionary_encode(), _F.TYPE_STRING)

    for dictionary in dictionaries:
        indices = np.arange(len(dictionary), dtype=np.int32)
        batch = pa.record_batch({"value": pa.DictionaryArray.from_arrays(indices, dictionary)})
        assert encode_one(dictionary, _F.TYPE_STRING) == list(encoder.encode(batch).messages())


@pytest.mark.parametrize(
    "dictionary",
    [
        pa.array([f"value {i}" for i in range(70_000)]),
        pa.array([str(i) * (3 * MIB) for i in range(6)]),
    ],
    ids=["of many values", "of many bytes"],
)
def test_a_dictionary_too_large_to_be_kept_is_encoded_all_the_same(dictionary: pa.Array) -> None:
    """How large a dictionary is has no influence on the messages, nulls included."""
    indices = pa.array([0, len(dictionary) - 1, None, 3, 0], pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, dictionary)[1:]

    assert encode_one(column.dictionary_decode(), _F.TYPE_STRING, Presence.OPTIONAL) == encode_one(
        column, _F.TYPE_STRING, Presence.OPTIONAL
    )


@pytest.mark.parametrize(
    ("index_type", "values"),
    [(pa.int8(), 2**7), (pa.uint8(), 2**8), (pa.int16(), 2**15), (pa.uint16(), 2**16)],
)
@pytest.mark.parametrize("kept_values", [2**20, -1], ids=["kept", "looked up"])
def test_a_dictionary_may_be_as_long_as_its_indices_reach(
    index_type: pa.DataType, values: int, kept_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last value that an index can number is encoded, and measured, like any other."""
    monkeypatch.setattr(encode_text, "_KEPT_DICTIONARY_VALUES", kept_values)
    dictionary = pa.array([str(i) for i in range(values)])
    column = pa.DictionaryArray.from_arrays(pa.array([values - 1, 0], index_type), dictionary)
    encoder, batch = encoder_of_one(column, _F.TYPE_STRING)

    expected = encode_one(column.dictionary_decode(), _F.TYPE_STRING)
    assert expected == list(encoder.encode(batch).messages())
    assert [len(message) for message in expected] == encoder.sizes(batch).tolist()


def test_a_dictionary_may_be_replaced_while_it_is_recognized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a thread was about to use stays its own when another thread encodes in between."""
    batches = [embeddings(30, seed=seed) for seed in (1, 2)]
    encoder = RowEncoder(EMBEDDING, batches[0].schema)
    expected = runtime_bytes(EMBEDDING, batches[0])

    def recognize_after_another_thread(array: pa.Array) -> tuple[tuple[int, int], ...]:
        with monkeypatch.context() as patch:
            patch.setattr(encode_text, "memory_of", memory_of)
            encoder.encode(batches[1])
        return memory_of(array)

    encoder.encode(batches[0])
    monkeypatch.setattr(encode_text, "memory_of", recognize_after_another_thread)
    assert expected == list(encoder.encode(batches[0]).messages())


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_an_encoder_may_be_used_from_several_threads() -> None:
    """Threads that encode batches of different dictionaries get the bytes of their own."""
    batches = [embeddings(4, seed=seed) for seed in range(4)]
    expected = [runtime_bytes(EMBEDDING, batch) for batch in batches]
    encoder = RowEncoder(EMBEDDING, batches[0].schema)

    def encode_over_and_over(first: int) -> list[bool]:
        order = [(first + turn // 2) % len(batches) for turn in range(200)]
        return [
            expected[index] == list(encoder.encode(batches[index]).messages()) for index in order
        ]

    with ThreadPoolExecutor(4) as threads:
        assert [[True] * 200] * 4 == list(threads.map(encode_over_and_over, range(4)))


# Where zero-copy ends


@pytest.mark.parametrize("as_list", [False, True])
def test_pieces_view_the_vectors_where_they_lie(*, as_list: bool) -> None:
    """Until pieces are joined, a vector's bytes are those of the batch's own buffer."""
    batch = embeddings(10, dimension=5)
    values = batch["vector"].values
    if as_list:
        batch = batch.set_column(5, "vector", batch["vector"].cast(pa.list_(pa.float32())))
        values = batch["vector"].values
    part = batch.slice(3, 4)
    pieces = RowEncoder(EMBEDDING, batch.schema).columns(part).pieces

    vectors = pieces[-1]
    assert values.buffers()[1].address + 3 * 5 * 4 == vectors.buffers()[2].address
    assert 4 * 5 * 4 == vectors.buffers()[2].size
    assert [
        np.array(vector, np.float32).tobytes() for vector in part["vector"].to_pylist()
    ] == vectors.to_pylist()


def test_pieces_ask_for_no_memory_for_vectors() -> None:
    """Making pieces takes a small part of the memory that a copy of the vectors would."""
    batch = embeddings(1_000, dimension=2_000)
    encoder = RowEncoder(EMBEDDING, batch.schema)
    before = bytes_asked_for()
    encoder.columns(batch)

    assert batch["vector"].nbytes / 10 > bytes_asked_for() - before


@given(strategies.message_cases())
def test_looked_up_dictionaries_make_the_same_messages(case: MessageCase) -> None:
    """Columns whose dictionary isn't kept encoded are encoded, and measured, all the same."""
    encoder = encoder_of(case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_text, "_KEPT_DICTIONARY_VALUES", -1)
        messages = list(encoder.encode(case.batch).messages())
        sizes = encoder.sizes(case.batch).tolist()

    assert list(encoder_of(case).encode(case.batch).messages()) == messages
    assert list(map(len, messages)) == sizes

"""Varints, tags and binary columns, against the official runtime and plain Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.wrappers_pb2 import UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from streamer.codec.wire_format import (
    TaggedVarints,
    WireType,
    binary_column,
    fixed_width_column,
    offsets_of,
    ragged,
    tag,
    varint_matrix,
    varint_sizes,
)
from tests import strategies

STEPS = [
    *(0, 1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28, 2**32 - 1, 2**32, 2**35),
    *(2**42, 2**49, 2**56, 2**63 - 1, 2**63, 2**64 - 1),
]
uint64s = st.integers(0, 2**64 - 1) | st.integers(0, 2**15) | st.sampled_from(STEPS)
# tag(1, VARINT): what stands before the value in a google.protobuf.UInt64Value.
VALUE_TAG = b"\x08"


def reference_varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


@given(st.lists(uint64s))
def test_varint_matrix_holds_the_varints_padded_to_the_longest(values: list[int]) -> None:
    """Each row is the varint of its value, then zeros up to the longest one's length."""
    matrix = varint_matrix(np.array(values, np.uint64))
    varints = [reference_varint(value) for value in values]
    width = max(map(len, varints), default=1)

    assert (len(values), width) == matrix.shape
    assert [varint.ljust(width, b"\0") for varint in varints] == [row.tobytes() for row in matrix]


@given(st.lists(uint64s))
def test_varint_sizes_are_the_lengths_of_the_varints(values: list[int]) -> None:
    """A value takes as many bytes as it has groups of seven bits, zero takes one."""
    sizes = varint_sizes(np.array(values, np.uint64))

    assert np.int64 == sizes.dtype
    assert [len(reference_varint(value)) for value in values] == sizes.tolist()


@pytest.mark.parametrize("value", STEPS)
def test_a_tagged_varint_is_what_the_runtime_writes(value: int) -> None:
    """At every step of the length, tag and varint equal the runtime's, zero being left out."""
    varints = TaggedVarints(VALUE_TAG, omit_zero=True)

    expected = UInt64Value(value=value).SerializeToString()
    assert [expected] == varints.encode(np.array([value], np.uint64)).column.to_pylist()
    assert [len(expected)] == varints.sizes(np.array([value], np.uint64)).tolist()


@given(st.lists(uint64s))
def test_a_column_of_tagged_varints_is_what_the_runtime_writes(values: list[int]) -> None:
    """Small and large values of one column all equal what the runtime writes."""
    varints = TaggedVarints(VALUE_TAG, omit_zero=True)
    column = np.array(values, np.uint64)

    expected = [UInt64Value(value=value).SerializeToString() for value in values]
    assert expected == varints.encode(column).column.to_pylist()
    assert [len(value) for value in expected] == varints.sizes(column).tolist()


@given(
    values=st.lists(st.tuples(uint64s, st.booleans())),
    omit_zero=st.booleans(),
    number=strategies.field_numbers,
)
def test_absent_varints_take_no_bytes(
    *, values: list[tuple[int, bool]], omit_zero: bool, number: int
) -> None:
    """With a mask, only its values are written, a zero of them unless zeros are left out."""
    field_tag = tag(number, WireType.VARINT)
    varints = TaggedVarints(field_tag, omit_zero=omit_zero)
    column = np.array([value for value, _ in values], np.uint64)
    present = np.array([is_present for _, is_present in values], np.bool_)

    expected = [
        field_tag + reference_varint(value) if is_present and (value or not omit_zero) else b""
        for value, is_present in values
    ]
    assert expected == varints.encode(column, present).column.to_pylist()
    assert [len(value) for value in expected] == varints.sizes(column, present).tolist()


@given(st.lists(uint64s), strategies.field_numbers)
def test_zeros_are_written_when_asked_for(values: list[int], number: int) -> None:
    """Without omit_zero every value of a column has its tag and varint."""
    field_tag = tag(number, WireType.VARINT)
    varints = TaggedVarints(field_tag, omit_zero=False)
    column = np.array(values, np.uint64)

    expected = [field_tag + reference_varint(value) for value in values]
    assert expected == varints.encode(column).column.to_pylist()
    assert [len(value) for value in expected] == varints.sizes(column).tolist()


@pytest.mark.parametrize(
    ("number", "wire_type", "expected"),
    [
        (1, WireType.VARINT, "08"),
        (1, WireType.LEN, "0a"),
        (6, WireType.LEN, "32"),
        (15, WireType.I32, "7d"),
        (16, WireType.I64, "8101"),
        (2_047, WireType.LEN, "fa7f"),
        (2_048, WireType.LEN, "828001"),
        (strategies.MAX_FIELD_NUMBER, WireType.I32, "fdffffff0f"),
    ],
)
def test_a_tag_is_field_number_and_wire_type(
    number: int, wire_type: WireType, expected: str
) -> None:
    """Tags are right on both sides of each step of their length."""
    assert expected == tag(number, wire_type).hex()


@given(strategies.field_numbers, st.sampled_from(WireType))
def test_a_tag_is_a_varint(number: int, wire_type: WireType) -> None:
    """The wire type stands in the varint's three low bits."""
    assert reference_varint(number * 8 + wire_type) == tag(number, wire_type)


@given(st.lists(st.binary(min_size=7, max_size=7).flatmap(
    lambda row: st.tuples(st.just(row), st.integers(0, 7))
)))  # fmt: skip
def test_ragged_cuts_each_row_to_its_size(rows: list[tuple[bytes, int]]) -> None:
    """Row i of the column is the first sizes[i] bytes of row i of the matrix."""
    matrix = np.frombuffer(b"".join(row for row, _ in rows), np.uint8).reshape(-1, 7)
    sizes = np.array([size for _, size in rows], np.int64)
    column, returned_sizes = ragged(matrix, sizes)

    assert [row[:size] for row, size in rows] == column.to_pylist()
    assert sizes.tolist() == returned_sizes.tolist()


@given(st.lists(st.integers(0, 10_000)))
def test_offsets_are_running_sums_from_zero(sizes: list[int]) -> None:
    """Value i lies between offsets i and i + 1, int32 as Arrow wants them."""
    offsets = offsets_of(np.array(sizes, np.int64))

    assert np.int32 == offsets.dtype
    assert [sum(sizes[:end]) for end in range(len(sizes) + 1)] == offsets.tolist()


def test_binary_column_cuts_a_buffer_where_it_lies() -> None:
    """The values are the bytes between the offsets, at the buffer's own address."""
    data = pa.py_buffer(b"-onethree")
    column = binary_column(data, np.array([1, 4, 4, 9], np.int32))

    assert [b"one", b"", b"three"] == column.to_pylist()
    assert data.address == column.buffers()[2].address


@given(st.integers(0, 5), st.integers(0, 40))
def test_fixed_width_column_views_its_buffer(rows: int, width: int) -> None:
    """Every value is the next `width` bytes of the buffer, at the buffer's own address."""
    raw = bytes(range(rows * width))
    data = pa.py_buffer(raw)
    column = fixed_width_column(data, rows, width)

    assert [raw[width * row : width * (row + 1)] for row in range(rows)] == column.to_pylist()
    assert data.address == column.buffers()[2].address

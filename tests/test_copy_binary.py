"""Column-wise COPY rows: the bytes that a row-wise encoder makes, and what PostgreSQL reads."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.id_text import IdKind
from streamer.batch_schema import batch_schema
from streamer.sinks.copy_binary import HEADER, TRAILER, copy_rows
from tests.datasets import make_batch
from tests.postgres import TEXTS, client_batch, new_database, rows_of_batch, session_url

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("id", "company_name", "exp_years", "english_level", "primary_keyword", "vector")
# All that PostgreSQL's text can hold: no NUL, and no half of a surrogate pair.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
) | st.sampled_from(["", "x" * 70_000, "ü" * 4_000, "\t\\N\n\\.", "'; DROP TABLE", "\U0010ffff"])
_INT32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), 2**31 - 1, 0, -1])
# pgvector refuses NaN and infinities; everything else must arrive bit for bit.
_FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([
    -0.0, 0.0, 2.0**-149, -(2.0**-149), 2.0**-126, float(np.finfo(np.float32).max),
])  # fmt: skip


@st.composite
def _batches(draw: st.DrawFn, dimensions: st.SearchStrategy[int]) -> pa.RecordBatch:
    """Rows as a client has them, cut out of a longer batch."""
    dimension = draw(dimensions)
    ids = sorted(draw(st.sets(st.binary(min_size=16, max_size=16), min_size=1, max_size=8)))
    rows = len(ids)

    def column(values: st.SearchStrategy[Any], size: int = rows) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    if dimension <= 8:
        floats = np.array(column(_FLOAT, rows * dimension), np.float32)
    else:
        floats = np.random.default_rng(draw(_INT32) & 0xFFFF).standard_normal(
            rows * dimension, np.float32
        )
        floats[draw(st.integers(0, len(floats) - 1))] = -0.0
    schema = batch_schema(dimension, IdKind.UUID)
    columns = {
        "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16))),
        "exp_years": pa.array(column(_INT32), pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(
            pa.array(floats), type=schema.field("vector").type
        ),
        **{name: pa.array(column(_TEXT), pa.string()) for name in TEXTS},
    }
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    start = draw(st.integers(0, rows - 1))
    return batch.slice(start, draw(st.integers(1, rows - start)))


def _encoded_row(row: dict[str, Any]) -> bytes:
    """Encode one row field by field, after PostgreSQL's documentation of COPY."""
    out = struct.pack("!h", len(row))
    for value in row.values():
        if isinstance(value, UUID):
            field = value.bytes
        elif isinstance(value, str):
            field = value.encode()
        elif isinstance(value, int):
            field = struct.pack("!i", value)
        else:
            field = struct.pack(f"!HH{len(value)}f", len(value), 0, *value)
        out += struct.pack("!i", len(field)) + field
    return out


def _encoded(batch: pa.RecordBatch) -> bytes:
    return b"".join(map(_encoded_row, batch.to_pylist()))


@pytest.fixture(scope="module")
def connection(pytestconfig: pytest.Config) -> Iterator[psycopg.Connection]:
    with new_database(session_url(pytestconfig)) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.commit()
        yield connection


def _through_the_database(connection: psycopg.Connection, batch: pa.RecordBatch) -> list[Any]:
    """Return id, texts, int and the bits of the vector as the database has them."""
    dimension = batch.schema.field("vector").type.list_size
    types = ("uuid", "text", "integer", "text", "text", f"vector({dimension})")
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(_NAMES, types, strict=True))
    with connection.transaction(force_rollback=True):
        connection.execute(f"CREATE TEMPORARY TABLE t (place serial, {columns})".encode())
        query = f"COPY t ({', '.join(_NAMES)}) FROM STDIN (FORMAT binary)"
        with connection.cursor().copy(query.encode()) as copy:
            for piece in (HEADER, copy_rows(batch), TRAILER):
                copy.write(piece)
        return connection.execute(
            "SELECT id, company_name, english_level, primary_keyword, exp_years,"
            " substr(vector_send(vector), 5) FROM t ORDER BY place"
        ).fetchall()


def _expected(batch: pa.RecordBatch) -> list[Any]:
    rows = rows_of_batch(batch)
    return [
        (UUID(bytes=id_.tobytes()), *texts, int(years), vector.astype(">u4").tobytes())
        for id_, texts, years, vector in zip(*rows, strict=True)
    ]


@given(batch=_batches(st.sampled_from([1, 2, 3, 8, 1000])))
@settings(max_examples=150)
def test_bytes_are_those_of_a_row_wise_encoder(batch: pa.RecordBatch) -> None:
    """Column by column or row by row: the same bytes, wherever a batch was cut out."""
    assert _encoded(batch) == copy_rows(batch).to_pybytes()


@given(batch=_batches(st.sampled_from([1, 2, 5])))
@settings(max_examples=80)
def test_database_has_what_was_copied(
    connection: psycopg.Connection, batch: pa.RecordBatch
) -> None:
    """Every text, number and bit of a float comes out of PostgreSQL as it went in."""
    assert _expected(batch) == _through_the_database(connection, batch)


@pytest.mark.parametrize("dimension", [1, 2, 1000, 16_000])
def test_vectors_of_every_length_arrive(connection: psycopg.Connection, dimension: int) -> None:
    """From one float to as many as pgvector takes, bit for bit, from the middle of a batch."""
    batch = client_batch(make_batch(7, dimension=dimension)).slice(2, 4)

    assert _encoded(batch) == copy_rows(batch).to_pybytes()
    assert _expected(batch) == _through_the_database(connection, batch)


def test_no_rows_are_no_bytes() -> None:
    """An empty batch adds nothing to a COPY."""
    assert b"" == copy_rows(client_batch(make_batch(3)).slice(3)).to_pybytes()


def test_one_row_is_the_bytes_of_the_documentation() -> None:
    """A row by hand: counts and lengths are big-endian, and so are the floats."""
    schema = batch_schema(2, IdKind.UUID)
    id_ = UUID("00112233-4455-6677-8899-aabbccddeeff")
    columns = [
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([id_.bytes], pa.binary(16))),
        pa.array(["Ä"]), pa.array([-2], pa.int32()), pa.array([""]), pa.array(["x"]),
        pa.array([[1.0, -0.0]], schema.field("vector").type),
    ]  # fmt: skip

    row = copy_rows(pa.RecordBatch.from_arrays(columns, schema=schema)).to_pybytes()

    assert bytes.fromhex(
        "0006"
        "00000010 00112233445566778899aabbccddeeff"
        "00000002 c384"
        "00000004 fffffffe"
        "00000000"
        "00000001 78"
        "0000000c 0002 0000 3f800000 80000000"
    ) == row  # fmt: skip
    assert bytes.fromhex("5047434f50590aff0d0a00 00000000 00000000") == HEADER
    assert b"\xff\xff" == TRAILER


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.list_(pa.float64(), 2)])
def test_type_without_a_counterpart_is_named(kind: pa.DataType) -> None:
    """A column that has no agreed form is an error, never some bytes."""
    batch = pa.RecordBatch.from_arrays([pa.nulls(2, kind)], ["x"])

    with pytest.raises(TypeError, match=str(kind).partition("<")[0]):
        copy_rows(batch)

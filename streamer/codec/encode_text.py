"""Encoders of string and bytes fields: plain, dictionary-encoded, and ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from convert.id_text import IdKind, write_text
from streamer.buffers import memory_of
from streamer.codec.encode_scalars import check_total, numpy_values, presence
from streamer.codec.wire_format import (
    Bytes,
    Encoded,
    TaggedVarints,
    WireType,
    fixed_width_column,
    join,
    ragged,
    tag,
)
from streamer.errors import EncodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamer.codec.fields import FieldPair

# What an encoder keeps of a dictionary is bounded, so that a server's memory doesn't grow
# with its file: 65,536 values take 0.5 MB beside their text.
_KEPT_DICTIONARY_VALUES = 65_536
_KEPT_DICTIONARY_BYTES = 16 << 20


class TextField:
    """string and bytes in a column of their own."""

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        self._header = TaggedVarints(
            tag(pair.field.number, WireType.LEN), omit_zero=pair.implicit_presence
        )

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        return self.sizes_of(self._lengths(array), presence(self._pair, array))

    def sizes_of(
        self, lengths: NDArray[np.int64], present: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return the bytes of the field for texts of `lengths` bytes, those not present 0."""
        sizes = self._header.sizes(lengths.view(np.uint64), present) + lengths
        return sizes if present is None else sizes * present

    def encode(self, array: pa.Array) -> Encoded:
        lengths = self._lengths(array)
        header, sizes = self._header.encode(lengths.view(np.uint64), presence(self._pair, array))
        values = array.cast(pa.binary())
        if values.null_count:
            values = values.fill_null(b"")
        return Encoded([header, values], sizes + lengths)

    def _lengths(self, array: pa.Array) -> NDArray[np.int64]:
        return numpy_values(pc.binary_length(array)).astype(np.int64)


class _Last(NamedTuple):
    """The dictionary an encoder saw last; `encoded` is None if it is too large to keep."""

    dictionary: pa.Array
    memory: object
    encoded: Bytes | None


class DictionaryTextField:
    """string and bytes in a dictionary column: each distinct value is encoded once.

    A dictionary too large to be kept encoded is looked up in each batch instead.
    """

    def __init__(self, pair: FieldPair) -> None:
        self._pair = pair
        self._text = TextField(pair)
        self._last: _Last | None = None

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        return self._sizes(self._encoded(array.dictionary), array)

    def encode(self, array: pa.Array) -> Encoded:
        encoded = self._encoded(array.dictionary)
        sizes = self._sizes(encoded, array)
        check_total(sizes)  # a few values can make a column that Arrow can't address
        if encoded is None:
            return self._text.encode(array.dictionary_decode())
        column = encoded.column.take(array.indices)
        if column.null_count:
            column = column.fill_null(b"")
        return Encoded([column], sizes)

    def _sizes(self, encoded: Bytes | None, array: pa.Array) -> NDArray[np.int64]:
        present = presence(self._pair, array)
        if not len(array.dictionary):  # nulls need no values
            return np.zeros(len(array), np.int64)
        places = numpy_values(array.indices).astype(np.int64)
        if encoded is None:
            return self._text.sizes_of(_lengths_at(array.dictionary, places), present)
        sizes = encoded.sizes.take(places)
        return sizes if present is None else sizes * present

    def _encoded(self, dictionary: pa.Array) -> Bytes | None:
        """Return the encoded values of `dictionary`, or None if there are too many."""
        # A file's batches share one dictionary, so only the last one is kept. Holding it
        # keeps its addresses from being given to another.
        last, memory = self._last, memory_of(dictionary)
        if last is not None and last.memory == memory:
            return last.encoded
        if dictionary.null_count:
            message = f"{self._pair.field.full_name}: the dictionary has nulls"
            raise EncodeError(message)
        is_small = (
            len(dictionary) <= _KEPT_DICTIONARY_VALUES
            and dictionary.nbytes <= _KEPT_DICTIONARY_BYTES
        )
        encoded = None
        if is_small:
            pieces, sizes = self._text.encode(dictionary)
            encoded = Bytes(join(pieces), sizes)
        self._last = _Last(dictionary, memory, encoded)
        return encoded


def _lengths_at(dictionary: pa.Array, places: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the bytes of the values at `places`, without a look at all the others."""
    dtype = np.dtype(np.int64 if pa.types.is_large_string(dictionary.type) else np.int32)
    offsets = np.frombuffer(
        dictionary.buffers()[1], dtype, len(dictionary) + 1, dtype.itemsize * dictionary.offset
    )
    lengths: NDArray[np.int64] = (offsets[places + 1] - offsets[places]).astype(np.int64)
    return lengths


class IdField:
    """16-byte ids as their canonical text."""

    def __init__(self, pair: FieldPair, kind: IdKind) -> None:
        self._pair = pair
        self._kind = kind
        self._header = np.frombuffer(
            tag(pair.field.number, WireType.LEN) + bytes([kind.chars]), np.uint8
        )

    def sizes(self, array: pa.Array) -> NDArray[np.int64]:
        sizes = np.full(len(array), len(self._header) + self._kind.chars, np.int64)
        present = presence(self._pair, array)
        return sizes if present is None else sizes * present

    def encode(self, array: pa.Array) -> Encoded:
        header = len(self._header)
        width = header + self._kind.chars
        matrix = np.empty((len(array), width), np.uint8)
        matrix[:, :header] = self._header
        write_text(self._kind, id_bytes(array), matrix[:, header:])
        sizes = self.sizes(array)
        if array.null_count:
            return Encoded([ragged(matrix, sizes).column], sizes)
        return Encoded([fixed_width_column(pa.py_buffer(matrix), len(array), width)], sizes)


def id_bytes(array: pa.Array) -> NDArray[np.uint8]:
    """View a column of type arrow.uuid as uint8 (n, 16); copies nothing."""
    storage = array.storage
    raw = np.frombuffer(storage.buffers()[1], np.uint8, 16 * len(array), 16 * storage.offset)
    return raw.reshape(len(array), 16)

"""Columns of long texts, as Arrow's: Python's would be copied twice, and take more memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from convert.pickle_reader.spans import Text

if TYPE_CHECKING:
    from convert.pickle_reader.spans import Buffer

# No program writes this type; so it says that a pickle has text there.
LONG_TEXTS = pa.dictionary(pa.int64(), pa.large_string())
_KINDS = frozenset({Text, str, type(None)})


def long_texts(values: list[Any], data: Buffer) -> pa.DictionaryArray | None:
    """Return a column of LONG_TEXTS, or None if no text is long, or a value is no text.

    A text that rows share is there once, and all are UTF-8.
    """
    kinds = set(map(type, values))
    if Text not in kinds or not kinds <= _KINDS:
        return None
    keys = [id(value) if type(value) is Text else value for value in values]
    found = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    view = memoryview(data)
    try:
        parts = [
            view[value.offset : value.offset + value.size]
            if type(value) is Text
            else value.encode()
            for value in found.values()
        ]
    except UnicodeEncodeError:  # lone surrogates
        return None
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))]
    texts = pa.Array.from_buffers(pa.large_string(), len(parts), buffers)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:  # surrogates again, or damage
        return None
    number = {key: at for at, key in enumerate(found)}
    places = pa.array([number.get(key) for key in keys], pa.int64())
    return pa.DictionaryArray.from_arrays(places, texts)

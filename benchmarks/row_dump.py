"""The rows of a dataset as the servers in `peers` read them.

All numbers are little-endian, 4 bytes; a text is its length in bytes and its UTF-8. First come
the number of rows and the floats of a vector, then row after row: id, company_name, exp_years,
english_level, primary_keyword, vector.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pyarrow import feather

if TYPE_CHECKING:
    from pathlib import Path

_BEFORE_YEARS = ("id", "company_name")
_AFTER_YEARS = ("english_level", "primary_keyword")


def write_row_dump(data: Path, out: Path) -> None:
    """Write the rows of the dataset file `data` to `out`."""
    table = feather.read_table(data)
    dimension = table.schema.field("vector").type.list_size
    with out.open("wb") as file:
        file.write(struct.pack("<ii", table.num_rows, dimension))
        for batch in table.to_batches():
            before, after = (
                [[_text(value) for value in batch[name].to_pylist()] for name in names]
                for names in (_BEFORE_YEARS, _AFTER_YEARS)
            )
            years = [struct.pack("<i", value) for value in batch["exp_years"].to_pylist()]
            floats = batch["vector"].flatten().to_numpy().astype("<f4")
            vectors = [vector.tobytes() for vector in floats.reshape(-1, dimension)]
            for parts in zip(*before, years, *after, vectors, strict=True):
                file.writelines(parts)


def _text(value: object) -> bytes:
    utf8 = str(value).encode()
    return struct.pack("<i", len(utf8)) + utf8

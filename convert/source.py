"""What a pickle holds, as named columns: a list of dicts or a DataFrame.

`read_source` is the one function that turns a pickle into columns. A column is a list
of Python values, a one-dimensional NumPy array, or an Arrow array, whichever the pickle
holds; nothing is validated or copied here. The rows stay reachable, so that a rejected
one can be written out whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from convert import stand_ins
from convert.errors import UnreadableSourceError
from convert.unpickle import read_pickle
from convert.validation import is_unicode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Values: TypeAlias = "list[Any] | NDArray[Any] | pa.Array"

# The names each field goes by: the documented one, then that of the team's own pickle.
COLUMN_NAMES = {
    "id": ("id",),
    "company_name": ("company_name", "Company Name"),
    "exp_years": ("exp_years", "Exp Years"),
    "english_level": ("english_level", "English Level"),
    "primary_keyword": ("primary_keyword", "Primary Keyword"),
    "vector": ("job_post_vectors", "vector"),
}
OPTIONAL_FIELDS = frozenset({"id"})


@dataclass(frozen=True)
class Source:
    """The columns of a pickle.

    `fields` holds the columns that are converted, by field; `names` what they are called
    in the pickle; `ignored` the names of all others.
    """

    rows: int
    fields: Mapping[str, Values]
    names: Mapping[str, str]
    ignored: Sequence[str]
    row: Callable[[int], dict[str, Any]]


def read_source(path: Path, columns: Mapping[str, str], advance: Callable[[int], None]) -> Source:
    """Read the pickle at `path`; `columns` says what some fields are called there.

    `advance` is told how many more bytes of the file were read.
    """
    content = read_pickle(path, advance)
    if isinstance(content, list):
        return _source_of_records(content, columns)
    if isinstance(content, stand_ins.Frame):
        return _source_of_frame(content, columns)
    found = type(content).__name__
    message = f"{path} holds a {found}, not a list of dicts or a DataFrame"
    raise UnreadableSourceError(message)


def _source_of_records(records: list[Any], columns: Mapping[str, str]) -> Source:
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            message = f"row {number} is a {type(record).__name__}, not a dict"
            raise UnreadableSourceError(message)
    present: dict[Any, None] = {}
    for record in records:  # keeps the order in which the names appear
        if record.keys() - present.keys():
            present.update(dict.fromkeys(record))
    names, ignored = _choose(present, columns)
    return Source(
        rows=len(records),
        fields={field: [record.get(name) for record in records] for field, name in names.items()},
        names={field: str(name) for field, name in names.items()},
        ignored=ignored,
        row=lambda number: dict(records[number]),
    )


def _source_of_frame(frame: stand_ins.Frame, columns: Mapping[str, str]) -> Source:
    try:
        values = _frame_columns(frame)
    except Exception as error:
        # What a damaged or forged frame is made of can fail in any way when it is taken apart.
        message = f"the DataFrame is damaged: {error or type(error).__name__}"
        raise UnreadableSourceError(message) from error
    lengths = {len(column) for column in values.values()}
    if len(lengths) > 1:
        message = f"the DataFrame is damaged: its columns have {sorted(lengths)} rows"
        raise UnreadableSourceError(message)
    names, ignored = _choose(values, columns)
    return Source(
        rows=lengths.pop() if lengths else 0,
        fields={field: values[name] for field, name in names.items()},
        names={field: str(name) for field, name in names.items()},
        ignored=ignored,
        row=lambda number: {name: column[number] for name, column in values.items()},
    )


def _frame_columns(frame: stand_ins.Frame) -> dict[Any, Values]:
    blocks, axes = frame.state["_mgr"].args[:2]
    labels = _as_list(_plain_values(axes[0]))
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        message = f"there are several columns {repeated[0]!r}"
        raise ValueError(message)
    values: list[Any] = [None] * len(labels)
    for block, placement in blocks:
        columns = (
            range(*placement.indices(len(labels))) if isinstance(placement, slice) else placement
        )
        is_matrix = isinstance(block, np.ndarray) and block.ndim == 2
        for position, column in enumerate(columns):
            if not 0 <= column < len(labels):
                message = f"a block is placed at column {column}"
                raise ValueError(message)
            values[column] = _plain_values(block[position] if is_matrix else block)
    return {
        label: column for label, column in zip(labels, values, strict=True) if column is not None
    }


def _plain_values(values: Any) -> Values:  # noqa: ANN401
    """Unwrap what pandas wraps around a column."""
    match values:
        case np.ndarray():
            array = np.asarray(values)
            # 2-D blocks of datetimes hold one column each.
            array = array[0] if array.ndim == 2 and len(array) == 1 else array
            if array.ndim != 1:
                message = f"a column of shape {array.shape}"
                raise ValueError(message)
            return array.tolist() if array.dtype == object else array
        case stand_ins.Index():
            return _plain_values(values.args[0])
        case stand_ins.ArrayBacked():
            return _plain_values(_first(values.state, np.ndarray))
        case stand_ins.Categorical():
            return _categorical(values)
        case stand_ins.Masked():
            data, mask = np.asarray(values.state["_data"]), np.asarray(values.state["_mask"])
            if data.dtype.kind not in "biuf":
                message = f"a nullable column of {data.dtype}"
                raise ValueError(message)
            return pa.array(data, mask=mask)
        case stand_ins.ArrowBacked():
            state = values.state
            array = state["_pa_array"] if "_pa_array" in state else state["_data"]
            return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        case _:
            message = f"a column is a {type(values).__name__}"
            raise TypeError(message)


def _as_list(values: Values) -> list[Any]:
    if isinstance(values, list):
        return values
    listed: list[Any] = values.to_pylist() if isinstance(values, pa.Array) else values.tolist()
    return listed


def _first(values: Iterable[Any], kind: type) -> Any:  # noqa: ANN401
    """Return the only one of `values` that is a `kind`; its place differs between versions."""
    for value in values:
        if isinstance(value, kind):
            return value
    message = f"no {kind.__name__} where one belongs"
    raise ValueError(message)


def _categorical(values: stand_ins.Categorical) -> Values:
    codes = np.asarray(_first(values.state, np.ndarray))
    kind = _first(values.state, stand_ins.CategoricalType)
    categories = _plain_values(kind.state["categories"])
    if isinstance(categories, list):
        if not all(isinstance(c, str) and is_unicode(c) for c in categories):
            return [categories[code] if code >= 0 else None for code in codes.tolist()]
        categories = pa.array(categories, pa.string())
    elif isinstance(categories, np.ndarray):
        categories = pa.array(categories)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), categories)


def _choose(
    present: Mapping[Any, object], columns: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the column name of each field that there is, and the names left over."""
    chosen = {}
    named = {str(name): name for name in present}  # a name may be a number
    for field, known in COLUMN_NAMES.items():
        wanted = (columns[field],) if field in columns else known
        found = [named[name] for name in wanted if name in named]
        if len(found) > 1:
            message = f"{field}: there is {' and '.join(map(repr, found))}; choose with --column"
            raise UnreadableSourceError(message)
        if found:
            chosen[field] = found[0]
        elif field not in OPTIONAL_FIELDS or field in columns:
            have = ", ".join(repr(str(name)) for name in present) or "none"
            message = (
                f"there is no column {' or '.join(map(repr, wanted))} for {field}; "
                f"say which with --column {field}=NAME (columns: {have})"
            )
            raise UnreadableSourceError(message)
    used = set(chosen.values())
    return chosen, [str(name) for name in present if name not in used]

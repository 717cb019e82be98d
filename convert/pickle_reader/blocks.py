"""What a DataFrame's blocks say about themselves: how large they are, and where they belong."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from convert.pickle_reader.errors import DamagedPickle, PickleReaderError
from convert.pickle_reader.numpy_values import Array, item_count
from convert.pickle_reader.pandas_values import (
    ArrayBacked,
    ArrowBacked,
    Blocks,
    Categorical,
    Frame,
    Index,
    Masked,
    Series,
    SingleBlock,
)
from convert.pickle_reader.stand_ins import Opaque
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convert.pickle_reader.spans import Buffer

# Arrays in indexes in arrays; pandas wraps two.
MAX_WRAPPED = 8


class Level(NamedTuple):
    """A level of a MultiIndex: `codes` says by number which of the `labels` each row has."""

    codes: Array
    labels: Any


class Constant(NamedTuple):
    """A column all rows of which have the same value, as many as other columns have."""

    value: Any


class Matrix(NamedTuple):
    """A column each row of which is a row of `array`, whose shape is (rows, ...)."""

    array: Array


def column_count(values: Any) -> int:  # noqa: ANN401
    """Return how many columns a block has."""
    array = first(values.state, Array) if isinstance(values, ArrayBacked) else values
    is_matrix = isinstance(array, Array) and len(array.shape) == 2
    return array.shape[0] if is_matrix else 1


def row_count(values: Any, depth: int = 0) -> int | None:  # noqa: ANN401, C901 - a table of cases
    """Return how many rows a block has, without looking at them; None if nobody asks."""
    match values:
        case Opaque() | Constant():
            return None
        case range():
            return len(values)
        case list():
            return item_count(values)
        case Level():
            return row_count(checked(values.codes, Array))
        case Matrix():
            return values.array.shape[0]
        case Series() if depth < MAX_WRAPPED:
            return row_count(series_values(values), depth + 1)
        case Index() if depth < MAX_WRAPPED:
            return row_count(values.args[0], depth + 1)
        case ArrayBacked() | Categorical():
            return row_count(first(values.state, Array))
        case Masked():
            return row_count(checked(values.state["_data"], Array))
        case ArrowBacked():
            array = arrow_array(values)
            return None if isinstance(array, Opaque) else len(array)
        case Array() if len(values.shape) in (1, 2):
            return values.shape[-1]
    message = f"a column is {kind_of(values)}"
    raise TypeError(message)


def frame_blocks(frame: Frame) -> tuple[Iterable[tuple[Any, Any]], tuple[Any, Any]]:
    """Return the values and the placement of each block, and the labels of columns and rows."""
    state = frame.state
    manager = checked(state["_mgr" if "_mgr" in state else "_data"], Blocks)
    if manager.state is None:
        blocks, (columns, index), *_ = manager.args
        return blocks, (columns, index)
    held = manager.state[3]["0.14.1"]  # as pandas did up to 1.2
    columns, index = held["axes"]
    return [(block["values"], block["mgr_locs"]) for block in held["blocks"]], (columns, index)


def writer_of(frame: Frame) -> str:
    """Return which versions of pandas wrote a frame, "" if it is 1.3 or later."""
    state = frame.state if isinstance(frame.state, dict) else {}
    if "_mgr" in state:
        return "pandas 1.1 or 1.2" if getattr(state["_mgr"], "state", None) is not None else ""
    return "pandas before 1.1"


def series_values(series: Series) -> Any:  # noqa: ANN401
    state = series.state
    manager = checked(state["_mgr" if "_mgr" in state else "_data"], SingleBlock)
    if manager.state is None:
        (values, _placement), *_ = manager.args
        return values
    return manager.state[3]["0.14.1"]["blocks"][0]["values"]


def arrow_array(values: ArrowBacked) -> Any:  # noqa: ANN401
    state = values.state
    return state["_pa_array"] if "_pa_array" in state else state["_data"]


def placed_at(placement: Any, columns: int, data: Buffer) -> list[int]:  # noqa: ANN401
    """Return the numbers of the columns at which a block is placed."""
    if isinstance(placement, slice):
        positions = list(range(*placement.indices(columns)))
    else:
        array = checked(placement, Array).view(data)
        positions = array.tolist() if array.dtype.kind == "i" else [-1]
    if not all(0 <= position < columns for position in positions):
        message = "a block is placed beyond the columns"
        raise ValueError(message)
    return positions


def checked(value: Any, kind: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, kind):
        message = f"{kind_of(value)} where other values belong"
        raise TypeError(message)
    return value


def first(values: Iterable[Any], kind: Any) -> Any:  # noqa: ANN401
    """Return the only one of `values` that is a `kind`; its place differs between versions.

    Up to pandas 1.2 they have names.
    """
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, kind):
            return value
    message = "an array of pandas without its values"
    raise ValueError(message)


@contextlib.contextmanager
def damage_named(offset: int, content: object) -> Iterator[None]:
    """Make any error that damaged or forged content causes, taken apart, a DamagedPickle."""
    try:
        yield
    except PickleReaderError:
        raise
    except Exception as error:
        why = error if str(error) else type(error).__name__
        what = "the DataFrame" if isinstance(content, Frame) else "the table"
        message = f"{what} is damaged: {why}"
        if isinstance(content, Frame) and (writer := writer_of(content)):
            message = (
                f"the DataFrame is one of {writer}, and can't be read: {why}. Read it with that "
                "version and write it with a later one, or as Parquet"
            )
        raise DamagedPickle(message, offset) from error

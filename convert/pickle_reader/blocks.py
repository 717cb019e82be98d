"""What a DataFrame's blocks say about themselves: how large they are, and where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.pandas_values import ArrayBacked, ArrowBacked, Categorical, Index, Masked
from convert.pickle_reader.stand_ins import Opaque

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convert.pickle_reader.spans import Buffer

# Arrays in indexes in arrays; pandas wraps two.
MAX_WRAPPED = 8


def column_count(values: Any) -> int:  # noqa: ANN401
    """Return how many columns a block has."""
    array = first(values.state, Array) if isinstance(values, ArrayBacked) else values
    is_matrix = isinstance(array, Array) and len(array.shape) == 2
    return array.shape[0] if is_matrix else 1


def row_count(values: Any, depth: int = 0) -> int | None:  # noqa: ANN401
    """Return how many rows a block has, without looking at them; None if nobody asks."""
    match values:
        case Opaque():
            return None
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
    message = f"a column is a {type(values).__name__}"
    raise TypeError(message)


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
        wanted = getattr(kind, "__name__", kind)  # a union of classes has none
        message = f"a {type(value).__name__} where a {wanted} belongs"
        raise TypeError(message)
    return value


def first(values: Iterable[Any], kind: Any) -> Any:  # noqa: ANN401
    """Return the only one of `values` that is a `kind`; its place differs between versions."""
    for value in values:
        if isinstance(value, kind):
            return value
    message = f"no {kind.__name__} where one belongs"
    raise ValueError(message)

"""The columns of a DataFrame: its blocks, taken apart."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from convert.pickle_reader.columns import Batch, Values, make_column
from convert.pickle_reader.errors import (
    DamagedPickle,
    EndlessValue,
    PickleReaderError,
    UnsupportedPickle,
)
from convert.pickle_reader.numpy_values import Array, item_count
from convert.pickle_reader.pandas_values import (
    ArrayBacked,
    ArrowBacked,
    Blocks,
    Categorical,
    CategoricalType,
    Frame,
    Index,
    Masked,
)
from convert.pickle_reader.stand_ins import Opaque
from convert.pickle_reader.vectors import FloatLists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convert.pickle_reader.plain import Plain
    from convert.pickle_reader.spans import Buffer

_MAX_WRAPPED = 8


@contextlib.contextmanager
def damage_named(offset: int) -> Iterator[None]:
    """Make any error that a damaged or forged frame causes, taken apart, a DamagedPickle."""
    try:
        yield
    except PickleReaderError:
        raise
    except Exception as error:
        message = f"the DataFrame is damaged: {error or type(error).__name__}"
        raise DamagedPickle(message, offset) from error


class _Objects(NamedTuple):
    """Items of a list from `begin` to `end`, some of which may have been let go."""

    items: list[Any]
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class FrameColumns:
    """The columns of a frame by name, in order; `rows` is what they all have.

    Raise ValueError, TypeError, KeyError ... if the frame is damaged or forged.
    """

    def __init__(self, frame: Frame, data: Buffer, plain: Plain) -> None:
        self._data = data
        self._plain = plain
        blocks, (named, index), *_ = _checked(frame.state["_mgr"], Blocks).args
        if isinstance(named, Opaque):
            message = f"columns named by a {type(named).__name__}"
            raise UnsupportedPickle(message, len(data))
        labels = self._as_list(self._unwrapped(named))
        repeated = [label for label, count in Counter(labels).items() if count > 1]
        if repeated:
            message = f"there are several columns {repeated[0]!r}"
            raise ValueError(message)
        placed: list[Any] = [None] * len(labels)
        for values, placement in blocks:
            positions = _positions(placement, len(labels), data)
            if len(positions) != _column_count(values):
                message = f"a block placed at {len(positions)} columns"
                raise ValueError(message)
            for position, column in enumerate(positions):
                placed[column] = self._unwrapped(values, position)
        self.columns = {
            label: column
            for label, column in zip(labels, placed, strict=True)
            if column is not None
        }
        if isinstance(index, Index) and isinstance(index.name, str):  # as set_index() makes it
            self.columns.setdefault(index.name, self._unwrapped(index))
        lengths = {
            len(column) for column in self.columns.values() if not isinstance(column, Opaque)
        }
        if len(lengths) > 1:
            message = f"its columns have {sorted(lengths)} rows"
            raise ValueError(message)
        self.rows = lengths.pop() if lengths else 0

    def batches(self, names: list[Any], batch_rows: int) -> Iterator[Batch]:
        """Yield the columns of those names, `batch_rows` rows at a time."""
        for begin in range(0, self.rows, batch_rows):
            end = min(begin + batch_rows, self.rows)
            columns = {name: self._slice(self.columns[name], begin, end) for name in names}
            yield Batch(end - begin, columns, self._row_from(begin))

    def _row_from(self, begin: int) -> Callable[[int], dict[Any, Any]]:
        def whole_row(row: int) -> dict[Any, Any]:
            at = begin + row
            whole = {}
            with damage_named(len(self._data)):
                for name, column in self.columns.items():
                    try:
                        values: Any = self._slice(column, at, at + 1)
                    except EndlessValue as error:
                        values = [error.message]
                    is_span = isinstance(values, FloatLists)
                    whole[name] = _python_value(values.row(0) if is_span else values[0])
            return whole

        return whole_row

    def _slice(self, column: Any, begin: int, end: int) -> Values:  # noqa: ANN401
        if isinstance(column, Opaque):
            return [column] * (end - begin)
        if isinstance(column, _Objects):
            first = column.begin
            values = list(self._plain.items(column.items, first + begin, first + end))
            if len(values) != end - begin:
                message = f"{len(values)} objects where {end - begin} belong"
                raise ValueError(message)
            return make_column(values, self._data, self._plain)
        sliced: Values = column[begin:end]
        return sliced

    def _unwrapped(self, values: Any, position: int = 0, depth: int = 0) -> Any:  # noqa: ANN401
        """Return a column without what pandas wraps around it."""
        if depth > _MAX_WRAPPED:
            message = "arrays in arrays in arrays"
            raise ValueError(message)
        match values:
            case Opaque():
                return values
            case Array():
                return self._array_column(values, position)
            case Index():
                return self._unwrapped(values.args[0], 0, depth + 1)
            case ArrayBacked():
                return self._unwrapped(_first(values.state, Array), position, depth + 1)
            case Categorical():
                return self._categorical(values, depth + 1)
            case Masked():
                return self._nullable(values)
            case ArrowBacked():
                state = values.state
                array = state["_pa_array"] if "_pa_array" in state else state["_data"]
                if isinstance(array, pa.ChunkedArray):
                    return array.combine_chunks()
                return _checked(array, pa.Array | Opaque)
            case _:
                message = f"a column is a {type(values).__name__}"
                raise TypeError(message)

    def _nullable(self, values: Masked) -> pa.Array:
        numbers = _native(_checked(values.state["_data"], Array).view(self._data))
        if numbers.dtype.kind not in "biuf":
            message = f"a nullable column of {numbers.dtype}"
            raise ValueError(message)
        return pa.array(numbers, mask=_checked(values.state["_mask"], Array).view(self._data))

    def _array_column(self, array: Array, position: int) -> Any:  # noqa: ANN401
        """Return one column of a block, (columns, rows) or of rows alone."""
        if len(array.shape) not in (1, 2):
            message = f"a column of shape {array.shape}"
            raise ValueError(message)
        columns, rows = (1, *array.shape)[-2:]
        if not isinstance(array.content, list):
            view = array.view(self._data)
            return view[position] if view.ndim == 2 else view
        if item_count(array.content) != columns * rows:
            message = f"objects that are not {columns} times {rows}"
            raise ValueError(message)
        begin = position * rows
        return _Objects(array.content, begin, begin + rows)

    def _categorical(self, values: Categorical, depth: int) -> Any:  # noqa: ANN401
        codes = _native(_first(values.state, Array).view(self._data))
        kind = _first(values.state, CategoricalType)
        categories = self._unwrapped(kind.state["categories"], 0, depth)
        if isinstance(categories, Opaque):
            return categories
        if codes.dtype.kind != "i" or codes.ndim != 1:
            message = f"codes of {codes.dtype}"
            raise ValueError(message)
        if len(codes) and not -1 <= codes.min() <= codes.max() < len(categories):
            message = "codes beyond the categories"
            raise ValueError(message)
        if isinstance(categories, _Objects):
            listed = self._as_list(categories)
            try:
                categories = pa.array(listed, pa.string()) if _are_text(listed) else None
            except UnicodeEncodeError:  # lone surrogates
                categories = None
            if categories is None:
                chosen = [listed[code] if code >= 0 else None for code in codes.tolist()]
                return _Objects(chosen, 0, len(chosen))
        elif isinstance(categories, np.ndarray):
            categories = pa.array(_native(categories))
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), categories)

    def _as_list(self, values: Any) -> list[Any]:  # noqa: ANN401
        if isinstance(values, _Objects):
            items = list(self._plain.items(values.items, values.begin, values.end))
            return self._plain.values(items)
        listed: list[Any] = values.to_pylist() if isinstance(values, pa.Array) else values.tolist()
        return listed


def _column_count(values: Any) -> int:  # noqa: ANN401
    """Return how many columns a block has."""
    array = _first(values.state, Array) if isinstance(values, ArrayBacked) else values
    is_matrix = isinstance(array, Array) and len(array.shape) == 2
    return array.shape[0] if is_matrix else 1


def _positions(placement: Any, columns: int, data: Buffer) -> list[int]:  # noqa: ANN401
    """Return the numbers of the columns at which a block is placed."""
    if isinstance(placement, slice):
        positions = list(range(*placement.indices(columns)))
    else:
        array = _checked(placement, Array).view(data)
        positions = array.tolist() if array.dtype.kind == "i" else [-1]
    if not all(0 <= position < columns for position in positions):
        message = "a block is placed beyond the columns"
        raise ValueError(message)
    return positions


def _python_value(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, pa.Scalar):
        return value
    try:
        return value.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return f"{value.type} beyond what Python can say"


def _are_text(values: Iterable[Any]) -> bool:
    return all(type(value) is str for value in values)


def _native(array: Any) -> Any:  # noqa: ANN401
    """Return an array as Arrow takes it: aligned, of this machine's byte order."""
    return np.require(array.astype(array.dtype.newbyteorder("="), copy=False), None, "A")


def _checked(value: Any, kind: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, kind):
        message = f"a {type(value).__name__} where a {kind.__name__} belongs"
        raise TypeError(message)
    return value


def _first(values: Iterable[Any], kind: Any) -> Any:  # noqa: ANN401
    """Return the only one of `values` that is a `kind`; its place differs between versions."""
    for value in values:
        if isinstance(value, kind):
            return value
    message = f"no {kind.__name__} where one belongs"
    raise ValueError(message)

"""The columns of a DataFrame: its blocks, taken apart."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from convert.pickle_reader.blocks import (
    MAX_WRAPPED,
    arrow_array,
    checked,
    column_count,
    first,
    placed_at,
    row_count,
)
from convert.pickle_reader.columns import BATCH_BYTES, Batch, Values, make_column
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


# Of arrays made of what columns share: at most so many, and so many times the file's.
_ALWAYS_BYTES = 64 << 20
_MOST_TIMES = 4
_ITEM_BYTES = 8


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
        self._made: dict[tuple[int, ...], Any] = {}
        self._made_bytes = 0
        blocks, (named, index), *_ = checked(frame.state["_mgr"], Blocks).args
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
            positions = placed_at(placement, len(labels), data)
            if len(positions) != column_count(values):
                message = f"a block placed at {len(positions)} columns"
                raise ValueError(message)
            for position, column in enumerate(positions):
                placed[column] = values, position
        # What each column is taken from: a block, and the column's number in it.
        self.columns = {
            label: column
            for label, column in zip(labels, placed, strict=True)
            if column is not None
        }
        if isinstance(index, Index) and isinstance(index.name, str):  # as set_index() makes it
            self.columns.setdefault(index.name, (index, 0))
        counts = [row_count(values) for values, _ in self.columns.values()]
        lengths = {count for count in counts if count is not None}
        if len(lengths) > 1:
            message = f"its columns have {sorted(lengths)} rows"
            raise ValueError(message)
        self.rows = lengths.pop() if lengths else 0

    def batches(self, names: list[Any], batch_rows: int) -> Iterator[Batch]:
        """Yield the columns of those names, `batch_rows` rows at a time."""
        batch_rows = max(1, min(batch_rows, BATCH_BYTES * self.rows // len(self._data)))
        for begin in range(0, self.rows, batch_rows):
            end = min(begin + batch_rows, self.rows)
            columns = {name: self._slice(name, begin, end) for name in names}
            yield Batch(end - begin, columns, self._row_from(begin, end))

    def _row_from(self, begin: int, end: int) -> Callable[[int], dict[Any, Any]]:
        made: dict[Any, Any] = {}  # whole columns, for the first row that is asked for

        def whole_row(row: int) -> dict[Any, Any]:
            with damage_named(len(self._data)):
                for name in self.columns.keys() - made.keys():
                    try:
                        made[name] = self._slice(name, begin, end)
                    except PickleReaderError:  # of one of the rows, maybe not of this one
                        made[name] = None
                return {
                    name: self._alone(name, begin + row)
                    if made[name] is None
                    else _value(made[name], row)
                    for name in self.columns
                }

        return whole_row

    def _alone(self, name: Any, at: int) -> Any:  # noqa: ANN401
        try:
            return _value(self._slice(name, at, at + 1), 0)
        except EndlessValue as error:
            return error.message

    def _slice(self, name: Any, begin: int, end: int) -> Values:  # noqa: ANN401
        column = self._unwrapped(*self.columns[name])
        if isinstance(column, Opaque):
            return [column] * (end - begin)
        if isinstance(column, _Objects):
            start = column.begin
            values = list(self._plain.items(column.items, start + begin, start + end))
            if len(values) != end - begin:
                message = f"{len(values)} objects where {end - begin} belong"
                raise ValueError(message)
            return make_column(values, self._data, self._plain)
        sliced: Values = column[begin:end]
        return sliced

    def _unwrapped(self, values: Any, position: int = 0, depth: int = 0) -> Any:  # noqa: ANN401
        """Return a column without what pandas wraps around it."""
        if depth > MAX_WRAPPED:
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
                return self._unwrapped(first(values.state, Array), position, depth + 1)
            case Categorical():
                codes, kind = first(values.state, Array), first(values.state, CategoricalType)
                return self._once(self._categorical, codes, kind)
            case Masked():
                return self._once(self._nullable, values.state["_data"], values.state["_mask"])
            case ArrowBacked():
                array = arrow_array(values)
                if isinstance(array, pa.ChunkedArray):
                    return self._once(pa.ChunkedArray.combine_chunks, array)
                return checked(array, pa.Array | Opaque)
            case _:
                message = f"a column is a {type(values).__name__}"
                raise TypeError(message)

    def _once(self, make: Callable[..., Any], *parts: object) -> Any:  # noqa: ANN401
        """Return what is made of `parts`, which several columns may share; the frame holds them."""
        key = tuple(map(id, parts))
        if key not in self._made:
            made = make(*parts)
            is_joined = isinstance(parts[0], pa.ChunkedArray)  # its dictionary may be, too
            self._made_bytes += made.nbytes if is_joined else _size_of(made)
            if self._made_bytes > _ALWAYS_BYTES + _MOST_TIMES * len(self._data):
                message = "columns that share so much that it can't be written out"
                raise UnsupportedPickle(message, len(self._data))
            self._made[key] = made
        return self._made[key]

    def _nullable(self, content: Array, mask: Array) -> pa.Array:
        numbers = _native(checked(content, Array).view(self._data))
        if numbers.dtype.kind not in "biuf":
            message = f"a nullable column of {numbers.dtype}"
            raise ValueError(message)
        return pa.array(numbers, mask=checked(mask, Array).view(self._data))

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

    def _categories(self, index: object) -> Any:  # noqa: ANN401
        categories = self._unwrapped(index)
        if isinstance(categories, _Objects):
            listed = self._as_list(categories)
            try:
                return pa.array(listed, pa.string()) if _are_text(listed) else listed
            except UnicodeEncodeError:  # lone surrogates
                return listed
        return pa.array(_native(categories)) if isinstance(categories, np.ndarray) else categories

    def _categorical(self, content: Array, kind: CategoricalType) -> Any:  # noqa: ANN401
        codes = _native(content.view(self._data))
        categories = self._once(self._categories, kind.state["categories"])
        if isinstance(categories, Opaque):
            return categories
        if codes.dtype.kind != "i" or codes.ndim != 1:
            message = f"codes of {codes.dtype}"
            raise ValueError(message)
        if len(codes) and not -1 <= codes.min() <= codes.max() < len(categories):
            message = "codes beyond the categories"
            raise ValueError(message)
        if isinstance(categories, list):
            chosen = [categories[code] if code >= 0 else None for code in codes.tolist()]
            return _Objects(chosen, 0, len(chosen))
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), categories)

    def _as_list(self, values: Any) -> list[Any]:  # noqa: ANN401
        if isinstance(values, _Objects):
            items = list(self._plain.items(values.items, values.begin, values.end))
            return self._plain.values(items)
        listed: list[Any] = values.to_pylist() if isinstance(values, pa.Array) else values.tolist()
        return listed


def _size_of(made: Any) -> int:  # noqa: ANN401
    """Return about how many bytes it takes; what a dictionary array has of others isn't its own."""
    if isinstance(made, pa.DictionaryArray):
        made = made.indices
    return int(made.nbytes) if isinstance(made, pa.Array) else _ITEM_BYTES * _count(made)


def _count(made: object) -> int:
    return len(made) if isinstance(made, list | _Objects) else 0


def _value(values: Any, row: int) -> Any:  # noqa: ANN401
    return _python_value(values.row(row) if isinstance(values, FloatLists) else values[row])


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

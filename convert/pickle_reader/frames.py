"""A table of columns that stay in the file: a DataFrame's blocks, taken apart, lists, arrays."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from convert.pickle_reader.blocks import (
    MAX_WRAPPED,
    Constant,
    Level,
    Matrix,
    arrow_array,
    checked,
    column_count,
    damage_named,
    first,
    frame_blocks,
    placed_at,
    row_count,
    series_values,
)
from convert.pickle_reader.columns import BATCH_BYTES, Batch, Repeated, Values, column_of_items
from convert.pickle_reader.errors import (
    EndlessValue,
    PickleReaderError,
    UnsupportedPickle,
)
from convert.pickle_reader.numpy_values import Array, item_count
from convert.pickle_reader.pandas_values import (
    ArrayBacked,
    ArrowBacked,
    Categorical,
    CategoricalType,
    Frame,
    Index,
    Masked,
    MultiIndex,
    Series,
)
from convert.pickle_reader.rows.indices import index_columns
from convert.pickle_reader.rows.long_texts import rows_at_once
from convert.pickle_reader.rows.matrices import MatrixRows
from convert.pickle_reader.spans import ArrayRun
from convert.pickle_reader.stand_ins import Opaque
from convert.pickle_reader.values.kinds import kind_of
from convert.pickle_reader.vectors import FloatLists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convert.pickle_reader.plain import Plain
    from convert.pickle_reader.spans import Buffer


# Of arrays made of what columns share: at most so many, and so many times the file's.
_ALWAYS_BYTES = 64 << 20
_MOST_TIMES = 4
_ITEM_BYTES = 8
_TEXTS_AT_ONCE = 4096
# Cells of a table, and times the bytes of the file: columns may share their values.
_ALWAYS_CELLS = 1 << 20
_MOST_CELLS = 16
# Of a range, which takes no bytes of the file: labels of columns, or of which rows have codes.
_MAX_LABELS = 100_000
_CODE_BYTES = 4


class _Objects(NamedTuple):
    """Items of a list from `begin` to `end`, some of which may have been let go."""

    items: list[Any]
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class _ObjectRows(NamedTuple):
    """Rows of `width` items each of a list, some of which may have been let go."""

    items: list[Any]
    width: int


class Table:
    """Columns by name, in order; `rows` is what they all have, once `close` was called.

    What is added is values as the machine made them, and what `blocks` wraps around some.
    All methods raise ValueError, TypeError, KeyError ... if something is damaged or forged.
    """

    def __init__(self, data: Buffer, plain: Plain) -> None:
        self._data = data
        self._plain = plain
        self._made: dict[tuple[object, ...], Any] = {}
        self._made_bytes = 0
        # What each column is taken from: a block, and the column's number in it.
        self.columns: dict[Any, tuple[Any, int]] = {}
        self._repeated: Counter[Any] = Counter()
        self.rows = 0

    def add(self, name: Any, values: Any, position: int = 0) -> None:  # noqa: ANN401
        """Add a column: that of a block which has it at `position`."""
        if name in self.columns:
            self._repeated[name] += 1
            name = Repeated(name, self._repeated[name] + 1)
        self.columns[name] = values, position

    def add_frame(self, frame: Frame) -> None:
        """Add the columns of a DataFrame, and its index."""
        blocks, (named, index) = frame_blocks(frame)
        labels = self._labels(named)
        placed: list[Any] = [None] * len(labels)
        for values, placement in blocks:
            positions = placed_at(placement, len(labels), self._data)
            if len(positions) != column_count(values):
                message = f"a block placed at {len(positions)} columns"
                raise ValueError(message)
            for position, column in enumerate(positions):
                placed[column] = values, position
        for label, column in zip(labels, placed, strict=True):
            if column is not None:
                self.add(label, *column)
        for name, values in index_columns(index, self.columns, self._data):
            self.columns.setdefault(name, (values, 0))

    def lengths(self) -> set[int]:
        """Return how many rows the columns have."""
        counts = [row_count(values) for values, _ in self.columns.values()]
        return {count for count in counts if count is not None}

    def close(self) -> None:
        """Note how many rows there are."""
        lengths = self.lengths()
        if len(lengths) > 1:
            message = f"its columns have {sorted(lengths)} rows"
            raise ValueError(message)
        self.rows = lengths.pop() if lengths else 0
        if self.rows * len(self.columns) > _ALWAYS_CELLS + _MOST_CELLS * len(self._data):
            message = "columns that share so much that it can't be written out"
            raise UnsupportedPickle(message, len(self._data))

    def batches(self, names: list[Any], batch_rows: int) -> Iterator[Batch]:
        """Yield the columns of those names, `batch_rows` rows at a time."""
        batch_rows = max(1, min(batch_rows, BATCH_BYTES * self.rows // len(self._data)))
        begin = 0
        while begin < self.rows:
            end = self._end_of_batch(names, begin, min(begin + batch_rows, self.rows))
            columns = {name: self._slice(name, begin, end) for name in names}
            yield Batch(end - begin, columns, self._row_from(begin, end))
            begin = end

    def _end_of_batch(self, names: list[Any], begin: int, end: int) -> int:
        """Return where a batch ends whose texts, as long as they are, may be made together."""
        columns = []
        for name in names:
            column = self._unwrapped(*self.columns[name])
            if isinstance(column, _Objects) and not any(type(i) is ArrayRun for i in column.items):
                at = column.begin
                columns.append([*self._plain.items(column.items, at + begin, at + end)])
        return begin + min(rows_at_once(columns, end - begin), end - begin)

    def _row_from(self, begin: int, end: int) -> Callable[[int], dict[Any, Any]]:
        made: dict[Any, Any] = {}  # whole columns, for the first row that is asked for

        def whole_row(row: int) -> dict[Any, Any]:
            with damage_named(len(self._data), self):
                for name in self.columns.keys() - made.keys():
                    try:
                        made[name] = self._slice(name, begin, end)
                    except PickleReaderError:  # of one of the rows, maybe not of this one
                        made[name] = None
                return {
                    name.key if isinstance(name, Repeated) else name: self._alone(name, begin + row)
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
        if isinstance(column, Constant):
            return [self._plain.value(column.value)] * (end - begin)
        if isinstance(column, _Objects):
            at = column.begin
            items = self._plain.packed_items(column.items, at + begin, at + end)
            return column_of_items(items, end - begin, self._data, self._plain)
        if isinstance(column, _ObjectRows):
            width = column.width
            values = self._plain.values(
                list(self._plain.items(column.items, begin * width, end * width))
            )
            return [values[at : at + width] for at in range(0, len(values), width)]
        sliced: Any = column[begin:end]
        if isinstance(sliced, range):
            return np.array(sliced)
        return list(sliced) if isinstance(sliced, np.ndarray) and sliced.ndim > 1 else sliced

    def _unwrapped(  # noqa: C901, PLR0912 - a table of cases
        self,
        values: Any,  # noqa: ANN401
        position: int = 0,
        depth: int = 0,
    ) -> Any:  # noqa: ANN401
        """Return a column without what pandas wraps around it."""
        if depth > MAX_WRAPPED:
            message = "arrays in arrays in arrays"
            raise ValueError(message)
        match values:
            case Opaque() | Constant() | range():
                return values
            case list():
                return _Objects(values, 0, item_count(values))
            case Matrix():
                return self._matrix(values.array)
            case Series():
                return self._unwrapped(series_values(values), 0, depth + 1)
            case Array():
                return self._array_column(values, position)
            case Index():
                return self._unwrapped(values.args[0], 0, depth + 1)
            case ArrayBacked():
                return self._unwrapped(first(values.state, Array), position, depth + 1)
            case Categorical():
                codes, kind = first(values.state, Array), first(values.state, CategoricalType)
                return self._once(self._chosen, codes, kind.state["categories"])
            case Level():
                return self._once(self._chosen, checked(values.codes, Array), values.labels)
            case Masked():
                return self._once(self._nullable, values.state["_data"], values.state["_mask"])
            case ArrowBacked():
                array = arrow_array(values)
                if isinstance(array, pa.ChunkedArray):
                    return self._once(pa.ChunkedArray.combine_chunks, array)
                return checked(array, pa.Array | Opaque)
            case _:
                message = f"a column is {kind_of(values)}"
                raise TypeError(message)

    def _matrix(self, array: Array) -> Any:  # noqa: ANN401
        """Return a column of the rows of an array of two dimensions or more."""
        if MatrixRows.fits(array):
            return MatrixRows(array, self._data)
        if isinstance(array.content, list):
            if item_count(array.content) != math.prod(array.shape):
                message = f"objects that are not {' times '.join(map(str, array.shape))}"
                raise ValueError(message)
            return _ObjectRows(array.content, math.prod(array.shape[1:]))
        return self._once(Array.view, array, self._data)

    def _once(self, make: Callable[..., Any], *parts: object) -> Any:  # noqa: ANN401
        """Return what is made of `parts`, which several columns may share; the frame holds them."""
        key = make.__name__, *map(id, parts)
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
        categories = self._counted(self._unwrapped(index))
        if isinstance(categories, _Objects):
            return self._texts(categories) or self._as_list(categories)
        return pa.array(_native(categories)) if isinstance(categories, np.ndarray) else categories

    def _texts(self, objects: _Objects) -> pa.Array | None:
        """Return objects as an Arrow array, None if they aren't all text.

        A level of a MultiIndex may have as many as there are rows: few are held as Python's.
        """
        pieces = [pa.array([], pa.string())]
        for begin in range(objects.begin, objects.end, _TEXTS_AT_ONCE):
            end = min(begin + _TEXTS_AT_ONCE, objects.end)
            texts = self._as_list(_Objects(objects.items, begin, end))
            if not _are_text(texts):
                return None
            try:
                pieces.append(pa.array(texts, pa.string()))
            except UnicodeEncodeError:  # lone surrogates
                return None
        return pa.concat_arrays(pieces)

    def _chosen(self, content: Array, labels: object) -> Any:  # noqa: ANN401
        """Return a column of which each row is one of the labels, by its code."""
        codes = _native(content.view(self._data))
        categories = self._once(self._categories, labels)
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

    def _labels(self, named: object) -> list[Any]:
        """Return the names of the columns."""
        labels = named if isinstance(named, MultiIndex) else self._unwrapped(named)
        if isinstance(labels, MultiIndex | Opaque):
            message = f"columns named by a {type(labels).__name__}"
            raise UnsupportedPickle(message, len(self._data))
        return self._as_list(self._counted(labels))

    def _counted(self, labels: Any) -> Any:  # noqa: ANN401
        """Return labels; those of a RangeIndex as an array, if the file is as large as that."""
        if not isinstance(labels, range):
            return labels
        if len(labels) > max(_MAX_LABELS, len(self._data) // _CODE_BYTES):
            message = f"a RangeIndex of {len(labels):,} labels"
            raise ValueError(message)
        return np.array(labels, np.int64)

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

"""What a pickle holds, as a table: which values are columns, and what to say if none are.

Tables are a DataFrame, and a dict or tuple of columns: lists, tuples, arrays, Series and
DataFrames of as many rows. Each row of a matrix is a value of its column; a value that has no
rows, such as a number or text, is that of every row. Columns of a tuple are named by their
place: 0, 1 ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.blocks import Constant, Matrix
from convert.pickle_reader.numpy_values import Array
from convert.pickle_reader.pandas_values import (
    ArrayBacked,
    ArrowBacked,
    Categorical,
    Frame,
    Index,
    Masked,
    Series,
)
from convert.pickle_reader.stand_ins import Foreign, Known
from convert.pickle_reader.values.kinds import kind_of

if TYPE_CHECKING:
    from convert.pickle_reader.frames import Table

# Columns of a dict at most: one of more keys holds a row by key.
_MOST_COLUMNS = 1000
_SHOWN_KEYS = 6
_SHOWN_KEY_CHARS = 30
_NO_TABLE = "not a list of dicts, a DataFrame, or a dict or tuple of equally long columns"


def add_columns(table: Table, content: Any) -> str:  # noqa: ANN401
    """Add the columns of `content` to `table`; return what it is, "" if it is no table."""
    if isinstance(content, Frame):
        table.add_frame(content)
        return "a DataFrame"
    if type(content) not in (dict, tuple) or len(content) > _MOST_COLUMNS:
        return ""
    named = content.items() if type(content) is dict else enumerate(content)
    columns = 0
    for name, value in named:
        if isinstance(value, Frame):
            table.add_frame(value)
            columns += 2
        else:
            column = _column(value)
            columns += column is not None
            table.add(name, Constant(value) if column is None else column)
    if columns < 2 or len(table.lengths()) != 1:  # a single column is no table of embeddings
        return ""
    return f"a {type(content).__name__} of columns"


def _column(value: Any) -> Any:  # noqa: ANN401
    """Return the rows of what is a column, None if it is none."""
    match value:
        case list() | Series() | Index() | ArrayBacked() | ArrowBacked() | Categorical() | Masked():
            return value
        case tuple():
            return list(value)
        case Array() if len(value.shape) == 1:
            return value
        case Array() if all(value.shape[1:]):
            return Matrix(value)
    return None


def refusal(content: Any, first: object) -> str:  # noqa: ANN401
    """Return what to say about content that is no table; `first` is the first item of a list."""
    what = f"it holds {kind_of(content)}, {_NO_TABLE}"
    match content:
        case dict() | tuple():
            named = content.items() if type(content) is dict else enumerate(content)
            shown = [f"{_key(name)}: {kind_of(value)}" for name, value in _some(named)]
            more = len(content) - len(shown)
            listed = "; ".join(shown) + (f"; and {more:,} more" if more > 0 else "")
            columns = "'company_name': content[...], 'vector': list(content[...])"
            if type(content) is dict and len(content) > _MOST_COLUMNS:
                columns = "'id': list(content), 'vector': list(content.values())"
            return (
                f"{what} ({listed}). Pickle a DataFrame of what belongs together: "
                f"pd.DataFrame({{{columns}}})"
            )
        case list() if isinstance(first, Frame):
            return f"it holds {kind_of(content)} DataFrames. Pickle one: pd.concat(content)"
        case list() if isinstance(first, Foreign):
            return (
                f"the pickle names {type(first).__name__}, which no embeddings pickle needs: its "
                "rows are objects of that class. Pickle dicts of them: "
                f"[{first.to_dict} for row in rows]"
            )
        case list() if content:
            what = (
                f"it holds {kind_of(content)}, the first of which is {kind_of(first)}, {_NO_TABLE}"
            )
        case Known() | Foreign():
            name = content.name if isinstance(content, Known) else type(content).__name__
            return (
                f"the pickle names {name}, which no embeddings pickle needs; if it is a kind of "
                "DataFrame, pickle pd.DataFrame(content)"
            )
        case Series():
            return f"{what}. Pickle a DataFrame: series.reset_index()"
    return f"{what}. Pickle a DataFrame: pd.DataFrame({{'vector': list(content), 'id': ...}})"


def _some(named: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    return [item for item, _ in zip(named, range(_SHOWN_KEYS), strict=False)]


def _key(name: Any) -> str:  # noqa: ANN401
    shown = repr(name) if isinstance(name, str) else str(name)
    return shown if len(shown) <= _SHOWN_KEY_CHARS else f"{shown[:_SHOWN_KEY_CHARS]}..."

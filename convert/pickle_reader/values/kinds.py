"""What a value is, in the words of whoever made the file: never a class of this reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.pickle_reader.numpy_values import Array, Dtype, item_count
from convert.pickle_reader.pandas_values import (
    ArrayBacked,
    ArrowBacked,
    Blocks,
    Categorical,
    Frame,
    Index,
    Masked,
    MultiIndex,
    Series,
)
from convert.pickle_reader.spans import ArrayRun, Lump, Raw, Run, Text
from convert.pickle_reader.stand_ins import Foreign, Inert, Known, Opaque

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: dict[type, Callable[[Any], str]] = {
    list: lambda value: f"a list of {item_count(value):,}",
    tuple: lambda value: f"a tuple of {item_count(value):,}",
    dict: lambda value: f"a dict of {len(value):,}",
    str: lambda value: f"text of {len(value):,} characters",
    bytes: lambda value: f"{len(value):,} bytes",
    Text: lambda value: f"text of {value.size:,} bytes",
    Raw: lambda value: f"{value.size:,} bytes",
    type(None): lambda _value: "None",
    Known: lambda value: value.name,
    Array: lambda value: (
        f"a NumPy array of {' x '.join(f'{size:,}' for size in value.shape)} {value.dtype}"
    ),
    Dtype: lambda _value: "a NumPy dtype",
    Frame: lambda _value: "a DataFrame",
    Blocks: lambda _value: "blocks of a DataFrame",
    Series: lambda _value: "a Series",
    Index: lambda _value: "an Index",
    MultiIndex: lambda _value: "a MultiIndex",
    Categorical: lambda _value: "a Categorical",
    **dict.fromkeys((ArrayBacked, ArrowBacked, Masked), lambda _value: "an extension array"),
    **dict.fromkeys((Run, Lump, ArrayRun), lambda _value: "values"),
}


def kind_of(value: object) -> str:
    """Return what `value`, as the machine made it, is: its type, its length, its dtype."""
    if type(value) in _KINDS:
        return _KINDS[type(value)](value)
    if isinstance(value, Foreign):
        return f"an object of the class {type(value).__name__}"
    if isinstance(value, Inert):
        return "an object of a class of pandas"
    name = type(value).__name__
    is_our_name = not isinstance(value, Opaque) and type(value).__module__.startswith("convert.")
    name = name.lower() if is_our_name else name
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"

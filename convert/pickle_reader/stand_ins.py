"""What names in a pickle stand for, and what calls of them make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.pickle_reader.spans import Buffer


class Known:
    """A global that embeddings pickles name.

    `call(args, data)` makes what the pickle wants to have constructed: a value of ours,
    or of Python's after it was checked. It may raise anything: then the arguments are wrong.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[[tuple[Any, ...], Buffer], object]) -> None:
        self.name = name
        self.call = call


class StandIn:
    """A value of ours, which the pickle may give a state."""

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        """Take the state; raise anything if it is wrong."""
        raise NotImplementedError


class Opaque(StandIn):
    """A value that is only skipped, of a class whose name a class of its own has."""

    def __init__(self, _args: tuple[Any, ...], _data: Buffer) -> None:
        pass

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        del state, data

    def __str__(self) -> str:
        return f"<{type(self).__name__}>"


class Foreign(Opaque):
    """An object of a class that isn't on the list; each such class has a class of its own.

    Nothing of the object is kept but `to_dict`: Python that makes a dict of such a `row`, as
    far as the way in which the object was pickled tells.
    """

    def __init__(self, args: tuple[Any, ...], _data: Buffer) -> None:
        # A namedtuple is made of its fields; most others are made empty, then given a state.
        self.to_dict = "row._asdict()" if args else "vars(row)"

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        del data
        if not isinstance(state, dict):  # of a class with slots
            self.to_dict = "dataclasses.asdict(row)"
        elif "__dict__" in state:
            self.to_dict = "row.model_dump()"


def foreign(name: str) -> Known:
    """Return what stands for the class or function `name`, whatever it is."""
    return Known(name, type(name, (Foreign,), {}))


def is_opaque(value: object) -> bool:
    """Whether `value` is a name whose values are only skipped."""
    call = value.call if isinstance(value, Known) else None
    return isinstance(call, type) and issubclass(call, Opaque)


class Inert(StandIn):
    """Keeps what the pickle passes to a class: `args` to construct it, `state` to fill it."""

    def __init__(self, args: tuple[Any, ...], _data: Buffer) -> None:
        self.args = args
        self.state: Any = None

    def build(self, state: Any, data: Buffer) -> None:  # noqa: ANN401
        del data
        self.state = state

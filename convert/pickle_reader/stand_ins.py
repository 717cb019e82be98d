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

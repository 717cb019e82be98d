"""`make check` leaves costly tests out, but no module without tests."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.conftest import costly_tests

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("convert", "streamer")


@cache
def _functions(file: str) -> frozenset[str]:
    """Return the tests of a file."""
    tree = ast.parse((_ROOT / file).read_text(encoding="utf-8"))
    return frozenset(
        f"{file}::{node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


@cache
def _imported(file: Path) -> frozenset[Path]:
    """Return the files of this repository that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("streamer.cli."):
            names.add(str(node.value).partition(":")[0])  # a command, imported when it is called
    places = [_ROOT.joinpath(*name.split(".")) for name in names]
    found = {place.with_suffix(".py") for place in places}
    found |= {place / "__init__.py" for place in places}
    return frozenset(path for path in found if path.exists())


def test_what_is_left_out_is_there() -> None:
    """A test that was renamed or removed has no line."""
    functions = {line.partition("[")[0] for line in costly_tests()}

    assert set() == {name for name in functions if name not in _functions(name.partition("::")[0])}


def test_every_module_has_tests_that_are_not_left_out() -> None:
    """Some test that stays imports it, by way of others or not."""
    costly = costly_tests()
    files = [f"tests/{path.name}" for path in (_ROOT / "tests").glob("test_*.py")]
    reached: set[Path] = set()
    next_ones = {_ROOT / file for file in files if _functions(file) - costly}
    while next_ones:
        reached |= next_ones
        next_ones = set().union(*map(_imported, next_ones)) - reached
    modules = {path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")}

    # Doors of rooms are opened by whatever is imported from a room.
    assert [] == sorted(path for path in modules - reached if path.name != "__init__.py")

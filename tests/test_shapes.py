"""Every shape of tests/shapes: the real command converts it to the right rows, or says why not."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from convert.__main__ import inspect_command, main
from tests.shapes.catalogue import Shape, expected_rows, rows_written

if TYPE_CHECKING:
    import click

_MODULES = sorted(path.stem for path in Path(__file__).with_name("shapes").glob("[a-z]*.py"))
SHAPES: list[Shape] = [
    shape
    for module in _MODULES
    if module != "catalogue"
    for shape in importlib.import_module(f"tests.shapes.{module}").SHAPES
]
# What a message must not say: the names of our own classes.
_OUR_CLASS = re.compile(
    r"\ban? (Array|ArrayRun|Blocks|Frame|Inert|Known|Lump|Raw|Run|StandIn|Text)\b"
)


def _run(command: click.Command, *arguments: object) -> Result:
    """Run a command in this process; any exception but an exit is a failure of the test."""
    with mock.patch("os.fsync"):  # only a power cut would show it
        result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _named(shapes: list[Shape]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shape", shapes, ids=[shape.name for shape in shapes])


def test_each_shape_is_there_once() -> None:
    """Two of one name would be one forgotten."""
    assert len(SHAPES) == len({shape.name for shape in SHAPES})


@_named([shape for shape in SHAPES if shape.rows])
def test_what_is_read_becomes_the_rows_that_pandas_reads(tmp_path: Path, shape: Shape) -> None:
    """Value by value, and `inspect` shows the source."""
    assert shape.rows
    (tmp_path / "source").mkdir()
    source, out = shape.write(tmp_path / "source"), tmp_path / "out.arrow"
    result = _run(main, source, "-o", out, *shape.options)

    assert 0 == result.exit_code, result.output
    table = shape.rows(source)
    assert expected_rows(table) == rows_written(out, with_ids="id" in table.columns)
    assert 0 == _run(inspect_command, source).exit_code


@_named([shape for shape in SHAPES if not shape.rows])
def test_what_is_refused_is_told_why(tmp_path: Path, shape: Shape) -> None:
    """In words that help; nothing is written."""
    (tmp_path / "source").mkdir()
    source = shape.write(tmp_path / "source")
    result = _run(main, source, "-o", tmp_path / "out.arrow", *shape.options)

    assert 1 == result.exit_code, result.output
    assert [] == [word for word in shape.words if word not in result.stderr], result.stderr
    assert not _OUR_CLASS.search(result.stderr), result.stderr
    assert {"source"} == {path.name for path in tmp_path.iterdir()}
    _run(inspect_command, source)

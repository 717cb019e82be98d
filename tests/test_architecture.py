"""Imports follow the flow of the data: pickle, file, store, codec, service, engine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.datasets import write_dataset

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("convert", "proto", "streamer")
_ALL_MAY_IMPORT = {*_PACKAGES, "convert.__version__", "streamer.__version__"}
# What each part may import of ours. A module may import its own part, too.
_MAY_IMPORT: dict[str, set[str]] = {
    "proto": set(),
    "convert.foreign_text": set(),
    "convert.errors": set(),
    "convert.signals": set(),
    "convert.terminal": {"convert.signals"},
    "convert.streams": {"convert.terminal"},
    "convert.tables": set(),
    "convert.settings": set(),
    "convert.id_text": set(),
    "convert.schema": {"convert.id_text"},
    "convert.pickle_reader": set(),
    "convert.sources": {"convert.pickle_reader", "convert.validation", "convert.errors"},
    "convert.pickle_file": {"convert.pickle_reader", "convert.sources", "convert.errors"},
    "convert.validation": {"convert.pickle_reader"},
    "convert.columns": {"convert.pickle_reader", "convert.validation", "convert.errors"},
    "convert.vectors": {"convert.pickle_reader", "convert.validation", "convert.columns"},
    "convert.ids": {
        "convert.pickle_reader", "convert.validation", "convert.id_text", "convert.errors",
    },
    "convert.columns.named_ids": {
        "convert.columns", "convert.pickle_reader", "convert.validation", "convert.ids",
        "convert.id_text", "convert.errors",
    },
    "convert.arrow_file": {
        "convert.columns", "convert.pickle_reader", "convert.sources", "convert.errors",
    },
    "convert.source": {
        "convert.pickle_file", "convert.arrow_file", "convert.sources", "convert.errors",
    },
    "convert.fields": {"convert.columns", "convert.errors", "convert.pickle_reader"},
    "convert.columns.id_candidates": {
        "convert.pickle_reader", "convert.ids", "convert.id_text", "convert.validation",
    },
    "convert.columns.pandas_index": set(),
    "convert.digest": {"convert.errors"},
    "convert.dataset": set(),
    "convert.dataset.large_text": set(),
    "convert.dataset.hash_table": set(),
    "convert.dataset.growing_column": {"convert.background_file", "convert.dataset.large_text"},
    "convert.dataset.dictionary": {
        "convert.validation", "convert.dataset.growing_column", "convert.dataset.hash_table",
        "convert.dataset.large_text",
    },
    "convert.dataset.dictionary_order": {"convert.dataset.large_text"},
    "convert.memory": set(),
    "convert.problems": set(),
    "convert.order": {"convert.id_text"},
    "convert.options": {"convert.ids", "convert.columns", "convert.schema"},
    "convert.preconditions": {"convert.options", "convert.sources", "convert.errors"},
    "convert.column_bytes": {"convert.pickle_reader"},
    "convert.report": {"convert.schema", "convert.errors", "convert.tables"},
    "convert.permute": set(),
    "convert.background_file": set(),
    "convert.ipc": {"convert.schema"},
    "convert.writer": {
        "convert.permute", "convert.background_file", "convert.ipc", "convert.id_text",
        "convert.schema", "convert.dataset.dictionary_order", "convert.dataset.large_text",
    },
    "convert.atomic": {"convert.errors", "convert.signals"},
    "convert.rejects": {"convert.atomic", "convert.problems", "convert.errors"},
    "convert.reading": {
        "convert.pickle_reader", "convert.validation", "convert.vectors", "convert.ids",
        "convert.id_text", "convert.dataset.dictionary", "convert.problems", "convert.schema",
        "convert.column_bytes", "convert.columns", "convert.writer",
    },
    "convert.pipeline": {
        "convert.source", "convert.sources", "convert.columns", "convert.fields",
        "convert.digest", "convert.memory", "convert.reading",
        "convert.rejects", "convert.order", "convert.writer", "convert.atomic", "convert.options",
        "convert.preconditions", "convert.report", "convert.ids", "convert.id_text",
        "convert.schema", "convert.errors", "convert.background_file", "convert.vectors",
        "convert.pickle_reader", "convert.dataset.dictionary",
    },
    "convert.inspect": {
        "convert.pickle_reader", "convert.source", "convert.sources", "convert.fields",
        "convert.report", "convert.errors", "convert.terminal",
    },
    "convert.__main__": {"convert"},
    "streamer.errors": set(),
    "streamer.buffers": set(),
    "streamer.codec": {"convert.id_text", "streamer.errors", "streamer.buffers"},
    "streamer.checkpoint": {"convert.id_text", "streamer.errors"},
    "streamer.chunking": {"streamer.buffers"},
    "streamer.dataset_file": {
        "convert.schema", "convert.id_text", "streamer.errors", "streamer.buffers",
    },
    "streamer.store": {"convert.schema", "streamer.dataset_file", "streamer.checkpoint"},
    "streamer.verify": {
        "convert.id_text", "streamer.dataset_file", "streamer.store", "streamer.errors",
    },
    "streamer.kept_heads": {"streamer.codec"},
    "streamer.dataset": {
        "streamer.store", "streamer.codec", "streamer.kept_heads", "streamer.errors", "proto",
    },
    "streamer.blocks": {
        "streamer.dataset", "streamer.store", "streamer.codec", "streamer.chunking",
        "streamer.errors",
    },
    "streamer.service": {
        "streamer.dataset", "streamer.store", "streamer.codec", "streamer.checkpoint",
        "streamer.chunking", "streamer.blocks", "streamer.errors", "streamer.memory_room", "proto",
    },
    "streamer.batch_schema": {"convert.id_text"},
    "streamer.row_check": {
        "convert.id_text", "streamer.codec", "streamer.batch_schema", "streamer.errors", "proto",
    },
    "streamer.upload_service": {
        "streamer.row_check", "streamer.codec", "streamer.service", "streamer.errors",
        "streamer.memory_room", "proto",
    },
    "streamer.memory_room": {"streamer.errors"},
    "streamer.engines": {
        "streamer.service", "streamer.upload_service", "streamer.codec", "streamer.errors", "proto",
    },
    "streamer.retry": set(),
    "streamer.client": {
        "proto", "convert.id_text", "streamer.codec", "streamer.checkpoint",
        "streamer.batch_schema", "streamer.dataset_file", "streamer.errors", "streamer.retry",
    },
    "streamer.client.upload_segments": {
        "proto", "convert.id_text", "streamer.checkpoint", "streamer.dataset_file",
        "streamer.store", "streamer.errors",
    },
    "streamer.client.upload_state": {
        "convert.atomic", "convert.errors", "streamer.client.upload_segments",
        "streamer.errors",
    },
    "streamer.client.upload": {
        "proto", "streamer.client", "streamer.codec", "streamer.chunking", "streamer.store",
        "streamer.errors", "streamer.retry",
    },
    "streamer.sinks": {
        "streamer.codec", "streamer.row_check", "streamer.dataset_file", "streamer.errors",
        "convert.signals",
    },
    "streamer.pull": {
        "convert.id_text", "streamer.client", "streamer.sinks", "streamer.batch_schema",
        "streamer.dataset_file", "streamer.errors", "streamer.pull_refusals",
    },
    "streamer.pull_refusals": {
        "convert.id_text", "streamer.client", "streamer.sinks", "streamer.errors",
    },
    "streamer.config": {"streamer.chunking", "streamer.errors"},
    "streamer.heap": set(),
    "streamer.log_file": set(),
    "streamer.diagnosis": {"streamer.logs"},
    "streamer.logs": {"streamer.log_file"},
    "streamer.commands": {"streamer", "convert"},
    "streamer.cli": {"streamer", "convert.id_text", "convert.settings"},
    "streamer.__main__": {"streamer", "convert.streams", "convert.terminal"},
}  # fmt: skip
# Parts that are pure: no network, no files, no clocks, no logging.
_PURE = (
    "streamer.codec", "streamer.checkpoint", "streamer.chunking", "streamer.errors",
    "streamer.buffers", "convert.id_text", "convert.ids", "convert.order", "streamer.blocks",
    "convert.validation", "convert.vectors", "convert.problems", "convert.fields",
    "convert.columns", "convert.dataset.large_text", "convert.dataset.dictionary_order",
    "convert.permute", "convert.ipc",
    "streamer.retry", "streamer.client.progress", "streamer.client.failures",
    "streamer.client.decoding", "streamer.sinks.copy_binary", "streamer.batch_schema",
    "streamer.row_check",
    "streamer.client.upload_segments",
    *(
        f"streamer.engines.wire.{name}"
        for name in (
            "connection", "data_frames", "events", "faults", "flood", "h2_state", "inbound",
            "limits", "lost_window", "messages", "metadata", "preface", "request", "response",
            "stream", "times",
        )
    ),
)  # fmt: skip
_IMPURE_IMPORTS = {
    "grpc", "logging", "time", "datetime", "os", "pathlib", "socket", "asyncio", "random",
    "psutil", "io", "tempfile", "shutil", "threading",
}  # fmt: skip


def _modules() -> dict[str, Path]:
    paths = [path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")]
    names = (path.relative_to(_ROOT).with_suffix("").parts for path in paths)
    return {
        ".".join(parts).removesuffix(".__init__"): path
        for parts, path in zip(names, paths, strict=True)
        if "_pb2" not in path.name
    }


def _imports(path: Path) -> set[str]:
    """Return the full names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _part_of(module: str) -> str:
    return max((part for part in _MAY_IMPORT if _is_in(module, part)), key=len, default="")


_MODULES = _modules()


@pytest.mark.parametrize("module", sorted(_MODULES))
def test_imports_go_one_way(module: str) -> None:
    """A module imports nothing of ours that comes after it."""
    if module in {"streamer", "convert"}:
        ours = {n for n in _imports(_MODULES[module]) if n.split(".")[0] in _PACKAGES}
        assert ours <= {"convert", "convert.__version__"}  # they share their version
        return
    part = _part_of(module)
    assert part, f"say in this test what {module} may import"
    allowed = _MAY_IMPORT[part] | {part}
    if part != "convert.pickle_reader":  # which has nothing but itself
        allowed.add("convert.foreign_text")
    ours = {
        name
        for name in _imports(_MODULES[module])
        if name.split(".")[0] in _PACKAGES and name not in _ALL_MAY_IMPORT
    }

    assert set() == {
        name for name in ours if not any(_is_in(name, a) or _is_in(a, name) for a in allowed)
    }


@pytest.mark.parametrize("module", sorted(m for m in _MODULES if any(_is_in(m, p) for p in _PURE)))
def test_pure_parts_touch_nothing_outside(module: str) -> None:
    """The codec, the search, the cutting and the ids know no files, clocks or sockets."""
    assert set() == {name.split(".")[0] for name in _imports(_MODULES[module])} & _IMPURE_IMPORTS


# What shows text as it is. `convert.terminal` and `convert.tables` make it fit to show before.
_SHOWING = {"rich.console", "rich.table", "rich.text", "rich.print", "pprint"}


@pytest.mark.parametrize("module", sorted(m for m in _MODULES if m != "convert.tables"))
def test_what_is_printed_is_made_fit_to_show_in_one_place(module: str) -> None:
    """No print, no click.echo, no rich console elsewhere: a server's text moves no cursor."""
    tree = ast.parse(_MODULES[module].read_text())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    prints = {
        name
        for name in called
        if name in {"print", "click.echo", "click.secho", "Text.from_markup"}
        or re.fullmatch(r"sys\.std(out|err)\.write(lines)?", name)
    }

    assert not _SHOWING & _imports(_MODULES[module])
    assert prints <= ({"click.echo"} if module == "convert.terminal" else set())


@pytest.mark.parametrize(
    "module",
    sorted(
        m
        for m in _MODULES
        if m != "convert.foreign_text" and not _is_in(m, "convert.pickle_reader")
    ),
)
def test_what_is_quoted_stays_readable(module: str) -> None:
    """No repr, no ascii: text from outside has one way to be quoted, which keeps all scripts."""
    tree = ast.parse(_MODULES[module].read_text())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    conversions = {
        node.conversion for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)
    }

    assert set() == (called | used) & {"ascii", "repr"}
    assert set() == conversions & {ord("a"), ord("r")}


# What could open, import or run something that a pickle names.
_POWERS = {
    "_pickle", "asyncio", "builtins", "codecs", "copyreg", "ctypes", "importlib", "io",
    "marshal", "multiprocessing", "operator", "os", "pandas", "pathlib", "pickle", "pkgutil",
    "runpy", "shutil", "socket", "subprocess", "sys", "tempfile", "threading", "types",
}  # fmt: skip


@pytest.mark.parametrize("module", [m for m in _MODULES if _is_in(m, "convert.pickle_reader")])
def test_the_reader_of_pickles_has_nothing_to_run_them_with(module: str) -> None:
    """No pickle module, no imports by name, no files: what isn't there can't be reached."""
    tree = ast.parse(_MODULES[module].read_text())
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

    assert set() == {name.split(".")[0] for name in _imports(_MODULES[module])} & _POWERS
    assert set() == called & {"eval", "exec", "compile", "open", "__import__"}


_SERVE_ROWS = """
import sys
from pathlib import Path
import streamer.__main__
from proto import embedding_stream_pb2 as pb
from streamer.client.decoding import ChunkMessages, RowMessages
from streamer.dataset import Dataset
from streamer.sinks.copy_binary import copy_rows
from streamer.service import Caller, EmbeddingService
service = EmbeddingService(
    Dataset(Path(sys.argv[1])), chunk_rows=lambda _: 3, max_message_bytes=1 << 20
)
for rpc, decoder in (
    (service.get_embeddings, RowMessages(4, 1 << 20)), (service.stream_embedding, ChunkMessages()),
):
    answer = rpc(pb.RequestParams(), Caller("test", {}, lambda: None))
    messages = [message for block in answer.frames for message in block.messages()]
    batches = [*map(decoder.add, messages), decoder.rest()]
    assert sum(batch.num_rows for batch in batches if batch) == 10
    assert all(copy_rows(batch).size for batch in batches if batch)
print("pandas" in sys.modules)
"""


def test_streamer_runs_without_pandas(tmp_path: Path) -> None:
    """Serving and pulling import no DataFrame library, not even by way of pyarrow."""
    write_dataset(tmp_path / "jobs.arrow")

    out = subprocess.run(
        [sys.executable, "-c", _SERVE_ROWS, str(tmp_path / "jobs.arrow")],
        cwd=_ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip

    assert "False\n" == out.stdout


@pytest.mark.parametrize("module", sorted(_MODULES))
def test_modules_stay_short(module: str) -> None:
    """A module that grows beyond 400 lines is two modules."""
    assert len(_MODULES[module].read_text().splitlines()) <= 400

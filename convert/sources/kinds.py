"""What a file is, told by its first bytes, whatever its name is.

Names count where bytes can't tell: text is CSV if its name says so.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

# Bytes of a file that are looked at: the header line of a CSV file is among them, and so is
# the place where tar says what it is.
HEAD_BYTES = 8192


class Kind(NamedTuple):
    """`what` it is; `remedy` how to make rows of it that can be read, None if it is read.

    In `remedy` {path} stands for the file's path, and {parquet}, {jsonl}, {csv} and {pkl} for
    that of a file of such a kind beside it, each as Python writes text.
    """

    what: str
    remedy: str | None = None


PICKLE = Kind("a pickle")
PARQUET = Kind("a Parquet file")
ARROW = Kind("an Arrow file")
ARROW_STREAM = Kind("an Arrow stream")
JSON_LINES = Kind("JSON Lines")
CSV = Kind("a CSV file")


def _vectors(what: str, vectors: str) -> Kind:
    """Return the kind of a file that holds vectors and nothing else."""
    return Kind(
        what,
        "make a table of it, `columns` being a dict of the other fields' lists: "
        f'`pd.DataFrame({{{{**columns, "vector": list({vectors})}}}}).to_parquet({{parquet}})`',
    )


def _frame(what: str, frame: str, *, write: str = "to_parquet") -> Kind:
    """Return the kind of a file that another library reads as a table."""
    return Kind(what, f"make a Parquet file of it: `{frame}.{write}({{parquet}})`")


def _unpacked(what: str, command: str) -> Kind:
    return Kind(what, f"unpack it: `{command} {{path}}`")


JOBLIB_REMEDY = (
    "make a pickle of it, if you trust it, as joblib runs what it says: "
    "`Path({pkl}).write_bytes(pickle.dumps(joblib.load({path})))`"
)
TORCH = _vectors("a PyTorch file", "torch.load({path}, weights_only=True).numpy()")
_EXCEL = _frame("an Excel file", "pd.read_excel({path}, dtype=str)")
_JSON = "json.loads(Path({path}).read_bytes())"
_JSON_ARRAY = Kind(
    "a JSON array, not JSON Lines",
    "write a line for each row: "
    f'`Path({{jsonl}}).write_text("\\n".join(map(json.dumps, {_JSON})))`',
)
_JSON_DOCUMENT = Kind(
    "a JSON document, not JSON Lines",
    "if it has a list for each column, make a Parquet file of it: "
    f"`pd.DataFrame({_JSON}).to_parquet({{parquet}})`",
)
_TEXT = Kind(
    "text, but neither JSON Lines nor CSV with a line of column names",
    "is it the right file?",
)
COMPRESSED_TWICE = Kind("compressed twice", "unpack it once")

_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (rb"PAR1", PARQUET),
    (rb"ARROW1", ARROW),
    (rb"\xff{4}", ARROW_STREAM),  # of a message; a stream has no magic bytes
    # The number that PyTorch puts first, before version 1.6.
    (rb"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\.", TORCH),
    (rb"\x80[\x02-\x05]", PICKLE),
    (
        rb"version https://git-lfs\.github\.com/spec/",
        Kind("a Git LFS pointer, not the file itself", "run `git lfs pull` in its repository"),
    ),
    (rb"\x93NUMPY", _vectors("a NumPy array", "np.load({path})")),
    # Four letters, then the dimension as an int32.
    (
        rb"I[BHLMRWbhilmrwx][A-Za-z0-9]{2}..[\0-\x0f]\0",
        _vectors("a faiss index", "faiss.read_index({path}).reconstruct_n()"),
    ),
    (rb"\x89HDF\r\n\x1a\n", _frame("an HDF5 file", "pd.read_hdf({path})")),
    (
        rb"SQLite format 3\0",
        _frame("an SQLite database", 'pd.read_sql("SELECT * FROM jobs", sqlite3.connect({path}))'),
    ),
    (
        rb".{8}DUCK",
        _frame("a DuckDB database", 'duckdb.connect({path}).sql("FROM jobs")'),
    ),
    (
        rb".{3}[\0-\x0f]\0{4}\{\s*\"",
        _vectors(
            "a safetensors file",
            "next(iter(safetensors.numpy.load_file({path}).values()))",
        ),
    ),
    (rb"FEA1", _frame("a Feather file of version 1", "pd.read_feather({path})")),
    (rb"ORC", _frame("an ORC file", "pd.read_orc({path})")),
    (rb"Obj\x01", _frame("an Avro file", "pl.read_avro({path})", write="write_parquet")),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXCEL),
    (rb".{257}ustar", _unpacked("a tar archive", "tar -xf")),
    (rb"7z\xbc\xaf\x27\x1c", _unpacked("a 7z archive", "7z x")),
    (rb"Rar!\x1a\x07", _unpacked("a RAR archive", "unrar x")),
    (
        rb"(?:\xef\xbb\xbf)?\s*(?i:<!doctype html|<html|<head)",
        Kind(
            "an HTML page, not the data",
            "a login or an error page may have come in its place: download it again",
        ),
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*<\?xml",
        Kind(
            "an XML document",
            "a storage's error message may have come in the data's place: download it again",
        ),
    ),
    (
        rb"\xff\xfe|\xfe\xff",
        Kind(
            "text in UTF-16",
            "write it in UTF-8: "
            '`Path({csv}).write_text(Path({path}).read_text("utf-16"), "utf-8")`',
        ),
    ),
)  # fmt: skip
_KNOWN = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _BEGINNINGS]

_BOM = b"\xef\xbb\xbf"
# What a pickle of protocol 0 or 1, which has no mark, begins with: a list, a dict, a name, an id.
_OLD_PICKLE = re.compile(rb"\((?:lp|dp|l|d|\()|[\]}][q(]|[\]}]\.|c[\w.]+\n[\w.]+\n|P.*\n\.")
_JSON_ROW = re.compile(rb"\{[ \t]*[^\s]")
_CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_DELIMITERS = (b",", b"\t", b";", b"|")
_CSV_SUFFIXES = (".csv", ".tsv")
_JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")


def kind_of(head: bytes, name: str) -> Kind:
    """Return what a file is that begins with `head` and is called `name`.

    What nothing is known of is taken for a pickle, whose reader says what is wrong with it.
    """
    for beginning, kind in _KNOWN:
        if beginning.match(head):
            return kind
    name = name.lower()
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith(b"["):
        return _JSON_ARRAY
    if text.startswith(b"{") and not _JSON_ROW.match(text):
        return _JSON_DOCUMENT
    if text.startswith(b"{") or name.endswith(_JSON_LINES_SUFFIXES):
        return JSON_LINES
    if name.endswith(_CSV_SUFFIXES):
        return CSV
    if not text or not _is_text(head) or _OLD_PICKLE.match(head):
        return PICKLE
    return CSV if any(mark in text.partition(b"\n")[0] for mark in _DELIMITERS) else _TEXT


def remedy_for(remedy: str, path: Path) -> str:
    """Return what `remedy` says for the file at `path`."""
    beside = f"{path.with_suffix('')}-rows"  # never the file itself, which would be lost
    made = {kind: as_python(f"{beside}.{kind}") for kind in ("parquet", "jsonl", "csv", "pkl")}
    return remedy.format(path=as_python(str(path)), **made)


def as_python(text: str) -> str:
    """Return text as a line of Python has it, in quotes, whole and in any script."""
    return json.dumps(text, ensure_ascii=False)


def delimiter_of(head: bytes) -> str:
    """Return what separates the columns of a CSV file: what its first line has most of."""
    line = head.partition(b"\n")[0]
    return max(_DELIMITERS, key=line.count).decode()  # the first of equals


def kind_of_archive(names: list[str]) -> Kind | None:
    """Return what a zip file of such members is; None if it is one compressed file."""
    members = [name for name in names if not _is_beside(name)]
    if "data.pkl" in {name.rpartition("/")[2] for name in members}:
        return TORCH
    if members and all(name.endswith(".npy") for name in members):
        first = as_python(members[0].removesuffix(".npy")).replace("{", "{{").replace("}", "}}")
        return _vectors("a NumPy archive", f"np.load({{path}})[{first}]")
    if any(name.startswith("xl/") for name in members):
        return _EXCEL
    if len(members) == 1:
        return None
    return Kind(f"a zip archive of {len(members):,} files", "unpack it: `unzip {path}`")


def member_of(names: list[str]) -> str:
    """Return the one file in an archive."""
    return next(name for name in names if not _is_beside(name))


def _is_beside(name: str) -> bool:
    """Whether a member of an archive is a folder, or what a Mac puts beside files."""
    return name.endswith(("/", ".DS_Store")) or name.startswith("__MACOSX/")


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which may end within a character
    except UnicodeDecodeError:
        return False
    return _CONTROLS.search(head) is None

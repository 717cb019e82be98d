"""`python -m streamer peek` as people run it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import trustme
from click.testing import CliRunner
from ulid import ULID

from streamer.__main__ import main
from streamer.client.channel import ChannelError
from streamer.dataset import Dataset
from streamer.engines.tls import Certificates
from streamer.service import EmbeddingService
from tests.certificates import Files
from tests.datasets import FINGERPRINT, id_texts, make_batch, with_info, write_file
from tests.engines import start_wire
from tests.scripted_server import ScriptedServer, Sound, embeddings
from tests.wire_peer import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parent.parent
_ROWS = 5000
_COLUMNS = "250"  # nothing is folded
_FILE = make_batch(_ROWS, dimension=4)
_IDS = id_texts(_FILE)
_SMALL = make_batch(3, dimension=4)


def _peek(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamer", "peek", *arguments],
        cwd=_ROOT, env={**os.environ, "COLUMNS": _COLUMNS, **variables}, capture_output=True,
        text=True, check=False, timeout=PATIENCE_SECONDS,
    )  # fmt: skip


def _said(*arguments: str) -> str:
    """Return what a peek that succeeds prints; in this process, which is quicker."""
    out = CliRunner(env={"COLUMNS": _COLUMNS}).invoke(main, ["peek", *arguments])
    assert (0, "") == (out.exit_code, out.stderr), out.exception
    return out.stdout


def _complaint(*arguments: str) -> str:
    """Return the one line that a peek which fails prints."""
    out = _peek(*arguments)
    assert 1 == out.returncode, out.stderr
    assert re.fullmatch(r"(waiting: .+\n)*error: .+\n", out.stderr)
    return out.stderr


def _ids_in(text: str) -> list[str]:
    """Return the ids of a table's rows."""
    return re.findall(r"^\u2502 ([0-9a-f-]{36}|[0-9A-Z]{26}) ", text, re.MULTILINE)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("data")
    write_file(folder / "jobs.arrow", _FILE)
    write_file(folder / "small.arrow", _SMALL)
    write_file(folder / "ulids.arrow", with_info(_SMALL, id_kind="ulid"))
    write_file(folder / "empty.arrow", make_batch(0, dimension=4))
    servers = {
        name: start_wire(
            EmbeddingService(
                Dataset(folder / f"{name}.arrow"),
                chunk_rows=lambda _: 300, max_message_bytes=1 << 20,
            )
        )
        for name in ("jobs", "small", "ulids", "empty")
    }  # fmt: skip
    yield {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}
    for server in servers.values():
        server.stop(0)


def test_headers_rows_and_rate(targets: dict[str, str], tmp_path: Path) -> None:
    """What the server says, five rows as a table, then all rows counted.

    LOG_FILE gets that, too, but for the rows.
    """
    process = _peek("--from", targets["jobs"], LOG_FILE=str(tmp_path / "x.log"))
    assert (0, "") == (process.returncode, process.stderr)
    out = process.stdout
    lines = out.splitlines()

    assert [
        f"fingerprint      {FINGERPRINT}",
        "rows             5,000",
        "dimension        4",
        "rows remaining   5,000",
        "checkpoint found True",
    ] == lines[:5]
    assert _IDS[:5] == _ids_in(out)
    vector = _FILE.column("vector")[0].as_py()
    assert f"{vector[0]:.4f}" in out
    assert re.search(r"^first rows came after [\d,]+ ms$", out, re.MULTILINE)
    assert re.fullmatch(r"5,000 rows in all, [\d,]+ rows/s", lines[-1])
    log = (tmp_path / "x.log").read_text().splitlines()
    logged = [line.partition(" INFO [commands] - ")[2] for line in log]
    assert [*lines[:5], lines[-1]] == logged


def test_in_a_narrow_terminal_every_field_has_a_line(targets: dict[str, str]) -> None:
    """Eighty columns don't hold six fields side by side: no word is broken to make them."""
    out = _peek("--from", targets["small"], COLUMNS="80").stdout
    lines = [re.split(r" *\u2502 *", line)[1:3] for line in out.splitlines() if "\u2502" in line]
    names = list(_SMALL.schema.names)

    assert names * 3 == [name for name, _ in lines]
    assert id_texts(_SMALL) == [value for name, value in lines if name == "id"]
    assert _SMALL.column("company_name").to_pylist() == [
        value for name, value in lines if name == "company_name"
    ]


@pytest.mark.parametrize("rows", [1, 2100])
def test_so_many_rows_are_shown_and_no_rest_counted(targets: dict[str, str], rows: int) -> None:
    """`-n` says how many, also more than a chunk has."""
    out = _said("--from", targets["jobs"], "-n", str(rows))

    assert _IDS[:rows] == _ids_in(out)
    assert "rows/s" not in out


def test_no_rows_are_shown_if_none_are_wanted(targets: dict[str, str]) -> None:
    """`-n 0` is a look at the headers."""
    out = _said("--from", targets["jobs"], "-n", "0")

    assert "rows             5,000" in out
    assert [] == _ids_in(out)
    assert "rows/s" not in out


def test_fewer_rows_than_wanted_are_all_rows(targets: dict[str, str]) -> None:
    """And they are counted, too."""
    assert id_texts(_SMALL) == _ids_in(_said("--from", targets["small"], "-n", "9"))
    out = _said("--from", targets["small"])
    assert id_texts(_SMALL) == _ids_in(out)
    assert "\n3 rows in all, " in out


def test_rows_after_an_id(targets: dict[str, str]) -> None:
    """Of a row or not, and after the last one."""
    out = _said("--from", targets["jobs"], "--after", _IDS[9].upper())
    assert _IDS[10:15] == _ids_in(out)
    assert "rows remaining   4,990" in out
    assert "\n4,990 rows in all, " in out
    between = str(UUID(int=UUID(_IDS[9]).int + 1))
    out = _said("--from", targets["jobs"], "--after", between, "-n", "1")
    assert _IDS[10:11] == _ids_in(out)
    assert "checkpoint found False" in out
    out = _said("--from", targets["jobs"], "--after", _IDS[-1])
    assert "rows remaining   0" in out
    assert [] == _ids_in(out)


def test_ulids_are_shown_as_ulids(targets: dict[str, str]) -> None:
    """And begun after."""
    ulids = [str(ULID.from_uuid(UUID(text))) for text in id_texts(_SMALL)]

    assert ulids == _ids_in(_said("--from", targets["ulids"], "-n", "3"))
    out = _said("--from", targets["ulids"], "-n", "3", "--after", ulids[0].lower())
    assert ulids[1:] == _ids_in(out)


def test_empty_dataset_is_no_error(targets: dict[str, str]) -> None:
    """There is nothing to show, and that is said."""
    out = _said("--from", targets["empty"])

    assert "rows             0" in out
    assert "no rows" in out
    assert "\n0 rows in all, " in out


def test_server_without_headers_is_shown_too() -> None:
    """A stock server says nothing of its dataset."""
    with ScriptedServer(embeddings(8)) as server:
        server.play([Sound(has_headers=False)])
        out = _said("--from", server.target)

    assert 5 == out.count("(the server does not say)")
    assert server.ids[:5] == _ids_in(out)
    assert "\n8 rows in all, " in out


def test_text_of_the_server_is_no_terminal_command() -> None:
    """Nor markup: what a stranger wrote into a row is shown, not obeyed."""
    rows = embeddings(1)
    rows[0].company_name = "\x1b[31mred\x1b]0;title\x07"
    rows[0].english_level = "[bold]x[/]"
    with ScriptedServer(rows) as server:
        server.play([Sound()])
        out = _said("--from", server.target, "-n", "1")

    assert "\x1b" not in out
    assert "[bold]x[/]" in out


def test_long_text_is_cut() -> None:
    """A terminal full of one field is no table; how long it is is said."""
    rows = embeddings(2)
    rows[1].company_name = "Q" * 1_000_000
    with ScriptedServer(rows) as server:
        server.play([Sound()])
        out = _said("--from", server.target)

    assert 200 == out.count("Q")
    assert "(1,000,000 characters)" in re.sub(r"[\s\u2502]+", " ", out)


def test_text_that_the_output_can_not_say_is_escaped() -> None:
    """A terminal or a file in ASCII is no reason to show nothing."""
    rows = embeddings(1)
    rows[0].company_name = "\u0416uk"
    with ScriptedServer(rows) as server:
        server.play([Sound()])
        out = _peek("--from", server.target, "-n", "1", PYTHONIOENCODING="ascii")

    assert (0, "") == (out.returncode, out.stderr)
    assert "\\u0416uk" in out.stdout


def test_nothing_listening_is_one_line() -> None:
    """Exit code 1, soon."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"

    assert "no further row in 3 tries" in _complaint("--from", target)


@pytest.mark.parametrize("after", ["nonsense", "0" * 36])
def test_malformed_id_is_one_line(targets: dict[str, str], after: str) -> None:
    """Quoted; a wrong option, about which no server is asked."""
    done = _peek("--from", targets["jobs"], "--after", after)

    assert 2 == done.returncode
    assert f"'{after}' is not a UUID in canonical form" in done.stderr


def test_id_of_the_other_kind_is_one_line(targets: dict[str, str]) -> None:
    """The server says so."""
    assert "not a ULID" in _complaint("--from", targets["ulids"], "--after", _IDS[0])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--from", "localhost"],
        ["--from", ""],
        ["--from", "localhost:0"],
        ["--from", "localhost:x"],
        ["--from", "localhost:65536"],
        ["--from", "localhost:1", "-n", "-1"],
        ["--from", "localhost:1", "-n", "x"],
        ["--from", "localhost:1", "--tls-cert", "pyproject.toml"],
        ["--from", "localhost:1", "--tls-key", "pyproject.toml"],
        ["--from", "localhost:1", "--tls-ca", "tests"],
    ],
    ids=lambda arguments: " ".join(arguments) or "none",
)
def test_wrong_options_are_the_callers(arguments: list[str]) -> None:
    """Exit code 2 and the reason; nobody is called."""
    out = CliRunner().invoke(main, ["peek", *arguments])
    code = getattr(out.exception, "exit_code", out.exit_code)

    assert 2 == code, out.exception
    assert isinstance(out.exception, ChannelError) or "Error: " in out.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tls-ca", "none.pem"],
        ["--tls-ca", "pyproject.toml"],
        ["--tls-cert", "README.md", "--tls-key", "README.md"],
    ],
    ids=" ".join,
)
def test_files_that_are_no_certificates_are_no_wrong_options(arguments: list[str]) -> None:
    """Exit code 1, as of any file, and the reason; nobody is called."""
    out = CliRunner().invoke(main, ["peek", "--from", "localhost:1", *arguments])

    assert isinstance(out.exception, ChannelError)
    assert 1 == out.exception.exit_code


def test_peek_over_tls(tmp_path: Path) -> None:
    """With the CA that signed the server's certificate, and a certificate where one is asked."""
    ca = trustme.CA()
    files = Files.made(tmp_path, ca)
    for number, pem in enumerate((ca.cert_pem, trustme.CA().cert_pem)):
        pem.write_to_path(tmp_path / f"ca{number}.pem")
    leaf = ca.issue_cert("client")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    path = write_file(tmp_path / "jobs.arrow", _SMALL)
    service = EmbeddingService(Dataset(path), chunk_rows=lambda _: 9, max_message_bytes=1 << 20)
    server = start_wire(service, certificates=Certificates(*files, tmp_path / "ca0.pem"))
    right = ["--from", f"127.0.0.1:{server.port}", "--tls-ca", str(tmp_path / "ca0.pem")]
    own = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    try:
        assert id_texts(_SMALL) == _ids_in(_said(*right, *own))
        for wrong in (right, [*right[:3], str(tmp_path / "ca1.pem"), *own]):
            out = _peek(*wrong)
            assert 1 == out.returncode
            # The C-core may have a line of its own about the handshake.
            assert "error: no further row in 3 tries" in out.stderr.splitlines()[-1]
            assert "Traceback" not in out.stderr
    finally:
        server.stop(0)

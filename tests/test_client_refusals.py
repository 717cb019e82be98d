"""What a read doesn't take: rows that don't follow, another dataset, bytes that are no rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from proto import embedding_stream_pb2 as pb
from streamer.client import Rpc
from streamer.client.failures import (
    DatasetChangedError,
    NoProgressError,
    RowOrderError,
    ServerFailedError,
)
from streamer.errors import DecodeError, InvalidRequestError, Status, StreamerError
from tests.clients import CLIENTS, connect
from tests.datasets import FINGERPRINT
from tests.scripted_server import (
    DETAILS,
    Action,
    Fail,
    Headers,
    Raw,
    Rows,
    ScriptedServer,
    Sound,
    embeddings,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_ROWS = 8
_OTHER = "f" * 64


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(embeddings(_ROWS)) as server:
        yield server


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(Rpc))
def rpc(request: pytest.FixtureRequest) -> Rpc:
    return Rpc(request.param)


def _refused(
    kind: str,
    server: ScriptedServer,
    error: type[StreamerError],
    match: str = ".",
    max_message_bytes: int = 4 << 20,
    **options: Any,
) -> list[pb.Embedding]:
    """Read until that error is raised; return the rows before it."""
    taken: list[pa.RecordBatch] = []
    with connect(kind, server.target, max_message_bytes=max_message_bytes) as client:
        stream = client.batches(**options)
        with pytest.raises(error, match=match):
            taken.extend(stream)
        with pytest.raises(error, match=match):  # it doesn't look as if it had ended
            next(stream)
    return rows_of(taken)


def _message(rpc: Rpc, *rows: pb.Embedding) -> bytes:
    if rpc is Rpc.CHUNKS:
        return pb.RowChunk(rows=rows).SerializeToString()
    return b"".join(row.SerializeToString() for row in rows)


_DISORDER: dict[str, tuple[list[Action], str, int]] = {
    "backwards": ([Rows(4, 6), Rows(0, 2)], "must ascend", 2),
    "the last row again": ([Rows(0, 2), Rows(1, 4)], "twice: ids must ascend", 2),
    "all rows again": ([Rows(0, 4), Rows(0, 4)], "must ascend", 4),
    "the same message twice": ([Rows(2, 4), Rows(2, 4)], "must ascend", 2),
}


@pytest.mark.parametrize(("script", "match", "rows"), _DISORDER.values(), ids=list(_DISORDER))
def test_disorder_between_messages_ends_the_read(  # noqa: PLR0917
    server: ScriptedServer, kind: str, rpc: Rpc, script: list[Action], match: str, rows: int
) -> None:
    """What was in order before it is delivered, nothing after it, and nobody is asked again."""
    server.play(script, [Sound()])
    got = _refused(kind, server, RowOrderError, match, rpc=rpc, chunk_size=2)

    assert rows == len(got)
    assert 1 == len(server.calls)


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [0, 2, 1], [0, 1, 1], [2, 1, 0]])
def test_disorder_within_a_batch_ends_the_read(
    server: ScriptedServer, kind: str, rpc: Rpc, order: list[int]
) -> None:
    """None of its rows is delivered, however many are in order."""
    rows = [server.rows[number] for number in order]
    messages = [[row] for row in rows] if rpc is Rpc.ROWS else [rows]
    server.play([Raw(_message(rpc, *message)) for message in messages], [Sound()])

    assert [] == _refused(kind, server, RowOrderError, "must ascend", rpc=rpc)
    assert 1 == len(server.calls)


def test_disorder_names_the_row(server: ScriptedServer, kind: str) -> None:
    """By its text, and what it came after."""
    here, before = server.ids[0], server.ids[4]
    server.play([Rows(4, 5), Rows(0, 1)])
    _refused(kind, server, RowOrderError, f"row {here} after {before}: ids must ascend")
    server.play([Rows(4, 5), Rows(4, 5)])
    _refused(kind, server, RowOrderError, f"row {before} twice")


@pytest.mark.parametrize("first", [0, 2])
def test_server_that_ignores_the_checkpoint_is_refused(
    server: ScriptedServer, kind: str, rpc: Rpc, first: int
) -> None:
    """On a first call with `after`, where rows come that the caller has."""
    server.play([Headers(_ROWS), Rows(first, _ROWS)], [Sound()])

    assert [] == _refused(kind, server, RowOrderError, "must ascend", rpc=rpc, after=server.ids[2])
    assert 1 == len(server.calls)


@pytest.mark.parametrize("headers", [[], [Headers(_ROWS)], [Headers(_ROWS - 3)]])
def test_server_that_begins_anew_on_resume_is_refused(
    server: ScriptedServer, kind: str, rpc: Rpc, headers: list[Action]
) -> None:
    """A restart from row 0 in mid-stream repeats nothing to the caller."""
    server.play([Sound(limit=3), Fail()], [*headers, Rows(0, _ROWS)], [Sound()])

    said = "must ascend|announces 11 of them now"
    assert server.rows[:3] == _refused(kind, server, RowOrderError, said, rpc=rpc)
    assert 2 == len(server.calls)


def test_rows_that_vanish_from_a_dataset_are_missed(
    server: ScriptedServer, kind: str, rpc: Rpc
) -> None:
    """The same fingerprint, and yet fewer rows are left than were: that is no end of a read."""
    server.play([Headers(_ROWS), Rows(0, 3), Fail()], [Headers(_ROWS - 4), Rows(4, _ROWS)])

    said = f"announced {_ROWS} rows of dataset .*, and announces {_ROWS - 1} of them now"
    assert server.rows[:3] == _refused(kind, server, RowOrderError, said, rpc=rpc)


def test_more_rows_than_announced_end_the_read(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """A server whose own numbers don't agree is not believed."""
    server.play([Headers(5), Rows(0, 3), Rows(3, 5), Rows(5, 8)], [Sound()])
    got = _refused(kind, server, RowOrderError, "announced 5 rows and sent", rpc=rpc, chunk_size=3)

    assert server.rows[: len(got)] == got
    assert len(got) <= 5
    assert 1 == len(server.calls)


def test_fewer_rows_than_announced_are_asked_for(
    server: ScriptedServer, kind: str, rpc: Rpc
) -> None:
    """Until the tries are over; what there is was delivered."""
    server.play([Headers(_ROWS + 2), Rows(0, _ROWS)], *[[Headers(2)]] * 9)
    got = _refused(kind, server, NoProgressError, "it ended 2 rows early", rpc=rpc)

    assert server.rows == got


@pytest.mark.parametrize("value", ["", "-1", "x", "1e3", "0x10", "9" * 5000], ids=lambda v: v[:5])
def test_headers_that_are_no_numbers_count_as_none(
    server: ScriptedServer, kind: str, value: str
) -> None:
    """The rows are as good as those of a server without headers."""
    server.play([Headers(remaining=value), Rows(0, _ROWS)])
    with connect(kind, server.target) as client:
        stream = client.batches()
        assert stream.dataset.rows_remaining is None
        assert server.rows == rows_of(list(stream))


def test_dataset_that_changes_between_calls_ends_the_read(
    server: ScriptedServer, kind: str, rpc: Rpc
) -> None:
    """Its rows would not go with those that were delivered."""
    server.play([Sound(limit=3), Fail()], [Sound(fingerprint=_OTHER)], [Sound()])
    match = f"dataset is {_OTHER[:12]}, the rows so far are from {FINGERPRINT[:12]}"

    assert server.rows[:3] == _refused(kind, server, DatasetChangedError, match, rpc=rpc)
    assert 2 == len(server.calls)


def test_dataset_is_known_from_the_first_call_that_names_it(
    server: ScriptedServer, kind: str
) -> None:
    """Calls between that name none change nothing."""
    bare: list[Action] = [Sound(limit=2, has_headers=False), Fail()]
    server.play(bare, [Sound(limit=2), Fail()], bare, [Sound(fingerprint=_OTHER)])

    assert server.rows[:6] == _refused(kind, server, DatasetChangedError)


def test_wanted_dataset_is_insisted_on(server: ScriptedServer, kind: str) -> None:
    """From the first call on; the one that is wanted is read."""
    server.play([Sound(fingerprint=_OTHER)], [Sound()])
    assert [] == _refused(kind, server, DatasetChangedError, fingerprint=FINGERPRINT)
    assert 1 == len(server.calls)
    server.play([Sound(limit=3), Fail()], [Sound()])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches(fingerprint=FINGERPRINT)))


_LONGER = pb.Embedding(id="ffffffff-ffff-ffff-ffff-ffffffffffff", vector=[1, 2, 3])
_GARBAGE: dict[str, bytes] = {
    "no protobuf": b"\xff\xff\xff",
    "cut off": b"\x0a\x24abc",
    "zeros": bytes(16),
}
_BAD_ROWS: dict[str, pb.Embedding] = {
    "longer vector": _LONGER,
    "shorter vector": pb.Embedding(id=_LONGER.id, vector=[1]),
    "no vector": pb.Embedding(id=_LONGER.id),
    "no id": pb.Embedding(vector=[1, 2]),
    "no UUID": pb.Embedding(id="x" * 36, vector=[1, 2]),
    "a ULID": pb.Embedding(id="7ZZZZZZZZZZZZZZZZZZZZZZZZZ", vector=[1, 2]),
}


@pytest.mark.parametrize("garbage", _GARBAGE.values(), ids=list(_GARBAGE))
@pytest.mark.parametrize("first", [0, 2])
def test_garbage_ends_the_read(
    server: ScriptedServer, kind: str, rpc: Rpc, first: int, garbage: bytes
) -> None:
    """As first message or later: DecodeError, after the rows before it, and no other try."""
    server.play([*([Rows(0, first)] if first else []), Raw(garbage), Rows(3, 5)], [Sound()])
    got = _refused(kind, server, DecodeError, rpc=rpc, chunk_size=1)

    assert server.rows[:first] == got
    assert 1 == len(server.calls)


@pytest.mark.parametrize("row", _BAD_ROWS.values(), ids=list(_BAD_ROWS))
def test_row_unlike_the_others_ends_the_read(
    server: ScriptedServer, kind: str, rpc: Rpc, row: pb.Embedding
) -> None:
    """In the same call or in a resumed one: the schema of a read is that of its first row."""
    bad = Raw(_message(rpc, row))
    for script in ([[Rows(0, 2), bad]], [[Rows(0, 2), Fail()], [bad]]):
        server.play(*script)
        assert server.rows[:2] == _refused(kind, server, DecodeError, rpc=rpc, chunk_size=2)
        assert len(script) == len(server.calls)


def test_text_that_is_no_utf8_ends_the_read(server: ScriptedServer, kind: str, rpc: Rpc) -> None:
    """A string of Arrow is UTF-8."""
    row = pb.Embedding(id=server.ids[3], company_name="??", vector=[1, 2])
    server.play([Rows(0, 2), Raw(_message(rpc, row).replace(b"??", b"\xff\xfe"))])

    assert server.rows[:2] == _refused(kind, server, DecodeError, rpc=rpc, chunk_size=2)


def test_empty_chunks_are_passed_over(server: ScriptedServer, kind: str) -> None:
    """Before, between and after rows; no batch is empty."""
    empty = Raw(b"")
    server.play([empty, empty, Rows(0, 3), empty, Rows(3, _ROWS), empty])
    with connect(kind, server.target) as client:
        batches = list(client.batches())

    assert [3, 5] == [batch.num_rows for batch in batches]
    assert server.rows == rows_of(batches)


def test_empty_chunks_are_no_progress(server: ScriptedServer, kind: str) -> None:
    """Messages without rows don't keep a read going."""
    script: list[Action] = [Raw(b""), Fail()]
    server.play(*[script] * 9)

    assert [] == _refused(kind, server, NoProgressError, "in 3 tries")
    assert 3 == len(server.calls)


def test_message_that_is_too_large_ends_the_read(server: ScriptedServer, kind: str) -> None:
    """It would be as large the next time; with a higher limit it is read."""
    large = pb.Embedding(id=server.ids[2], company_name="x" * 5_000_000, vector=[1, 2])
    script: list[Action] = [Rows(0, 2), Raw(_message(Rpc.CHUNKS, large))]
    server.play(script, [Sound()])
    got = _refused(kind, server, ServerFailedError, "larger than max")
    assert server.rows[:2] == got
    assert 1 == len(server.calls)
    server.play(script)
    with connect(kind, server.target) as client:
        assert [*server.rows[:2], large] == rows_of(list(client.batches()))


@pytest.mark.parametrize(
    "details", [b"", b"\xff\xff garbage", b"\x1a\x02\x0a\x00", bytes(9)], ids=repr
)
def test_trailers_that_are_no_google_status_are_ignored(
    server: ScriptedServer, kind: str, details: bytes
) -> None:
    """What counts is the status that gRPC itself has."""
    fail = Fail(trailers=((DETAILS, details),))
    server.play([Sound(limit=3), fail], [Sound()])
    with connect(kind, server.target) as client:
        assert server.rows == rows_of(list(client.batches()))


@pytest.mark.parametrize("after", ["x", "{}", "0" * 32, "0" * 36, "8" * 26, " ", "\0", "é" * 26])
def test_malformed_checkpoint_is_refused_before_any_call(
    server: ScriptedServer, kind: str, after: str
) -> None:
    """The caller's own mistake costs no network."""
    server.play()
    with connect(kind, server.target) as client, pytest.raises(InvalidRequestError) as error:
        client.batches(after)

    assert Status.INVALID_ARGUMENT is error.value.status
    assert [] == server.calls

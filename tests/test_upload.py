"""Uploads to stock Batch Servers: what arrives, what fails, and where it goes on."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from convert.id_text import IdKind
from proto import embedding_stream_pb2 as pb
from streamer.client.upload import Uploader, UploadPolicy
from streamer.client.upload_segments import SegmentResult, UploadError, segments
from streamer.client.upload_state import Upload, UploadState, UploadStateError
from streamer.config import SettingsError, load_settings
from streamer.dataset_file import MappedDataset, id_matrix
from streamer.errors import EncodeError
from streamer.store import EmbeddingStore
from tests.batch_server import BatchProcess, BatchServer, fail, refuse, say, store, wait_for
from tests.certificates import Files
from tests.datasets import (
    id_texts,
    make_batch,
    messages_of,
    with_column,
    with_info,
    write_dataset,
    write_file,
)
from tests.forks import Ended, run_module
from tests.serving import limited
from tests.wire_peer import DEADLINES_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT = Path(__file__).parent.parent
_ROWS = 500
_UNAVAILABLE = refuse(StatusCode.UNAVAILABLE, "come back later")


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Return a dataset of 500 rows, in record batches that no segment is as long as."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=_ROWS, batch_rows=170)
    return path


def _ids(path: Path) -> list[str]:
    return id_texts(pa.ipc.open_file(path).read_all().combine_chunks().to_batches()[0])


def _send(
    path: Path, target: str, *, max_tries: int = 3, waits: list[float] | None = None, **more: Any
) -> list[SegmentResult]:
    """Send a whole dataset in segments of 100 rows; the waits are only noted."""
    asleep: list[float] = [] if waits is None else waits
    policy = {"segment_rows": 100, "jitter": lambda: 0.0, "sleep": asleep.append, **more}
    dataset = EmbeddingStore.open(path)
    with Uploader(
        target, dataset, policy=UploadPolicy(max_tries=max_tries, **policy)
    ) as uploader:  # fmt: skip
        return [uploader.send(segment) for segment in uploader.segments(None)]


_QUICK = {"UPLOAD_SEGMENT_ROWS": "100", "UPLOAD_RETRY_SECONDS": "0.01"}


def _start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "streamer", "upload", "--data", "jobs.arrow", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(_ROOT), **_QUICK, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return Ended(process.returncode, out, err)


def _upload(folder: Path, *arguments: str, **variables: str) -> Ended:
    return run_module(
        "streamer", ["upload", "--data", "jobs.arrow", *arguments],
        folder=folder, environment={**os.environ, **_QUICK, **variables},
    )  # fmt: skip


# What is sent


def test_every_row_arrives_as_it_is(jobs: Path) -> None:
    """Segments of 100 rows, each row as the official runtime would have written it."""
    with BatchServer() as server:
        results = _send(jobs, server.target)

    rows = pa.ipc.open_file(jobs).read_all().combine_chunks().to_batches()[0]
    assert [pb.Embedding(**row) for row in messages_of(rows)] == list(server.stored.values())
    assert [100] * 5 == [len(call) for call in server.calls]
    assert [SegmentResult(100, 0)] * 5 == results


def test_ids_of_a_ulid_dataset_are_ulids(tmp_path: Path) -> None:
    """26 characters go out, and what the receiver makes of their case is understood."""
    path = write_file(tmp_path / "jobs.arrow", with_info(make_batch(20), id_kind=IdKind.ULID.value))
    failing = say(total_count=20, success_count=18, failed_count=2)

    def answer(server: BatchServer, rows: Any, context: Any) -> Any:
        result = failing(server, rows, context)
        result.failed_ids.extend([server.calls[0][3].lower(), server.calls[0][7]])
        return result

    with BatchServer([answer]) as server:
        [result] = _send(path, server.target)

    assert {26} == {len(id_) for id_ in server.calls[0]}
    assert SegmentResult(18, 2, (server.calls[0][3], server.calls[0][7])) == result


@given(
    lengths=st.lists(st.integers(1, 30), max_size=8),
    rows=st.integers(1, 40),
)
def test_segments_conserve_rows_and_copy_nothing(lengths: list[int], rows: int) -> None:
    """Every row once, in order, where it lies in the file; only the last segment is shorter."""
    whole = make_batch(sum(lengths)) if lengths else None
    starts = np.cumsum([0, *lengths]).tolist()
    slices = [whole.slice(s, n) for s, n in zip(starts, lengths, strict=False)] if whole else []

    cut = list(segments(slices, rows))

    pieces = [piece for segment in cut for piece in segment.slices]
    assert [id_ for s in slices for id_ in id_texts(s)] == [
        id_ for piece in pieces for id_ in id_texts(piece)
    ]
    assert all(segment.rows == rows for segment in cut[:-1])
    assert [segment.rows for segment in cut] == [
        sum(piece.num_rows for piece in segment.slices) for segment in cut
    ]
    if whole:
        first = id_matrix(whole).ctypes.data
        places = [id_matrix(piece).ctypes.data for piece in pieces]
        assert [
            first + 16 * n for n in np.cumsum([0] + [p.num_rows for p in pieces])[:-1]
        ] == places


_SEND_TO_A_SLOW_RECEIVER = """
import sys
import pyarrow as pa
from pathlib import Path
from streamer.client.upload import Uploader, UploadPolicy
from streamer.store import EmbeddingStore
store = EmbeddingStore.open(Path(sys.argv[1]))
with Uploader(sys.argv[2], store, policy=UploadPolicy(segment_rows=1_000_000)) as uploader:
    [segment] = uploader.segments(None)
    told = []
    uploader.send(segment, told.append)
print(segment.rows, pa.default_memory_pool().max_memory(), len(told))
"""


def test_a_segment_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    """A segment of 48 MB for a receiver that is in no hurry is encoded 1 MiB at a time."""
    path = tmp_path / "jobs.arrow"
    write_dataset(path, rows=30_000, dimension=400, batch_rows=16_384)
    with BatchServer([wait_for(lambda: time.sleep(1))]) as server:
        sender = subprocess.run(
            [sys.executable, "-c", _SEND_TO_A_SLOW_RECEIVER, str(path), server.target],
            cwd=_ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip

    rows, peak, told = map(int, sender.stdout.split())
    assert (30_000, 30_000) == (rows, len(server.stored))
    assert peak < 12 << 20
    assert told > 40


# What the receiver answers


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_failed_rows_are_counted_and_named(jobs: Path, share: float) -> None:
    """Some rows fail, or all: their ids are in the file, the totals are those of all calls."""
    ids = _ids(jobs)
    failing = ids if share == 1 else ids[3::10]
    with BatchServer([fail(set(failing))] * 5) as server:
        ended = _upload(jobs.parent, "--to", server.target)

    assert 1 == ended.code
    assert failing == (jobs.parent / "jobs.arrow.failed-ids.txt").read_text().splitlines()
    assert f"uploaded     500 of 500 rows\nsucceeded    {500 - len(failing)}\n" in ended.out
    assert f"failed       {len(failing)}, ids in jobs.arrow.failed-ids.txt\n" in ended.out
    assert f"error: {len(failing)} rows failed at the receiver" in ended.err


@pytest.mark.parametrize(
    ("names", "named", "text"),
    [
        (lambda ids: [ids[1], ids[1]], 1, "has 2 failed rows, and the receiver names 1 of them"),
        (lambda ids: [ids[1], ids[1].upper()], 1, "names 1 of them"),
        (lambda _: [], 0, "has 2 failed rows, and the receiver names 0 of them"),
        (lambda ids: ids[:3], 3, "has 2 failed rows, and the receiver names 3 of them"),
        (lambda ids: [*ids[:2], ids[150]], 2, r"and 1 ids that are not in it \('"),
        (lambda ids: [ids[0], "x\ny"], 1, r"and 1 ids that are not in it \('x\\ny'\)"),
        (lambda ids: [ids[0], ids[50][:-1] + "07"[ids[50][-1] == "0"]], 1, "not in it"),
    ],
    ids=["twice", "two cases", "none", "too many", "of another segment", "no id", "no row"],
)
def test_failed_ids_that_do_not_match_their_count_are_a_warning(
    jobs: Path, names: Callable[[list[str]], list[str]], named: int, text: str
) -> None:
    """Each row of the segment is written once; the rest is told, and nothing is sent again."""
    ids = _ids(jobs)
    result = say(total_count=100, success_count=98, failed_count=2, failed_ids=names(ids))
    with BatchServer([result]) as server:
        first, *_ = _send(jobs, server.target)
        assert 5 == len(server.calls)

    assert (98, 2, named) == (first.succeeded, first.failed, len(first.failed_ids))
    assert set(first.failed_ids) <= set(ids[:100])
    assert first.warning
    assert f"the segment that begins with {ids[0]}" in first.warning
    assert re.search(text, first.warning)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"total_count": 99, "success_count": 99},
        {"total_count": 101, "success_count": 101},
        {"total_count": 100},
        {"success_count": 100},
        {"total_count": 100, "success_count": 90, "failed_count": 9},
        {"total_count": 100, "success_count": 101, "failed_count": -1},
        {"total_count": 100, "success_count": 2**31 - 1, "failed_count": 101},
    ],
)
def test_a_result_that_does_not_add_up_is_no_acknowledgement(
    jobs: Path, result: dict[str, int]
) -> None:
    """Rows may be missing: the upload stops there, and begins there again."""
    with BatchServer([store, say(**result)]) as server:
        broken = _upload(jobs.parent, "--to", server.target)
        again = _upload(jobs.parent, "--to", server.target)

    assert (1, 0) == (broken.code, again.code)
    assert "has 100 rows, and the receiver's result doesn't add up to them" in broken.err
    assert f"success_count {result.get('success_count', 0):,}" in broken.err
    assert "uploaded     100 of 500 rows" in broken.out
    assert server.calls[1] == server.calls[2]
    assert _ids(jobs) == list(server.stored)


def test_an_answer_before_the_rows_were_read_is_no_acknowledgement(jobs: Path) -> None:
    """OK with the count of what was read so far ends the upload, however early it comes."""

    def hasty(_server: BatchServer, rows: Iterator[pb.Embedding], _context: Any) -> Any:
        next(rows)
        return pb.UploadResult(total_count=1, success_count=1)

    with BatchServer([hasty]) as server, pytest.raises(UploadError, match="total_count 1,"):
        _send(jobs, server.target)


def test_an_answer_that_is_no_result_is_an_error(jobs: Path) -> None:
    """Another service's bytes aren't taken for an acknowledgement."""
    handler: Any = grpc.stream_unary_rpc_method_handler(lambda rows, _: b"".join(rows)[:3])
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_registered_method_handlers(
        "embedding.EmbeddingUploadService", {"UploadEmbeddings": handler}
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with pytest.raises(UploadError, match="answered with no UploadResult"):
        _send(jobs, f"127.0.0.1:{port}")
    server.stop(0).wait()


# What is tried again


def test_receiver_that_restarts_mid_segment_gets_all_of_it_again(
    jobs: Path, tmp_path: Path
) -> None:
    """A receiver that dies at row 50 of a segment, and comes back: every row is stored."""
    table = tmp_path / "table"
    with BatchProcess(table, die_after=50) as first:
        restarted: list[BatchProcess] = []

        def restart(_seconds: float) -> None:
            first.process.wait()
            restarted.append(BatchProcess(table, port=first.port))

        _send(jobs, first.target, sleep=restart)
        with restarted[0]:
            assert 1 == len(restarted)

    ids = _ids(jobs)
    assert ids[:50] + ids == table.read_text().splitlines()


def test_disconnect_before_the_result_sends_the_segment_again(jobs: Path, tmp_path: Path) -> None:
    """All rows of a segment are stored, their result is lost: they are stored once more."""
    table = tmp_path / "table"
    with BatchProcess(table, die_before_result=True) as first:
        restarted: list[BatchProcess] = []

        def restart(_seconds: float) -> None:
            first.process.wait()
            restarted.append(BatchProcess(table, port=first.port))

        results = _send(jobs, first.target, sleep=restart)
        restarted[0].__exit__()

    ids = _ids(jobs)
    assert ids[:100] + ids == table.read_text().splitlines()
    assert 500 == sum(result.succeeded for result in results)


def test_two_failures_then_success_is_success(jobs: Path) -> None:
    """The waits are 2 and 4 seconds, and begin anew with every segment."""
    waits: list[float] = []
    with BatchServer([_UNAVAILABLE, _UNAVAILABLE, store, _UNAVAILABLE]) as server:
        _send(jobs, server.target, waits=waits)

    assert [2.0, 4.0, 2.0] == waits
    assert _ids(jobs) == list(server.stored)


def test_the_third_failure_ends_the_upload(jobs: Path) -> None:
    """No fourth call, though it would succeed; running again goes on with that segment."""
    ids = _ids(jobs)
    with BatchServer([store, _UNAVAILABLE, _UNAVAILABLE, _UNAVAILABLE]) as server:
        broken = _upload(jobs.parent, "--to", server.target)
        assert 4 == len(server.calls)
        again = _upload(jobs.parent, "--to", server.target)

    assert (1, 0) == (broken.code, again.code)
    assert f"the segment that begins with {ids[100]} is sent again in 0.0 s (try 2 of 3)" in (
        broken.err
    )
    assert (
        f"error: the segment that begins with {ids[100]} wasn't acknowledged in 3 tries, the last"
        " of which ended with UNAVAILABLE: come back later\n"
    ) in broken.err
    assert "goes on from here" in broken.err
    assert "uploaded     500 of 500 rows, 100 of them in earlier runs\n" in again.out
    assert ids == list(server.stored)


@pytest.mark.parametrize(
    "status",
    [
        StatusCode.INVALID_ARGUMENT,
        StatusCode.UNAUTHENTICATED,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.INTERNAL,
        StatusCode.CANCELLED,
        StatusCode.UNKNOWN,
    ],
)
def test_a_refused_segment_is_not_sent_again(jobs: Path, status: StatusCode) -> None:
    """One call, one line: status, text and where the segment begins."""
    text = f"no\n\tgood: \x1b[31m{'x' * 500}"
    with (
        BatchServer([refuse(status, text, after_rows=10)]) as server,
        pytest.raises(UploadError) as refusal,
    ):
        _send(jobs, server.target)

    assert 1 == len(server.calls)
    begin = f"the segment that begins with {_ids(jobs)[0]} was refused with {status.name}: no good:"
    assert str(refusal.value).startswith(begin)
    assert str(refusal.value).isprintable()
    assert str(refusal.value).endswith("x ...")


def test_receiver_that_says_when_is_believed(jobs: Path) -> None:
    """A RetryInfo makes any status one to be tried again, not before its time."""
    packed = AnyMessage()
    info = RetryInfo()
    info.retry_delay.FromMilliseconds(7500)
    packed.Pack(info)
    details = RpcStatus(code=8, details=[packed]).SerializeToString()
    trailers = [("grpc-status-details-bin", details)]
    waits: list[float] = []
    with BatchServer([refuse(StatusCode.RESOURCE_EXHAUSTED, trailers=trailers)]) as server:
        _send(jobs, server.target, waits=waits)

    assert [7.5] == waits
    assert _ids(jobs) == list(server.stored)


def test_a_deadline_ends_the_upload_and_names_its_settings(jobs: Path) -> None:
    """A receiver that takes too long isn't given the same rows again."""
    for seconds in DEADLINES_SECONDS:
        over = threading.Event()
        with BatchServer([store, wait_for(lambda: over.wait(PATIENCE_SECONDS))]) as server:  # noqa: B023 - called in it
            options = ("--to", server.target, "--restart")
            late = _upload(jobs.parent, *options, UPLOAD_TIMEOUT_SECONDS=f"{seconds:g}")
            calls = len(server.calls)
            over.set()
        if calls == 2:  # else it was the first segment that came too late
            break

    assert (1, 2) == (late.code, calls)
    assert f"the segment that begins with {_ids(jobs)[100]} had no result" in late.err
    assert "DEADLINE_EXCEEDED" in late.err
    assert f"UPLOAD_TIMEOUT_SECONDS is {seconds:g}; with UPLOAD_SEGMENT_ROWS" in late.err


def test_rows_that_can_not_be_encoded_are_the_error(
    jobs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It outranks the cancelled call that it causes."""
    batch = make_batch(10)
    whole = MappedDataset(EmbeddingStore.open(jobs).info, batch.schema, [batch])
    nulls = pa.array([None] * 10, pa.int32())
    broken = whole._replace(batches=[with_column(batch, "exp_years", nulls)])
    with (
        BatchServer() as server,
        Uploader(server.target, EmbeddingStore(broken)) as uploader,
        pytest.raises(EncodeError),
    ):
        list(map(uploader.send, uploader.segments(None)))
    assert "iterating requests" in caplog.text


# What survives


def _wait_for_call(server: BatchServer, number: int, process: subprocess.Popen[str]) -> None:
    while len(server.calls) < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_killed_sender_goes_on_after_the_last_acknowledged_segment(jobs: Path) -> None:
    """SIGKILL while the third segment is under way: it is the first of the next run.

    Ids that failed but weren't accounted for, when the kill came, are written once.
    """
    ids = _ids(jobs)
    failed_ids = jobs.parent / "jobs.arrow.failed-ids.txt"
    over = threading.Event()
    takes = fail({ids[7], ids[207]})
    with BatchServer([takes, takes, wait_for(over.wait, takes), takes, takes, takes]) as server:
        sender = _start(jobs.parent, "--to", server.target)
        _wait_for_call(server, 3, sender)
        sender.kill()
        assert -signal.SIGKILL == _ended(sender).code
        over.set()
        assert [ids[7]] == failed_ids.read_text().splitlines()
        with failed_ids.open("a") as file:  # as if the kill had come a moment later
            file.write(f"{ids[207]}\n")
        again = _upload(jobs.parent, "--to", server.target)

    assert 1 == again.code
    assert ids[200] == server.calls[3][0]
    assert set(ids) - {ids[7], ids[207]} == set(server.stored)
    assert [ids[7], ids[207]] == failed_ids.read_text().splitlines()
    assert "uploaded     500 of 500 rows, 200 of them in earlier runs" in again.out
    assert "succeeded    498\nfailed       2," in again.out


def test_ctrl_c_ends_it_and_keeps_what_was_acknowledged(jobs: Path) -> None:
    """No traceback, totals, and the next run goes on."""
    over = threading.Event()
    with BatchServer([store, wait_for(over.wait)]) as server:
        sender = _start(jobs.parent, "--to", server.target)
        _wait_for_call(server, 2, sender)
        sender.send_signal(signal.SIGINT)
        ended = _ended(sender)
        over.set()
        again = _upload(jobs.parent, "--to", server.target)

    assert (130, 0) == (ended.code, again.code)
    assert "uploaded     100 of 500 rows" in ended.out
    assert "goes on from here" in ended.err
    assert ended.err.endswith("ended by SIGINT\n")
    assert "Traceback" not in ended.err
    assert "100 of them in earlier runs" in again.out
    assert _ids(jobs) == list(server.stored)


def test_an_interrupted_call_is_cancelled(jobs: Path) -> None:
    """The receiver is told, even if the connection stays open."""
    gone = threading.Event()

    def answer(_server: BatchServer, rows: Iterator[pb.Embedding], context: Any) -> Any:
        context.add_callback(gone.set)
        next(rows)
        os.kill(os.getpid(), signal.SIGINT)
        gone.wait(PATIENCE_SECONDS)
        return pb.UploadResult()

    with (
        BatchServer([answer]) as server,
        Uploader(server.target, EmbeddingStore.open(jobs)) as uploader,
    ):
        with pytest.raises(KeyboardInterrupt) as interrupt:
            list(map(uploader.send, uploader.segments(None)))
        assert gone.wait(PATIENCE_SECONDS)
        assert interrupt.tb  # keeps the call alive, which would cancel itself when collected


def test_what_is_uploaded_is_not_sent_again_unless_asked_to(jobs: Path) -> None:
    """The second run says so, with the first one's failures; --restart sends all rows."""
    ids = _ids(jobs)
    failed_ids = jobs.parent / "jobs.arrow.failed-ids.txt"
    with BatchServer([fail({ids[7]})]) as server:
        first = _upload(jobs.parent, "--to", server.target)
        second = _upload(jobs.parent, "--to", server.target)
        assert 5 == len(server.calls)
        assert failed_ids.exists()
        third = _upload(jobs.parent, "--to", server.target, "--restart")
        fourth = _upload(jobs.parent, "--to", server.target)

    assert [1, 1, 0, 0] == [run.code for run in (first, second, third, fourth)]
    assert f"jobs.arrow is uploaded to {server.target} already: 500 rows, 1 failed" in second.out
    assert "--restart" in second.out
    assert "their ids: jobs.arrow.failed-ids.txt" in second.err
    assert ids == sorted(server.stored)
    assert "jobs.arrow.failed-ids.txt.old now" in third.err
    assert f"{ids[7]}\n" == (jobs.parent / "jobs.arrow.failed-ids.txt.old").read_text()
    assert not failed_ids.exists()
    assert "already: 500 rows, 0 failed" in fourth.out


def test_another_dataset_begins_with_its_first_row(jobs: Path) -> None:
    """A new conversion is sent from the start, and said so; its file of failed ids is its own."""
    ids = _ids(jobs)
    with BatchServer([fail({ids[0]}), _UNAVAILABLE]) as server:
        _upload(jobs.parent, "--to", server.target, UPLOAD_TRIES="1")
        write_file(jobs, with_info(make_batch(150, seed=1), fingerprint="f" * 64))
        other = _upload(jobs.parent, "--to", server.target)

    assert 0 == other.code
    assert "knows 100 rows of another dataset" in other.err
    assert "begins with the first row" in other.err
    assert "jobs.arrow.failed-ids.txt.old now" in other.err
    assert _ids(jobs) == [id_ for call in server.calls[2:] for id_ in call]


def test_two_targets_do_not_know_of_each_other(jobs: Path) -> None:
    """Each goes on where it was itself; failed ids of one never get into the other's file."""
    ids = _ids(jobs)
    with BatchServer([fail({ids[0]}), _UNAVAILABLE]) as a, BatchServer([store, _UNAVAILABLE]) as b:
        _upload(jobs.parent, "--to", a.target, UPLOAD_TRIES="1")
        refused = _upload(jobs.parent, "--to", b.target, UPLOAD_TRIES="1")
        assert [] == b.calls
        to_b = ("--to", b.target, "--failed-ids", "b.txt")
        begun = _upload(jobs.parent, *to_b, UPLOAD_TRIES="1")
        rest_of_a = _upload(jobs.parent, "--to", a.target)
        rest_of_b = _upload(jobs.parent, "--to", b.target)

    assert [1, 1, 1, 0] == [run.code for run in (refused, begun, rest_of_a, rest_of_b)]
    assert f"jobs.arrow.failed-ids.txt is there already and of an upload to {a.target}" in (
        refused.err
    )
    assert f"knows 100 rows of this dataset, sent to {a.target}" in begun.err
    assert [ids[100], ids[100]] == [a.calls[2][0], b.calls[2][0]]
    assert f"{ids[0]}\n" == (jobs.parent / "jobs.arrow.failed-ids.txt").read_text()
    assert not (jobs.parent / "b.txt").exists()


def test_files_that_are_not_of_an_upload_stay_as_they_are(jobs: Path) -> None:
    """Neither option writes over somebody's file, not even with --restart."""
    notes = jobs.parent / "notes.txt"
    notes.write_text("mine\n")
    with BatchServer() as server:
        for option in ("--state", "--failed-ids"):
            for more in ([], ["--restart"]):
                ended = _upload(jobs.parent, "--to", server.target, option, "notes.txt", *more)
                assert 1 == ended.code
                assert "notes.txt is" in ended.err
                assert option in ended.err

    assert [] == server.calls
    assert "mine\n" == notes.read_text()


@pytest.mark.parametrize("content", ["my notes\n", "cafe", "my notes"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_file_that_came_to_be_in_between_stays_as_it_is(
    jobs: Path,
    content: str,
    is_late: bool,  # noqa: FBT001
) -> None:
    """Where no id had failed: before the upload goes on, or when the first one is written."""
    notes = jobs.parent / "jobs.arrow.failed-ids.txt"
    ids = _ids(jobs)

    def write_notes() -> None:
        notes.write_text(content)

    late = wait_for(write_notes, fail({ids[100]}))
    with BatchServer([store, late if is_late else _UNAVAILABLE]) as server:
        first = _upload(jobs.parent, "--to", server.target, UPLOAD_TRIES="1")
        write_notes()
        again = _upload(jobs.parent, "--to", server.target)
        assert content == notes.read_text()
        notes.unlink()
        moved = _upload(jobs.parent, "--to", server.target)

    assert [1, 1, 0] == [run.code for run in (first, again, moved)]
    assert "jobs.arrow.failed-ids.txt is there already and not of an upload" in again.err
    assert ("somebody else writes to it" in first.err) == is_late


def test_older_failed_ids_take_the_place_of_nothing_else(jobs: Path) -> None:
    """The second --restart replaces those of the first one, but nobody's notes."""
    ids = _ids(jobs)
    older = jobs.parent / "jobs.arrow.failed-ids.txt.old"
    with BatchServer([fail({ids[7]}), *[store] * 4] * 4) as server:
        restart = ("--to", server.target, "--restart")
        codes = [_upload(jobs.parent, *restart).code for _ in range(3)]
        assert f"{ids[7]}\n" == older.read_text()
        older.write_text("my notes\n")
        refused = _upload(jobs.parent, *restart)
        assert 15 == len(server.calls)

    assert [1, 1, 1, 1] == [*codes, refused.code]
    assert "failed-ids.txt.old is there already and not of an upload" in refused.err
    assert "my notes\n" == older.read_text()


def _edit(state: Path, **values: object) -> None:
    content = json.loads(state.read_text())
    content["uploads"][0].update(values)
    state.write_text(json.dumps(content))


def test_failed_ids_elsewhere_must_be_asked_for(jobs: Path) -> None:
    """A state isn't believed where it leads out of its folder, unless the caller says the same."""
    (jobs.parent / "else").mkdir()
    for path in ("else/failed.txt", f"../{jobs.parent.name}/failed.txt", f"{jobs.parent}/x.txt"):
        with BatchServer([store, _UNAVAILABLE]) as server:
            to = ("--to", server.target)
            _upload(jobs.parent, *to, UPLOAD_TRIES="1")
            _edit(jobs.parent / "jobs.arrow.upload.json", failed_ids=path)
            refused = _upload(jobs.parent, *to)
            assert 2 == len(server.calls)
            agreed = _upload(jobs.parent, *to, "--failed-ids", path)
            (jobs.parent / "jobs.arrow.upload.json").unlink()

        assert (1, 0) == (refused.code, agreed.code)
        assert f"{path}: --failed-ids must say so, too" in refused.err


@pytest.mark.parametrize("option", ["--state", "--failed-ids"])
def test_what_is_no_regular_file_is_refused(jobs: Path, option: str) -> None:
    """Nothing is sent, and nobody waits for the other end of a pipe."""
    pipe = jobs.parent / "pipe"
    os.mkfifo(pipe)
    with BatchServer() as server:
        ended = _upload(jobs.parent, "--to", server.target, option, "pipe")

    assert (1, []) == (ended.code, server.calls)
    assert "pipe is no regular file" in ended.err
    assert pipe.is_fifo()


@pytest.mark.parametrize("last_id", ["zz", "ffffffff-ffff-4fff-bfff-ffffffffffff", ""])
def test_a_state_that_can_not_be_is_a_clear_error(jobs: Path, last_id: str) -> None:
    """It says which file is wrong, and what helps."""
    with BatchServer([store, _UNAVAILABLE]) as server:
        to = ("--to", server.target)
        _upload(jobs.parent, *to, UPLOAD_TRIES="1")
        _edit(jobs.parent / "jobs.arrow.upload.json", last_id=last_id)
        refused = _upload(jobs.parent, *to)
        assert 2 == len(server.calls)
        restarted = _upload(jobs.parent, *to, "--restart")

    assert (1, 0) == (refused.code, restarted.code)
    assert f"its upload to {server.target} ended with '{last_id}', which is no row" in refused.err
    assert "somebody changed jobs.arrow.upload.json" in refused.err
    assert "--restart sends all rows again" in refused.err


@pytest.mark.parametrize("remove", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_failed_ids_that_somebody_removed_are_missed_and_not_made_up(
    jobs: Path, remove: Callable[[Path], object]
) -> None:
    """The upload goes on, says so, and writes no gap."""
    ids = _ids(jobs)
    with BatchServer([fail({ids[0]}), _UNAVAILABLE, fail({ids[101]})]) as server:
        _upload(jobs.parent, "--to", server.target, UPLOAD_TRIES="1")
        remove(jobs.parent / "jobs.arrow.failed-ids.txt")
        again = _upload(jobs.parent, "--to", server.target)

    assert 1 == again.code
    assert "jobs.arrow.failed-ids.txt was shortened" in again.err
    assert "failed       2," in again.out
    assert f"{ids[101]}\n" == (jobs.parent / "jobs.arrow.failed-ids.txt").read_text()


@pytest.mark.parametrize(
    ("room", "sent_calls", "refused"),
    [(100, 0, "jobs.arrow.upload.json can't be written"), (1000, 2, "jobs.arrow.failed-ids.txt")],
    ids=["for no state", "for a segment's failed ids"],
)
def test_a_full_disk_ends_it_and_loses_nothing(
    jobs: Path, room: int, sent_calls: int, refused: str
) -> None:
    """Said once; with room again it goes on, and no failed id is missing or there twice.

    The limit of a file's size is a disk that is full: a write comes out short, the next fails.
    """
    failing = _ids(jobs)[3::5]
    with BatchServer([fail(set(failing))] * 6) as server:
        command = [sys.executable, "-m", "streamer", "upload", "--data", "jobs.arrow"]
        ended = subprocess.run(
            limited("RLIMIT_FSIZE", room, room, *command, "--to", server.target),
            cwd=jobs.parent, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "UPLOAD_SEGMENT_ROWS": "100"},
        )  # fmt: skip
        calls = len(server.calls)
        again = _upload(jobs.parent, "--to", server.target)

    assert (1, sent_calls) == (ended.returncode, calls)
    assert 1 == ended.stderr.count("error: ")
    assert re.search(rf"error: {re.escape(refused)}.*: File too large", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert 1 == again.code
    assert f"failed       {len(failing)}, ids in jobs.arrow.failed-ids.txt\n" in again.out
    assert failing == (jobs.parent / "jobs.arrow.failed-ids.txt").read_text().splitlines()


def test_one_upload_at_a_time_uses_a_state_file(tmp_path: Path) -> None:
    """The second one is told, and nothing is mixed up."""
    with (
        UploadState(tmp_path / "state.json"),
        pytest.raises(UploadStateError, match="in use by another upload; --state"),
    ):
        UploadState(tmp_path / "state.json")

    UploadState(tmp_path / "state.json").close()


def test_totals_are_larger_than_any_counter_on_the_wire(jobs: Path, tmp_path: Path) -> None:
    """Results are int32, their sums are not: in memory, in the file and after a resume."""
    path = tmp_path / "state.json"
    with UploadState(path) as state:
        upload, _ = state.begin("t:1", "f" * 64, tmp_path / "failed.txt")
        for _ in range(5):
            result = SegmentResult(2**31 - 1, 2**31 - 1)
            upload = state.acknowledge(upload, _ids(jobs)[0], result)
    with UploadState(path) as state:
        again = state.find("t:1", "f" * 64)

    assert upload == again
    assert (5 * (2**32 - 2), 5 * (2**31 - 1)) == (upload.rows, upload.failed)


def test_a_resumed_upload_adds_to_totals_beyond_32_bits(jobs: Path) -> None:
    """The report of a real run shows them whole."""
    ids = _ids(jobs)
    with BatchServer() as server:
        state = jobs.parent / "jobs.arrow.upload.json"
        with UploadState(state) as empty:
            upload, _ = empty.begin(
                server.target, EmbeddingStore.open(jobs).info.fingerprint,
                jobs.parent / "jobs.arrow.failed-ids.txt", after=ids[399],
            )  # fmt: skip
            empty.acknowledge(upload, ids[399], SegmentResult(2**31 - 1, 0))
        ended = _upload(jobs.parent, "--to", server.target)

    assert 0 == ended.code
    assert "succeeded    2,147,483,747\n" in ended.out


@pytest.mark.parametrize("content", ["{}", '{"version": 2, "uploads": []}', "\x00", "[1]"])
def test_a_damaged_state_is_not_used_and_not_replaced(tmp_path: Path, content: str) -> None:
    """Where an upload stands is not guessed."""
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(UploadStateError, match="no state of an upload, or damaged"):
        UploadState(path)

    assert content == path.read_text()


def test_an_upload_counts_what_was_acknowledged() -> None:
    """A segment more: its rows, its last id."""
    upload = Upload(target="t:1", fingerprint="f", failed_ids="x", rows=10, succeeded=9, failed=1)

    more = upload.plus("last", SegmentResult(3, 2), 38)

    assert ("last", 15, 12, 3, 38) == (
        more.last_id, more.rows, more.succeeded, more.failed, more.failed_ids_bytes,
    )  # fmt: skip


# The command


def test_after_begins_behind_an_id_whatever_was_sent(jobs: Path) -> None:
    """A row's id in any letter case, or one between rows, which is noted."""
    ids = _ids(jobs)
    with BatchServer() as server:
        to = ("--to", server.target)
        whole = _upload(jobs.parent, *to)
        tail = _upload(jobs.parent, *to, "--after", ids[449].upper())
        done = _upload(jobs.parent, *to)
        between = _upload(jobs.parent, *to, "--after", "00000000-0000-4000-8000-000000000000")
        none = _upload(jobs.parent, *to, "--after", ids[-1])

    assert [0] * 5 == [run.code for run in (whole, tail, done, between, none)]
    assert ids[450:] == server.calls[5]
    assert "uploaded     50 of 50 rows" in tail.out
    assert "already" in done.out
    assert "is not a row of jobs.arrow" in between.err
    assert ids == [id_ for call in server.calls[6:] for id_ in call]
    assert f"jobs.arrow has no rows after {ids[-1]}: nothing to upload" in none.out


def test_an_empty_dataset_is_uploaded_by_no_call(tmp_path: Path) -> None:
    """There is nothing to acknowledge."""
    write_dataset(tmp_path / "jobs.arrow", rows=0)
    with BatchServer() as server:
        ended = _upload(tmp_path, "--to", server.target)

    assert (0, []) == (ended.code, server.calls)
    assert "jobs.arrow has no rows: nothing to upload" in ended.out


def test_target_comes_from_the_settings(jobs: Path) -> None:
    """BATCH_SERVER_HOST and BATCH_SERVER_PORT, where there is no --to."""
    with BatchServer() as server:
        ended = _upload(
            jobs.parent, BATCH_SERVER_HOST="127.0.0.1", BATCH_SERVER_PORT=str(server.port)
        )

    assert 0 == ended.code
    assert f"target       {server.target}\n" in ended.out
    assert _ids(jobs) == list(server.stored)


@pytest.mark.parametrize("mutual", [False, True])
def test_upload_by_tls(jobs: Path, mutual: bool) -> None:  # noqa: FBT001
    """The receiver's certificate is checked; the client shows its own where it has to."""
    ca, other_ca = trustme.CA(), trustme.CA()
    folder = jobs.parent
    files = Files.made(folder, ca)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    other_ca.cert_pem.write_to_path(str(folder / "other.pem"))
    credentials = grpc.ssl_server_credentials(
        [(files.key.read_bytes(), files.certificate.read_bytes())],
        ca.cert_pem.bytes() if mutual else None,
        require_client_auth=mutual,
    )
    own = ["--tls-cert", str(files.certificate), "--tls-key", str(files.key)] if mutual else []
    with BatchServer(credentials=credentials) as server:
        to = ("--to", server.target)
        distrusted = _upload(folder, *to, "--tls-ca", "other.pem", *own, UPLOAD_TRIES="1")
        plain = _upload(folder, *to, UPLOAD_TRIES="1")
        anonymous = _upload(folder, *to, "--tls-ca", "ca.pem", UPLOAD_TRIES="1")
        trusted = _upload(folder, *to, "--tls-ca", "ca.pem", *own)

    codes = [run.code for run in (distrusted, plain, anonymous, trusted)]
    assert [1, 1, 1 if mutual else 0, 0] == codes
    assert "UNAVAILABLE" in distrusted.err
    assert _ids(jobs) == list(server.stored)


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "text"),
    [
        (["--to", "nowhere"], {}, 2, "'nowhere' is not HOST:PORT"),
        (["--to", "host:0"], {}, 2, "'host:0' is not HOST:PORT"),
        (["--after", "x"], {}, 2, "'x' is not a UUID in canonical form"),
        (
            ["--after", "00000000-0000-0000-0000-000000000001", "--restart"],
            {},
            2,
            "--after and --restart",
        ),
        (["--data", "none.arrow"], {}, 1, "no dataset file none.arrow"),
        (["--state", "no/where.json"], {}, 1, "no/where.json: No such file or directory"),
        (["--tls-ca", "none.pem"], {}, 1, "none.pem: No such file or directory"),
        (["--tls-ca", "jobs.arrow"], {}, 1, "--tls-ca is no certificate in PEM"),
        (["--tls-cert", "x.pem"], {}, 2, "the client's certificate and its key belong together"),
        ([], {"UPLOAD_TRIES": "0"}, 2, "UPLOAD_TRIES is '0'"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    jobs: Path, arguments: list[str], variables: dict[str, str], code: int, text: str
) -> None:
    """Nothing is sent, and no file is left behind that says otherwise."""
    ended = _upload(jobs.parent, *arguments, **variables)

    assert code == ended.code
    assert text in ended.err
    assert "Traceback" not in ended.err
    assert not (jobs.parent / "jobs.arrow.upload.json").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UPLOAD_SEGMENT_ROWS", "0"),
        ("UPLOAD_SEGMENT_ROWS", "1000001"),
        ("UPLOAD_TRIES", "0"),
        ("UPLOAD_RETRY_SECONDS", "-1"),
        ("UPLOAD_RETRY_SECONDS", "nan"),
        ("UPLOAD_TIMEOUT_SECONDS", "0"),
        ("UPLOAD_TIMEOUT_SECONDS", "inf"),
    ],
)
def test_settings_have_bounds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    """A wrong value is an error that names the variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable} is '{value}'"):
        load_settings()


def test_a_terminal_sees_a_progress_bar_and_nobody_else(jobs: Path) -> None:
    """Rows, rows a second; a log file gets no control characters.

    LOG_LEVEL=DEBUG writes its lines above the bar, LOG_FILE has them, and what is printed.
    """
    with BatchServer([_UNAVAILABLE]) as server:
        command = [sys.executable, "-m", "streamer", "upload", "--data", "jobs.arrow"]
        shown, hidden = pty.openpty()
        code = subprocess.run(
            [*command, "--to", server.target], cwd=jobs.parent, stderr=hidden, check=False,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "TERM": "xterm",
                 "UPLOAD_RETRY_SECONDS": "0.01", "LOG_LEVEL": "DEBUG", "LOG_FILE": "x.log"},
        ).returncode  # fmt: skip
        os.close(hidden)
        terminal = os.read(shown, 1 << 20).decode()
        os.close(shown)
        logged = _upload(jobs.parent, "--to", server.target, "--restart")

    assert (0, 0) == (code, logged.code)
    assert "500/500" in terminal
    assert "rows/s" in terminal
    assert 1 == terminal.count("is sent again in")
    assert 1 == terminal.count("acknowledged 500 rows up to")
    log = (jobs.parent / "x.log").read_text()
    assert log.replace("\n", "").isprintable()
    for line in ("DEBUG [commands.upload] - acknowledged 500 rows", "INFO [commands] - uploaded"):
        assert 1 == log.count(line)
    assert re.search(r"WARNING \[commands\] - the segment .+ is sent again in", log)
    assert "" == logged.err


def test_help_teaches() -> None:
    """Options, defaults and an example."""
    ended = _upload(_ROOT, "--help")

    assert 0 == ended.code
    for word in ("--to HOST:PORT", "--after ID", "--restart", "--failed-ids", "--tls-ca", "Exampl"):
        assert word in ended.out

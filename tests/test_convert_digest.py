"""The digest of a source, made in a thread beside its reading."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from convert import digest as digest_module
from convert.digest import Digest
from convert.errors import UnreadableSourceError

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = digest_module._BLOCK_BYTES


def _digest(*paths: Path) -> bytes:
    with Digest(paths) as digest:
        return digest.wait()


@pytest.mark.parametrize("size", [0, 1, 4096, _BLOCK - 1, _BLOCK, _BLOCK + 1])
def test_the_digest_of_a_file_is_its_sha_256(size: int, tmp_path: Path) -> None:
    """Of files that are empty, small, and larger than what is hashed at once."""
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "a").write_bytes(content[:size])

    assert hashlib.sha256(content[:size]).digest() == _digest(tmp_path / "a")


def test_the_digest_of_several_files_is_that_of_their_digests(tmp_path: Path) -> None:
    """In their order: bytes that move from one file to the next make another."""
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"onet"), ("d", b"wo")):
        (tmp_path / name).write_bytes(content)
    expected = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest())
    a, b, c, d = (tmp_path / name for name in "abcd")

    assert expected.digest() == _digest(a, b)
    assert 3 == len({_digest(a, b), _digest(b, a), _digest(c, d)})


def test_progress_is_told_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, of all files together."""
    monkeypatch.setattr(digest_module, "_BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(digest_module, "_POLL_SECONDS", 0.001)
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(32 << 20))
    told: list[int] = []
    with Digest([tmp_path / "a", tmp_path / "b"]) as digest:
        digest.wait(told.append)

    assert all(count >= 0 for count in told)
    assert 32 << 20 < sum(told) <= 64 << 20
    assert len(told) > 2


def test_it_may_be_asked_for_again(tmp_path: Path) -> None:
    """Each batch of made ids asks: the answer is the same, at once, also behind the `with`."""
    (tmp_path / "a").write_bytes(b"content")
    with Digest([tmp_path / "a"]) as digest:
        first = digest.wait()
        assert first == digest.wait()
    assert first == digest.wait()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_file_that_is_gone_is_an_error_that_names_it(missing: int, tmp_path: Path) -> None:
    """When the digest is asked for, and each time; not before."""
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[1 - missing].write_bytes(b"here")
    with Digest(paths) as digest:
        for _ in range(2):
            with pytest.raises(UnreadableSourceError, match=f"{paths[missing]}: No such file"):
                digest.wait()


def test_what_is_given_up_early_ends_early(tmp_path: Path) -> None:
    """An error in the reading isn't kept waiting until gigabytes are hashed."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(8 << 30)  # takes no room on the disk
    digest = Digest([tmp_path / "a"])
    with pytest.raises(ZeroDivisionError), digest:
        raise ZeroDivisionError

    assert digest._done < 4 << 30
    assert "digest" not in {thread.name for thread in threading.enumerate()}

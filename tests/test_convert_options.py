"""What a fingerprint is of, to the byte: checkpoints and "up to date" rely on it for good."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.ids import IdMode
from convert.options import Options, fingerprint
from convert.pipeline import convert
from convert.report import Phases
from tests import pickles as p

if TYPE_CHECKING:
    from collections.abc import Mapping

_MS = 1_765_467_000_000  # 2025-12-11T15:30:00Z
_KOREAN = {"id": "회사", "company_name": "Employer"}


@pytest.mark.parametrize(
    ("mode", "changes", "has_ids", "expected"),
    [
        ("keep", {}, True, "8d3c2f0e8f9337bea1fd9f6ce61d11ffdb2d9504c5bcfe115be65e111d9164a4"),
        ("uuid7", {}, False, "69712333d5c3facae416c6c3770b2d40244cbde6c012763d8f14c8246f48c62f"),
        ("ulid", {}, True, "dc2bc2b2aaa68f97ab5d8855a8fbc408bc8fb7eacf757ac951e37c4041cd4e21"),
        (
            "keep", {"skip_invalid": True}, True,
            "0a336ae401f48c571712b3f39479991eea316f7521c736bc3e94465691bda0ac",
        ),
        (
            "keep", {"columns": _KOREAN}, True,
            "a0c41a0b4ae1b254ea2b569b60b368441d5aeba806ce3bf8f1aa1643eb19fa2f",
        ),
        (
            "uuid7", {"columns": _KOREAN, "id_time_ms": 0, "skip_invalid": True}, False,
            "a532d0be0be5b6ada2c63c49cdec7247c17ed07908be559a1822ae3be1899dfd",
        ),
    ],
)  # fmt: skip
def test_a_fingerprint_never_changes(
    mode: str, changes: Mapping[str, Any], has_ids: bool, expected: str  # noqa: FBT001
) -> None:  # fmt: skip
    """Options that came later leave it alone where they aren't used."""
    values: dict[str, Any] = {"columns": {}, "id_time_ms": _MS, **changes}
    options = Options(Path("jobs.pkl"), Path("jobs.arrow"), **values)
    made = fingerprint(
        options, bytes(range(32)), IdMode(mode), values["id_time_ms"], has_ids=has_ids
    )

    assert expected == made


def _by_the_book(digest: str, ids: str, *, skip_invalid: bool = False) -> str:
    shaping = {
        "format": 1,
        "source": digest,
        "columns": {"english_level": "company_name"},
        "ids": ids,
        "source_has_ids": True,
        "id_time_ms": None if ids == "keep" else _MS,
        "skip_invalid": skip_invalid,
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("ids", ["keep", "uuid7", "ulid"])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_dataset_has_the_fingerprint_of_its_source(tmp_path: Path, ids: str, parts: int) -> None:
    """That of a file's SHA-256; of a folder's, the SHA-256 of its parts' in their order."""
    folder = tmp_path / "parts"
    folder.mkdir()
    paths = [
        p.write_pickle(folder / f"part-{number}.pkl", p.make_records(seed=number))
        for number in range(parts)
    ]
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    digest = digests[0] if parts == 1 else hashlib.sha256(b"".join(digests)).digest()
    for skip_invalid in (False, True):
        out = tmp_path / f"{skip_invalid}.arrow"
        options = Options(
            paths[0] if parts == 1 else folder, out, {"english_level": "company_name"},
            IdMode(ids), _MS, skip_invalid=skip_invalid,
        )  # fmt: skip
        convert(options, Phases())

        assert _by_the_book(digest.hex(), ids, skip_invalid=skip_invalid) == (
            p.info_of(out).fingerprint
        )

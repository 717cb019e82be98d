"""How far uploads have come, in a file that survives them.

A state file knows several uploads, each by its target and the fingerprint of its dataset. It
is replaced whole, after every segment that was acknowledged. Failed ids lie in a file of
their own, one a line, which an upload owns: ids are written there before the state counts
them, and what the state doesn't count is cut off when the upload goes on. So a kill at any
point repeats at most the rows of one segment, and no failed id.

Neither file is written over unless it is what it should be: a state, or nothing but ids, in
the state's own folder or where the caller says. UploadStateError for that, and for whatever
the file system refuses.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.atomic import replacing
from convert.errors import OutputError
from streamer.errors import StreamerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from streamer.client.upload_segments import SegmentResult

_Count = Annotated[int, Field(ge=0)]
# What an upload writes to its file of failed ids: UUIDs and ULIDs. A kill may cut the last one.
_IDS = re.compile(
    rb"(?:(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-HJKMNP-TV-Z]{26})\n)++"
    rb"[0-9A-Za-z-]{0,36}"
)


class UploadStateError(StreamerError):
    """The state file or the file of failed ids can't be used as it is."""


class Upload(BaseModel):
    """One upload: `rows` were acknowledged, the last one is `last_id`, "" for none.

    `failed_ids` is the file of failed ids, relative to the state file's folder, of which
    `failed_ids_bytes` are accounted for.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    fingerprint: str
    failed_ids: str
    failed_ids_bytes: _Count = 0
    last_id: str = ""
    rows: _Count = 0
    succeeded: _Count = 0
    failed: _Count = 0

    @property
    def has_failures(self) -> bool:
        return self.failed > 0 or self.failed_ids_bytes > 0

    def plus(self, last_id: str, result: SegmentResult, failed_ids_bytes: int) -> Upload:
        """Return this upload with one more segment acknowledged."""
        return self.model_copy(
            update={
                "last_id": last_id,
                "rows": self.rows + result.succeeded + result.failed,
                "succeeded": self.succeeded + result.succeeded,
                "failed": self.failed + result.failed,
                "failed_ids_bytes": failed_ids_bytes,
            }
        )


class _Content(BaseModel):
    version: Literal[1]
    uploads: list[Upload]


class UploadState:
    """The state file at `path`, and in it the upload that is under way.

    Locked while it is open: one process at a time writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._uploads: list[Upload] = []
        _refuse_special(path)
        with _told(path):
            self._lock = path.with_name(f".{path.name}.lock").open("ab")
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{self.path} is in use by another upload; --state names another file"
            raise UploadStateError(message) from None
        with _told(self.path):
            content = self.path.read_bytes() if self.path.exists() else b""
        if not content:
            return
        try:
            self._uploads = _Content.model_validate_json(content).uploads
        except ValidationError:
            message = (
                f"{self.path} is no state of an upload, or damaged: move it away, or name another"
                " file with --state"
            )
            raise UploadStateError(message) from None

    def find(self, target: str, fingerprint: str) -> Upload | None:
        """Return what is known of this upload."""
        return next((u for u in self._uploads if _key(u) == (target, fingerprint)), None)

    def others(self, target: str, fingerprint: str) -> Sequence[Upload]:
        """Return the uploads that are to another target or of another dataset."""
        return [u for u in self._uploads if _key(u) != (target, fingerprint)]

    def begin(
        self, target: str, fingerprint: str, failed_ids: Path, *, after: str = ""
    ) -> tuple[Upload, Path | None]:
        """Begin an upload anew; return it, and where older failed ids were moved to, if any.

        It takes the place of its older self, and of uploads to the same target that wrote
        the same file of failed ids.
        """
        upload = Upload(
            target=target,
            fingerprint=fingerprint,
            failed_ids=self._relative(failed_ids),
            last_id=after,
        )
        superseded = [
            other
            for other in self._uploads
            if (other.target, other.failed_ids) == (target, upload.failed_ids)
        ]
        self._refuse_foreign(failed_ids, superseded)
        moved = None
        with _told(failed_ids):
            if _has_content(failed_ids):
                moved = failed_ids.with_name(f"{failed_ids.name}.old")
                self._refuse_foreign(moved, superseded, is_older=True)
                failed_ids.replace(moved)
        self._uploads = [other for other in self._uploads if other not in superseded]
        self._save(upload)
        return upload, moved

    def resume(self, upload: Upload, failed_ids: Path | None = None) -> tuple[Upload, bool]:
        """Go on with `upload`; return it, and whether all of its failed ids are still there.

        Another file of failed ids is taken if there are none yet. One that lies elsewhere than
        the state must be the caller's choice: the state may have been.
        """
        path = self.failed_ids(upload)
        if failed_ids is None and path.name != upload.failed_ids:
            message = f"{self.path} has the failed ids in {path}: --failed-ids must say so, too"
            raise UploadStateError(message)
        name = upload.failed_ids if failed_ids is None else self._relative(failed_ids)
        if name != upload.failed_ids and upload.failed_ids_bytes:
            message = f"the failed ids of this upload so far are in {self.failed_ids(upload)}"
            raise UploadStateError(message)
        upload = upload.model_copy(update={"failed_ids": name})
        own = [other for other in self._uploads if _key(other) == _key(upload)]
        self._refuse_foreign(self.failed_ids(upload), own)
        left = self._write_failed_ids(upload, ())
        is_whole = left == upload.failed_ids_bytes
        return upload.model_copy(update={"failed_ids_bytes": left}), is_whole

    def failed_ids(self, upload: Upload) -> Path:
        """Return the file of an upload's failed ids; there is none while there are no ids."""
        return self.path.parent / upload.failed_ids

    def acknowledge(self, upload: Upload, last_id: str, result: SegmentResult) -> Upload:
        """Keep that the segment up to `last_id` was acknowledged; return the upload as it is now.

        On disk when this returns.
        """
        failed_ids_bytes = upload.failed_ids_bytes
        if result.failed_ids:
            failed_ids_bytes = self._write_failed_ids(upload, result.failed_ids)
        upload = upload.plus(last_id, result, failed_ids_bytes)
        self._save(upload)
        return upload

    def _save(self, upload: Upload) -> None:
        self._uploads = [u for u in self._uploads if _key(u) != _key(upload)] + [upload]
        content = _Content(version=1, uploads=self._uploads).model_dump_json(indent=2)
        try:
            with replacing(self.path) as file:
                file.write(f"{content}\n".encode())
        except OutputError as error:
            raise UploadStateError(str(error)) from error

    def _write_failed_ids(self, upload: Upload, ids: Sequence[str]) -> int:
        """Write `ids` behind those that are accounted for; return the bytes there are then."""
        path = self.failed_ids(upload)
        with _told(path):
            if not ids and not path.exists():
                return 0
            with path.open("r+b" if path.exists() else "wb") as file:
                size = file.seek(0, os.SEEK_END)
                if ids and size > upload.failed_ids_bytes:
                    message = f"{path}: somebody else writes to it, too; move it away"
                    raise UploadStateError(message)
                # Where somebody shortened the file, nothing is put in its place.
                file.truncate(min(upload.failed_ids_bytes, size))
                file.seek(0, os.SEEK_END)
                file.write("".join(f"{id_}\n" for id_ in ids).encode())
                file.flush()
                os.fsync(file.fileno())
                return file.tell()

    def _refuse_foreign(
        self, failed_ids: Path, own: Sequence[Upload], *, is_older: bool = False
    ) -> None:
        """Raise UploadStateError if what is in `failed_ids` is not of the uploads `own`.

        `is_older`: it may be of an upload that is forgotten, too.
        """
        _refuse_special(failed_ids)
        if failed_ids.absolute() == self.path.absolute():
            message = f"{failed_ids} can't be both the state and the failed ids"
            raise UploadStateError(message)
        name = self._relative(failed_ids)
        owners = [upload for upload in self._uploads if upload.failed_ids == name]
        foreign = [u.target for u in owners if u.failed_ids_bytes and u not in own]
        with _told(failed_ids):
            is_known = (owners or is_older) and _is_of_ids(failed_ids)
            is_unknown = _has_content(failed_ids) and not is_known
        if foreign or is_unknown:
            whose = f"of an upload to {foreign[0]}" if foreign else "not of an upload"
            message = (
                f"{failed_ids} is there already and {whose}: move it away, or name another file"
                " with --failed-ids"
            )
            raise UploadStateError(message)

    def _relative(self, path: Path) -> str:
        """Return a path that stays right when the folder is moved."""
        return os.path.relpath(path.absolute(), self.path.absolute().parent)

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(upload: Upload) -> tuple[str, str]:
    return upload.target, upload.fingerprint


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _is_of_ids(path: Path) -> bool:
    """Return whether a file has ids and nothing else; a file without content has none."""
    if not _has_content(path):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _IDS.fullmatch(content) is not None


def _refuse_special(path: Path) -> None:
    """Raise UploadStateError if `path` is a folder, a device or a pipe."""
    with _told(path):
        is_special = path.exists() and not path.is_file()
    if is_special:
        message = f"{path} is no regular file: name another one"
        raise UploadStateError(message)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an UploadStateError that names `path`."""
    try:
        yield
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise UploadStateError(message) from error

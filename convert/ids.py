"""The id column: canonical ids from the source, or generated ones.

Ids are 16 bytes a row, uint8 (rows, 16). Generated ids are the same whenever the
source, its row order and the time are: nothing random is drawn.
"""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convert.errors import ConvertError
from convert.foreign_text import quoted
from convert.id_text import UUID_CHARS, IdKind, parse_ids
from convert.validation import is_null, python_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.pickle_reader import Values

_MAX_GENERATED = 2**32
_MAX_TIME_MS = 2**48
_PHILOX_NUMBERS = 4  # a step of the generator
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_MAX_SHOWN_BITS = 200
_MAX_SHOWN_BYTES = 40
# The reason of a row that has none.
MISSING_ID = "missing id"


class IdMode(StrEnum):
    """Where the ids come from."""

    KEEP = "keep"
    UUID7 = "uuid7"
    ULID = "ulid"
    UUID5 = "uuid5"

    @property
    def is_made(self) -> bool:
        """Whether another conversion of the same rows may give them other ids."""
        return self in (IdMode.UUID7, IdMode.ULID)


class Ids(NamedTuple):
    """`values` is uint8 (rows, 16); rows named in `problems` hold nothing useful."""

    values: NDArray[np.uint8]
    kind: IdKind
    problems: dict[int, str]


def id_texts(values: Values) -> list[str]:
    """Return the ids of a source as text, "" for what is neither text nor a UUID."""
    return [value if isinstance(value, str) else _text_of(value) for value in python_values(values)]


def kept_ids(values: Values, texts: list[str], kind: IdKind) -> Ids:
    """Canonicalise the ids of a source: UUIDs in any usual form, or ULIDs.

    `texts` is what `id_texts` returned for `values`.
    """
    ids = np.zeros((len(texts), 16), np.uint8)
    plain = np.array([len(t) == kind.chars and t.isascii() for t in texts], np.bool_)
    joined = "".join(text for text, is_plain in zip(texts, plain, strict=True) if is_plain)
    chars = np.frombuffer(joined.encode(), np.uint8).reshape(-1, kind.chars)
    ids[plain], canonical = parse_ids(kind, chars)
    plain[plain] = canonical
    problems = {}
    unusual = np.flatnonzero(~plain).tolist()
    rows = python_values(values) if unusual else []
    for row in unusual:
        parsed = _unusual_uuid(texts[row]) if kind is IdKind.UUID else None
        if parsed is None:
            problems[row] = _reason(rows[row], kind)
        else:
            ids[row] = np.frombuffer(parsed, np.uint8)
    return Ids(ids, kind, problems)


def _text_of(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes) and len(value) == 16:
        return str(uuid.UUID(bytes=value))
    return ""


def _unusual_uuid(text: str) -> bytes | None:
    """Parse a UUID with braces, as a URN, or without hyphens."""
    if len(text) > UUID_CHARS + 9:  # many rows may share a long one
        return None
    plain = text.strip().lower().removeprefix("urn:uuid:")
    digits = plain.removeprefix("{").removesuffix("}").replace("-", "")
    # UUID() itself takes whatever int() takes: underscores, signs, spaces.
    if len(digits) != 32 or not _HEX_DIGITS.issuperset(digits):
        return None
    return uuid.UUID(digits).bytes


def _reason(value: Any, kind: IdKind) -> str:  # noqa: ANN401
    if is_null(value) or (isinstance(value, str) and not value):
        return MISSING_ID
    return f"{shown_value(value)} is not a {kind.upper()}"


def shown_value(value: Any) -> str:  # noqa: ANN401
    """Return a value of a source as a message shows it; of what is no id, its type."""
    match value:
        case str():
            return quoted(value)
        case bytes() | bytearray():
            return f"{quoted(value[:_MAX_SHOWN_BYTES].hex())} ({len(value)} bytes)"
        case int() if value.bit_length() > _MAX_SHOWN_BITS:
            return f"an integer of {value.bit_length()} bits"
        case None:
            return "null"
        case np.timedelta64():  # to NumPy an integer
            pass
        case int() | float() | np.bool_() | np.integer() | np.floating() | uuid.UUID():
            return str(value)
    return type(value).__name__


def generated_ids(mode: IdMode, rows: range, time_ms: int, seed: bytes) -> Ids:
    """Make ids for some of the rows of a source; they ascend strictly in row order.

    A UUIDv7 (RFC 9562 section 5.7) is a millisecond time, a 32-bit counter, which is
    the row number (section 6.2, method 1), and 42 bits that depend on the 32 bytes of
    `seed` and the row number. A ULID has 48 of those bits. Raises ConvertError for more
    than 2**32 rows or a time beyond 48 bits of milliseconds.
    """
    if rows.stop > _MAX_GENERATED:
        message = f"{rows.stop:,} rows; at most {_MAX_GENERATED:,} ids can be generated"
        raise ConvertError(message)
    if not 0 <= time_ms < _MAX_TIME_MS:
        message = f"{time_ms} ms since 1970 doesn't fit into an id"
        raise ConvertError(message)
    key = np.frombuffer(seed[:16], np.uint64)
    random = np.random.Philox(key=key).advance(rows.start // _PHILOX_NUMBERS)
    before = rows.start % _PHILOX_NUMBERS
    noise = random.random_raw(before + len(rows))[before:].astype(np.uint64)
    row = np.arange(rows.start, rows.stop, dtype=np.uint64)
    time = np.uint64(time_ms << 16)
    if mode is IdMode.UUID7:
        # 48 bits time, version 7, 12 bits counter | variant 10, 20 bits counter, 42 bits noise
        high = time | np.uint64(0x7000) | row >> np.uint64(20)
        counter_low = (row & np.uint64(0xFFFFF)) << np.uint64(42)
        low = np.uint64(1 << 63) | counter_low | noise >> np.uint64(22)
        kind = IdKind.UUID
    else:
        # 48 bits time, 16 bits counter | 16 bits counter, 48 bits noise
        high = time | row >> np.uint64(16)
        low = (row & np.uint64(0xFFFF)) << np.uint64(48) | noise >> np.uint64(16)
        kind = IdKind.ULID
    halves = np.stack((high, low), axis=1).astype(">u8")
    return Ids(halves.view(np.uint8).reshape(len(rows), 16), kind, {})

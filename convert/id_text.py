"""Ids as columns: 16 bytes a row on one side, canonical text on the other.

In and out go uint8 matrices, one row an id, so that formatting or parsing a
whole column is a fixed number of NumPy operations. Nothing is raised for bad
text: `parse_*` return a mask of the rows that are canonical, in any letter
case, and the caller decides what the others mean.

A UUID's text is RFC 9562 section 4 (36 characters, lower case); a ULID's is
26 characters of Crockford's base 32, upper case, first character 0..7.
For both, the order of the texts is the unsigned order of the bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UUID_CHARS = 36
ULID_CHARS = 26

_HYPHENS = slice(8, 24, 5)  # 8, 13, 18, 23
# Where the hex digits of a UUID stand in its text, and where without the hyphens, in pieces
# that NumPy moves as one number each: (bytes, place in the text, place in the digits).
_PIECES = ((8, 0, 0), (4, 9, 8), (4, 14, 12), (4, 19, 16), (8, 24, 20), (4, 32, 28))
_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_INVALID = 0xFF

# The ASCII digits of two bytes as one 32-bit value, so that one lookup makes four characters.
_HEX_DIGITS = np.frombuffer(np.arange(1 << 16, dtype=np.uint16).tobytes().hex().encode(), np.uint32)
_CROCKFORD_DIGITS = np.frombuffer(_CROCKFORD, np.uint8)


class IdKind(StrEnum):
    """What the 16 bytes of a dataset's ids are, and so which text they have."""

    UUID = "uuid"
    ULID = "ulid"

    @property
    def chars(self) -> int:
        """Characters of the canonical text."""
        return UUID_CHARS if self is IdKind.UUID else ULID_CHARS


def _values_of(digits: bytes) -> NDArray[np.uint8]:
    """Map every byte to the value of the digit it is, in either case, else _INVALID."""
    table = np.full(256, _INVALID, np.uint8)
    for value, digit in enumerate(digits):
        table[digit] = table[ord(chr(digit).lower())] = value
    return table


_HEX_VALUES = _values_of(b"0123456789ABCDEF")
_CROCKFORD_VALUES = _values_of(_CROCKFORD)


def write_text(kind: IdKind, ids: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write the canonical text of `ids` (n, 16) into `out` (n, kind.chars), both uint8."""
    if kind is IdKind.UUID:
        _write_uuid_text(ids, out)
    else:
        _write_ulid_text(ids, out)


def format_ids(kind: IdKind, ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the canonical text of `ids`, uint8 (n, 16), as uint8 (n, kind.chars)."""
    text = np.empty((len(ids), kind.chars), np.uint8)
    write_text(kind, ids, text)
    return text


def parse_ids(kind: IdKind, text: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Parse uint8 (n, kind.chars) into ids, uint8 (n, 16), and a mask of the canonical rows.

    Rows outside the mask hold no meaning.
    """
    return _parse_uuid_text(text) if kind is IdKind.UUID else _parse_ulid_text(text)


def _write_uuid_text(ids: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    digits = _HEX_DIGITS.take(np.ascontiguousarray(ids).view(np.uint16)).view(np.uint8)
    for size, in_text, in_digits in _PIECES:
        kind = f"u{size}"
        out[:, in_text : in_text + size].view(kind)[:] = digits[
            :, in_digits : in_digits + size
        ].view(kind)
    out[:, _HYPHENS] = ord("-")


def _parse_uuid_text(
    text: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    digits = np.empty((len(text), 32), np.uint8)
    for size, in_text, in_digits in _PIECES:
        digits[:, in_digits : in_digits + size] = text[:, in_text : in_text + size]
    values = _HEX_VALUES[digits]
    canonical = (values != _INVALID).all(axis=1)
    canonical &= (text[:, _HYPHENS] == ord("-")).all(axis=1)
    return values[:, 0::2] << np.uint8(4) | values[:, 1::2], canonical


def _write_ulid_text(ids: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    high, low = halves(ids)
    for char in range(ULID_CHARS):
        out[:, char] = _CROCKFORD_DIGITS[_five_bits(high, low, 5 * (ULID_CHARS - 1 - char))]


def _five_bits(high: NDArray[np.uint64], low: NDArray[np.uint64], shift: int) -> NDArray[np.uint64]:
    """Return bits shift..shift+4 of the 128-bit values high:low (bit 0 is the last)."""
    if shift >= 64:
        bits = high >> np.uint64(shift - 64)
    elif shift == 60:  # the one digit that lies across the halves
        bits = low >> np.uint64(60) | high << np.uint64(4)
    else:
        bits = low >> np.uint64(shift)
    return bits & np.uint64(31)


def _parse_ulid_text(
    text: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    values = _CROCKFORD_VALUES[text]
    # 26 digits hold 130 bits: the first digit of a 128-bit value is 7 at most.
    canonical = (values != _INVALID).all(axis=1) & (values[:, 0] <= 7)
    digits = values.astype(np.uint64)
    high = np.zeros(len(text), np.uint64)
    low = np.zeros(len(text), np.uint64)
    for char in range(ULID_CHARS):
        high = high << np.uint64(5) | low >> np.uint64(59)
        low = low << np.uint64(5) | digits[:, char]
    halves = np.stack((high, low), axis=1).astype(">u8")
    return halves.view(np.uint8).reshape(len(text), 16), canonical


def halves(ids: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Split ids, uint8 (n, 16), into their high and low 64 bits, native uint64 (n,).

    Compared high half first they are in the order of the ids' bytes.
    """
    halves = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]

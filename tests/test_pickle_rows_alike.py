"""Rows that are found by a pattern are those that the opcodes say."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import struct
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.pickle_reader import DamagedPickle, FloatLists, PickleReaderError, open_pickle
from convert.pickle_reader.memo import Memo
from convert.pickle_reader.rows_alike import RowsAlike

_VECTOR = [0.5, -1.25, 3e300]


def _read(content: bytes) -> list[dict[Any, Any]]:
    """Return the rows of a pickle as plain values, as rows and as columns the same."""
    rows: list[dict[Any, Any]] = []
    for batch in open_pickle(content).batches(batch_rows=7):
        for number in range(batch.rows):
            row = batch.row(number)
            for name in row:
                assert _listed(row[name]) == _listed(_item(batch.columns[name], number))
            rows.append(row)
    return rows


def _item(values: Any, row: int) -> Any:
    return values.row(row) if isinstance(values, FloatLists) else values[row]


def _listed(value: Any) -> Any:
    return [*value] if isinstance(value, tuple | np.ndarray) else value


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the bytes that patterns found."""
    found: list[int] = []
    follow = RowsAlike.follow

    def counted(self: RowsAlike, *arguments: Any) -> tuple[int, int]:
        pos, size = follow(self, *arguments)
        found.append(pos - arguments[2])
        return pos, size

    monkeypatch.setattr(RowsAlike, "follow", counted)
    return found


def _rows(count: int, **values: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"row {row}", "years": row % 200, "vector": [row + 0.5, *_VECTOR], **values}
        for row in range(count)
    ]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 100, 999, 1000, 1001, 2500])
def test_rows_alike_are_read_as_they_are(rows: int, followed: list[int]) -> None:
    """All but the first two rows, and those in which a frame begins, match a pattern."""
    expected = _rows(rows)
    content = pickle.dumps(expected, 4)

    assert expected == _read(content)
    if rows > 3:
        assert sum(followed) > 0.8 * (1 - 2 / rows) * len(content) - 200


def _with_frame(row: int, floats: int, claimed: int) -> bytes:
    """Rows with a frame before one of the floats, or the end, of a late row's vector."""
    content = pickle.dumps(_rows(40), 4)
    begin = content.index(struct.pack(">d", row + 0.5)) - 1 + 9 * floats
    return content[:begin] + b"\x95" + struct.pack("<Q", claimed) + content[begin:]


@pytest.mark.parametrize("floats", [1, 2, 3, 4])
def test_a_frame_that_begins_among_the_floats_is_no_obstacle(
    floats: int, followed: list[int]
) -> None:
    """Nor is one behind them."""
    content = _with_frame(20, floats, 1)

    assert pickle.loads(content) == _rows(40) == _read(content)
    row_bytes = len(pickle.dumps(_rows(41), 4)) - len(pickle.dumps(_rows(40), 4))
    assert max(followed) > 36 * row_bytes


@pytest.mark.parametrize("floats", [0, 1, 2, 3, 4])
def test_a_frame_among_the_floats_that_is_longer_than_the_file_is_damage(floats: int) -> None:
    with pytest.raises(DamagedPickle, match="a frame of"):
        _read(_with_frame(20, floats, 1 << 40))


def test_a_frame_before_the_floats_is_read_as_ever() -> None:
    assert _rows(40) == _read(_with_frame(20, 0, 1))


def test_texts_that_rows_share_are_held_and_others_are_not() -> None:
    """However many ids lie between: 25,000 rows later a name isn't read again."""
    names = [f"company {number}" for number in range(25_000)]
    expected = [
        {"id": f"row {row}", "company": names[max(row % 25_000, 9)], "vector": _VECTOR}
        for row in range(60_000)
    ]
    with mock.patch.object(Memo, "spend", autospec=True, side_effect=Memo.spend) as read_again:
        assert expected == _read(pickle.dumps(expected, 4))
    assert read_again.call_count < 30


@pytest.mark.parametrize("distance", [0, 3000])
def test_texts_of_another_column_are_found_without_reading_again(distance: int) -> None:
    """A column to which others refer may itself refer to none."""
    ids = [f"row {row}" for row in range(30_000)]
    expected = [
        {"id": ids[row], "parent": ids[max(row - distance, 0)], "vector": _VECTOR}
        for row in range(30_000)
    ]
    with mock.patch.object(Memo, "spend", autospec=True, side_effect=Memo.spend) as read_again:
        assert expected == _read(pickle.dumps(expected, 4))
    assert read_again.call_count < 200 + distance


# What a value may be, and be taken for: texts that look like opcodes, of every length.
_TRICKY = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["\x94", "h\x02", "\x94h\x02", "u", "\x94h\x04\x8c\x01", "e", "N", ""]),
    st.integers(1, 600).map(lambda size: "x" * size),
    st.sampled_from([None, 0, 1, 255, 256, 65_535, -1, 2**31, True, 0.5, b"bytes", "\ud800"]),
)
_SHARED = ["one text", "another", "\x94h\x02"]
tricky_rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": _TRICKY | st.sampled_from(_SHARED),
            "more": _TRICKY | st.sampled_from(_SHARED),
            "vector": st.sampled_from(
                [_VECTOR, [1.0, 2.0, 3.0], [1.0], [1, 2.0, 3.0], [], None, (1.0, 2.0, 3.0)]
            ).map(lambda vector: list(vector) if isinstance(vector, list) else vector),
            "last": _TRICKY,
        }
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(rows=tricky_rows, protocol=st.integers(0, 5))
def test_rows_that_are_nearly_alike_are_read_as_pickle_reads_them(
    rows: list[dict[str, Any]], protocol: int
) -> None:
    """Whatever breaks a pattern is read opcode by opcode; shared texts and lists, too."""
    content = pickle.dumps(rows, protocol)

    assert rows == _read(content)


def test_a_vector_that_columns_share_is_read_once() -> None:
    """However short: the second column refers to the list of the first."""
    vectors = [[row + 0.5, 1.0] for row in range(20_000)]
    rows = [{"id": "x", "vector": vector, "again": vector, "n": 1} for vector in vectors]
    with mock.patch.object(Memo, "spend", autospec=True, side_effect=Memo.spend) as read_again:
        assert rows == _read(pickle.dumps(rows, 4))
    assert read_again.call_count < 100


def test_a_vector_that_rows_share_is_read_for_each(followed: list[int]) -> None:
    """A list that was let go is read again where it is referred to."""
    shared = [9.5, 8.5]
    rows = [
        {"id": f"row {row}", "vector": shared if row % 3 == 2 else [row + 0.5, 1.0]}
        for row in range(400)
    ]

    assert rows == _read(pickle.dumps(rows, 4))
    assert any(followed)


@pytest.mark.parametrize(
    "row",
    [
        b"}\x94(u",
        b"}\x94u",
        b"}\x94(h\x02u",
        b"}\x94(h\x02]\x94(G\0\0\0\0\0\0\0\0u",
        b"}\x94(h\x02(u",
    ],
)
def test_a_row_that_no_pickler_writes_is_read_or_refused(row: bytes) -> None:
    """What begins like a row is no reason for any other error."""
    content = pickle.dumps(_rows(5), 4)

    with contextlib.suppress(PickleReaderError):
        _read(content[:-2] + row + b"e.")


def test_a_text_that_is_no_utf8_is_damage() -> None:
    """A pattern's rows are as wrong as others."""
    content = pickle.dumps(_rows(50), 4).replace(b"row 44", b"row \xff4")

    with pytest.raises(DamagedPickle, match="encoding"):
        _read(content)


@pytest.mark.parametrize("step", range(40))
def test_a_changed_byte_in_a_row_is_what_pickle_says(step: int) -> None:
    """One byte after another of a late row becomes others: the same rows, or an error."""
    content = bytearray(pickle.dumps(_rows(40), 4))
    begin = content.index(b"row 37") - 8 + step
    names = {op.name for op, _, _ in pickletools.genops(bytes(content))}
    assert "SETITEMS" in names
    for value in (0, 1, ord("h"), ord("N"), ord("e"), ord("u"), ord("}"), 0x8C, 0x94, 0x95, 255):
        changed = bytes(content[:begin]) + bytes([value]) + bytes(content[begin + 1 :])
        try:
            rows = _read(changed)
        except PickleReaderError:
            continue
        assert pickle.loads(changed) == rows


def test_a_row_that_contains_itself_is_refused() -> None:
    """No pattern makes an end of what has none."""
    rows: list[dict[str, Any]] = _rows(30)
    rows[20]["years"] = rows[20]

    with pytest.raises(PickleReaderError, match="itself"):
        _read(pickle.dumps(rows, 4))


def test_texts_full_of_what_keys_look_like_take_linear_time() -> None:
    """A text that seems to end at every byte isn't tried at every byte of the others."""
    text = "\x94h\x04" * 80
    rows = [dict.fromkeys("abcdefgh", f"{row}{text}") for row in range(2000)]
    content = pickle.dumps(rows, 4)

    assert rows == _read(content)

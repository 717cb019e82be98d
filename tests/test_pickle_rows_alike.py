"""Rows and arrays that are found because they are alike are those that the opcodes say."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import struct
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.pickle_reader import DamagedPickle, FloatLists, PickleReaderError, open_pickle
from convert.pickle_reader.alike.rows import Found, RowsAlike
from convert.pickle_reader.alike.vectors import VectorsAlike
from convert.pickle_reader.memo import Memo
from convert.pickle_reader.stand_ins import Opaque
from tests.test_pickle_reader import column_values, dump, same, small_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.pickle_reader.numpy_values import Array

_VECTOR = [0.5, -1.25, 3e300]


def _read(content: bytes, batch_rows: int = 7) -> list[dict[Any, Any]]:
    """Return the rows of a pickle as plain values, as rows and as columns the same."""
    rows: list[dict[Any, Any]] = []
    for batch in open_pickle(content).batches(batch_rows=batch_rows):
        for number in range(batch.rows):
            row = batch.row(number)
            for name in row:
                same(row[name], _item(batch.columns[name], number))
            rows.append(row)
    return rows


def _item(values: Any, row: int) -> Any:
    if isinstance(values, pa.Array):  # of long texts
        return values[row].as_py()
    return values.row(row) if isinstance(values, FloatLists) else values[row]


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the bytes of the rows that were found."""
    found: list[int] = []
    follow = RowsAlike.follow

    def counted(self: RowsAlike, stack: list[Any], pos: int, size: int) -> Found | None:
        rows = follow(self, stack, pos, size)
        found.append(rows.end - pos if rows is not None else 0)
        return rows

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


# Arrays.


@contextlib.contextmanager
def _opcode_by_opcode() -> Iterator[None]:
    """Find nothing that is alike."""

    def stay(_vectors: VectorsAlike, _array: Array, pos: int) -> int:
        return pos

    with (
        mock.patch.object(RowsAlike, "follow", return_value=None),
        mock.patch.object(VectorsAlike, "follow", stay),
    ):
        yield


@pytest.fixture
def arrays_found(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the bytes of the arrays that were found one after another."""
    found: list[int] = []
    follow = VectorsAlike.follow

    def counted(self: VectorsAlike, array: Array, pos: int) -> int:
        after = follow(self, array, pos)
        found.append(after - pos)
        return after

    monkeypatch.setattr(VectorsAlike, "follow", counted)
    return found


def _vectors(count: int, length: int, dtype: str) -> list[Any]:
    return list((np.arange(count * length).reshape(count, length) % 100).astype(dtype))


def _frame(vectors: list[Any], protocol: int) -> bytes:
    content = {"n": range(len(vectors)), "vector": vectors}
    return pickle.dumps(pd.DataFrame(content), protocol)


def _vectors_of(content: bytes) -> list[Any]:
    """Return the vectors of a pickle, from its columns."""
    found: list[Any] = []
    for batch in open_pickle(content).batches(batch_rows=1000):
        found += column_values(batch.columns["vector"])
    return found


def _records(vectors: list[Any], protocol: int) -> bytes:
    rows = [{"id": f"{n}", "vector": vector, "n": n} for n, vector in enumerate(vectors)]
    return pickle.dumps(rows, protocol)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i8", "|u1"])
@pytest.mark.parametrize("length", [5, 40, 300])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("pickled", [_records, _frame])
def test_arrays_alike_are_read_as_they_are(  # noqa: PLR0917
    pickled: Any, protocol: int, length: int, dtype: str, followed: list[int],
    arrays_found: list[int],
) -> None:  # fmt: skip
    """In rows and in a column, of any size and type, most of them found together."""
    vectors = _vectors(400, length, dtype)
    content = pickled(vectors, protocol)

    same(vectors, _vectors_of(content))
    if protocol > 3 and vectors[0].nbytes > 16:
        found = followed if pickled is _records else arrays_found
        assert sum(found) > 0.9 * 400 * vectors[0].nbytes


_UNLIKE: dict[str, Any] = {
    "nothing": lambda _: None,
    "shorter": lambda vector: vector[:-1],
    "longer": lambda vector: np.concatenate([vector, vector]),
    "of another type": lambda vector: vector.astype("<f8"),
    "swapped": lambda vector: vector.astype(">f4"),
    "every second of another": lambda vector: np.repeat(vector, 2)[::2],
    "a column of another": lambda vector: np.stack([vector, vector]).T[:, 0],
    "read-only": lambda vector: np.frombuffer(vector.tobytes(), vector.dtype),
    "of two dimensions": lambda vector: vector.reshape(2, -1),
    "empty": lambda vector: vector[:0],
    "a list": lambda vector: vector.tolist(),
    "text": lambda _: "no vector",
    "a number": lambda vector: vector[0],
}


@pytest.mark.parametrize("unlike", _UNLIKE)
@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("pickled", [_records, _frame])
def test_what_lies_between_arrays_alike_is_read_as_it_is(
    pickled: Any, protocol: int, unlike: str
) -> None:
    """Seldom or often, one by one or several together."""
    vectors = _vectors(1200, 20, "<f4")
    for row in (300, 301, 999, 1000, *range(1050, 1150, 7), 1199):
        vectors[row] = _UNLIKE[unlike](vectors[row])

    same(vectors, _vectors_of(pickled(vectors, protocol)))


@pytest.mark.parametrize("length", range(5, 12))
@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("pickled", [_records, _frame])
def test_frames_may_begin_anywhere_between_the_opcodes(
    pickled: Any, protocol: int, length: int
) -> None:
    """As Python's own pickler has them, every 20 bytes, and batches of three."""
    vectors = _vectors(60, length, "<f4")
    content = dump(pickle.loads(pickled(vectors, protocol)), protocol, "Python")

    same(vectors, _vectors_of(content))


@pytest.mark.parametrize("pickled", [_records, _frame])
def test_arrays_that_rows_share_are_found_again(pickled: Any) -> None:
    """Far back or just before: rows that were drawn from others, as a merge makes them."""
    known = _vectors(2000, 20, "<f4")
    vectors = [known[row * row % 1999] for row in range(6000)]
    with mock.patch.object(Memo, "spend", autospec=True, side_effect=Memo.spend) as read_again:
        same(vectors, _vectors_of(pickled(vectors, 4)))
    assert read_again.call_count < 2000


def test_an_array_that_columns_share_is_read_once() -> None:
    vectors = _vectors(5000, 20, "<f4")
    rows = [{"id": "x", "vector": vector, "again": vector} for vector in vectors]
    with mock.patch.object(Memo, "spend", autospec=True, side_effect=Memo.spend) as read_again:
        same(rows, _read(pickle.dumps(rows, 5), 1000))
    assert read_again.call_count < 100


# What takes values from the stack, behind thirty arrays in a list.
_TAKERS = [
    b"0", b"00", b"1", b"2", b"\x85", b"\x86", b"\x87", b"t", b"l", b"d", b"\x90", b"\x91", b"a",
    b"s", b"u", b"R", b"b", b"\x81", b"\x92", b"o", b"\x94", b"r\0\1\0\0",
]  # fmt: skip
_TAKEN_BACK = [b"000", b"0000", b"0" * 30, b"\x86\x86\x86", b"\x87\x86"]


@pytest.mark.parametrize("taker", _TAKERS, ids=ascii)
@pytest.mark.parametrize("protocol", [4, 5])
def test_no_opcode_meets_what_stands_for_several_arrays(protocol: int, taker: bytes) -> None:
    """Whatever a forged pickle does to arrays in a list, it is what it does to each alone."""
    content = pickle.dumps([{"a": _vectors(40, 5, "<f4")}], protocol)
    end = content.rindex(b"e")
    for behind in (b"e", b"e0", b"te", b""):
        forged = content[:end] + taker + behind + content[end + 1 :]
        with _opcode_by_opcode():
            expected = _outcome(forged)
        same(expected, _outcome(forged))


@pytest.mark.parametrize("pops", _TAKEN_BACK, ids=ascii)
def test_arrays_that_are_taken_back_are_refused(pops: bytes) -> None:
    """No pickler does that; what stands for several of them isn't taken for one."""
    content = pickle.dumps([{"a": _vectors(40, 5, "<f4")}], 4)
    end = content.rindex(b"e")

    assert _outcome(content[:end] + pops + content[end:]) == "an error"


def _outcome(content: bytes) -> Any:
    """Return the rows, or that there is an error."""
    try:
        return _comparable(_read(content))
    except PickleReaderError:
        return "an error"


def _comparable(value: Any) -> Any:
    """Replace what equals nothing but itself."""
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {repr(key): _comparable(item) for key, item in value.items()}
    return type(value).__name__ if isinstance(value, Opaque) else value


def _sound(protocol: int) -> list[bytes]:
    vectors = _vectors(12, 6, "<f4")
    rows = [
        {"id": f"{n}", "vector": vector, "list": [n / 2, 1.0], "n": 300 * n, "again": vector}
        for n, vector in enumerate(vectors)
    ]  # fmt: skip
    return [dump(rows, protocol, "Python"), dump(rows, protocol, "C"), _frame(vectors, protocol)]


_CONTENTS = [content for protocol in (4, 5) for content in _sound(protocol)]


@settings(max_examples=400)
@given(
    content=st.sampled_from(_CONTENTS), place=st.floats(0, 1, exclude_max=True),
    how=st.sampled_from(["set", "insert", "delete", "repeat"]),
    new=st.binary(min_size=1, max_size=3) | st.sampled_from([b"N", b"h\x02", b"e(", b"0", b"\x94"]),
)  # fmt: skip
def test_damage_is_read_as_the_opcodes_say(
    content: bytes, place: float, how: str, new: bytes
) -> None:
    """The same rows, or an error, whether what is alike is found or not."""
    at = int(place * len(content))
    head, tail = content[:at], content[at:]
    damaged = {
        "set": head + new + tail[len(new) :],
        "insert": head + new + tail,
        "delete": head + tail[len(new) :],
        "repeat": head + tail[: 20 * len(new)] + tail,
    }[how]
    with small_limits():
        found = _outcome(damaged)
        with _opcode_by_opcode():
            expected = _outcome(damaged)

    same(expected, found)

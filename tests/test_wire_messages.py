"""Length-prefixed messages: cut anywhere, they are the same messages."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.messages import MessageReader
from streamer.engines.wire.request import RefusedError
from streamer.errors import Status
from tests.memory_peer import prefixed

_IDENTITY = b"identity"


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(0, 500)))
def test_messages_dont_depend_on_how_data_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    """Each message comes when its last byte does, in order."""
    data = b"".join(prefixed(message) for message in messages)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole, pieces = (MessageReader(_IDENTITY, 50) for _ in range(2))

    assert messages == list(whole.feed(data))
    assert messages == [
        message for start, stop in pairwise(bounds) for message in pieces.feed(data[start:stop])
    ]
    assert not whole.unfinished_bytes
    assert not pieces.unfinished_bytes


@given(st.lists(st.binary(max_size=50)), st.binary(max_size=50), st.integers(1))
def test_the_end_of_a_message_is_told_from_its_middle(
    messages: list[bytes], last: bytes, cut: int
) -> None:
    """A reader that has seen a part of another message is not between messages."""
    data = b"".join(prefixed(message) for message in messages)
    part = prefixed(last)[: 1 + cut % (len(last) + 4)]
    reader = MessageReader(_IDENTITY, 50)

    assert messages == list(reader.feed(data + part))
    assert reader.unfinished_bytes


@pytest.mark.parametrize(
    ("data", "encoding", "status"),
    [
        (b"\2\0\0\0\0", _IDENTITY, Status.INTERNAL),
        (b"\xff\0\0\0\1", b"gzip", Status.INTERNAL),
        (b"\1\0\0\0\1", _IDENTITY, Status.INTERNAL),
        (b"\1\0\0\0\1", b"br", Status.UNIMPLEMENTED),
        (b"\1\0\0\0\1", b"\xff" * 1000, Status.UNIMPLEMENTED),
        (b"\0\0\0\0\x33", _IDENTITY, Status.RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff", _IDENTITY, Status.RESOURCE_EXHAUSTED),
    ],
)
def test_a_prefix_that_wont_do_is_refused_before_its_message(
    data: bytes, encoding: bytes, status: Status
) -> None:
    """Five bytes are enough to know, also after a message that was well."""
    reader = MessageReader(encoding, 50)
    with pytest.raises(RefusedError) as refusal:
        reader.feed(prefixed(b"well") + data)

    assert status == refusal.value.status
    assert len(refusal.value.text) < 500


def test_an_encoding_matters_only_to_compressed_messages() -> None:
    """A client that says gzip may still send messages as they are."""
    assert [b"plain"] == list(MessageReader(b"gzip", 50).feed(prefixed(b"plain")))


def test_the_largest_message_is_taken() -> None:
    """`max_bytes` is without the prefix."""
    assert [bytes(50)] == list(MessageReader(_IDENTITY, 50).feed(prefixed(bytes(50))))

"""Header fields of gRPC: what goes out comes back, and what won't do is refused."""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from streamer.engines.wire.metadata import (
    InvalidMetadataError,
    Value,
    format_message,
    format_metadata,
    parse_metadata,
    parse_timeout,
)
from tests.memory_peer import request_fields

_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_.-"

names = st.text(_NAME_CHARACTERS, min_size=1).filter(
    lambda name: not name.startswith("grpc-") and name not in {"te", "content-type"}
)
text_names = names.filter(lambda name: not name.endswith("-bin"))
binary_names = names.map(lambda name: f"{name}-bin")
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
text_values = printable.map(str.strip)
metadata = st.lists(
    st.one_of(st.tuples(text_names, text_values), st.tuples(binary_names, st.binary()))
)


@given(metadata)
def test_metadata_comes_back_as_it_went(pairs: list[tuple[str, Value]]) -> None:
    """Text stays text, bytes of -bin names bytes, in order and with repeated names."""
    assert tuple(pairs) == parse_metadata(format_metadata(pairs))


@given(metadata)
def test_metadata_is_valid_http_2(pairs: list[tuple[str, Value]]) -> None:
    """h2 lets a client send each field that is made here."""
    fields = [
        (name, value)
        for name, value in format_metadata(pairs)
        if name not in {b"connection", b"keep-alive", b"upgrade", b"host", b"cookie"}
    ]
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, request_fields(*fields))


@pytest.mark.parametrize("value", [" before", "after ", "\tboth\t", " "])
def test_white_space_around_a_value_is_not_sent(value: str) -> None:
    """HTTP/2 forbids it (RFC 9113 section 8.2.1); gRPC permits to strip it."""
    (field,) = format_metadata([("key", value.replace("\t", " "))])

    assert (b"key", value.strip().encode()) == field


@given(binary_names, st.lists(st.binary(), min_size=1))
def test_binary_values_may_be_padded_and_joined(name: str, values: list[bytes]) -> None:
    """A comma joins values of one name; padding is optional, in each."""
    encoded = [base64.b64encode(value) for value in values]
    padded = (name.encode(), b",".join(encoded))
    bare = (name.encode(), b", ".join(part.rstrip(b"=") for part in encoded))
    expected = tuple((name, value) for value in values)

    assert expected == parse_metadata([padded])
    assert expected == parse_metadata([bare])


@pytest.mark.parametrize(
    "raw", [b"!", b"A", b"AAAAA", b"====", b"AA=A", b"A\xff==", b"AA,A", b"-_"]
)
def test_binary_values_are_base64(raw: bytes) -> None:
    """Anything else in a -bin field is refused, and the text names the field."""
    with pytest.raises(InvalidMetadataError, match="key-bin"):
        parse_metadata([(b"key-bin", raw)])


def test_a_text_about_a_name_is_short() -> None:
    """A refusal goes into a header of its own; it doesn't repeat a name of 10,000 characters."""
    with pytest.raises(InvalidMetadataError) as error:
        parse_metadata([(b"x" * 10_000 + b"-bin", b"!")])

    assert len(str(error.value)) < 500


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_field_is_metadata_or_invalid(name: bytes, value: bytes) -> None:
    """Whatever bytes a peer sends, no other error than InvalidMetadataError comes of it."""
    for suffix in (b"", b"-bin"):
        try:
            parsed = parse_metadata([(name + suffix, value)])
        except InvalidMetadataError:
            continue
        assert all(isinstance(value, bytes if suffix else str) for _, value in parsed) or (
            name.endswith(b"-bin")
        )


@pytest.mark.parametrize(
    "name",
    [":path", "te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-status", "grpc-message"],
)
def test_the_protocols_own_fields_are_no_metadata(name: str) -> None:
    """An application doesn't see what belongs to HTTP/2 or gRPC."""
    assert () == parse_metadata([(name.encode(), b"1")])


@pytest.mark.parametrize(
    "name", ["user-agent", "grpc-trace-bin", "grpc-tags-bin", "grpc-previous-rpc-attempts", "tea"]
)
def test_other_fields_are_metadata(name: str) -> None:
    """What applications and tracers may see is let through."""
    assert 1 == len(parse_metadata([(name.encode(), b"AA")]))


@pytest.mark.parametrize("name", ["", "Upper", "with space", "é", ":path", "a\n", "a\0", "a,b"])
def test_names_that_http_2_cant_carry_are_refused(name: str) -> None:
    """ValueError, for metadata comes from the application."""
    with pytest.raises(ValueError):
        format_metadata([(name, "value")])


@pytest.mark.parametrize("value", ["é", "a\nb", "a\r", "\0", "\x7f", b"\xff"])
def test_values_that_arent_ascii_are_refused(value: Value) -> None:
    """They belong into a field with a name that ends in -bin, which takes them."""
    with pytest.raises(ValueError, match="-bin"):
        format_metadata([("key", value)])

    assert 1 == len(format_metadata([("key-bin", value)]))


@given(st.text())
def test_status_texts_are_percent_encoded(text: str) -> None:
    """What urllib decodes is the text's UTF-8; nothing but printable ASCII is on the wire."""
    encoded = format_message(text)

    assert text.encode("utf-8", "replace") == unquote_to_bytes(encoded)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="%")))
def test_printable_status_texts_are_sent_as_they_are(text: str) -> None:
    """Anybody can read a plain status text in a trace of the connection."""
    assert text.encode() == format_message(text)


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (b"0S", 0),
        (b"1H", 3600),
        (b"2M", 120),
        (b"99999999H", 99_999_999 * 3600),
        (b"00000007S", 7),
    ],
)
def test_timeouts_have_units(raw: bytes, seconds: float) -> None:
    """Hours, minutes and seconds are exact."""
    assert seconds == parse_timeout(raw)


@given(st.integers(0, 99_999_999), st.sampled_from([("m", 3), ("u", 6), ("n", 9)]))
def test_timeouts_may_be_fractions_of_a_second(number: int, unit: tuple[str, int]) -> None:
    """Milli-, micro- and nanoseconds."""
    letter, digits = unit

    assert number / 10**digits == pytest.approx(parse_timeout(f"{number}{letter}".encode()))


@pytest.mark.parametrize(
    "raw",
    [b"", b"S", b"1", b"123456789S", b"-1S", b"1.5S", b"1s", b" 1S", b"1S\n", b"1SS", b"\xd9\xa1S"],
)
def test_timeouts_of_another_form_are_refused(raw: bytes) -> None:
    """1 to 8 ASCII digits and a unit."""
    with pytest.raises(InvalidMetadataError):
        parse_timeout(raw)

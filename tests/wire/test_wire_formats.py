"""What holds for every format: it round-trips, reads any buffer, and answers any octets with a value or one WireError."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import FORMATS, Format

from netemu.errors import LocalError
from netemu.wire.errors import WireError

every_format = pytest.mark.parametrize("wire_format", FORMATS, ids=str)
SUMMED = {"ipv4", "icmpv4", "icmpv6", "tcp", "tcp over ipv6", "udp over ipv6"}
bounded = settings(max_examples=100, deadline=None)


def parse_or_wire_error(wire_format: Format, octets: bytes) -> object | None:
    """The value, or None after a WireError that makes sense; any other exception fails the test."""
    try:
        return wire_format.parse(octets)
    except WireError as refused:
        error = refused
    assert 0 <= error.offset <= len(octets) + 20  # options of TCP count from the header, 20 octets in front of them
    assert error.field
    assert error.rule
    return None


def packs_or_local_error(wire_format: Format, value: object) -> None:
    """Whatever was read is a value that pack() takes, or at worst refuses in its own words."""
    try:
        octets = wire_format.pack(value)
    except LocalError:
        return
    assert wire_format.parse(octets) == value


@every_format
@bounded
@given(data=st.data())
def test_a_packed_value_parses_to_itself(wire_format: Format, data):
    value = data.draw(wire_format.values)
    assert wire_format.parse(wire_format.pack(value)) == value


@every_format
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_kind_of_buffer_reads_the_same(wire_format: Format, data):
    value = data.draw(wire_format.values)
    octets = wire_format.pack(value)
    from_view = wire_format.parse(memoryview(octets))
    assert wire_format.parse(bytearray(octets)) == value
    assert from_view == value
    payload = getattr(from_view, "payload", b"")
    assert type(payload) is bytes  # never a view: the buffer below is reused


@every_format
@settings(max_examples=300, deadline=None)
@given(octets=st.binary(max_size=400))
def test_random_octets_are_a_value_or_a_wire_error(wire_format: Format, octets: bytes):
    value = parse_or_wire_error(wire_format, octets)
    if value is not None:
        packs_or_local_error(wire_format, value)


@every_format
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_prefix_is_a_value_or_a_wire_error(wire_format: Format, data):
    octets = wire_format.pack(data.draw(wire_format.values))
    for length in range(len(octets)):
        parse_or_wire_error(wire_format, octets[:length])


@every_format
@settings(max_examples=5, deadline=None)
@given(data=st.data(), flip=st.integers(1, 255))
def test_every_single_octet_corruption_is_a_value_or_a_wire_error(wire_format: Format, data, flip: int):
    octets = wire_format.pack(data.draw(wire_format.values))
    for position in range(len(octets)):
        corrupt = bytearray(octets)
        corrupt[position] ^= flip
        value = parse_or_wire_error(wire_format, bytes(corrupt))
        if value is not None:
            packs_or_local_error(wire_format, value)


@pytest.mark.parametrize("wire_format", [f for f in FORMATS if f.name in SUMMED], ids=str)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), bit=st.integers(0, 7))
def test_a_checksum_notices_every_flipped_bit(wire_format: Format, data, bit: int):
    value = data.draw(wire_format.values)
    octets = wire_format.pack(value)
    covered = value.header_length if wire_format.name == "ipv4" else len(octets)
    for position in range(covered):
        corrupt = bytearray(octets)
        corrupt[position] ^= 1 << bit
        with pytest.raises(WireError):
            wire_format.parse(corrupt)


@every_format
@settings(max_examples=20, deadline=None)
@given(data=st.data(), wrong=st.sampled_from([-1, 1 << 32]))
def test_a_number_out_of_range_is_a_local_error_that_names_the_field(wire_format: Format, data, wrong: int):
    value = data.draw(wire_format.values)
    numbers = [
        field.name
        for field in dataclasses.fields(value)
        if type(getattr(value, field.name)) is int and field.type in ("int", "int | None")
    ]
    for name in numbers:
        with pytest.raises(LocalError, match=rf"\.{name} is |cannot be packed"):
            wire_format.pack(dataclasses.replace(value, **{name: wrong}))

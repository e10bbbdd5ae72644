from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.wire.checksum import internet_checksum, ones_complement_sum, pseudo_header_sum

bounded = settings(max_examples=200, deadline=None)
words = st.binary(max_size=60).map(lambda octets: octets if len(octets) % 2 == 0 else octets[:-1])


def naive_sum(octets: bytes, initial: int = 0) -> int:
    """RFC 1071, 4.1: add word by word, then fold the carries."""
    total = initial
    for high, low in zip(octets[::2], octets[1::2], strict=False):
        total += high << 8 | low
    if len(octets) % 2:
        total += octets[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_worked_example_of_rfc_1071():
    # RFC 1071, 3: 0001 f203 f4f5 f6f7 sum to 2ddf0, folded ddf2.
    octets = bytes.fromhex("0001f203f4f5f6f7")
    assert ones_complement_sum(octets) == 0xDDF2
    assert internet_checksum(octets) == 0x220D


@pytest.mark.parametrize(
    ("octets", "total"),
    [
        (b"", 0),
        (b"\0\0", 0),
        (b"\xff\xff", 0xFFFF),  # the other zero, which the carry never turns into 0
        (b"\xff\xff\xff\xff", 0xFFFF),
        (b"\xff\xfe\0\1", 0xFFFF),
        (b"\x12", 0x1200),  # an odd octet is padded on the right
        (b"\0\0\x12", 0x1200),
    ],
)
def test_the_two_zeros_and_the_odd_octet(octets, total):
    assert ones_complement_sum(octets) == total
    assert internet_checksum(octets) == 0xFFFF - total


@bounded
@given(octets=st.binary(max_size=100), initial=st.integers(0, 0x1FFFF))
def test_it_agrees_with_adding_word_by_word(octets, initial):
    assert ones_complement_sum(octets, initial) == naive_sum(octets, initial)


@bounded
@given(front=words, back=st.binary(max_size=60))
def test_sums_chain_over_an_even_front(front, back):
    assert ones_complement_sum(back, ones_complement_sum(front)) == ones_complement_sum(front + back)


@bounded
@given(octets=words.filter(bool))
def test_data_with_its_checksum_inside_checks_to_zero(octets):
    assert internet_checksum(octets + internet_checksum(octets).to_bytes(2, "big")) == 0


@given(source=st.integers(0, 2**32 - 1), destination=st.integers(0, 2**32 - 1), length=st.integers(0, 0xFFFF))
def test_the_pseudo_header_of_ipv4_is_twelve_octets(source, destination, length):
    header = source.to_bytes(4, "big") + destination.to_bytes(4, "big") + b"\0\x11" + length.to_bytes(2, "big")
    assert pseudo_header_sum(IPv4Address(source), IPv4Address(destination), 17, length) == naive_sum(header)


@given(source=st.integers(0, 2**128 - 1), destination=st.integers(0, 2**128 - 1), length=st.integers(0, 0xFFFFFFFF))
def test_the_pseudo_header_of_ipv6_is_forty_octets(source, destination, length):
    # RFC 8200, 8.1: source, destination, 32 bits of length, 24 of zero, next header.
    header = source.to_bytes(16, "big") + destination.to_bytes(16, "big") + length.to_bytes(4, "big") + b"\0\0\0\x06"
    assert pseudo_header_sum(IPv6Address(source), IPv6Address(destination), 6, length) == naive_sum(header)

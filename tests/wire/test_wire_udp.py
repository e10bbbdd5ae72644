from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from wire_strategies import DESTINATION, SOURCE, udps

from netemu.errors import LocalError
from netemu.wire.errors import WireError
from netemu.wire.udp import Udp

V6_SOURCE, V6_DESTINATION = IPv6Address("fec0::2"), IPv6Address("fec0::3")


def zeroed(octets: bytes) -> bytes:
    return octets[:6] + b"\0\0" + octets[8:]


def test_a_datagram_octet_by_octet():
    datagram = Udp(49152, 53, b"abc")
    # Pseudo-header 0a00+020f+0a00+0202+0011+000b = 0x182d, header c000+0035+000b, data 6162+6300: folded 0x9cd0; ~ is 0x632f.
    assert datagram.pack(SOURCE, DESTINATION) == bytes.fromhex("c000 0035 000b 632f") + b"abc"


def test_a_wrong_checksum_is_noticed_only_with_addresses():
    octets = Udp(1, 2, b"x").pack(SOURCE, DESTINATION)
    other = IPv4Address("10.0.2.3")
    with pytest.raises(WireError) as caught:
        Udp.parse(octets, SOURCE, other)
    assert (caught.value.field, caught.value.offset) == ("udp.checksum", 6)
    assert Udp.parse(octets) == Udp(1, 2, b"x")


def test_a_zero_checksum_means_none_over_ipv4_and_is_refused_over_ipv6():
    octets = zeroed(Udp(1, 2, b"x").pack(SOURCE, DESTINATION))
    assert Udp.parse(octets, SOURCE, DESTINATION) == Udp(1, 2, b"x")
    with pytest.raises(WireError, match="over IPv6"):
        Udp.parse(octets, V6_SOURCE, V6_DESTINATION)


def test_a_computed_zero_is_sent_as_0xffff():
    # Choose the payload so that everything else and it sum to 0xffff: what the checksum of the rest says.
    rest = int.from_bytes(Udp(1, 2, b"\0\0").pack(SOURCE, DESTINATION)[6:8], "big")
    datagram = Udp(1, 2, rest.to_bytes(2, "big"))
    octets = datagram.pack(SOURCE, DESTINATION)
    assert octets[6:8] == b"\xff\xff"
    assert Udp.parse(octets, SOURCE, DESTINATION) == datagram


@settings(max_examples=50, deadline=None)
@given(datagram=udps)
def test_the_same_datagram_goes_over_ipv6(datagram):
    assert Udp.parse(datagram.pack(V6_SOURCE, V6_DESTINATION), V6_SOURCE, V6_DESTINATION) == datagram


@pytest.mark.parametrize("length", [0, 7, 10])
def test_the_length_must_fit_header_and_data(length):
    octets = bytes.fromhex("0001 0002") + length.to_bytes(2, "big") + b"\0\0x"
    with pytest.raises(WireError) as caught:
        Udp.parse(octets)
    assert (caught.value.field, caught.value.offset) == ("udp.length", 4)


def test_octets_behind_the_length_are_dropped():
    octets = Udp(1, 2, b"x").pack(SOURCE, DESTINATION)
    assert Udp.parse(octets + b"padding", SOURCE, DESTINATION) == Udp(1, 2, b"x")


def test_a_datagram_too_long_is_a_local_error():
    assert len(Udp(1, 2, bytes(65527)).pack(SOURCE, DESTINATION)) == 65535
    with pytest.raises(LocalError, match="65,535"):
        Udp(1, 2, bytes(65528)).pack(SOURCE, DESTINATION)

"""IPv6 and its extension headers: each rule, on literal octets."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.ipv6 import (
    Extension,
    Fragment6,
    IPv6,
    NextHeader,
    interface_identifier,
    multicast_mac,
    read_extensions,
    solicited_node,
)

PACKET = IPv6(
    IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"), NextHeader.UDP, b"payload!", traffic_class=0xB8, flow_label=0x12345
)
ADDRESSES = bytes.fromhex("20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000002")
OCTETS = bytes.fromhex("6b812345 0008 11 40") + ADDRESSES + b"payload!"

# PadN of four octets, which fills one unit (RFC 8200 4.2).
HOP_BY_HOP = Extension(NextHeader.HOP_BY_HOP, bytes.fromhex("0104 00000000"))
DESTINATION = Extension(NextHeader.DESTINATION_OPTIONS, bytes.fromhex("0104 00000000"))
ROUTING = Extension(NextHeader.ROUTING, bytes.fromhex("0000 00000000"))


def packet(next_header: int, chain: bytes) -> bytes:
    """A packet written octet by octet, with this behind the fixed header."""
    return bytes.fromhex("60000000") + len(chain).to_bytes(2, "big") + bytes((next_header, 64)) + ADDRESSES + chain


def test_a_packet_octet_by_octet():
    assert PACKET.pack() == OCTETS
    assert IPv6.parse(OCTETS) == PACKET
    assert PACKET.header_length == 40
    assert PACKET.fragment is None
    assert not PACKET.is_fragment


def test_octets_behind_the_payload_length_are_dropped():
    assert IPv6.parse(OCTETS + bytes(6)) == PACKET


def test_a_packet_without_payload():
    empty = replace(PACKET, next_header=NextHeader.NO_NEXT_HEADER, payload=b"")
    assert IPv6.parse(empty.pack() + b"padding") == empty


def test_octets_behind_no_next_header_are_the_payload():
    # RFC 8200, 4.7: ignored by who receives them, passed on by who forwards.
    assert IPv6.parse(packet(59, b"rest")).payload == b"rest"


@pytest.mark.parametrize(
    ("octets", "field", "offset"),
    [
        (OCTETS[:39], "ipv6", 39),
        (b"\x4b" + OCTETS[1:], "ipv6.version", 0),
        (OCTETS[:-1], "ipv6.payload_length", 4),
        (packet(0, b""), "ipv6.payload_length", 4),  # a jumbogram's sign (RFC 2675 3)
        (packet(60, b""), "ipv6.extension", 40),
        (packet(60, bytes(7)), "ipv6.extension", 40),
        (packet(60, bytes((17, 1)) + bytes(6)), "ipv6.hdr_ext_len", 41),
        (packet(60, bytes((43, 0)) + bytes(6)), "ipv6.extension", 48),
        (packet(60, bytes((0, 0)) + bytes(6) + bytes((17, 0)) + bytes(6)), "ipv6.next_header", 40),
        (packet(0, bytes((0, 0)) + bytes(6) + bytes((17, 0)) + bytes(6)), "ipv6.next_header", 40),
        (packet(44, bytes((0, 0, 0, 9)) + bytes(4)), "ipv6.next_header", 40),
        (packet(60, bytes((60, 0, 1, 4, 0, 0, 0, 0)) * 9), "ipv6.extension", 104),
    ],
)
def test_each_rule_names_the_octet_for_a_parameter_problem(octets, field, offset):
    with pytest.raises(WireError) as caught:
        IPv6.parse(octets)
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_eight_extension_headers_are_read():
    chain = bytes((60, 0, 1, 4, 0, 0, 0, 0)) * 7 + bytes((17, 0, 1, 4, 0, 0, 0, 0))
    assert IPv6.parse(packet(60, chain + b"data")).extensions == (DESTINATION,) * 8


def test_a_chain_octet_by_octet():
    longer = Extension(NextHeader.ROUTING, bytes.fromhex("0000 00000000 0000000000000000"))
    value = replace(PACKET, traffic_class=0, flow_label=0, extensions=(HOP_BY_HOP, longer, DESTINATION))
    chain = bytes.fromhex("2b00 0104 00000000" + "3c01 0000 00000000 0000000000000000" + "1100 0104 00000000")
    assert value.pack() == packet(0, chain + b"payload!")
    assert IPv6.parse(value.pack()) == value
    assert value.header_length == 40 + 8 + 16 + 8


def test_extensions_come_in_any_order_and_number():
    # RFC 8200, 4.1: accepted in any order, and occurring any number of times.
    value = replace(PACKET, extensions=(DESTINATION, ROUTING, DESTINATION, ROUTING))
    assert IPv6.parse(value.pack()) == value


def test_ipsec_is_payload():
    assert IPv6.parse(packet(51, b"\x11" + bytes(11))).next_header == 51


def test_a_fragment_octet_by_octet():
    first = replace(PACKET, traffic_class=0, flow_label=0, extensions=(Fragment6(1448, True, 0xABCDEF01).extension(),))
    # The offset, 181 units, stands above two reserved bits and M: 181 << 3 | 1 = 0x05a9.
    assert first.pack() == packet(44, bytes.fromhex("11 00 05a9 abcdef01") + b"payload!")
    assert IPv6.parse(first.pack()).fragment == Fragment6(1448, True, 0xABCDEF01)
    assert first.is_fragment


def test_reserved_bits_of_a_fragment_are_ignored():
    read = IPv6.parse(packet(44, bytes.fromhex("11 ff 05ae abcdef01") + b"payload!"))
    assert read.fragment == Fragment6(1448, False, 0xABCDEF01)
    assert read.next_header == NextHeader.UDP


@pytest.mark.parametrize(("offset", "more", "part"), [(0, False, False), (0, True, True), (8, False, True)])
def test_an_atomic_fragment_is_no_part(offset, more, part):
    assert replace(PACKET, extensions=(Fragment6(offset, more, 1).extension(),)).is_fragment is part


def test_the_chain_goes_on_behind_an_atomic_fragment_only():
    inner = bytes.fromhex("1100 0104 00000000") + b"payload!"
    atomic = IPv6.parse(packet(44, bytes.fromhex("3c 00 0000 00000001") + inner))
    assert (atomic.next_header, len(atomic.extensions), atomic.payload) == (17, 2, b"payload!")
    part = IPv6.parse(packet(44, bytes.fromhex("3c 00 0001 00000001") + inner))
    assert (part.next_header, len(part.extensions), part.payload) == (60, 1, inner)
    assert read_extensions(part.next_header, part.payload) == ((DESTINATION,), 17, b"payload!")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"traffic_class": 256}, "from 0 to 255"),
        ({"flow_label": 1 << 20}, "from 0 to 1048575"),
        ({"hop_limit": 256}, r"IPv6\.hop_limit is 256"),
        ({"next_header": 256, "extensions": (ROUTING,)}, r"IPv6\.next_header is 256"),
        ({"payload": bytes(65536)}, "65,535 is the most"),
        ({"payload": bytes(65528), "extensions": (ROUTING,)}, "65,535 is the most"),
        ({"extensions": (Extension(51, bytes(6)),)}, "give 0, 43, 44 or 60"),
        ({"extensions": (Extension(43, bytes(7)),)}, "6 more than a multiple of 8"),
        ({"extensions": (Extension(43, b""),)}, "6 more than a multiple of 8"),
        ({"extensions": (Extension(44, bytes(14)),)}, "to 6"),
        ({"extensions": (Extension(60, bytes(2054)),)}, "to 2046"),
    ],
)
def test_pack_refuses_what_the_header_cannot_hold(change, words):
    with pytest.raises(LocalError, match=words):
        replace(PACKET, **change).pack()


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        (Fragment6(4, True, 1), "multiple of 8"),
        (Fragment6(65536, True, 1), "from 0 to 65528"),
        (Fragment6(0, True, 1 << 32), "identification"),
    ],
)
def test_a_fragment_header_refuses_what_it_cannot_hold(fragment, words):
    with pytest.raises(LocalError, match=words):
        fragment.extension()


def test_the_longest_payload_and_extension():
    value = replace(PACKET, payload=bytes(65535 - 2048), extensions=(Extension(60, bytes(2046)),))
    assert IPv6.parse(value.pack()) == value


def test_the_largest_numbers():
    largest = replace(PACKET, next_header=255, hop_limit=255, traffic_class=255, flow_label=0xFFFFF)
    assert IPv6.parse(largest.pack()) == largest
    fragment = Fragment6(65528, True, 0xFFFFFFFF)
    assert fragment.extension().fragment == fragment


def test_only_a_fragment_header_says_what_a_fragment_is():
    assert ROUTING.fragment is None
    assert Extension(NextHeader.FRAGMENT, bytes(14)).fragment is None


def test_the_solicited_node_address_of_rfc_4291():
    # The example of 2.7.1.
    assert solicited_node(IPv6Address("4037::1:800:200e:8c6c")) == IPv6Address("ff02::1:ff0e:8c6c")


def test_multicast_goes_to_a_group_of_ethernet():
    assert multicast_mac(IPv6Address("ff02::1:ff0e:8c6c")) == MacAddress("33:33:ff:0e:8c:6c")


def test_the_interface_identifier_of_rfc_2464():
    # The example of section 4: 34-56-78-9A-BC-DE gives 36-56-78-FF-FE-9A-BC-DE.
    assert interface_identifier(MacAddress("34:56:78:9a:bc:de")) == 0x365678FFFE9ABCDE

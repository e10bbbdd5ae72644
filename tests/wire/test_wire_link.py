"""Ethernet, VLAN tags, ARP and the virtio-net header: each rule, on literal octets."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.errors import LocalError
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.errors import WireError
from netemu.wire.ether import MINIMUM_LENGTH, Ethernet, EtherType, pad
from netemu.wire.vlan import Vlan
from netemu.wire.vnet_hdr import GSO_ECN, GSO_TCPV4, NEEDS_CSUM, VnetHeader

MAC = MacAddress("52:54:00:12:34:56")
REQUEST = Arp(ArpOperation.REQUEST, MAC, IPv4Address("10.0.2.15"), ZERO_MAC, IPv4Address("10.0.2.2"))
REQUEST_OCTETS = bytes.fromhex("0001 0800 06 04 0001 525400123456 0a00020f 000000000000 0a000202")


def test_an_ethernet_frame_octet_by_octet():
    frame = Ethernet(BROADCAST_MAC, MAC, EtherType.ARP, b"payload")
    assert frame.pack() == bytes.fromhex("ffffffffffff 525400123456 0806") + b"payload"


@pytest.mark.parametrize("number", [0, 46, 1500, 0x5FF])
def test_an_802_3_length_is_no_ethertype(number):
    octets = bytes(12) + number.to_bytes(2, "big") + bytes(46)
    with pytest.raises(WireError) as caught:
        Ethernet.parse(octets)
    assert (caught.value.field, caught.value.offset) == ("ethernet.ethertype", 12)
    with pytest.raises(LocalError, match="ethertype"):
        Ethernet(MAC, MAC, number, b"").pack()


def test_the_first_ethertype_is_0x600():
    assert Ethernet.parse(bytes(12) + b"\x06\x00").ethertype == 0x600


def test_a_short_frame_says_how_short():
    with pytest.raises(WireError, match=r"^ethernet at octet 13: the header has at least 14 octets, 13 are here$"):
        Ethernet.parse(bytes(13))


@pytest.mark.parametrize(("length", "padded"), [(0, 60), (59, 60), (60, 60), (61, 61)])
def test_padding_reaches_the_minimum_and_no_further(length, padded):
    frame = pad(b"\xaa" * length)
    assert len(frame) == padded
    assert frame == b"\xaa" * length + bytes(max(0, MINIMUM_LENGTH - length))


def test_a_tag_octet_by_octet():
    tag = Vlan(priority=5, drop_eligible=True, vlan_id=0x123, ethertype=EtherType.IPV4, payload=b"x")
    assert tag.pack() == bytes.fromhex("b123 0800") + b"x"
    assert Vlan.parse(tag.pack()) == tag


@pytest.mark.parametrize("change", [{"priority": 8}, {"vlan_id": 4096}, {"vlan_id": -1}])
def test_a_tag_field_does_not_spill_into_its_neighbour(change):
    fields = {"priority": 0, "drop_eligible": False, "vlan_id": 1, "ethertype": 0x800, "payload": b""}
    with pytest.raises(LocalError, match=next(iter(change))):
        Vlan(**{**fields, **change}).pack()


def test_an_arp_request_octet_by_octet():
    assert REQUEST.pack() == REQUEST_OCTETS
    assert Arp.parse(REQUEST_OCTETS) == REQUEST


def test_padding_behind_an_arp_packet_is_ignored():
    assert Arp.parse(REQUEST_OCTETS + b"\xaa" * 18) == REQUEST


@pytest.mark.parametrize(
    ("offset", "octet", "field"),
    [(1, 6, "arp.hrd"), (2, 0x86, "arp.pro"), (4, 8, "arp.hln"), (5, 16, "arp.pln")],
)
def test_arp_speaks_only_ethernet_and_ipv4(offset, octet, field):
    octets = bytearray(REQUEST_OCTETS)
    octets[offset] = octet
    with pytest.raises(WireError) as caught:
        Arp.parse(octets)
    assert caught.value.field == field


def test_a_virtio_net_header_octet_by_octet():
    header = VnetHeader(NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 54, 1460, 34, 16, 1)
    assert header.pack() == bytes.fromhex("01 81 3600 b405 2200 1000 0100")


@pytest.mark.parametrize("length", [10, 12, 20, 24])
def test_a_virtio_net_header_has_four_lengths(length):
    header = VnetHeader(NEEDS_CSUM, GSO_TCPV4, 54, 1460, 34, 16, 0 if length == 10 else 3)
    octets = header.pack(length)
    assert len(octets) == length
    assert VnetHeader.parse(octets + b"frame", length) == header
    with pytest.raises(WireError):
        VnetHeader.parse(octets[:-1], length)


def test_a_virtio_net_header_of_another_length_is_a_local_error():
    with pytest.raises(LocalError, match="10, 12, 20 or 24"):
        VnetHeader().pack(14)
    with pytest.raises(LocalError, match="10, 12, 20 or 24"):
        VnetHeader.parse(bytes(14), 14)

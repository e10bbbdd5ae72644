"""Neighbour discovery: each message and option on literal octets, and each rule of validation."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.domain_list import pack_domain_list, parse_domain_list
from netemu.wire.errors import WireError
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import ALL_NODES, ALL_ROUTERS, IPv6, NextHeader, solicited_node
from netemu.wire.ndisc import (
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Redirect,
    RouterAdvertisement,
    RouterSolicitation,
    check_packet,
    parse_ndisc,
)
from netemu.wire.ndisc_options import (
    Dnssl,
    Mtu,
    PrefixInformation,
    Rdnss,
    RedirectedHeader,
    RouteInformation,
    RouterPreference,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
    UnknownOption,
)

MAC = MacAddress("52:54:00:12:34:56")
TARGET = IPv6Address("fec0::2")
TARGET_OCTETS = bytes.fromhex("fec0 0000 0000 0000 0000 0000 0000 0002")
LINK_LOCAL = IPv6Address("fe80::1")
SOURCE_OPTION = bytes.fromhex("0101 525400123456")

MESSAGES = [
    (RouterSolicitation((SourceLinkLayerAddress(MAC),)), Icmpv6(133, 0, 0, SOURCE_OPTION)),
    (
        RouterAdvertisement(64, True, True, 1800, 30000, 1000, (Mtu(1500),), RouterPreference.LOW),
        Icmpv6(134, 0, 0x40D80708, bytes.fromhex("00007530 000003e8 0501 0000 000005dc")),
    ),
    (NeighbourSolicitation(TARGET, (SourceLinkLayerAddress(MAC),)), Icmpv6(135, 0, 0, TARGET_OCTETS + SOURCE_OPTION)),
    (
        NeighbourAdvertisement(TARGET, True, True, True, (TargetLinkLayerAddress(MAC),)),
        Icmpv6(136, 0, 0xE0000000, TARGET_OCTETS + bytes.fromhex("0201 525400123456")),
    ),
    (
        Redirect(LINK_LOCAL, TARGET, (RedirectedHeader(bytes(range(8))),)),
        Icmpv6(137, 0, 0, LINK_LOCAL.packed + TARGET_OCTETS + bytes.fromhex("0402 000000000000 0001020304050607")),
    ),
]


@pytest.mark.parametrize(("value", "message"), MESSAGES)
def test_each_message_octet_by_octet(value, message):
    assert value.icmpv6() == message
    assert parse_ndisc(message) == value


def test_another_message_is_none_of_these():
    assert parse_ndisc(Icmpv6.echo_request(1, 2, b"")) is None


@pytest.mark.parametrize(
    ("flag", "rest"),
    [("router", 0x80000000), ("solicited", 0x40000000), ("override", 0x20000000)],
)
def test_each_flag_of_an_advertisement_has_its_bit(flag, rest):
    value = NeighbourAdvertisement(TARGET, **{flag: True})
    assert value.icmpv6().rest == rest
    assert parse_ndisc(value.icmpv6()) == value


@pytest.mark.parametrize(
    ("change", "bits"),
    [
        ({"managed": True}, 0x80),
        ({"other": True}, 0x40),
        ({"preference": RouterPreference.HIGH}, 0x08),
        ({"preference": RouterPreference.LOW}, 0x18),
    ],
)
def test_each_flag_of_a_router_has_its_bits(change, bits):
    value = RouterAdvertisement(hop_limit=0, router_lifetime=0, **change)
    assert value.icmpv6().rest == bits << 16
    assert parse_ndisc(value.icmpv6()) == value


def test_the_reserved_preference_is_medium():
    # RFC 4191, 2.2.
    read = parse_ndisc(Icmpv6(134, 0, 0x10 << 16, bytes(8)))
    assert isinstance(read, RouterAdvertisement)
    assert read.preference is RouterPreference.MEDIUM


@pytest.mark.parametrize(
    ("option", "octets"),
    [
        (
            PrefixInformation(IPv6Network("fec0::/64"), 86400, 14400, on_link=True, autonomous=True),
            "0304 40 c0 00015180 00003840 00000000 fec00000000000000000000000000000",
        ),
        (
            PrefixInformation(IPv6Network("2001:db8::/32"), 0xFFFFFFFF, 0, on_link=True, autonomous=False),
            "0304 20 80 ffffffff 00000000 00000000 20010db8000000000000000000000000",
        ),
        (RouteInformation(IPv6Network("::/0"), 600, RouterPreference.HIGH), "1801 00 08 00000258"),
        (RouteInformation(IPv6Network("fec0::/64"), 600, RouterPreference.LOW), "1802 40 18 00000258 fec0000000000000"),
        (
            RouteInformation(IPv6Network("fec0::/65"), 600),
            "1803 41 00 00000258 fec00000000000000000000000000000",
        ),
        (Rdnss(300, (TARGET,)), "1903 0000 0000012c" + TARGET_OCTETS.hex()),
        (Dnssl(300, ("example.com",)), "1f03 0000 0000012c 07 6578616d706c65 03 636f6d 00 000000"),
        (Dnssl(300, ("a.b", "c")), "1f02 0000 0000012c 0161 0162 00 0163 00"),
        (PrefixInformation(IPv6Network("::1/128"), 0, 0, False, False), "0304 80" + "00" * 28 + "01"),
        (UnknownOption(0, b"nonce!"), "0001" + b"nonce!".hex()),
        (UnknownOption(255, bytes(2038)), "ffff" + "00" * 2038),
        (UnknownOption(14, b"nonce!"), "0e01" + b"nonce!".hex()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_option_octet_by_octet(option, octets):
    value = RouterSolicitation((option,))
    assert value.icmpv6().payload == bytes.fromhex(octets)
    assert parse_ndisc(value.icmpv6()) == value


def test_bits_behind_a_prefix_are_ignored():
    octets = bytes.fromhex("0304 40 c0 00015180 00003840 00000000 fec0000000000000 0123456789abcdef")
    read = parse_ndisc(Icmpv6(133, 0, 0, octets))
    assert read == RouterSolicitation((PrefixInformation(IPv6Network("fec0::/64"), 86400, 14400),))


@pytest.mark.parametrize(
    ("message", "field", "offset"),
    [
        (Icmpv6(133, 1, 0, b""), "icmpv6.code", 1),
        (Icmpv6(134, 0, 0, bytes(7)), "icmpv6", 15),
        (Icmpv6(135, 0, 0, bytes(15)), "icmpv6", 23),
        (Icmpv6(136, 0, 0, bytes(15)), "icmpv6", 23),
        (Icmpv6(137, 0, 0, bytes(31)), "icmpv6", 39),
        (Icmpv6(135, 0, 0, ALL_NODES.packed), "icmpv6.target_address", 8),
        (Icmpv6(136, 0, 0, ALL_NODES.packed), "icmpv6.target_address", 8),
        (Icmpv6(137, 0, 0, TARGET_OCTETS + ALL_NODES.packed), "icmpv6.destination_address", 24),
        (Icmpv6(133, 0, 0, bytes((1, 0)) + bytes(6)), "nd_option.length", 9),
        (Icmpv6(133, 0, 0, bytes((200, 0)) + bytes(6)), "nd_option.length", 9),
        (Icmpv6(133, 0, 0, SOURCE_OPTION + bytes((1, 2)) + bytes(6)), "nd_option.length", 17),
        (Icmpv6(133, 0, 0, SOURCE_OPTION + b"\1"), "nd_option", 16),
        (Icmpv6(135, 0, 0, TARGET_OCTETS + bytes((1, 2)) + bytes(14)), "nd_option.link_layer_address", 24),
        (Icmpv6(134, 0, 0, bytes(8) + bytes((5, 2)) + bytes(14)), "nd_option.mtu", 16),
        (Icmpv6(134, 0, 0, bytes(8) + SOURCE_OPTION + bytes((5, 2)) + bytes(14)), "nd_option.mtu", 24),
        (Icmpv6(134, 0, 0, bytes(8) + bytes((3, 1)) + bytes(6)), "nd_option.prefix_information", 16),
        (Icmpv6(134, 0, 0, bytes(8) + bytes((3, 4, 129)) + bytes(29)), "nd_option.prefix_length", 18),
    ],
)
def test_each_rule_about_the_message(message, field, offset):
    with pytest.raises(WireError) as caught:
        parse_ndisc(message)
    assert (caught.value.field, caught.value.offset) == (field, offset)


@pytest.mark.parametrize(
    "octets",
    [
        "1901 0000 0000012c",  # no server
        "1902 0000 0000012c fec0000000000000",  # half a server
        "1f01 0000 0000012c",  # no name
        "1f02 0000 0000012c 0000000000000000",
        "1f02 0000 0000012c 0761626364656667",  # runs past the end
        "1f02 0000 0000012c 016100c000000000",  # compressed
        "1f02 0000 0000012c 0161000001620000",  # a name behind the padding
        "1801 40 00 00000258",  # no octets for the prefix
        "1803 81 00 00000258 fec00000000000000000000000000000",
        "1804 40 00 00000258 fec00000000000000000000000000000 0000000000000000",
    ],
)
def test_a_broken_option_of_a_later_document_is_kept_as_octets(octets):
    # RFC 8106, 5.3.1: the option is discarded, the advertisement is not.
    data = bytes.fromhex(octets)
    message = Icmpv6(134, 0, 0, bytes(8) + data + SOURCE_OPTION)
    read = parse_ndisc(message)
    assert isinstance(read, RouterAdvertisement)
    assert read.options == (UnknownOption(data[0], data[2:]), SourceLinkLayerAddress(MAC))
    assert read.icmpv6() == message


def packet(source: IPv6Address, destination: IPv6Address, hop_limit: int = 255) -> IPv6:
    return IPv6(source, destination, NextHeader.ICMPV6, b"", hop_limit)


ANY = IPv6Address("::")
WITH_SOURCE = (SourceLinkLayerAddress(MAC),)


@pytest.mark.parametrize(
    ("ip", "message"),
    [
        (packet(ANY, ALL_ROUTERS), RouterSolicitation()),
        (packet(LINK_LOCAL, ALL_ROUTERS), RouterSolicitation(WITH_SOURCE)),
        (packet(LINK_LOCAL, ALL_NODES), RouterAdvertisement()),
        (packet(ANY, solicited_node(TARGET)), NeighbourSolicitation(TARGET)),
        (packet(LINK_LOCAL, TARGET), NeighbourSolicitation(TARGET, WITH_SOURCE)),
        (packet(TARGET, ALL_NODES), NeighbourAdvertisement(TARGET)),
        (packet(TARGET, LINK_LOCAL), NeighbourAdvertisement(TARGET, solicited=True)),
        (packet(LINK_LOCAL, TARGET), Redirect(TARGET, TARGET)),
    ],
)
def test_a_packet_that_may_carry_its_message(ip, message):
    check_packet(ip, message)
    with pytest.raises(WireError, match="254 is not 255"):
        check_packet(replace(ip, hop_limit=254), message)


@pytest.mark.parametrize(
    ("ip", "message", "field"),
    [
        (packet(ANY, ALL_ROUTERS), RouterSolicitation(WITH_SOURCE), "nd_option.link_layer_address"),
        (packet(TARGET, ALL_NODES), RouterAdvertisement(), "ipv6.source"),
        (packet(TARGET, LINK_LOCAL), Redirect(TARGET, TARGET), "ipv6.source"),
        (packet(ANY, solicited_node(TARGET)), NeighbourSolicitation(TARGET, WITH_SOURCE), "nd_option.link_layer_address"),
        (packet(ANY, TARGET), NeighbourSolicitation(TARGET), "ipv6.destination"),
        (packet(TARGET, ALL_NODES), NeighbourAdvertisement(TARGET, solicited=True), "icmpv6.solicited"),
    ],
)
def test_each_rule_about_the_packet(ip, message, field):
    with pytest.raises(WireError) as caught:
        check_packet(ip, message)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (Rdnss(1, ()), "at least one address"),
        (Dnssl(1, ()), "at least one domain name"),
        (Dnssl(1, (".",)), "at least one label"),
        (Dnssl(1 << 32, ("a",)), r"Dnssl\.lifetime"),
        (Rdnss(1 << 32, (TARGET,)), r"Rdnss\.lifetime"),
        (Rdnss(1, (TARGET,) * 128), "at most 2,040"),
        (Mtu(-1), r"Mtu\.mtu"),
        (RouteInformation(IPv6Network("::/0"), -1), r"RouteInformation\.lifetime"),
        (PrefixInformation(IPv6Network("::/0"), 1, -1), r"PrefixInformation\.preferred_lifetime"),
        (RedirectedHeader(bytes(7)), "a multiple of 8"),
        (UnknownOption(256, bytes(6)), "from 0 to 255"),
        (UnknownOption(9, b""), "a multiple of 8"),
    ],
)
def test_an_option_refuses_what_it_cannot_hold(option, words):
    with pytest.raises(LocalError, match=words):
        RouterSolicitation((option,)).icmpv6()


def test_a_list_of_domain_names():
    value = bytes.fromhex("0161 0162 00 0163 00")
    assert pack_domain_list(("a.b", "c")) == value
    assert parse_domain_list(value, "field") == ("a.b", "c")
    assert parse_domain_list(b"", "field") == ()
